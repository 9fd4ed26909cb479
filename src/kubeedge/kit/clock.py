"""Two clocks. `now` only ever grows and measures durations; `wall` is the time of day, which people and certificates
use and which may jump (a Raspberry Pi boots in 1970)."""

from __future__ import annotations

import time
from typing import Protocol

from kubeedge.errors import Misuse


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since some moment; never goes back."""
        ...

    def wall(self) -> float:
        """Seconds since 1970 (UTC)."""
        ...


class MonotonicClock:
    __slots__ = ()

    def now(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()


class ManualClock:
    """Time passes when a test says so."""

    __slots__ = ("_now", "_offset")

    def __init__(self, now: float = 0.0, wall: float | None = None) -> None:
        self._now = now
        self._offset = 0.0 if wall is None else wall - now

    def now(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._now + self._offset

    def advance(self, seconds: float) -> None:
        if seconds < 0:
            raise Misuse(f"a clock does not go back by {-seconds} seconds; set_wall may")
        self._now += seconds

    def set_wall(self, wall: float) -> None:
        """The time of day jumps, as when NTP finds its first server."""
        self._offset = wall - self._now
