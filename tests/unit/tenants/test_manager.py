"""Tenants and nodes: who has which number, whoever asks and however many at once."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from kubeedge.api import keys
from kubeedge.api.names import NodeName, TenantId
from kubeedge.errors import Conflict, Invalid, NotFound, Unavailable
from kubeedge.store.memory import MemoryStore
from kubeedge.store.model import Store
from kubeedge.store.reflector import reflect
from kubeedge.store.sqlite import open_sqlite
from kubeedge_cloud.tenants import NodeRecord, TenantManager, TenantRecord, model
from kubeedge_cloud.tenants.each import for_each_tenant
from tests.kit import virtual_time

A, B = TenantId("a"), TenantId("b")
NOON = 1_790_000_000.0

Scenario = Callable[[Store, TenantManager], Coroutine[Any, Any, None]]


def over_both_stores(scenario: Scenario) -> Callable[[str, Path], None]:
    @pytest.mark.parametrize("kind", ["memory", "sqlite"])
    def run(kind: str, tmp_path: Path) -> None:
        async def inside() -> None:
            store: Store = await open_sqlite(tmp_path / "store.db") if kind == "sqlite" else MemoryStore()
            try:
                await asyncio.wait_for(scenario(store, TenantManager(store, wall=lambda: NOON)), 20)
            finally:
                await store.close()

        asyncio.run(inside())

    run.__name__, run.__doc__ = scenario.__name__, scenario.__doc__
    return run


@over_both_stores
async def test_a_tenant_and_its_nodes_get_numbers_and_addresses(store: Store, tenants: TenantManager) -> None:
    assert await tenants.ensure_tenant("a") == TenantRecord(A, 1, "2026-09-21T14:13:20Z")
    assert (await tenants.ensure_tenant("b")).number == 2
    assert await tenants.ensure_node(A, "edge1") == NodeRecord(
        A, NodeName("edge1"), 1, 1, "100.64.0.1/16", "10.244.1.0/24", "2026-09-21T14:13:20Z"
    )
    theirs = await tenants.ensure_node(B, "edge1")
    assert (theirs.number, theirs.tenant_number, theirs.address) == (1, 2, "100.64.0.1/16")
    assert await tenants.names() == [A, B] and await tenants.tenant_number(B) == 2
    assert await tenants.lookup(A, NodeName("edge1")) == (await tenants.nodes(A))[0]
    assert await tenants.lookup(A, NodeName("edge2")) is None
    assert await tenants.register(A, NodeName("edge1"), "another") == {
        "number": 1,
        "address": "100.64.0.1/16",
        "podCIDR": "10.244.1.0/24",
        "podNetwork": "10.244.0.0/16",
    }


@over_both_stores
async def test_asking_again_gives_the_same_and_writes_nothing(store: Store, tenants: TenantManager) -> None:
    await tenants.ensure_tenant("a")
    record = await tenants.ensure_node(A, "edge1")
    before = store.revision
    assert await tenants.ensure_node(A, "edge1") == record
    await tenants.ensure_tenant("a")
    assert store.revision == before


@over_both_stores
async def test_no_node_is_called_as_nodes_call_the_cloud(store: Store, tenants: TenantManager) -> None:
    await tenants.ensure_tenant("a")
    with pytest.raises(Invalid, match="cannot be called cloud"):
        await tenants.ensure_node(A, "cloud")


@over_both_stores
async def test_many_who_ask_at_once_never_get_the_same_number(store: Store, tenants: TenantManager) -> None:
    await tenants.ensure_tenant("a")
    managers = [tenants, TenantManager(store)]  # two processes
    names = [f"edge{n}" for n in range(40)] * 2
    records = await asyncio.gather(*(managers[n % 2].ensure_node(A, name) for n, name in enumerate(names)))
    numbers = {record.name: record.number for record in records}
    assert sorted(numbers.values()) == list(range(1, 41))
    assert all(numbers[record.name] == record.number for record in records)
    found = await asyncio.gather(*(manager.ensure_tenant(f"t{n % 20}") for n in range(40) for manager in managers))
    assert len({record.name: record.number for record in found}) == 20
    assert sorted({record.number for record in found}) == list(range(2, 22))


@over_both_stores
async def test_a_number_is_free_again_once_its_node_is_removed(store: Store, tenants: TenantManager) -> None:
    await tenants.ensure_tenant("a")
    for name in ("edge1", "edge2", "edge3"):
        await tenants.ensure_node(A, name)
    await store.put(keys.edge_desired(A, NodeName("edge2")) + "pods/default/p", b"{}")
    await store.put(keys.edge_reported(A, NodeName("edge2")) + "pods/default/p", b"{}")
    assert await tenants.remove_node(A, NodeName("edge2")) is True
    assert await tenants.remove_node(A, NodeName("edge2")) is False
    prefix = keys.edge(A, NodeName("edge2"))
    assert not (await store.range(prefix, keys.prefix_end(prefix))).kvs
    assert await tenants.join_of(A, NodeName("edge2")) is None
    assert (await tenants.ensure_node(A, "edge4")).number == 2
    assert (await tenants.ensure_node(A, "edge2")).number == 4


@over_both_stores
async def test_a_full_tenant_says_so_and_others_are_not_full(store: Store, tenants: TenantManager) -> None:
    await tenants.ensure_tenant("a")
    await tenants.ensure_tenant("b")
    for number in range(1, 256):
        await store.put(keys.node_number(A, number), b"taken")
    with pytest.raises(Unavailable, match="tenant a: all 255 node numbers are taken"):
        await tenants.ensure_node(A, "edge1")
    assert (await tenants.ensure_node(B, "edge1")).number == 1


@over_both_stores
async def test_bad_names_and_unknown_tenants_are_refused(store: Store, tenants: TenantManager) -> None:
    for name in ("", "A", "a/b", "-a", "a" * 64, "a.b"):
        with pytest.raises(Invalid):
            await tenants.ensure_tenant(name)
    await tenants.ensure_tenant("a")
    for name in ("", "Edge", "../b", "e" * 64):
        with pytest.raises(Invalid):
            await tenants.ensure_node(A, name)
    with pytest.raises(NotFound, match="no tenant b"):
        await tenants.ensure_node(B, "edge1")


@over_both_stores
async def test_who_follows_nodes_hears_of_every_change(store: Store, tenants: TenantManager) -> None:
    await tenants.ensure_tenant("a")
    async with aclosing(tenants.follow_nodes(A)) as changes:
        assert await anext(changes) == {}
        await tenants.ensure_node(A, "edge1")
        assert list(await anext(changes)) == ["edge1"]
        await tenants.remove_node(A, NodeName("edge1"))
        assert await anext(changes) == {}


@pytest.mark.parametrize(
    ("number", "address"),
    [(1, "100.64.0.1/16"), (255, "100.64.0.255/16"), (256, "100.64.1.0/16"), (65533, "100.64.255.253/16")],
)
def test_the_overlay_address_holds_the_number(number: int, address: str) -> None:
    assert model.AddressPlan().address(number) == address


def test_each_tenant_may_have_a_network_of_its_own_for_services() -> None:
    plan = model.AddressPlan(services="10.112.0.0/16", tenant_services=("shop=10.113.0.0/24",))
    assert [str(n) for n in plan.services_of(TenantId("shop"))] == ["10.113.0.0/24"]
    assert [str(n) for n in plan.services_of(TenantId("other"))] == ["10.112.0.0/16"]
    assert [str(n) for n in model.AddressPlan().services_of(TenantId("shop"))] == ["10.96.0.0/12"]
    plan = model.AddressPlan(services_ipv6="fd00:10:96::/112", tenant_services=("shop=10.113.0.0/24",))
    assert [str(n) for n in plan.services_of(TenantId("shop"))] == ["10.113.0.0/24", "fd00:10:96::/112"]
    for bad in ("10.112.0.0/16", "fd00::/126", "fd00::1/64"):
        with pytest.raises(Invalid):
            model.AddressPlan(services_ipv6=bad)
    for bad in ("10.244.128.0/20", "100.64.0.0/24", "10.113.0.0/30"):
        with pytest.raises(Invalid, match="network of Services"):
            model.AddressPlan(services=bad)
        with pytest.raises(Invalid, match="network of Services"):
            model.AddressPlan(tenant_services=(f"shop={bad}",))


def test_another_overlay_gives_all_addresses_from_it() -> None:
    plan = model.AddressPlan(overlay="10.99.0.0/20", pods="10.32.0.0/12")
    assert (plan.address(1), plan.address(258)) == ("10.99.0.1/20", "10.99.1.2/20")
    assert plan.cloud == "10.99.15.254/20" and plan.number(plan.cloud) is None
    assert plan.nodes == 4093 and plan.number("10.99.15.253/20") == 4093 and plan.number("100.64.0.1/16") is None
    with pytest.raises(Invalid):
        plan.address(4094)
    for overlay in (
        "10.33.0.0/16",
        "10.99.0.1/16",
        "10.99.0.0/31",
        "fd00::/64",
    ):  # the pods', no network, no room, IPv6
        with pytest.raises(Invalid):
            model.AddressPlan(overlay=overlay, pods="10.32.0.0/12")


@pytest.mark.parametrize("number", [0, -1, 65534, 65535])
def test_the_cloud_and_the_broadcast_address_are_nobodys(number: int) -> None:
    with pytest.raises(Invalid):
        model.AddressPlan().address(number)


@pytest.mark.parametrize(
    ("pods", "bits", "most", "last"),
    [
        ("10.244.0.0/16", 24, 255, "10.244.255.0/24"),
        ("10.128.0.0/9", 24, 32767, "10.255.255.0/24"),
        ("172.16.0.0/12", 26, 16383, "172.31.255.192/26"),
        ("10.0.0.0/8", 28, 65533, "10.15.255.208/28"),  # as many as the overlay has addresses for
    ],
)
def test_every_node_has_a_network_of_its_own_in_the_plan(pods: str, bits: int, most: int, last: str) -> None:
    plan = model.AddressPlan(pods, bits)
    assert plan.nodes == most and plan.pod_cidr(most) == last
    network = ipaddress.IPv4Network(pods)
    parts = [ipaddress.IPv4Network(plan.pod_cidr(n)) for n in range(1, min(most, 500))]
    assert len(set(parts)) == len(parts) and all(part.subnet_of(network) for part in parts)
    for number in (0, most + 1):
        with pytest.raises(Invalid):
            plan.pod_cidr(number)


@pytest.mark.parametrize(("pods", "bits"), [("10.244.0.0/16", 16), ("10.244.0.0/16", 31), ("fd00::/48", 64), ("x", 24)])
def test_a_plan_without_room_is_refused(pods: str, bits: int) -> None:
    with pytest.raises(Invalid):
        model.AddressPlan(pods, bits)


@pytest.mark.parametrize("value", [b"", b"null", b"[]", b"{}", b'{"name":"a"}', b'{"name":"a","number":true}'])
def test_a_record_that_is_none_is_refused(value: bytes) -> None:
    with pytest.raises(Invalid):
        model.decode_node(A, value)
    with pytest.raises(Invalid):
        model.decode_tenant(value)


def test_a_mirror_survives_compaction_and_tells_only_the_differences() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        await store.put("/a/1", b"x")
        await store.put("/a/2", b"x")
        await store.put("/b/1", b"x")
        async with aclosing(reflect(store, "/a/", wanted=lambda key: key != "/a/3")) as changes:
            values, changed = await anext(changes)
            assert set(changed) == set(values) == {"/a/1", "/a/2"}
            await store.put("/a/1", b"y")
            await store.put("/a/3", b"nobody wants it")
            await store.delete("/a/2")
            for _ in range(600):  # more than a watcher's queue holds
                await store.put("/a/4", b"z")
            await store.compact(store.revision)
            values, changed = await anext(changes)
            assert set(changed) == {"/a/1", "/a/2", "/a/4"}
            assert dict(values) == {"/a/1": b"y", "/a/4": b"z"}
        await store.close()

    asyncio.run(scenario())


@over_both_stores
async def test_a_tenant_that_is_removed_leaves_nothing_and_its_number_is_free(
    store: Store, tenants: TenantManager
) -> None:
    for name in ("a", "ab", "b"):
        await tenants.ensure_tenant(name)
    await tenants.ensure_node(A, "edge1")
    with pytest.raises(Conflict, match="1 nodes"):
        await tenants.remove_tenant(A)
    assert await tenants.remove_node(A, NodeName("edge1"))
    for number in range(1200):  # more than one piece
        await store.put(f"{keys.registry(A)}core/configmaps/default/c{number:04}", b"{}")
    await store.put(f"{keys.kubeconfigs(A)}k", b"{}")
    await store.put(f"{keys.tokens(A)}t", b"{}")
    others = {key for key in await everything(store) if "/ab/" in key or key.endswith(("/ab", "/b"))}
    assert await tenants.remove_tenant(A) and not await tenants.remove_tenant(A)
    left = await everything(store)
    assert not [
        key for key in left if key.startswith((keys.of_tenant(A), keys.kubeconfigs(A))) or key == keys.tenant(A)
    ]
    assert others <= left
    with pytest.raises(NotFound):
        await tenants.ensure_node(A, "edge1")
    assert (await tenants.ensure_tenant("a")).number == 1  # and nobody else had it
    assert await tenants.nodes(A) == ()


async def everything(store: Store) -> set[str]:
    return {kv.key for kv in (await store.range("/", "0", keys_only=True)).kvs}


def test_one_tenants_failure_is_its_own_and_new_tenants_are_served() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        tenants = TenantManager(store)
        await tenants.ensure_tenant("a")
        await tenants.ensure_tenant("b")
        starts: list[str] = []

        async def serve(record: TenantRecord, serving: asyncio.Event) -> None:
            starts.append(record.name)
            if record.name == "a" and starts.count("a") < 3:
                raise RuntimeError("not today")
            serving.set()
            await asyncio.get_running_loop().create_future()

        ready = asyncio.Event()
        running = asyncio.create_task(for_each_tenant(tenants, serve, ready, what="test"))
        await asyncio.wait_for(ready.wait(), 60)
        assert sorted(starts) == ["a", "a", "a", "b"]
        await tenants.ensure_tenant("c")
        await asyncio.sleep(1)
        assert starts[-1] == "c"
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await store.close()

    virtual_time.run(scenario())


def test_a_tenant_that_fails_for_ever_holds_up_no_other() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        tenants = TenantManager(store, wall=lambda: NOON)
        served: set[str] = set()
        for name in ("a", "b"):
            await tenants.ensure_tenant(name)

        async def serve(record: TenantRecord, serving: asyncio.Event) -> None:
            if record.name == A:
                raise ValueError("always")
            serving.set()
            served.add(record.name)
            await asyncio.get_running_loop().create_future()

        ready = asyncio.Event()
        running = asyncio.create_task(for_each_tenant(tenants, serve, ready, what="test"))
        await asyncio.wait_for(ready.wait(), 300)
        await tenants.ensure_tenant("c")
        await asyncio.sleep(1)
        assert served == {"b", "c"}
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await store.close()

    virtual_time.run(scenario())


def test_networks_behind_the_cloud_are_outside_of_the_overlay_or_all_pods() -> None:
    plan = model.AddressPlan()
    assert plan.behind_the_cloud(["10.96.0.0/12", "10.50.0.0/24", "10.244.0.0/16"]) == (
        "10.244.0.0/16", "10.50.0.0/24", "10.96.0.0/12",
    )  # fmt: skip
    for network in ("10.244.7.0/24", "10.0.0.0/8", "100.64.7.0/24", "100.64.0.0/10"):
        with pytest.raises(Invalid, match="tun.networks"):
            plan.behind_the_cloud([network])
    with pytest.raises(Invalid, match="default route"):
        plan.behind_the_cloud(["0.0.0.0/0"])
