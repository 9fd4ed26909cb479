"""What the parts of a cloud process see of it: its lease, and the work that it alone does.

Lives elsewhere: one of several processes over a store (module.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from kubeedge.store.model import Compare

Work = Callable[[], Awaitable[None]]


class Membership(Protocol):
    """What modules see of the process that they are in."""

    @property
    def id(self) -> str:
        """Unique among the processes over one store."""
        ...

    @property
    def lease(self) -> int:
        """For keys that go with the process; 0 when it is alone and its store knows of no other. Raises Unavailable without one."""
        ...

    async def lead(self, work: str, do: Work) -> None:
        """Do it whenever this process holds that work, for ever; cancelled when the hold is lost."""
        ...

    def fence(self, work: str) -> Sequence[Compare]:
        """For transactions of that work: they hold only while this process leads it."""
        ...

    def on_loss(self, notify: Callable[[], None]) -> None:
        """Call when the lease is lost: keys that went with it are gone."""
        ...


class Alone:
    """The only process over its store, as with SQLite, whose file one process has open."""

    id = "alone"
    lease = 0

    async def lead(self, work: str, do: Work) -> None:
        """At once, and for as long as it runs: no other process could lead."""
        await do()

    def fence(self, work: str) -> Sequence[Compare]:
        """Nothing to compare: no other process writes."""
        return ()

    def on_loss(self, notify: Callable[[], None]) -> None:
        """Never called: there is no lease to lose."""


async def led(
    member: Membership, work: str, run: Callable[[asyncio.Event], Awaitable[None]], serving: asyncio.Event
) -> None:
    """Run it while this process leads; who stands by is ready, too."""
    if not isinstance(member, Alone):
        serving.set()
    await member.lead(work, lambda: run(serving))
