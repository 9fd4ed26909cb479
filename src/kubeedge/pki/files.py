"""Writing keys, certificates, credentials and records so that a power cut leaves the old file or the new one, never half of one."""

from __future__ import annotations

import os
from pathlib import Path

from kubeedge import faults


def write_secret(path: Path, data: bytes) -> None:
    """Mode 0600 from the first byte on."""
    write_whole(path, data, mode=0o600)


def write_whole(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """The file has its old content or the new one, whenever the power fails, and this mode, whatever the umask is. Raises OSError."""
    temporary = path.with_name(f".{path.name}.tmp")  # one name: what a crash left is replaced
    temporary.unlink(missing_ok=True)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        with open(fd, "wb") as file:
            os.fchmod(fd, mode)
            file.write(data)
            file.flush()
            os.fsync(fd)
        faults.at("pki.files.before_rename")
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """What was made or renamed in it is durable then."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
