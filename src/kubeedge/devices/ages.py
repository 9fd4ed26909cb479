"""How old what waits on the disk is, on a machine whose clock is set at some time: after its start, when the network is there, or by whoever got it wrong.

Such a leap makes nothing older. What was stamped before it is stamped anew, so that it is never given up for an age that it has not. Pure.
"""

from __future__ import annotations

from collections.abc import Callable

from kubeedge.kit.dataclasses import dataclass

EPOCH = 1_704_067_200_000  # milliseconds: a clock that is before 2024 was never set
_LEAP = 60_000  # milliseconds between two looks that time itself does not explain


@dataclass(slots=True)
class ClockLeaps:
    """`elapsed`: seconds that go on whatever is done to the clock; None: the clock is right."""

    elapsed: Callable[[], float] | None = None
    _before: tuple[int, float] | None = None

    def ahead(self, now: int) -> int:
        """Milliseconds by which the clock was set ahead since the last call; 0: it was not. `now`: milliseconds since 1970."""
        if self.elapsed is None:
            return 0
        at = self.elapsed()
        before, self._before = self._before, (now, at)
        leap = 0 if before is None else now - before[0] - int((at - before[1]) * 1000)
        return leap if leap > _LEAP else 0

    def stamp(self, old: int, ahead: int, now: int) -> int:
        """The stamp that something has after a leap."""
        return now if old < EPOCH <= now else min(old + ahead, max(old, now))
