"""subPath: a container mounts a part of a volume. It must stay inside of the volume, also while containers write there."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from kubeedge.api.pod import Mount
from kubeedge.appengine.resolve import safe_path
from kubeedge.appengine.runtime import mounts
from kubeedge.appengine.runtime.base import BindMount, StartError

PINS = ".subpaths"  # beside the volumes of a pod; no volume has such a name


def bind(mount: Mount, directory: Path, pin: Path, *, read_only: bool) -> BindMount:
    """What a container mounts of the volume at `directory`; `pin` is for this mount of this container alone.

    `read_only`: no container writes to the volume, so its links are ours. Raises StartError.
    """
    if not mount.sub_path:
        return BindMount(directory, mount.path, read_only or mount.read_only)
    relative = safe_path(mount.sub_path)
    if not read_only:
        try:
            _pin(directory, relative.split("/"), pin)
        except OSError as exc:
            raise StartError(
                "CreateContainerConfigError", f"subPath {mount.sub_path!r}: {exc.strerror or exc}"
            ) from exc
        return BindMount(pin, mount.path, mount.read_only)
    source = (directory / relative).resolve()
    if not source.exists() or not source.is_relative_to(directory.resolve()):
        raise StartError("CreateContainerConfigError", f"subPath {mount.sub_path!r} is not in volume {mount.name}")
    return BindMount(source, mount.path, True)


def _pin(directory: Path, parts: list[str], pin: Path) -> None:
    """Bind-mount directory/parts at `pin`. Containers of the pod may put symbolic links where we walk, at any moment: each step is
    from an open directory to an entry that is no link, and what is mounted is what was opened. What is made has the volume's own mode, as
    with the kubelet: who may write to the volume may write there."""
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(directory, os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        mode = stat.S_IMODE(os.fstat(fd).st_mode)
        for n, part in enumerate(parts):
            is_last = n == len(parts) - 1
            made = False
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o700, dir_fd=fd)
                made = True
            try:
                step = os.open(part, flags | os.O_DIRECTORY, dir_fd=fd)
            except NotADirectoryError:
                if not is_last or not stat.S_ISREG(os.stat(part, dir_fd=fd, follow_symlinks=False).st_mode):
                    raise
                step = os.open(part, flags | os.O_RDONLY | os.O_NONBLOCK, dir_fd=fd)
            os.close(fd)
            fd = step
            if made and stat.S_ISDIR(os.fstat(fd).st_mode):
                os.fchmod(fd, mode)
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
