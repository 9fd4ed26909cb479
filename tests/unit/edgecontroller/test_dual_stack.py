"""Both pod CIDRs of nodes: those that a cluster gives, those of our plan, and what is not taken."""

from __future__ import annotations

from typing import Any

import pytest

from kubeedge.api.client import KubeClient
from kubeedge.api.names import Object, TenantId
from kubeedge.api.resources import NODES
from kubeedge.errors import Refused
from kubeedge_cloud.edgecontroller.node_registration import ClusterRegistry
from kubeedge_cloud.tenants.ipv6_plan import Ipv6Plan
from kubeedge_cloud.tenants.manager import TenantManager
from kubeedge_cloud.tenants.model import AddressPlan
from tests.unit.controllers.world import TENANT, World, in_world
from tests.unit.edgecontroller.test_cluster import EDGE1, Api, ClusterWorld, in_cluster

PLAN = AddressPlan(ipv6=Ipv6Plan("fd00:10:244::/48"))
FOUR, SIX = "10.244.77.0/24", "fd00:10:244:77::/64"


class Allocating(Api):
    """Nodes are made with these pod CIDRs."""

    def __init__(self, world: ClusterWorld, given: list[str]) -> None:
        super().__init__(world.cluster, "")
        self._given = given

    async def create(self, resource: Any, namespace: str, obj: Object) -> Object:
        spec = {**obj.get("spec", {}), "podCIDR": self._given[0], "podCIDRs": self._given} if self._given else {}
        return await super().create(resource, namespace, {**obj, "spec": spec} if resource == NODES else obj)


async def registered(world: ClusterWorld, plan: AddressPlan, given: list[str]) -> Any:
    tenants, client = TenantManager(world.store, plan=plan), Allocating(world, given)
    await tenants.ensure_tenant(TENANT)
    await tenants.use_cluster(TENANT, "/kubeconfig")

    async def client_of(tenant: TenantId) -> KubeClient:
        return client

    found = await ClusterRegistry(tenants, "cloud", client_of).register(TENANT, EDGE1, "j")
    record = await tenants.node(TENANT, EDGE1)
    assert record is not None and record.pod_cidr == found["podCIDR"]
    assert found.get("ipv6", {}) == record.ipv6.encode()
    return found


@pytest.mark.parametrize("given", [[FOUR, SIX], [SIX, FOUR]])
def test_a_cluster_gives_both_in_either_order(given: list[str]) -> None:
    @in_cluster
    async def test(world: ClusterWorld) -> None:
        found = await registered(world, PLAN, given)
        assert found["podCIDR"] == FOUR
        assert found["ipv6"] == {"address": "fd00:100:64::1/64", "podCIDR": SIX, "podNetwork": "fd00:10:244::/48"}

    test()


@pytest.mark.parametrize(("plan", "given"), [(PLAN, [FOUR]), (AddressPlan(), [FOUR, SIX])])
def test_a_node_has_ipv4_alone_where_the_cluster_or_our_plan_has(plan: AddressPlan, given: list[str]) -> None:
    @in_cluster
    async def test(world: ClusterWorld) -> None:
        found = await registered(world, plan, given)
        assert found["podCIDR"] == FOUR and "ipv6" not in found

    test()


@pytest.mark.parametrize(
    "given", [[FOUR, "fd99::/64"], [FOUR, "::/0"], [FOUR, "fe80::%x/64"], [SIX], [FOUR, ":" * 4000]]
)
def test_what_is_outside_of_our_networks_is_refused(given: list[str]) -> None:
    class Odd(Allocating):
        async def create(self, resource: Any, namespace: str, obj: Object) -> Object:
            made = await Api.create(self, resource, namespace, obj)
            return {**made, "spec": {"podCIDR": given[0], "podCIDRs": given}}

    @in_cluster
    async def test(world: ClusterWorld) -> None:
        tenants = TenantManager(world.store, plan=PLAN)
        await tenants.ensure_tenant(TENANT)

        async def client_of(tenant: TenantId) -> KubeClient:
            return Odd(world, given)

        with pytest.raises(Refused, match=r"which is not in addresses\.pods") as refused:
            await ClusterRegistry(tenants, "cloud", client_of).register(TENANT, EDGE1, "j")
        assert len(str(refused.value)) < 300 and await tenants.node(TENANT, EDGE1) is None

    test()


@in_cluster
async def test_without_an_allocator_our_plan_counts_for_both(world: ClusterWorld) -> None:
    found = await registered(world, PLAN, [])
    assert (found["podCIDR"], found["ipv6"]["podCIDR"]) == ("10.244.1.0/24", "fd00:10:244:1::/64")
    assert (await world.get(NODES, "edge1"))["spec"]["podCIDRs"] == ["10.244.1.0/24", "fd00:10:244:1::/64"]


@in_world
async def test_a_node_of_before_has_both_in_the_embedded_api_once_its_record_has(world: World) -> None:
    async with world.cloud():
        agent = await world.join("edge1")
        await world.settle()
        assert (await world.get(NODES, "edge1"))["spec"]["podCIDRs"] == ["10.244.1.0/24"]
        await TenantManager(world.store, plan=PLAN).lookup(TENANT, EDGE1)

        await agent.detach()
        await agent.attach()  # it starts anew

        async def both() -> bool:
            return len((await world.get(NODES, "edge1"))["spec"]["podCIDRs"]) == 2

        await world.until(both, "both pod CIDRs")
