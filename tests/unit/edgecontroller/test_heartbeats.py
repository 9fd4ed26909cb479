"""A Lease for each node of the embedded API: there, true whenever it is read, and never a write while nothing happens."""

from __future__ import annotations

from kubeedge.api import meta
from kubeedge.api.names import NodeName, Object
from kubeedge.api.resources import LEASES, NODES
from kubeedge.apiserver.heartbeats import NAMESPACE
from kubeedge.errors import NotFound
from tests.unit.controllers.world import GRACE, TENANT, World, in_world


async def lease_of(world: World, node: str) -> Object:
    return await world.api().get(LEASES, NAMESPACE, node)


async def has_lease(world: World, node: str) -> bool:
    try:
        await lease_of(world, node)
    except NotFound:
        return False
    return True


def renewed(lease: Object) -> float:
    stamp = meta.parse_timestamp(lease["spec"]["renewTime"])
    assert stamp is not None
    return stamp


@in_world
async def test_a_lease_is_of_now_while_its_node_is_attached_and_of_then_when_it_was_lost(world: World) -> None:
    async with world.cloud():
        agent = await world.join("edge1")
        await world.until(lambda: has_lease(world, "edge1"), "the lease", within=5)
        await world.settle(3600)
        lease, node = await lease_of(world, "edge1"), await world.get(NODES, "edge1")
        assert lease["spec"]["holderIdentity"] == "edge1" and lease["spec"]["leaseDurationSeconds"] == 40
        assert [owner["uid"] for owner in lease["metadata"]["ownerReferences"]] == [node["metadata"]["uid"]]
        assert abs(renewed(lease) - world.wall()) < 0.01
        (listed,) = (await world.api().list(LEASES)).items
        assert abs(renewed(listed) - world.wall()) < 0.01
        lost = world.wall()
        await agent.detach()
        await world.settle(GRACE * 20)
        assert abs(renewed(await lease_of(world, "edge1")) - lost) < 2
        await agent.attach()
        assert abs(renewed(await lease_of(world, "edge1")) - world.wall()) < 0.01


@in_world
async def test_nothing_is_written_for_it_but_when_a_node_comes_or_is_lost(world: World) -> None:
    async with world.cloud():
        agent = await world.join("edge1")
        await world.until(lambda: has_lease(world, "edge1"), "the lease", within=5)
        await world.settle(60)
        before = world.store.revision
        await world.settle(3600)
        assert world.store.revision == before
        version = (await lease_of(world, "edge1"))["metadata"]["resourceVersion"]
        for _ in range(5):
            await agent.detach()
            await world.settle(GRACE / 2)
            await agent.attach()
            await world.settle(GRACE / 2)
        assert (await lease_of(world, "edge1"))["metadata"]["resourceVersion"] == version
    async with world.cloud():
        await world.settle(GRACE * 2)
        assert (await lease_of(world, "edge1"))["metadata"]["resourceVersion"] == version


@in_world
async def test_it_follows_its_node(world: World) -> None:
    async with world.cloud():
        await world.join("edge1")
        await world.until(lambda: has_lease(world, "edge1"), "the lease", within=5)
        await world.api().delete(NODES, "", "edge1")

        async def is_of_the_new_one() -> bool:
            node = await world.get(NODES, "edge1")
            owners = (await lease_of(world, "edge1"))["metadata"]["ownerReferences"]
            return [owner["uid"] for owner in owners] == [node["metadata"]["uid"]]

        await world.settle(1)
        await world.until(is_of_the_new_one, "the owner is the Node that came back", within=5)
        await world.tenants.remove_node(TENANT, NodeName("edge1"))

        async def gone() -> bool:
            return not await has_lease(world, "edge1")

        await world.until(gone, "no lease", within=5)


@in_world
async def test_leases_of_others_are_as_they_were_written(world: World) -> None:
    """A leader's, and one in the nodes' namespace that somebody else holds."""
    stamp = "2020-01-01T00:00:00.000000Z"
    async with world.cloud():
        await world.join("edge1")
        await world.until(lambda: has_lease(world, "edge1"), "the lease", within=5)
        for namespace, name, holder in (("default", "edge1", "edge1"), (NAMESPACE, "edge2", "me")):
            spec = {"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": stamp}
            await world.api().create(LEASES, namespace, {"metadata": {"name": name}, "spec": spec})
            assert (await world.api().get(LEASES, namespace, name))["spec"]["renewTime"] == stamp
        stamps = [lease["spec"]["renewTime"] for lease in (await world.api().list(LEASES)).items]
        assert stamps.count(stamp) == 2 and len(stamps) == 3
