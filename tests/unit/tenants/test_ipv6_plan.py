"""Addresses of IPv6: what a plan gives, and who gets them when."""

from __future__ import annotations

import asyncio
import ipaddress

import pytest

from kubeedge.api.names import NodeName, NodeNumber, TenantId
from kubeedge.api.node_ipv6 import NONE, NodeIpv6, decode
from kubeedge.config.cloud import Addresses
from kubeedge.errors import Invalid
from kubeedge.store.memory import MemoryStore
from kubeedge_cloud.tenants.ipv6_plan import Ipv6Plan
from kubeedge_cloud.tenants.manager import TenantManager
from kubeedge_cloud.tenants.model import AddressPlan, NodeRecord, decode_node, plan_of

A, EDGE1 = TenantId("a"), NodeName("edge1")
PLAN = AddressPlan(ipv6=Ipv6Plan("fd00:10:244::/48"))
OF_ONE = NodeIpv6(address="fd00:100:64::1/64", pod_cidr="fd00:10:244:1::/64", pod_network="fd00:10:244::/48")


def test_node_n_has_the_nth_network_and_the_nth_address() -> None:
    plan = Ipv6Plan("fd00:10:244::/48")
    assert plan.nodes == 65_535 and plan.of(NodeNumber(1)) == OF_ONE
    assert plan.of(NodeNumber(65_535)).pod_cidr == "fd00:10:244:ffff::/64"
    assert plan.of(NodeNumber(300)).address == "fd00:100:64::12c/64"
    assert OF_ONE.own == ("fd00:100:64::1/128", "fd00:10:244:1::/64") and OF_ONE.ip == "fd00:100:64::1"
    assert OF_ONE.networks == ("fd00:100:64::/64", "fd00:10:244::/48") and NONE.own == NONE.networks == ()


def test_a_small_network_has_addresses_for_some_nodes_and_the_others_have_ipv4() -> None:
    plan = Ipv6Plan("fd00::/60")
    assert (
        plan.nodes == 15 and plan.of(NodeNumber(15)).pod_cidr == "fd00:0:0:f::/64" and plan.of(NodeNumber(16)) is NONE
    )


@pytest.mark.parametrize(
    ("pods", "bits", "overlay"),
    [
        ("fd00::/64", 64, "fd01::/64"),
        ("fd00::/48", 113, "fd01::/64"),
        ("fd00::/48", 64, "fd01::/120"),
        ("fd00::/48", 64, "fd00::/64"),
        ("10.0.0.0/8", 64, "fd01::/64"),
        ("fd00::1/48", 64, "fd01::/64"),
    ],
)
def test_plans_without_room_are_refused(pods: str, bits: int, overlay: str) -> None:
    with pytest.raises(Invalid):
        Ipv6Plan(pods, bits, overlay)


def test_the_cloud_has_the_address_that_goes_with_its_own_of_ipv4() -> None:
    assert PLAN.cloud_ipv6(PLAN.cloud) == "fd00:100:64::fffe/64" and AddressPlan().cloud_ipv6(PLAN.cloud) == ""
    assert PLAN.cloud_ipv6("100.64.255.253/16") == "fd00:100:64::fffd/64"
    assert PLAN.sources == ["100.64.255.254", "fd00:100:64::fffe"] and AddressPlan().sources == ["100.64.255.254"]
    small = AddressPlan(overlay="10.99.0.0/20", ipv6=PLAN.ipv6)
    assert small.cloud_ipv6(small.cloud) == "fd00:100:64::ffe/64"


def test_processes_of_the_cloud_have_an_address_each_in_a_larger_overlay_too() -> None:
    large = AddressPlan(overlay="100.64.0.0/10", ipv6=PLAN.ipv6)
    assert large.cloud == "100.127.255.254/10"
    found = [large.cloud_ipv6(large.cloud_address(f"100.127.255.{254 - n}/10")) for n in range(8)]
    assert found[:2] == ["fd00:100:64::ffff/64", "fd00:100:64::fffe/64"] and len(set(found)) == 8
    nodes = {large.ipv6_of(NodeNumber(n)).address for n in (1, large.nodes)}
    middle = large.cloud_ipv6(large.cloud_address("100.100.0.1/10"))
    assert nodes.isdisjoint((*found, middle))


