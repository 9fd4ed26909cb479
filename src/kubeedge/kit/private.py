"""Directories and files that only their owner can use: made so, and made so again when they are there with another mode.

A directory that exists keeps its mode through mkdir(exist_ok=True), and a user who may enter the state of a node reads its Secrets and runs what lies
setuid in a layer of an image, as root (as in CVE-2021-41103). So all of ours go through here at each start.

Refused, because something else than a mode is wrong with it: a symbolic link, what belongs to another user, a directory of the whole system.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from kubeedge.errors import Invalid

#: closing one of these to others would break the machine; a wrong path in a configuration is enough
_SYSTEM = frozenset(
    f"/{path}"
    for path in (
        "", "bin", "boot", "dev", "etc", "home", "lib", "media", "mnt", "opt", "proc", "root", "run", "run/lock", "sbin", "srv",
        "sys", "tmp", "usr", "usr/lib", "usr/local", "usr/share", "var", "var/cache", "var/lib", "var/lock", "var/log", "var/run",
        "var/tmp",
    )
)  # fmt: skip


def directory(path: Path, mode: int = 0o700) -> None:
    """Make it, and those above it, that all users may enter; or mend its mode. Raises Invalid, OSError."""
    if os.path.realpath(path) in _SYSTEM:
        raise Invalid(f"{path} is a directory of the whole system; use one below it")
    if not os.path.lexists(path):
        _make_above(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)  # another process of ours may be quicker
        path.chmod(mode)  # whatever the umask is
    _mend(path, mode, os.O_DIRECTORY)


def file(path: Path, mode: int = 0o600) -> None:
    """Mend the mode of a file with secrets in it; one that does not exist is no error. Raises Invalid, OSError."""
    if os.path.lexists(path):
        _mend(path, mode, os.O_NONBLOCK)


def files(paths: Iterable[Path]) -> None:
    """Mend the modes of several files. Raises Invalid, OSError."""
    for path in paths:
        file(path)


def _make_above(path: Path) -> None:
    if not path.is_dir():
        _make_above(path.parent)
        path.mkdir(exist_ok=True)
        path.chmod(0o755)


def _mend(path: Path, mode: int, kind: int) -> None:
    """By the opened file: a name may be another's a moment later."""
    wanted = "directory" if kind == os.O_DIRECTORY else "file"
    if path.is_symlink():
        raise Invalid(f"{path} is a symbolic link; a {wanted} that holds secrets must be one itself")
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | kind)
    except NotADirectoryError:
        raise Invalid(f"{path} is not a directory") from None
    except FileNotFoundError:
        return  # a log of SQLite's: its owner has just removed it
    try:
        status = os.fstat(fd)
        if wanted == "file" and not stat.S_ISREG(status.st_mode):
            raise Invalid(f"{path} is not a file")
        if status.st_uid not in (os.geteuid(), 0):
            raise Invalid(
                f"{path} belongs to the user {status.st_uid}, who could read and change what it holds: "
                "look at what is in it, then give it to the user that runs this, with chown"
            )
        if stat.S_IMODE(status.st_mode) & ~mode or stat.S_IMODE(status.st_mode) & 0o700 != mode & 0o700:
            os.fchmod(fd, mode)
    finally:
        os.close(fd)
