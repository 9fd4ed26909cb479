"""Back-off: the growing delay between attempts. Pure: the failures so far and a random number come in, seconds go out.

    Backoff(0.5, 30.0)               0.5, 1, 2, ... 30 s: where no other client waits for the same server
    Backoff(0.5, 30.0, jitter=0.5)   between half and all of that: for clients of one server, which lose it at the same moment
    OutageBackoff(0.25, 1.5, 5.0)    the same, at most 1.5 s apart in the first minute of an outage and 5 s from then on

Lives elsewhere: when a failure counts as the first again (the caller knows), waiting.
"""

from __future__ import annotations

from kubeedge.kit.dataclasses import dataclass

#: of timeouts in an old outage, when a line may be slow and not broken. With a larger one, a line that is back would be found later
_LATE_FACTOR = 4.0
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


@dataclass(frozen=True, slots=True)
class OutageBackoff:
    """The back-off of a client that has lost its server.

    While the outage is young each second counts, and delays grow to `early_last` seconds at most. After `young_for` seconds each attempt is
    one more packet on a network that may be metered, and they grow to `last`. Each delay is between half and all of that.
    """

    first: float
    early_last: float
    last: float
    young_for: float = 60.0  # seconds

    def is_young(self, outage: float) -> bool:
        """`outage`: seconds since the server was last reached."""
        return outage < self.young_for

    def delay(self, failures: int, outage: float, chance: float) -> float:
        """The delay in seconds (see Backoff.delay), `outage` seconds after the server was last reached."""
        last = self.early_last if self.is_young(outage) else self.last
        return Backoff(self.first, last, jitter=0.5).delay(failures, chance)

    def timeout_factor(self, outage: float) -> float:
        """What timeouts of a young outage are multiplied by, `outage` seconds after the server was last reached."""
        return 1.0 if self.is_young(outage) else _LATE_FACTOR
