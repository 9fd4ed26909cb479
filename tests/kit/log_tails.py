"""The ends of the logs of processes that tests start, for the report of a test that failed: a CI run leaves nothing else of them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MOST = 40  # logs that are remembered
_SHOWN = 12  # of them in a report
_LENGTH = 6000  # bytes of each


@dataclass(frozen=True, slots=True)
class _Log:
    path: Path
    fd: int  # read when the file may be gone already, with the fixture that failed
    process: subprocess.Popen[Any]


_logs: list[_Log] = []


def keep(path: Path, process: subprocess.Popen[Any]) -> None:
    """Remember a log that a process has begun to write to; those of the oldest processes are forgotten."""
    _logs.append(_Log(path, os.open(path, os.O_RDONLY | os.O_CLOEXEC), process))
    if len(_logs) > _MOST:
        os.close(_logs.pop(0).fd)


def ends(since: float) -> Iterator[tuple[str, str]]:
    """(title, text) of the logs that were written after that time.time(), or whose process runs; the newest last."""
    found: dict[tuple[int, int], tuple[float, _Log, int]] = {}
    for log in _logs:
        at = os.fstat(log.fd)
        if at.st_size and (at.st_mtime >= since or log.process.poll() is None):
            found[at.st_dev, at.st_ino] = at.st_mtime, log, at.st_size
    for _, log, size in sorted(found.values(), key=lambda each: each[0])[-_SHOWN:]:
        text = os.pread(log.fd, _LENGTH, max(0, size - _LENGTH)).decode(errors="replace")
        yield f"end of {log.path.parent.name}/{log.path.name}, {size} bytes", text
