"""How many writes of a tenant are worked on at the same time.

Each takes a few turns of the loop, and each turn waits for those of all others: 64 that one tenant keeps in progress made another's take as long
as 64. Alone a tenant may have them, which share commits; beside another it has two, and the rest waits for its own.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable

from kubeedge.api.names import TenantId

ALONE = 64  # writes of a tenant while no other one writes
BESIDE = 2  # and while another does: one is decided while the other is made durable
RECENT = 1.0  # seconds for which a tenant counts as one that writes


class WriteTurns:
    """The turns of all tenants of one API. `clock` returns seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._running: Counter[TenantId] = Counter()
        self._waiting: dict[TenantId, deque[asyncio.Future[None]]] = {}
        self._ended: dict[TenantId, float] = {}  # the last write of tenants that have none now

    def of(self, tenant: TenantId) -> WriteTurn:
        """The turns of one request of a tenant."""
        return WriteTurn(self, tenant)

    async def take(self, tenant: TenantId) -> None:
        """Returns when the tenant may begin another write, in the order of asking."""
        if not self._waiting.get(tenant) and self._running[tenant] < self._most(tenant):
            self._running[tenant] += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it came at the same moment
                self.give(tenant)
            elif turn in (waiting := self._waiting.get(tenant, deque())):
                waiting.remove(turn)
            raise

    def give(self, tenant: TenantId) -> None:
        """Return the turn of a write that is over; the next one begins."""
        self._running[tenant] -= 1
        most, waiting = self._most(tenant), self._waiting.get(tenant, deque())
        while waiting and self._running[tenant] < most:
            turn = waiting.popleft()
            if not turn.done():
                self._running[tenant] += 1
                turn.set_result(None)
        if not waiting:
            self._waiting.pop(tenant, None)
        if not self._running[tenant]:
            del self._running[tenant]
            self._ended[tenant] = self._clock()

    def _most(self, tenant: TenantId) -> int:
        now = self._clock()
        self._ended = {who: at for who, at in self._ended.items() if now - at < RECENT}
        others = any(who != tenant for who in self._ended) or any(
            who != tenant for who, count in self._running.items() if count
        )
        return BESIDE if others else ALONE


class WriteTurn:
    """Taken once, when the body is there: a client that sends it slowly keeps no other one waiting."""

    def __init__(self, turns: WriteTurns, tenant: TenantId) -> None:
        self._turns = turns
        self._tenant = tenant
        self._taken = False

    async def take(self) -> None:
        """Waits for it, unless the request has it."""
        if not self._taken:
            await self._turns.take(self._tenant)
            self._taken = True

    def __enter__(self) -> WriteTurn:
        return self

    def __exit__(self, *_: object) -> None:
        if self._taken:
            self._taken = False
            self._turns.give(self._tenant)
