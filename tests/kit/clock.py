"""A clock on the wall that a test sets: of the processes that are started with its environment, and of their children (see clock.c)."""

from __future__ import annotations

import struct
from pathlib import Path

from tests.kit.compiled import compiled

DAY = 86400
YEAR = 365 * DAY


class WallClock:
    def __init__(self, file: Path) -> None:
        self._file = file
        self._file.write_bytes(bytes(8))
        self.env = {"LD_PRELOAD": str(compiled("clock.c", "-shared", "-fPIC")), "CLOCK_OFFSET": str(file)}

    def set(self, off: int) -> None:
        """Seconds ahead of the machine's, at once and for all of them."""
        with open(self._file, "r+b") as file:
            file.write(struct.pack("=q", off))
