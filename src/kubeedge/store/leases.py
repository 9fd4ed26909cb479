"""Leases: who owns keys for how long. Time is an argument; the stores keep one timer for the next expiry."""

from __future__ import annotations

import itertools

from kubeedge.errors import Invalid, NotFound
from kubeedge.kit.dataclasses import dataclass, field

MAX_TTL = 86_400.0 * 365  # seconds


@dataclass(slots=True)
class Leases:
    """The leases of one store; in seconds of a monotonic clock."""

    _deadlines: dict[int, float] = field(default_factory=dict)
    _ttls: dict[int, float] = field(default_factory=dict)
    _ids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def grant(self, ttl: float, now: float) -> int:
        """The id of a new lease, above 0. Raises Invalid for a TTL out of range."""
        if not 0 < ttl <= MAX_TTL:
            raise Invalid(f"a lease of {ttl} seconds; it must be above 0 and at most {MAX_TTL:.0f}")
        lease = next(self._ids)
        self.restore(lease, ttl, now)
        return lease

    def restore(self, lease: int, ttl: float, now: float) -> None:
        """After a restart the clock of every lease begins again, as in etcd."""
        self._ttls[lease] = ttl
        self._deadlines[lease] = now + ttl
        self._ids = itertools.count(max(lease + 1, next(self._ids)))

    def keepalive(self, lease: int, now: float) -> None:
        """Restarts its TTL. Raises NotFound."""
        if lease not in self._ttls:
            raise NotFound(f"lease {lease} does not exist or has expired")
        self._deadlines[lease] = now + self._ttls[lease]

    def drop(self, lease: int) -> float:
        """Forget a lease; returns its ttl in seconds, 0.0 when there is no such lease."""
        self._deadlines.pop(lease, None)
        return self._ttls.pop(lease, 0.0)

    def not_below(self, lease: int) -> None:
        """The next lease granted has at least this id: ids that keys in the history still carry are not used again."""
        self._ids = itertools.count(max(lease, next(self._ids)))

    def __contains__(self, lease: int) -> bool:
        return lease in self._ttls

    def next_expiry(self) -> float | None:
        """When the next lease expires; None when there is none."""
        return min(self._deadlines.values(), default=None)

    def expired(self, now: float) -> list[int]:
        """Leases whose time is over, in order; they stay until `drop`."""
        return sorted(lease for lease, deadline in self._deadlines.items() if deadline <= now)