def test_services_and_networks_behind_the_cloud_are_outside_of_it() -> None:
    with pytest.raises(Invalid, match="addresses in common"):
        plan_of(Addresses(pods_ipv6="fd00::/48", services_ipv6="fd00::/112"))
    assert plan_of(Addresses()).ipv6 is None
    assert PLAN.behind_the_cloud(["fd00:10:244::/48", "fd99::/64"]) == ("fd00:10:244::/48", "fd99::/64")
    for text in ("fd00:10:244:5::/64", "fd00:100::/32"):
        with pytest.raises(Invalid, match="which nodes use"):
            PLAN.behind_the_cloud([text])


def test_a_node_that_joined_before_gets_its_addresses_when_it_attaches() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        before, after = TenantManager(store), TenantManager(store, plan=PLAN)
        await before.ensure_tenant("a")
        await before.ensure_node(A, EDGE1)
        assert "ipv6" not in await before.register(A, EDGE1, "j")
        found = await after.lookup(A, EDGE1)
        assert found is not None and found.ipv6 == OF_ONE and found.pod_cidrs == ["10.244.1.0/24", "fd00:10:244:1::/64"]
        revision = store.revision
        assert await after.lookup(A, EDGE1) == found and store.revision == revision
        assert await before.lookup(A, EDGE1) == found, "what a node has is not taken away"
        assert (await after.register(A, EDGE1, "j"))["ipv6"] == OF_ONE.encode()
        assert (await after.ensure_node(A, "edge2")).ipv6.pod_cidr == "fd00:10:244:2::/64"

    asyncio.run(scenario())


def test_addresses_stay_when_the_plan_grows_and_the_way_to_the_new_ones_is_told() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        small = TenantManager(store, plan=AddressPlan(ipv6=Ipv6Plan("fd00:10:244::/63")))
        other = TenantManager(store, plan=AddressPlan(ipv6=Ipv6Plan("fd00:10:245::/48")))
        large = TenantManager(store, plan=PLAN)
        await small.ensure_tenant("a")
        own = (await small.ensure_node(A, EDGE1)).ipv6
        assert own.pod_network == "fd00:10:244::/63" and (await small.ensure_node(A, "edge2")).ipv6 == NONE
        for plan in (small, other):
            found = await plan.lookup(A, EDGE1)
            assert found is not None and found.ipv6 == own
        found = await large.lookup(A, EDGE1)
        assert found is not None and found.ipv6 == OF_ONE
        revision = store.revision
        assert await large.lookup(A, EDGE1) == found and store.revision == revision

    asyncio.run(scenario())


def test_in_a_tenant_with_a_cluster_the_cluster_gives_them() -> None:
    async def scenario() -> None:
        tenants = TenantManager(MemoryStore(), plan=PLAN)
        await tenants.ensure_tenant("a")
        await tenants.use_cluster(A, "/kubeconfig")
        assert (await tenants.ensure_node(A, EDGE1)).ipv6 == NONE
        found = await tenants.lookup(A, EDGE1)
        assert found is not None and found.ipv6 == NONE
        noted = await tenants.note_object(A, EDGE1, "u", ["10.244.9.0/24", "fd00:10:244:9::/64"])
        assert noted.pod_cidrs == ["10.244.9.0/24", "fd00:10:244:9::/64"] and noted.ipv6.address == "fd00:100:64::1/64"
        assert (await tenants.note_object(A, EDGE1, "u", ["10.244.9.0/24"])).ipv6 == NONE

    asyncio.run(scenario())


def test_a_record_keeps_them_and_one_of_before_has_none() -> None:
    record = NodeRecord(A, EDGE1, NodeNumber(1), 1, "100.64.0.1/16", "10.244.1.0/24", ipv6=OF_ONE)  # type: ignore[arg-type]
    assert decode_node(A, record.encode()) == record
    assert b"ipv6" not in NodeRecord(A, EDGE1, NodeNumber(1), 1, "100.64.0.1/16", "10.244.1.0/24").encode()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "value",
    [
        7, [], {"address": 7}, {"address": "fd00::1"}, {"address": "10.0.0.1/8"}, {"podCIDR": "fd00::1/64"},
        {"podCIDR": "10.0.0.0/8"}, {"podNetwork": "fd00::/" + "0" * 99}, {"address": "fe80::1%eth0/64"},
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(value: object) -> None:
    with pytest.raises(Invalid):
        decode(value)


def test_what_was_encoded_is_read_back() -> None:
    assert decode(OF_ONE.encode()) == OF_ONE and decode(None) == decode({}) == NONE
    assert ipaddress.IPv6Interface(OF_ONE.address).ip in ipaddress.IPv6Network(OF_ONE.networks[0])
