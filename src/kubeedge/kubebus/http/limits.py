"""How much one name (a tenant, a service) may ask for: requests at once, and requests a second. Pure; `now` in seconds comes in.

`LocalLimiter` counts here. Where the fast path serves the same names, its counters are the ones that count (fast.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Protocol

from kubeedge.errors import Unavailable
from kubeedge.kit.bucket import Buckets
from kubeedge.kit.dataclasses import dataclass
from kubeedge.kit.http1_limits import Limits

_MOST_BUCKETS = 4096  # names whose rate is remembered: unauthenticated clients may ask for any


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyLimits:
    """The limits of one proxy. Times are seconds, sizes are bytes."""

    connect: float = 8.0  # seconds to reach the other side; below L4's own ten, so that silence is told from refusal
    answer: float = 300.0  # seconds without a sign of the answer, once the request has stopped moving
    concurrent: int = 256  # requests at once of one tenant; each takes at most about half a megabyte of buffers
    rate: float = 0.0  # requests a second of one tenant; 0: as many as there are
    burst: float = 100.0  # requests that may come at once after a pause
    memory: int = (
        64 * 1024 * 1024
    )  # bytes in the buffers of one tenant's requests; beyond, each has little and waits for its reader
    connections: int = 1024  # TCP connections of clients
    per_client: int = 256  # of them from one client network: an IPv4 address, a /64 of IPv6
    pooled: int = 4  # idle L4 connections kept to one node
    pooled_seconds: float = 30.0  # less than `idle` of the server proxy, so that it is we who close
    http: Limits = Limits()


class Busy(Unavailable):
    """Too many requests at once: 503."""


class TooFast(Unavailable):
    """More requests a second than are allowed: 429."""


class RequestLimiter(Protocol):
    """How many requests an account may have in progress, and how many a second."""

    def take(self, name: str) -> Callable[[], None]:
        """Returns what gives the slot back; calling it again does nothing. Raises Busy, TooFast."""
        ...

    def in_progress(self) -> int:
        """Requests that are in progress now, of all accounts together."""
        ...

    def by_name(self) -> dict[str, int]:
        """Requests in progress of each name that has some."""
        ...


class LocalLimiter:
    """A RequestLimiter for a proxy without a fast path."""

    def __init__(
        self, limit: int, what: str, *, rate: float = 0.0, burst: float = 1.0, now: Callable[[], float] = lambda: 0.0
    ) -> None:
        self._limit = limit
        self._what = what
        self._rate = rate
        self._now = now
        self._taken: Counter[str] = Counter()
        self._buckets: Buckets[str] = Buckets(rate, burst, _MOST_BUCKETS)

    def take(self, name: str) -> Callable[[], None]:
        """Take a slot; the returned function gives it back. Raises Busy, TooFast."""
        if self._taken[name] >= self._limit:
            text = f"{self._what} {name} has {self._limit} requests in progress already; try again later"
            raise Busy(text, retry_after=1.0)
        if self._rate > 0 and (wait := self._buckets.of(name, now := self._now()).take(now)) > 0:
            text = f"{self._what} {name} has sent more than {self._rate:g} requests a second; try again later"
            raise TooFast(text, retry_after=wait)
        self._taken[name] += 1

        def free() -> None:
            self._taken[name] -= 1
            if not self._taken[name]:
                del self._taken[name]

        return once(free)

    def in_progress(self) -> int:
        """Requests that are in progress now, of all accounts together."""
        return self._taken.total()

    def by_name(self) -> dict[str, int]:
        """Requests in progress, by account."""
        return dict(self._taken)


def once(free: Callable[[], None]) -> Callable[[], None]:
    """A function that calls `free` the first time only."""
    held = True

    def give_back() -> None:
        nonlocal held
        if held:
            held = False
            free()

    return give_back
