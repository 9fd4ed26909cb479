"""The stamps of what waits in a queue on the disk, where the clock may be set at any time (ages.py)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from kubeedge.devices.ages import EPOCH, ClockLeaps


class StampedRows:
    """The `queued` of the rows of a queue's table `waiting`, which each append looks at first."""

    def __init__(self, elapsed: Callable[[], float] | None) -> None:
        self._leaps, self._ahead, self._is_dated = ClockLeaps(elapsed), 0, False

    def opened(self) -> None:
        """The file was opened: what an earlier life stamped without a clock is looked at once."""
        self._is_dated = False

    def date(self, db: sqlite3.Connection, now: int) -> None:
        """What waits is no older for a clock that was set. In a transaction of the caller, who calls `dated` after it."""
        self._ahead += self._leaps.ahead(now)
        if self._ahead:
            db.execute("UPDATE waiting SET queued = MIN(queued + ?, MAX(queued, ?))", (self._ahead, now))
        if now >= EPOCH and not self._is_dated:
            db.execute("UPDATE waiting SET queued = ? WHERE queued < ?", (now, EPOCH))

    def dated(self, now: int) -> None:
        """That is in the file."""
        self._ahead, self._is_dated = 0, now >= EPOCH
