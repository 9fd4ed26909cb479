"""How long to wait before the next attempt: longer each time, up to a limit, never the same for everybody.

    backoff = Backoff(initial=0.5, maximum=30.0, rng=random.Random().random)
    0.5   1.0   2.0   4.0  ...  30.0   30.0     less up to `jitter` of each

The jitter only shortens: a thousand nodes that lost the cloud together come back spread out, and none later than `maximum`.
"""

from __future__ import annotations

from collections.abc import Callable

from kubeedge.errors import Misuse


class Backoff:
    """`rng` gives numbers in [0, 1): random.Random(seed).random, or a constant in a test."""

    __slots__ = ("_factor", "_initial", "_jitter", "_maximum", "_next", "_rng")

    def __init__(
        self,
        initial: float = 0.5,  # seconds
        maximum: float = 30.0,  # seconds
        factor: float = 2.0,
        jitter: float = 0.25,  # the part of a delay that chance may take away
        *,
        rng: Callable[[], float],
    ) -> None:
        if not (0 < initial <= maximum and factor >= 1 and 0 <= jitter <= 1):
            raise Misuse(f"back-off from {initial} to {maximum} seconds, factor {factor}, jitter {jitter}")
        self._initial = initial
        self._maximum = maximum
        self._factor = factor
        self._jitter = jitter
        self._rng = rng
        self._next = initial

    def next_delay(self) -> float:
        """Seconds to wait after one more failure."""
        delay = self._next
        self._next = min(self._maximum, delay * self._factor)  # never overflows: it is cut each time
        return delay * (1 - self._jitter * self._rng())

    def reset(self) -> None:
        """It worked."""
        self._next = self._initial
