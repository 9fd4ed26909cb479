"""The same result for all who ask while it is made: made once, and forgotten as soon as it is there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Once(Generic[K]):
    """Work that is under way, by its key."""

    def __init__(self) -> None:
        self._running: dict[K, asyncio.Future[Any]] = {}

    def __len__(self) -> int:
        return len(self._running)

    async def of(self, key: K, make: Callable[[], Awaitable[T]]) -> T:
        """What `make` gives, or raises, for this key, which stands for one kind of result. Who is cancelled leaves; the work goes on for the others."""
        running: asyncio.Future[T] | None = self._running.get(key)
        if running is None:
            running = self._running[key] = asyncio.ensure_future(make())
            running.add_done_callback(lambda done: self._ended(key, done))
        return await asyncio.shield(running)

    def _ended(self, key: K, done: asyncio.Future[Any]) -> None:
        del self._running[key]
        if not done.cancelled():
            done.exception()  # all who waited may have left
