"""An asyncio.Event for one waiter, at a tenth of its memory: a channel has five of them, and the cloud has thousands of channels."""

from __future__ import annotations

import asyncio

from kubeedge.errors import Misuse


class Signal:
    """set() is remembered until clear(). One task at a time may wait; a second one raises Misuse."""

    __slots__ = ("_is_set", "_waiter")

    def __init__(self) -> None:
        self._is_set = False
        self._waiter: asyncio.Future[None] | None = None

    def is_set(self) -> bool:
        """Whether `wait` would return at once."""
        return self._is_set

    def set(self) -> None:
        """Wake the waiter, now or when it comes."""
        self._is_set = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def clear(self) -> None:
        """Resets it: `wait` waits for the next `set`."""
        self._is_set = False

    async def wait(self) -> None:
        """Returns at once when set. Cleared again before the waiter runs, it still returns: it was set."""
        if self._is_set:
            return
        if self._waiter is not None:
            raise Misuse("two tasks wait for one signal")
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
