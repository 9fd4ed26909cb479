"""One thing at a time, and who waits is asked in turn: of each key one, then again. Round robin, not first come, first served.

    async with turns.of(tenant):
        ...

A tenant with 64 requests waits for its own 63; another one's waits for one.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Hashable
from contextlib import asynccontextmanager


class Turns:
    """A lock whose waiters are served key by key."""

    def __init__(self) -> None:
        self._busy = False
        self._waiting: OrderedDict[Hashable, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def of(self, key: Hashable) -> AsyncGenerator[None, None]:
        """Hold the turn for as long as the block runs."""
        await self.take(key)
        try:
            yield
        finally:
            self.give()

    async def take(self, key: Hashable) -> None:
        """Wait for the turn; `give` must follow."""
        if not self._busy:
            self._busy = True
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give()  # it was our turn, and the waiter was cancelled
            raise

    def give(self) -> None:
        """The turn goes to the first of the next key."""
        while self._waiting:
            key, queue = self._waiting.popitem(last=False)
            while queue:
                turn = queue.popleft()
                if not turn.done():
                    if queue:
                        self._waiting[key] = queue  # at the end
                    turn.set_result(None)
                    return
        self._busy = False
