"""Bytes of messages that wait in the channels of one tenant: on their way to nodes that do not read, for readers here, and for their own ends, which
have not come. Pure; `now` comes in.

Each channel is bounded (driver.py), and a tenant has hundreds: together they may hold LIMIT. Beyond, the channel goes whose message has been coming
for longest, or that has not been able to send for longest, if that is longer than a slow line explains; else the one with most of what waits for
readers; else the one whose message has begun last; and at twice the limit whoever holds most. A node that comes back goes on from where it was.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

LIMIT = 64 * 1024 * 1024  # bytes of one tenant: a window of sync for each of 60 nodes
STALLED = 2.0  # seconds for which a message may wait to be sent while others need its room
COMING = 60.0  # likewise for one that comes: 2 MiB at 280 kbit/s

Name = TypeVar("Name", bound=Hashable)


class QueuedBytes(Generic[Name]):
    """Names are channels. Each call that adds says which of them is to end now; None: none of them."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._out: dict[Name, tuple[float, int]] = {}  # since when, bytes; who has waited for longest is first
        self._in: dict[Name, int] = {}
        self._coming: dict[Name, tuple[float, int]] = {}  # since when, bytes so far
        self._size = 0

    @property
    def size(self) -> int:
        """Bytes that wait now, in both directions."""
        return self._size

    def sending(self, name: Name, size: int, now: float) -> Name | None:
        """A message begins to wait for the network; each channel sends one at a time."""
        self.sent(name)
        self._out[name] = now, size
        self._size += size
        return self._displaced(now)

    def sent(self, name: Name) -> None:
        """The message has left, or was given up: its bytes do not count any more. Idempotent."""
        self._size -= self._out.pop(name, (0.0, 0))[1]

    def received(self, name: Name, size: int, now: float) -> Name | None:
        """A message begins to wait for its reader."""
        self._in[name] = self._in.get(name, 0) + size
        self._size += size
        return self._displaced(now)

    def coming(self, name: Name, size: int, now: float) -> Name | None:
        """So many bytes of a message are there, and not yet its end; 0: there is no such message."""
        since, before = self._coming.pop(name, (now, 0))
        self._size += size - before
        if size:
            self._coming[name] = since, size
        return self._displaced(now) if size > before else None

    def read(self, name: Name, size: int) -> None:
        """The reader of a channel has taken a message; nothing changes for a channel that was forgotten."""
        size = min(size, self._in.get(name, 0))
        if size:
            self._in[name] -= size
            self._size -= size

    def forget(self, name: Name) -> None:
        """Forget a channel that is closed: its bytes no longer count."""
        self.sent(name)
        self._size -= self._in.pop(name, 0) + self._coming.pop(name, (0.0, 0))[1]

    def _displaced(self, now: float) -> Name | None:
        if self._size <= self._limit:
            return None
        oldest = next(iter(self._out), None)
        slowest = min(self._coming, key=lambda name: self._coming[name][0], default=None)
        if slowest is not None and now - self._coming[slowest][0] >= COMING:
            found = slowest
        elif oldest is not None and now - self._out[oldest][0] >= STALLED:
            found = oldest
        elif any(self._in.values()):
            found = max(self._in, key=lambda name: self._in[name])
        elif self._coming:  # the others are nearer to their ends
            found = max(self._coming, key=lambda name: self._coming[name][0])
        elif self._size > 2 * self._limit and oldest is not None:
            found = max(self._out, key=lambda name: self._out[name][1])
        else:
            return None
        self.forget(found)
        return found
