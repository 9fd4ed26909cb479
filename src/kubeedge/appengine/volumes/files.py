"""Files of API objects on disk or in memory, swapped in at once, as Kubernetes does:

VOLUME/..data -> ..<number>         the one symbolic link that changes
VOLUME/..<number>/key               the files
VOLUME/key -> ..data/key            what a container reads
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from kubeedge.appengine.runtime import mounts
from kubeedge.appengine.volumes.contents import Files

_GROUP_READS = 0o440  # what fsGroup adds to the mode of a read-only file, as the kubelet does
#: of one volume in memory; a Secret has at most 1 MiB, and for a moment both versions are there
_SECRET_BYTES = 16 * 1024 * 1024


def write(directory: Path, files: Files, *, default_mode: int, group: int | None) -> bool:
    """Write the files of a volume. True: something changed."""
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


def in_memory(directory: Path) -> None:
    """Removes what an older agent left there on the disk: the container that is about to start gets it again."""
    if os.path.ismount(directory):
        return
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    mounts.tmpfs(directory, _SECRET_BYTES, 0o755)
