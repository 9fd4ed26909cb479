"""Volumes on disk. Files of ConfigMaps and Secrets are swapped in at once, as Kubernetes does:

    VOLUME/..data -> ..<number>         the one symbolic link that changes
    VOLUME/..<number>/key               the files
    VOLUME/key -> ..data/key            what a container reads

Blocking work; the engine runs it in a thread.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from pathlib import Path

from kubeedge.api import quantities
from kubeedge.api.pod import Mount, Volume
from kubeedge.appengine.resolve import Files, safe_path
from kubeedge.appengine.runtime import mounts
from kubeedge.appengine.runtime.base import BindMount, StartError
from kubeedge.kit import trees

_DEFAULT_MODE = 0o644
_GROUP_READS = 0o440  # what fsGroup adds to the mode of a file that nobody writes, as the kubelet does
_SECRET_BYTES = (
    16 * 1024 * 1024
)  # of one volume in memory; a Secret has at most 1 MiB, and for a moment both versions are there
PINS = ".subpaths"  # beside the volumes of a pod; no volume has such a name


def write_files(directory: Path, files: Files, *, default_mode: int, group: int | None) -> bool:
    """Whether anything changed."""
    directory.mkdir(parents=True, exist_ok=True)
    data = directory / "..data"
    old = data.resolve() if data.is_symlink() else None
    if old is not None and _same(old, files):
        return False
    number = int(old.name.removeprefix("..")) + 1 if old is not None and old.name.removeprefix("..").isdigit() else 1
    new = directory / f"..{number}"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    for name, (content, mode) in files.items():
        path = new / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        mode = mode if mode is not None else default_mode
        path.chmod(mode if group is None else mode | _GROUP_READS)
        if group is not None:
            os.chown(path, -1, group)
    new.chmod(0o755)
    link = directory / "..data.new"
    link.unlink(missing_ok=True)
    link.symlink_to(new.name)
    link.replace(data)
    tops = {name.split("/")[0] for name in files}
    for top in tops:
        if not (directory / top).is_symlink():
            (directory / top).symlink_to(f"..data/{top}")
    for entry in directory.iterdir():
        if entry.is_symlink() and not entry.name.startswith("..") and entry.name not in tops:
            entry.unlink()
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)
    return True


def _same(directory: Path, files: Files) -> bool:
    have = {str(p.relative_to(directory)): p for p in directory.rglob("*") if p.is_file()}
    if set(have) != set(files):
        return False
    return all(have[name].read_bytes() == content for name, (content, _) in files.items())


def holds_secrets(volume: Volume) -> bool:
    """Whether what is in it must not reach the disk."""
    if volume.kind != "projected":
        return volume.kind == "secret"
    return any(part.get("secret") or part.get("serviceAccountToken") for part in volume.source.get("sources") or ())


def lost(directory: Path, volume: Volume) -> bool:
    """It was in memory before the machine was restarted: what is written to its directory now would be on the disk."""
    return holds_secrets(volume) and not os.path.ismount(directory) and not (directory / "..data").is_symlink()


def in_memory(directory: Path) -> None:
    """What an older agent left there on the disk goes: the container that is about to start gets it anew."""
    if os.path.ismount(directory):
        return
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    mounts.tmpfs(directory, _SECRET_BYTES, 0o755)


def empty_dir(directory: Path, volume: Volume, group: int | None) -> None:
    """Kept while the pod lives. In memory when the manifest says so."""
    in_memory = volume.source.get("medium") == "Memory"
    if directory.is_dir() and (not in_memory or os.path.ismount(directory)):  # a reboot unmounts what was in memory
        return
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o777)
    if group is not None:
        os.chown(directory, -1, group)
        directory.chmod(0o2777)
    if in_memory:
        limit = volume.source.get("sizeLimit")
        size = f",size={quantities.bytes_of(limit)}" if limit else ""
        mounts.mount("tmpfs", directory, "tmpfs", mounts.MS_NOSUID | mounts.MS_NODEV, f"mode=1777{size}")


def used_bytes(directory: Path) -> int:
    """Of the disk, below a directory that containers write to: no link is followed, and a file with two names counts once."""
    total, seen = 0, set[int]()
    for root, directories, files in os.walk(directory):
        for name in (*directories, *files):
            with contextlib.suppress(OSError):
                entry = os.lstat(os.path.join(root, name))
                if entry.st_nlink == 1 or entry.st_ino not in seen:
                    total += entry.st_blocks * 512
                if entry.st_nlink > 1:
                    seen.add(entry.st_ino)
    return total


def host_path(volume: Volume) -> Path:
    """Checks and makes what the type asks for. Raises StartError."""
    path = Path(str(volume.source.get("path") or ""))
    if not path.is_absolute() or ".." in path.parts:
        raise StartError("CreateContainerConfigError", f"hostPath {str(path)!r} is not an absolute path")
    kind = str(volume.source.get("type") or "")
    match kind:
        case "DirectoryOrCreate":
            path.mkdir(parents=True, exist_ok=True, mode=0o755)
        case "FileOrCreate":
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            path.touch(mode=0o644)
    wanted = {
        "Directory": stat.S_ISDIR, "DirectoryOrCreate": stat.S_ISDIR, "File": stat.S_ISREG, "FileOrCreate": stat.S_ISREG,
        "Socket": stat.S_ISSOCK, "CharDevice": stat.S_ISCHR, "BlockDevice": stat.S_ISBLK,
    }.get(kind)  # fmt: skip
    try:
        mode = path.stat().st_mode
    except OSError:
        if kind:
            raise StartError("CreateContainerConfigError", f"hostPath {path} is not a {kind}") from None
        path.mkdir(parents=True, exist_ok=True, mode=0o755)
        return path
    if wanted is not None and not wanted(mode):
        raise StartError("CreateContainerConfigError", f"hostPath {path} is not a {kind}")
    return path


def bind(volume: Volume, mount: Mount, directory: Path, pin: Path) -> BindMount:
    """`directory` is where the volume is; a subPath must stay inside of it, also while containers write there."""
    read_only = mount.read_only or volume.kind in ("configMap", "secret", "projected", "downwardAPI")
    if not mount.sub_path:
        return BindMount(directory, mount.path, read_only)
    relative = safe_path(mount.sub_path)
    if volume.kind in ("emptyDir", "hostPath"):
        try:
            _pin(directory, relative.split("/"), pin)
        except OSError as exc:
            raise StartError(
                "CreateContainerConfigError", f"subPath {mount.sub_path!r}: {exc.strerror or exc}"
            ) from exc
        return BindMount(pin, mount.path, read_only)
    source = (directory / relative).resolve()  # our own links; nobody else writes there
    if not source.exists() or not source.is_relative_to(directory.resolve()):
        raise StartError("CreateContainerConfigError", f"subPath {mount.sub_path!r} is not in volume {volume.name}")
    return BindMount(source, mount.path, read_only)


def _pin(directory: Path, parts: list[str], pin: Path) -> None:
    """Bind-mount directory/parts at `pin`. Containers of the pod may put symbolic links where we walk, at any moment: each step is
    from an open directory to an entry that is no link, and what is mounted is what was opened."""
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(directory, os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for n, part in enumerate(parts):
            is_last = n == len(parts) - 1
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o755 if not is_last else 0o777, dir_fd=fd)
            try:
                step = os.open(part, flags | os.O_DIRECTORY, dir_fd=fd)
            except NotADirectoryError:
                if not is_last or not stat.S_ISREG(os.stat(part, dir_fd=fd, follow_symlinks=False).st_mode):
                    raise
                step = os.open(part, flags | os.O_RDONLY | os.O_NONBLOCK, dir_fd=fd)
            os.close(fd)
            fd = step
        mounts.unmount(pin)
        pin.parent.mkdir(parents=True, exist_ok=True)
        if pin.is_dir():
            pin.rmdir()
        pin.unlink(missing_ok=True)
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            pin.mkdir()
        else:
            pin.touch()
        mounts.bind_private(f"/proc/self/fd/{fd}", pin)
    finally:
        os.close(fd)


def default_mode(volume: Volume) -> int:
    mode = volume.source.get("defaultMode")
    return mode if isinstance(mode, int) and not isinstance(mode, bool) else _DEFAULT_MODE


def remove(directory: Path) -> None:
    """Raises OSError when something stays mounted: deleting would reach into it."""
    for point in mounts.mounted_below(directory):
        with contextlib.suppress(OSError):
            mounts.unmount(point)
    if left := mounts.mounted_below(directory):
        raise OSError(f"{left[0]} is still mounted")
    trees.remove(directory)
