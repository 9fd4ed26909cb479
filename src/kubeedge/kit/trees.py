"""Trees of directories with untrusted content, however deep they are: removing one, and what it takes of the disk."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from kubeedge.kit.dataclasses import dataclass, field
from kubeedge.kit.disk_use import DiskUse

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove(root: Path) -> None:
    """What cannot be removed stays, and so does what is mounted. No other process may write there meanwhile.

    Not shutil.rmtree: that calls itself and keeps a file open for each level, and a container makes thousands of levels with a line of shell.
    """
    try:
        fd = os.open(root, _FLAGS)
    except OSError:  # not there, or not a directory
        with contextlib.suppress(OSError):
            root.unlink()
        return
    try:
        _Walk(fd).run()
    except OSError:
        pass  # another process does write there
    with contextlib.suppress(OSError):
        root.rmdir()


def used(directory: Path) -> DiskUse:
    """Below a directory that others may write to: no link is followed, and a file with two names counts once."""
    total, count, seen = 0, 0, set[int]()
    for root, directories, files in os.walk(directory):
        for name in (*directories, *files):
            with contextlib.suppress(OSError):
                entry = os.lstat(os.path.join(root, name))
                if entry.st_nlink == 1 or entry.st_ino not in seen:
                    total += entry.st_blocks * 512
                    count += 1
                if entry.st_nlink > 1:
                    seen.add(entry.st_ino)
    return DiskUse(total, count)


def used_bytes(directory: Path) -> int:
    """Bytes that a directory and everything below it take on the disk."""
    return used(directory).bytes


@dataclass(slots=True)
class _Level:
    name: str  # in the level above
    inode: int
    directories: list[str] = field(default_factory=list)  # in it, still to be removed


class _Walk:
    """One directory is open at a time."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._device = os.fstat(fd).st_dev
        self._levels = [_Level("", os.fstat(fd).st_ino, self._empty())]

    def run(self) -> None:
        try:
            while True:
                level = self._levels[-1]
                if level.directories:
                    self._down(level.directories.pop())
                elif len(self._levels) > 1:
                    self._up()
                else:
                    return
        finally:
            os.close(self._fd)

    def _empty(self) -> list[str]:
        """Removes what is no directory; the directories."""
        directories = []
        for name in os.listdir(self._fd):
            try:
                os.unlink(name, dir_fd=self._fd)
            except OSError:  # EISDIR
                directories.append(name)
        return directories

    def _down(self, name: str) -> None:
        with contextlib.suppress(OSError):
            os.rmdir(name, dir_fd=self._fd)
            return
        try:
            fd = os.open(name, _FLAGS, dir_fd=self._fd)
        except OSError:
            return
        status = os.fstat(fd)
        if status.st_dev != self._device:
            os.close(fd)
            return
        os.close(self._fd)
        self._fd = fd
        self._levels.append(_Level(name, status.st_ino, self._empty()))

    def _up(self) -> None:
        fd = os.open("..", _FLAGS, dir_fd=self._fd)
        os.close(self._fd)
        self._fd = fd
        name = self._levels.pop().name
        status = os.fstat(fd)
        if (status.st_dev, status.st_ino) != (self._device, self._levels[-1].inode):
            raise OSError(f"{name} was moved")
        with contextlib.suppress(OSError):
            os.rmdir(name, dir_fd=fd)
