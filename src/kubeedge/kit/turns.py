"""One thing at a time, and who waits is asked in turn: of each key one, then again. Round robin, not first come, first served.

    async with turns.of(tenant):
        ...

A tenant with 64 requests waits for its own 63; another one's waits for one. A key that rests has no turn until it resumes, and the others go on.
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
        self._resting: set[Hashable] = set()
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
        if not self._busy and key not in self._resting:
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
        """The turn goes to the first of the next key that does not rest."""
        while (key := next((k for k in self._waiting if k not in self._resting), None)) is not None:
            queue = self._waiting.pop(key)
            while queue:
                turn = queue.popleft()
                if not turn.done():
                    if queue:
                        self._waiting[key] = queue  # at the end
                    turn.set_result(None)
                    return
        self._busy = False

    def rest(self, key: Hashable) -> None:
        """The key has no turn until `resume`; the one that it has goes on."""
        self._resting.add(key)

    def resume(self, key: Hashable) -> None:
        """The key may have a turn again."""
        self._resting.discard(key)
        if not self._busy:
            self._busy = True
            self.give()
