"""fsGroup: the files of a volume are given to the pod's group, as the kubelet does it."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

_READ_WRITE = 0o660
_DIRECTORY = stat.S_ISGID | 0o110  # new files have the group, too


def give(root: Path, group: int, *, on_mismatch_only: bool) -> None:
    """All below `root` belongs to the group afterwards, which may read and write it. Blocking: it walks the volume.

    `on_mismatch_only`: not when the root itself has group and mode already. Links are not followed: other pods may write here. Raises
    OSError for the root alone.
    """
    if on_mismatch_only and _is_given(root.stat(), group):
        return
    for directory, _, files, fd in os.fwalk(root, topdown=False, follow_symlinks=False):
        for name in files:
            with contextlib.suppress(OSError):
                _give_one(name, group, fd)
        if Path(directory) != root:
            with contextlib.suppress(OSError):
                _give_open(fd, group)
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # the last: it says that all is done
    try:
        _give_open(fd, group)
    finally:
        os.close(fd)


def _is_given(status: os.stat_result, group: int) -> bool:
    wanted = _READ_WRITE | _DIRECTORY
    return status.st_gid == group and status.st_mode & wanted == wanted


def _give_one(name: str, group: int, directory: int) -> None:
    """A file is opened as what it is: it may become a link at any moment."""
    os.chown(name, -1, group, dir_fd=directory, follow_symlinks=False)
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISREG(mode):
            os.fchmod(fd, stat.S_IMODE(mode) | _READ_WRITE)
    finally:
        os.close(fd)


def _give_open(fd: int, group: int) -> None:
    os.fchown(fd, -1, group)
    os.fchmod(fd, stat.S_IMODE(os.fstat(fd).st_mode) | _READ_WRITE | _DIRECTORY)
