"""How often something may happen. Pure; `now` in seconds comes in."""

from __future__ import annotations


class Bucket:
    """A token bucket: `burst` requests at once, `rate` a second in the long run."""

    __slots__ = ("_burst", "_rate", "_then", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = self._tokens = max(1.0, burst)
        self._then = now

    def take(self, now: float) -> float:
        """0.0: go on. Else the seconds until there is a token again; nothing was taken."""
        if now > self._then:
            self._tokens = min(self._burst, self._tokens + (now - self._then) * self._rate)
            self._then = now
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / self._rate
