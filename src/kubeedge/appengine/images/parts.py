"""What has come of a blob: a file, locked by the process that fetches it.

    images/blobs/<hex>.part     stays when the line, the agent or the power fails, and is gone when its layer has been unpacked

A line that is fast wears no flash: what is deleted within half a minute was never written out of the page cache.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from kubeedge.kit.dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Part:
    """A file that this process alone writes to, until `fd` is closed."""

    path: Path
    fd: int

    @classmethod
    def take(cls, path: Path, *, wait: bool) -> Part | None:
        """None: another process has it, and one does not want to wait. Who waits must hold no other: two could wait for each other."""
        while True:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.stat(path).st_ino == os.fstat(fd).st_ino:
                    return cls(path, fd)
            except BlockingIOError:
                os.close(fd)
                return None
            except FileNotFoundError:  # its layer was unpacked meanwhile
                pass
            os.close(fd)


def sweep(directory: Path, older_than: float = 0.0) -> int:
    """Removes parts that no process holds and that nothing was added to for so many seconds; how many bytes they had."""
    freed = 0
    for part in directory.glob("*.part"):
        try:
            fd = os.open(part, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            status = os.fstat(fd)
            if time.time() - status.st_mtime >= older_than:
                part.unlink(missing_ok=True)
                freed += status.st_blocks * 512
        except OSError:  # in use
            continue
        finally:
            os.close(fd)
    return freed
