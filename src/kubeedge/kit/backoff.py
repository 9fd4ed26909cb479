"""Back-off: the growing delay between attempts. Pure: the failures so far and a random number come in, seconds go out.

    Backoff(0.5, 30.0)               0.5, 1, 2, ... 30 s: for something that nobody else waits for
    Backoff(0.5, 30.0, jitter=0.5)   between half and all of that: for clients of one server, which lose it at the same moment

Lives elsewhere: when a failure counts as the first again (the caller knows), waiting.
"""

from __future__ import annotations

from dataclasses import dataclass

_DOUBLINGS = 64  # more of them reach any `last`, and 2.0 ** 1024 is an OverflowError


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays that double with each failure in a row, from `first` to at most `last` seconds.

    `jitter` is the part of a delay that is left to chance, from 0.0 (none of it) to 1.0 (all of it).
    """

    first: float
    last: float
    jitter: float = 0.0

    def delay(self, failures: int, chance: float = 1.0) -> float:
        """Seconds to wait after the n-th failure in a row (1, 2, ...); none after 0 failures.

        `chance` is a number from 0.0 to 1.0, drawn for each attempt (`random.random()`); it is without effect where there is no jitter.
        """
        if failures < 1:
            return 0.0
        delay = min(self.last, self.first * 2.0 ** min(failures - 1, _DOUBLINGS))
        return delay * (1.0 - self.jitter * (1.0 - chance))
