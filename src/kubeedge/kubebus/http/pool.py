"""Idle L4 connections to server proxies, a few to each node, for a short time.

Opening one costs a round trip over the edge's link, which is worth saving; an idle one costs memory, which is why it is closed soon.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

from kubeedge.kit.http1 import Connection

K = TypeVar("K", bound=Hashable)

_MAX_IDLE = 256  # in all; the cloud has thousands of nodes


class Pool(Generic[K]):
    """Idle connections to upstreams (nodes, pods), for the next request."""

    def __init__(self, *, per_node: int, seconds: float) -> None:
        self._per_node = per_node
        self._seconds = seconds
        self._idle: dict[K, deque[tuple[Connection, asyncio.TimerHandle]]] = {}
        self._count = 0
        self._closed = False

    def __len__(self) -> int:
        return self._count

    def take(self, node: K) -> Connection | None:
        """The one that was used last and is still good."""
        while (waiting := self._idle.get(node)) is not None:
            connection, timer = waiting.pop()
            timer.cancel()
            self._dropped(node)
            if connection.reusable:
                return connection
            connection.abort()
        return None

    async def give(self, node: K, connection: Connection) -> None:
        """Keep it, or close it when there are enough or it is used up."""
        waiting = self._idle.get(node, ())
        if self._closed or not connection.reusable or len(waiting) >= self._per_node or self._count >= _MAX_IDLE:
            await connection.close()
            return
        timer = asyncio.get_running_loop().call_later(self._seconds, self._expired, node, connection)
        self._idle.setdefault(node, deque()).append((connection, timer))
        self._count += 1

    async def aclose(self) -> None:
        """Close all connections; later ones are not kept."""
        self._closed = True
        entries = [entry for waiting in self._idle.values() for entry in waiting]
        self._idle.clear()
        self._count = 0
        for _, timer in entries:
            timer.cancel()
        # all at once: each may wait for a node that does not answer any more
        await asyncio.gather(*(connection.close() for connection, _ in entries))

    def _expired(self, node: K, connection: Connection) -> None:
        waiting = self._idle[node]
        for entry in waiting:
            if entry[0] is connection:
                waiting.remove(entry)
                self._dropped(node)
                connection.writer.close()
                return

    def _dropped(self, node: K) -> None:
        self._count -= 1
        if not self._idle[node]:
            del self._idle[node]
