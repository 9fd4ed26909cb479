"""How much memory, disk and process ids this machine has left: what eviction goes by."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from kubeedge.appengine.eviction import DISK, IMAGE_DISK, IMAGE_INODES, INODES, MEMORY, PIDS, Reading


def read(state: Path, images: Path, proc: Path = Path("/proc")) -> dict[str, Reading]:
    """By signal; what cannot be read is left out. Of memory it is the kernel's own estimate (MemAvailable), which already counts what
    can be dropped at once."""
    found: dict[str, Reading] = {}
    with contextlib.suppress(OSError, KeyError, ValueError):
        memory = _meminfo(proc / "meminfo")
        found[MEMORY] = Reading(memory["MemAvailable"], memory["MemTotal"])
    for path, space, inodes in ((state, DISK, INODES), (images, IMAGE_DISK, IMAGE_INODES)):
        with contextlib.suppress(OSError):
            disk = os.statvfs(path)
            found[space] = Reading(disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize)
            if disk.f_files:  # btrfs has no number of inodes
                found[inodes] = Reading(disk.f_favail, disk.f_files)
    with contextlib.suppress(OSError, ValueError, IndexError):
        limit = min(int((proc / f"sys/kernel/{name}").read_text()) for name in ("pid_max", "threads-max"))
        tasks = int((proc / "loadavg").read_text().split()[3].split("/")[1])
        found[PIDS] = Reading(max(0, limit - tasks), limit)
    return found


def _meminfo(file: Path) -> dict[str, int]:
    """The fields of a meminfo file, in bytes by name."""
    lines = (line.split() for line in file.read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if len(words) > 1}
