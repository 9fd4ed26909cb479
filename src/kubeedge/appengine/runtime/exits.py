"""Watches for exits, without polling: conmon writes EXIT_DIR/<container id> by rename, which inotify reports; should conmon be gone too,
a pidfd reports that the process has ended, though not how. A conmon that is slow is waited for."""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
from collections.abc import Callable
from pathlib import Path

from kubeedge._fastpath import libc

_EVENT = struct.Struct("iIII")
_LOST_AFTER = 2.0  # seconds after a container's process is gone until somebody looks whether its exit will be reported
_LONGEST = 300.0  # seconds for which a conmon that runs and does not report is waited for: it writes the log to the disk first, which may stall


class ExitWatch:
    """`on_exit(container_id)` for each exit file that appears, and `on_lost(container_id)` for a process of add() that is gone while no
    exit file came and none will; needs a running loop."""

    def __init__(self, directory: Path, on_exit: Callable[[str], None], on_lost: Callable[[str], None]) -> None:
        self._on_exit, self._on_lost = on_exit, on_lost
        self._fd = libc.inotify(directory, libc.IN_MOVED_TO)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._read)
        self._pidfds: dict[str, int] = {}
        self._bundles: dict[str, Path] = {}
        self._lost: dict[str, asyncio.TimerHandle] = {}

    def close(self) -> None:
        """Nothing is told after this."""
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
        for id in [*self._bundles]:
            self.discard(id)

    def add(self, id: str, pid: int, bundle: Path) -> None:
        """Watch a container by its process id, too (pidfd_open(2)). One that is gone already counts as lost unless its exit is reported.

        `bundle` is where its conmon leaves its own process id.
        """
        self._bundles[id] = bundle
        try:
            fd = os.pidfd_open(pid)
        except OSError:
            self._expect_report(id)
            return
        self._pidfds[id] = fd
        self._loop.add_reader(fd, self._expect_report, id)

    def discard(self, id: str) -> None:
        """Stop watching: its exit is known, or not needed any more."""
        if timer := self._lost.pop(id, None):
            timer.cancel()
        self._bundles.pop(id, None)
        self._close(id)

    def _close(self, id: str) -> None:
        fd = self._pidfds.pop(id, None)
        if fd is not None:
            self._loop.remove_reader(fd)
            os.close(fd)

    def _expect_report(self, id: str) -> None:
        self._close(id)
        if id not in self._lost:
            self._look_later(id, self._loop.time() + _LONGEST)

    def _look_later(self, id: str, deadline: float) -> None:
        self._lost[id] = self._loop.call_later(_LOST_AFTER, self._look, id, deadline)

    def _look(self, id: str, deadline: float) -> None:
        if self._loop.time() < deadline and _may_report(self._bundles[id], id):
            self._look_later(id, deadline)
        else:
            self._on_lost(id)

    def _read(self) -> None:
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        position = 0
        while position + _EVENT.size <= len(data):
            _, _, _, length = _EVENT.unpack_from(data, position)
            position += _EVENT.size
            name = data[position : position + length].rstrip(b"\0").decode(errors="replace")
            position += length
            if name and "." not in name:  # a suffix marks a file that is still being written
                self._on_exit(name)


def _may_report(bundle: Path, id: str) -> bool:
    """Whether the conmon of that run is still there: its process id alone may have been reused."""
    with contextlib.suppress(OSError, ValueError):
        pid = int((bundle / "conmon.pid").read_text())
        return id.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def read_exit(directory: Path, container_id: str) -> int | None:
    """The exit status, or None when the container has not ended (or its exit was not recorded)."""
    try:
        return int((directory / container_id).read_text())
    except (OSError, ValueError):
        return None
