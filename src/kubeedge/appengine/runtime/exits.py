"""Hears of exits: conmon writes EXIT_DIR/<container id> by rename, and inotify tells. No polling."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Callable
from pathlib import Path

from kubeedge._fastpath import libc

_EVENT = struct.Struct("iIII")


class ExitWatch:
    """`on_exit(container_id)` for each exit file that appears; needs a running loop."""

    def __init__(self, directory: Path, on_exit: Callable[[str], None]) -> None:
        self._on_exit = on_exit
        self._fd = libc.inotify(directory, libc.IN_MOVED_TO)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._read)

    def close(self) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

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


def read_exit(directory: Path, container_id: str) -> int | None:
    """The exit status, or None when the container has not ended (or nobody saw it end)."""
    try:
        return int((directory / container_id).read_text())
    except (OSError, ValueError):
        return None
