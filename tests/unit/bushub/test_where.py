"""Where the nodes of any tenant are, asked of a relay that has no link of that tenant: what it said is taken back when it does not hold any more.
The relay's driver over a real data plane, the Tenant Manager and a memory store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from kubeedge.api.names import NodeName, TenantId
from kubeedge.kit.tasks import TaskSet
from kubeedge.kubebus.l2.core import LinkSettings
from kubeedge.kubebus.l3.plane import Plane
from kubeedge.store.memory import MemoryStore
from kubeedge_cloud.bushub.core import NodeLinks
from kubeedge_cloud.bushub.driver import LinkCounts, RelayDriver
from kubeedge_cloud.bushub.endpoints import Endpoints
from kubeedge_cloud.bushub.settings import BusHubSettings
from kubeedge_cloud.tenants.manager import TenantManager

TENANT, A = TenantId("t"), NodeName("a")


class Relay:
    """A relay without links; `told` are the times it said that numbers do not hold any more."""

    def __init__(self, driver: RelayDriver, tenants: TenantManager, store: MemoryStore) -> None:
        self.driver, self.tenants, self.store = driver, tenants, store
        self.told: asyncio.Queue[None] = asyncio.Queue()

    async def is_told(self) -> None:
        async with asyncio.timeout(10):
            await self.told.get()


@asynccontextmanager
async def relay() -> AsyncIterator[Relay]:
    store = MemoryStore()
    tenants = TenantManager(store, wall=lambda: 0.0)
    none = Path("/nonexistent")
    settings = BusHubSettings(address="127.0.0.1", port=0, ca=none, cert=none, key=none)
    links = NodeLinks(settings=LinkSettings(), pods="10.244.0.0/16", relay="relay", number=cast(Any, 256))
    plane = Plane(cast(Any, 256))
    async with TaskSet("relay") as tasks:
        endpoints = Endpoints(plane, {}, tasks)
        parts: Any = (plane, links, None, endpoints, tasks, LinkCounts())
        made: Relay
        driver = RelayDriver(
            settings, tenants, *parts, peers=None, tun=None, replaced=lambda: made.told.put_nowait(None)
        )
        made = Relay(driver, tenants, store)
        try:
            yield made
        finally:
            await driver.close()
            await endpoints.close()
            plane.close()
            await store.close()


def test_a_number_is_taken_back_though_the_tenant_has_no_link_here() -> None:
    async def scenario() -> None:
        async with relay() as made:
            await made.tenants.ensure_tenant(TENANT)
            await made.tenants.ensure_node(TENANT, A)
            first = await made.driver.where(TENANT, A)
            assert first is not None and first.number == 1
            compares, ops = await made.tenants.entitle(TENANT, A, "another")  # join --replace
            assert (await made.store.txn(compares, ops)).succeeded
            await made.is_told()
            again = await made.driver.where(TENANT, A)
            assert again is not None and (again.number, again.join) == (1, "another")
            await made.tenants.remove_node(TENANT, A)
            await made.is_told()
            assert await made.driver.where(TENANT, A) is None

    asyncio.run(scenario())


def test_a_name_that_nobody_has_is_not_followed() -> None:
    async def scenario() -> None:
        async with relay() as made:
            before = len(asyncio.all_tasks())
            for n in range(100):
                assert await made.driver.where(TenantId(f"t{n}"), A) is None
            assert len(asyncio.all_tasks()) == before

    asyncio.run(scenario())
