"""Bytes of answers that wait for clients to read them, and how many a tenant may have. Pure; `now` comes in.

Who does not read holds what he was to read. Bytes that several clients wait for (one event for all who watch) count once. When a tenant has too many,
the client that has waited longest without reading is cut off: a watch begins again where it ended, a list is asked for again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from kubeedge.api.names import TenantId
from kubeedge.api.status import TooManyRequests
from kubeedge.kit.dataclasses import dataclass, field

_BUFFERED = 128 * 1024  # bytes at most that wait in the buffers of TLS and of the transport, for each client apart
_STALLED_AFTER = 3.0  # seconds without a sign that a client reads, after which it gives way to others
LIMIT = 32 * 1024 * 1024  # bytes of one tenant; one answer may have more, when nothing else waits


@dataclass(eq=False, slots=True)
class Unread:
    """What one client has still to read."""

    tenant: TenantId
    data: bytes
    cut: Callable[[], None]
    since: float  # when it last read


@dataclass(slots=True)
class _Tenant:
    clients: dict[Unread, None] = field(default_factory=dict)  # who has not read for longest comes first
    copies: Counter[int] = field(default_factory=Counter)  # id of the bytes -> clients that wait for them
    size: int = 0


class UnreadBytes:
    """Accounts of all tenants; `limit` is in bytes, for each of them."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._tenants: dict[TenantId, _Tenant] = {}

    def of(self, tenant: TenantId) -> int:
        """Bytes that the tenant's clients have not read; a body that several of them share counts once."""
        found = self._tenants.get(tenant)
        return found.size if found is not None else 0

    def hold(self, tenant: TenantId, data: bytes, cut: Callable[[], None], now: float) -> Unread:
        """To be released when it was read, or not at all. `cut` ends the connection; it is released then."""
        unread = Unread(tenant, data, cut, now)
        mine = self._tenants.setdefault(tenant, _Tenant())
        mine.clients[unread] = None
        mine.copies[id(data)] += 1
        mine.size += min(len(data), _BUFFERED) + (len(data) if mine.copies[id(data)] == 1 else 0)
        while mine.size > self._limit and (oldest := next(iter(mine.clients))) is not unread:
            self.release(oldest)
            oldest.cut()
        return unread

    def check(self, tenant: TenantId, now: float) -> None:
        """Before an answer is made whose size is not known yet. Raises TooManyRequests."""
        mine = self._tenants.get(tenant)
        while mine is not None and mine.clients and mine.size >= self._limit // 2:
            oldest = next(iter(mine.clients))
            if now - oldest.since < _STALLED_AFTER:
                break
            self.release(oldest)
            oldest.cut()
        if self.of(tenant) >= self._limit // 2:
            raise TooManyRequests(
                f"clients of tenant {tenant} have not read {self.of(tenant)} bytes of earlier answers yet"
            )

    def progress(self, unread: Unread, now: float) -> None:
        """The client has read a part: it does not count as stalled now."""
        unread.since = now
        mine = self._tenants.get(unread.tenant)
        if mine is not None and unread in mine.clients:
            del mine.clients[unread]
            mine.clients[unread] = None

    def release(self, unread: Unread) -> None:
        """The answer was read, or its connection is gone. Idempotent."""
        mine = self._tenants.get(unread.tenant)
        if mine is None or unread not in mine.clients:
            return
        del mine.clients[unread]
        mine.copies[id(unread.data)] -= 1
        mine.size -= min(len(unread.data), _BUFFERED)
        if not mine.copies[id(unread.data)]:
            del mine.copies[id(unread.data)]
            mine.size -= len(unread.data)
        if not mine.clients:
            del self._tenants[unread.tenant]


class EventCache:
    """The encoded forms of the latest events of a tenant, so that all who watch get the same bytes."""

    def __init__(self, limit: int = 4 * 1024 * 1024) -> None:
        self._limit = limit
        self._size = 0
        self._events: dict[tuple[str, ...], bytes] = {}

    def get(self, key: tuple[str, ...]) -> bytes | None:
        """The encoded event; None when it was never encoded, or has been evicted."""
        return self._events.get(key)

    def put(self, key: tuple[str, ...], data: bytes) -> None:
        """The last one is kept however large it is."""
        if key in self._events:
            return
        self._events[key] = data
        self._size += len(data)
        while self._size > self._limit and len(self._events) > 1:
            self._size -= len(self._events.pop(next(iter(self._events))))
