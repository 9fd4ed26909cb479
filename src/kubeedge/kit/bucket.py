"""How often something may happen. Pure; `now` in seconds comes in."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

Name = TypeVar("Name", bound=Hashable)


class Bucket:
    """A token bucket: `burst` requests at once, `rate` a second in the long run."""

    __slots__ = ("_burst", "_rate", "_then", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = self._tokens = max(1.0, burst)
        self._then = now

    def take(self, now: float) -> float:
        """0.0: go on. Else the seconds until there is a token again; nothing was taken."""
        self._fill(now)
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / self._rate

    def charge(self, tokens: float, now: float) -> float:
        """For what has happened: takes the tokens, if need be on credit. The seconds until that is paid back; 0.0: nothing is owed."""
        self._fill(now)
        self._tokens -= tokens
        return max(0.0, -self._tokens / self._rate)

    def _fill(self, now: float) -> None:
        if now > self._then:
            self._tokens = min(self._burst, self._tokens + (now - self._then) * self._rate)
            self._then = now


class Buckets(Generic[Name]):
    """A bucket for each name. Of more than `most` the one that was asked for least lately is forgotten: it is full when it comes again."""

    __slots__ = ("_buckets", "_burst", "_most", "_rate")

    def __init__(self, rate: float, burst: float, most: int) -> None:
        self._rate, self._burst, self._most = rate, burst, most
        self._buckets: dict[Name, Bucket] = {}

    def of(self, name: Name, now: float) -> Bucket:
        """The bucket of this name; a new one is full."""
        bucket = self._buckets.pop(name, None) or Bucket(self._rate, self._burst, now)
        self._buckets[name] = bucket  # the one that was used last is last
        if len(self._buckets) > self._most:
            del self._buckets[next(iter(self._buckets))]
        return bucket

    def __len__(self) -> int:
        return len(self._buckets)
