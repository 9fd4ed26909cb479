"""Events of watches, encoded once for all who watch."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from kubeedge.apiserver.unread import EventCache
from kubeedge.kit.once import Once


class SharedEvents:
    """Of one tenant. `limit`: bytes of events that are kept, for who asks a little later."""

    def __init__(self, limit: int = 4 * 1024 * 1024) -> None:
        self._kept = EventCache(limit)
        self._encoding: Once[tuple[str, ...]] = Once()

    async def of(self, key: tuple[str, ...], encode: Callable[[], Awaitable[bytes]]) -> bytes:
        """The encoded form, made once for all who ask while it is made and for a while after."""
        if (found := self._kept.get(key)) is None:
            found = await self._encoding.of(key, encode)
            self._kept.put(key, found)
        return found
