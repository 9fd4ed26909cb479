"""Module "messages": a TenantMessages for every tenant whose leader this process is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial

from kubeedge.api.names import TenantId
from kubeedge.store.model import Store
from kubeedge_cloud.messages.driver import TenantMessages
from kubeedge_cloud.processes.membership import Alone, Membership, led
from kubeedge_cloud.tenants.each import for_each_tenant
from kubeedge_cloud.tenants.manager import TenantManager
from kubeedge_cloud.tenants.model import TenantRecord


class NodeMessages:
    """`tenants` that this process leads; `served` has them, for the metrics."""

    name = "messages"

    def __init__(
        self,
        store: Store,
        tenants: TenantManager,
        *,
        member: Membership | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._tenants = store, tenants
        self._member = member or Alone()
        self._wall = wall
        self.served: dict[TenantId, TenantMessages] = {}

    async def run(self, ready: asyncio.Event) -> None:
        """Serves tenants as they come and go, and stands by for those that another process leads."""
        await for_each_tenant(self._tenants, self._serve, ready, what="messages")

    async def _serve(self, record: TenantRecord, serving: asyncio.Event) -> None:
        work = f"messages/{record.name}"

        async def run(ready: asyncio.Event) -> None:
            messages = TenantMessages(
                record.name, self._store, fence=partial(self._member.fence, work), wall=self._wall
            )
            self.served[record.name] = messages
            try:
                await messages.run(ready)
            finally:
                del self.served[record.name]

        await led(self._member, work, run, serving)
