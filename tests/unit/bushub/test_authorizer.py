"""Records that change end the authorizer of links: over the Tenant Manager and a memory store, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubeedge.api.names import NodeKey, NodeName, TenantId
from kubeedge.errors import Unavailable
from kubeedge.store.memory import MemoryStore
from kubeedge_cloud.bushub.authorizer import LinkAuthorizer
from kubeedge_cloud.tenants.manager import TenantManager
from tests.kit import virtual_time

TENANT, A, B = TenantId("t"), NodeName("a"), NodeName("b")


@dataclass(frozen=True)
class Linked:
    """What a link was made by."""

    number: int
    join: str = ""


class Hub:
    """What is linked, and what LinkAuthorizer said of it."""

    def __init__(self, directory: Any) -> None:
        self.linked: dict[NodeName, Linked] = {}
        self.ended: list[tuple[NodeName, int]] = []
        self.allowed: list[tuple[NodeName, tuple[str, ...]]] = []
        self.authorizer = LinkAuthorizer(
            directory, linked=lambda tenant: self.linked, end=self._end, allowed=self._allowed
        )

    def _end(self, node: NodeKey, number: int, newest: Any) -> None:
        self.ended.append((node[1], number))

    def _allowed(self, node: NodeKey, subnets: Sequence[str]) -> None:
        self.allowed.append((node[1], tuple(subnets)))


async def tenants() -> TenantManager:
    manager = TenantManager(MemoryStore(), wall=lambda: 0.0)
    await manager.ensure_tenant(TENANT)
    for name in (A, B):
        await manager.ensure_node(TENANT, name)
    return manager


def test_a_node_that_is_removed_ends_and_others_stay() -> None:
    async def scenario() -> None:
        manager = await tenants()
        hub = Hub(manager)
        hub.linked = {A: Linked(1), B: Linked(2)}
        hub.authorizer.follow(TENANT)
        await asyncio.sleep(0.1)
        assert hub.authorizer.has((TENANT, A)) and hub.ended == []
        await manager.remove_node(TENANT, A)
        await asyncio.sleep(0.1)
        assert hub.ended == [(A, 1)] and not hub.authorizer.has((TENANT, A))
        await manager.ensure_node(TENANT, "c")  # which gets the number 1
        await asyncio.sleep(0.1)
        assert hub.ended == [(A, 1)]
        await hub.authorizer.close()

    virtual_time.run(scenario())


def test_a_machine_that_replaces_a_node_ends_the_links_of_the_other() -> None:
    async def scenario() -> None:
        manager = await tenants()
        hub = Hub(manager)
        hub.linked = {A: Linked(1), B: Linked(2)}
        hub.authorizer.follow(TENANT)
        await asyncio.sleep(0.1)
        for join in ("first", "second"):  # the name stays, and so does the number
            compares, ops = await manager.entitle(TENANT, A, join)
            assert (await manager._store.txn(compares, ops)).succeeded
            await asyncio.sleep(0.1)
            assert hub.authorizer.record((TENANT, A)).join == join
        assert hub.ended == [(A, 1), (A, 1)]
        await hub.authorizer.close()

    virtual_time.run(scenario())


def test_what_changed_before_we_looked_is_noticed_at_the_first_look() -> None:
    async def scenario() -> None:
        manager = await tenants()
        hub = Hub(manager)
        hub.linked = {A: Linked(1), B: Linked(9)}  # b had number 9 when its link began
        await manager.remove_node(TENANT, A)
        await manager.allow_subnets(TENANT, B, ["10.0.0.0/24"])
        hub.authorizer.follow(TENANT)
        await asyncio.sleep(0.1)
        assert sorted(hub.ended) == [(A, 1), (B, 9)]
        assert (B, ("10.0.0.0/24",)) in hub.allowed
        await hub.authorizer.close()

    virtual_time.run(scenario())


def test_networks_that_become_allowed_or_forbidden_are_announced() -> None:
    async def scenario() -> None:
        manager = await tenants()
        hub = Hub(manager)
        hub.authorizer.follow(TENANT)
        await asyncio.sleep(0.1)
        for subnets in (["10.0.0.0/24"], ["10.0.0.0/24", "10.1.0.0/24"], []):
            await manager.allow_subnets(TENANT, A, subnets)
            await asyncio.sleep(0.1)
            assert hub.allowed[-1] == (A, tuple(subnets))
        assert {name for name, _ in hub.allowed} == {A} and hub.ended == []
        await hub.authorizer.close()

    virtual_time.run(scenario())


def test_a_removal_while_the_store_is_away_is_noticed_when_it_is_back() -> None:
    class Flaky:
        def __init__(self, manager: TenantManager) -> None:
            self.manager = manager
            self.cut = asyncio.Event()

        async def follow_nodes(self, tenant: TenantId) -> AsyncGenerator[Mapping[NodeName, Any], None]:
            if self.cut.is_set():
                async for records in self.manager.follow_nodes(tenant):
                    yield records
            yield {record.name: record for record in await self.manager.nodes(tenant)}
            await self.cut.wait()
            raise Unavailable("the store does not answer")

        def follow_subnets(self, tenant: TenantId) -> AsyncGenerator[Mapping[NodeName, Sequence[str]], None]:
            return self.manager.follow_subnets(tenant)

    async def scenario() -> None:
        manager = await tenants()
        directory = Flaky(manager)
        hub = Hub(directory)
        hub.linked = {A: Linked(1), B: Linked(2)}
        hub.authorizer.follow(TENANT)
        await asyncio.sleep(0.1)
        await manager.remove_node(TENANT, B)
        directory.cut.set()
        await asyncio.sleep(0.5)
        assert hub.ended == []  # nobody has told us
        await asyncio.sleep(1.0)
        assert hub.ended == [(B, 2)]
        await hub.authorizer.close()

    virtual_time.run(scenario())
