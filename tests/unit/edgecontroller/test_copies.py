"""What a tenant's nodes get of its objects is bounded, for all of them together."""

from __future__ import annotations

from kubeedge.api.names import NodeName, Object
from kubeedge.api.resources import CONFIGMAPS, EVENTS, PODS
from kubeedge.apiserver.quota import TenantLimits
from kubeedge_cloud.edgecontroller.copies import COPIES, Copies
from tests.unit.controllers.world import TENANT, World, in_world
from tests.unit.edgecontroller.test_edgecontroller import pod_on

A, B = NodeName("a"), NodeName("b")
KIB = 1024
NODES = 12
LARGE = "configmaps/default/large"


def test_pods_come_before_data_and_small_data_before_large() -> None:
    copies = Copies(lambda: 100)
    wanted = {
        "configmaps/d/big": b"x" * 90,
        "configmaps/d/small": b"x" * 20,
        "pods/d/p": b"x" * 30,
    }
    fitting = copies.fit(A, {}, wanted)
    assert sorted(fitting.wanted) == ["configmaps/d/small", "pods/d/p"] and fitting.refused == ["configmaps/d/big"]
    assert copies.total == 20 + 18 + 30 + 8


def test_no_pod_comes_where_a_policy_of_its_namespace_has_no_room() -> None:
    copies = Copies(lambda: 200)
    wanted = {
        "pods/closed/p": b"x" * 30,
        "pods/other/p": b"x" * 30,
        "configmaps/closed/c": b"x" * 10,
        "networkpolicies/closed/all": b"x" * 190,
        "networkpolicies/other/all": b"x" * 30,
    }
    fitting = copies.fit(A, {}, wanted)
    assert set(fitting.refused) == {"networkpolicies/closed/all", "pods/closed/p"}
    order = list(fitting.wanted)
    assert order.index("networkpolicies/other/all") < order.index("pods/other/p")
    have = {"pods/closed/p": b"x" * 20}  # it runs: that it stops would change nothing
    assert "pods/closed/p" in Copies(lambda: 200).fit(A, have, wanted).wanted


def test_what_is_there_stays_and_may_shrink() -> None:
    copies = Copies(lambda: 10)
    have = {"configmaps/d/a": b"x" * 50}
    copies.found(A, have)
    assert copies.fit(A, have, {"configmaps/d/a": b"y" * 40}).wanted == {"configmaps/d/a": b"y" * 40}
    grown = copies.fit(A, have, {"configmaps/d/a": b"z" * 60})
    assert grown.wanted == have and grown.refused == ["configmaps/d/a"]


def test_room_that_one_node_leaves_is_for_those_that_wait() -> None:
    copies = Copies(lambda: 100)
    copies.fit(A, {}, {"k": b"x" * 90})
    assert copies.fit(B, {}, {"k": b"x" * 90}).refused == ["k"]
    copies.forget(A)
    assert list(copies.short()) == [B]
    assert copies.fit(B, {}, {"k": b"x" * 90}).refused == [] and not copies.short()


@in_world
async def test_one_large_object_on_many_nodes_fills_no_store(world: World) -> None:
    """A ConfigMap of 64 KiB costs its tenant 64 KiB of quota, and was stored once more for each node."""
    world.limits = lambda tenant: TenantLimits(1000, 64 * KIB)
    for n in range(NODES):
        await world.tenants.ensure_node(TENANT, f"edge{n}")

    async def stored() -> int:
        found = [(await world.desired(f"edge{n}")) for n in range(NODES)]
        return sum(LARGE in have for have in found)

    volume: Object = {"name": "v", "configMap": {"name": "large"}}
    async with world.cloud():
        data = {"metadata": {"name": "large"}, "data": {"x": "y" * 60 * KIB}}
        await world.api().create(CONFIGMAPS, "default", data)
        for n in range(NODES):
            await world.api().create(PODS, "default", pod_on(f"edge{n}", f"p{n}", volumes=[volume]))
        await world.settle(100)
        assert await stored() == COPIES, "of 60 KiB each"
        assert all([f"pods/default/p{n}" in await world.desired(f"edge{n}") for n in range(NODES)])
        events = [e for e in await world.all(EVENTS) if e["reason"] == "ExceededCopiesQuota"]
        assert len(events) == NODES - COPIES and LARGE in events[0]["message"]
    async with world.cloud():  # another process begins with what there is
        await world.settle(100)
        assert await stored() == COPIES
        first = [n for n in range(NODES) if LARGE in await world.desired(f"edge{n}")][0]
        await world.api().delete(PODS, "default", f"p{first}", grace_period=0)
        await world.settle(100)
        assert LARGE not in await world.desired(f"edge{first}")
        assert await stored() == COPIES, "the next one has its room"
