"""What a relay says of itself in the store, and says again when its lease was lost: over a memory store, in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from kubeedge.api.names import NodeKey, NodeName, TenantId
from kubeedge.errors import Gone, Unavailable
from kubeedge.kubebus.l3.plane import Plane, TlsContext
from kubeedge.store.memory import MemoryStore
from kubeedge.store.model import Put
from kubeedge_cloud.bushub.peers import Peers, PeersSettings
from kubeedge_cloud.bushub.records import NextHop
from tests.kit import virtual_time

A, B = ((TenantId("t"), NodeName(name)) for name in "ab")


class NoPlane:
    """Links between relays are of no interest here."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **options: True


class Relay:
    def __init__(self, store: MemoryStore, address: str) -> None:
        self.moved: list[tuple[NodeKey, str]] = []
        self.next_hop_changed: dict[NodeKey, str | None] = {}
        self.peers = Peers(
            store, PeersSettings(addresses=[address]),
            moved=lambda node, next_hop: self.moved.append((node, next_hop.relay)),
            next_hop_changed=lambda node, older, next_hop: self.next_hop_changed.__setitem__(node, next_hop.relay if next_hop else None),
        )  # fmt: skip

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Relay]:
        await self.peers.prepare()
        task = asyncio.create_task(self.peers.run(cast(Plane, NoPlane()), cast(TlsContext, None)))
        await asyncio.sleep(0.1)
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def has(self, node: NodeKey) -> None:
        self.peers.here(node, NextHop(self.peers.id, 1, 1, "instance", [], []))


@pytest.fixture(autouse=True)
def nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silence(host: str, port: int) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr("kubeedge_cloud.bushub.peer_links.connect", silence)


async def keys(store: MemoryStore) -> dict[str, Any]:
    found = await store.range("/bus/", "/bus0")
    return {kv.key: kv.value.decode() for kv in found.kvs}


def test_a_relay_whose_lease_was_lost_registers_everything_again_and_its_nodes_stay() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        async with Relay(store, "1.1.1.1:1").running() as relay, Relay(store, "2.2.2.2:1").running() as other:
            relay.has(A)
            assert await relay.peers.claim_address(1, "100.64.255.254/16") == ""
            await asyncio.sleep(0.1)
            before = await keys(store)
            assert other.next_hop_changed == {A: relay.peers.id}
            await store.lease_revoke(relay.peers.lease)
            await asyncio.sleep(0.1)
            assert other.next_hop_changed == {A: None} and len(await keys(store)) < len(before)
            await asyncio.sleep(7.0)
            assert await keys(store) == before
            assert other.next_hop_changed == {A: relay.peers.id} and relay.moved == []
            await asyncio.sleep(60.0)  # and the new lease is kept
            assert await keys(store) == before

    virtual_time.run(scenario())


def test_a_node_that_went_to_another_relay_meanwhile_is_not_taken_back() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        async with Relay(store, "1.1.1.1:1").running() as relay, Relay(store, "2.2.2.2:1").running() as other:
            relay.has(A)
            relay.has(B)
            await asyncio.sleep(0.1)
            await store.lease_revoke(relay.peers.lease)
            other.has(A)
            await asyncio.sleep(10.0)
            assert relay.moved == [(A, other.peers.id)] and other.moved == []
            at = {key: json.loads(value)["relay"] for key, value in (await keys(store)).items() if "/nodes/" in key}
            assert at == {"/bus/nodes/t/a": other.peers.id, "/bus/nodes/t/b": relay.peers.id}

    virtual_time.run(scenario())


def test_a_relay_whose_number_another_has_now_starts_over() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        relay = Relay(store, "1.1.1.1:1")
        await relay.peers.prepare()
        task = asyncio.create_task(relay.peers.run(cast(Plane, NoPlane()), cast(TlsContext, None)))
        await asyncio.sleep(0.1)
        await store.lease_revoke(relay.peers.lease)
        await store.txn([], [Put(f"/bus/numbers/{relay.peers.number:05d}", b"another")])
        with pytest.raises(ExceptionGroup) as ended:
            await asyncio.wait_for(task, 30.0)
        assert ended.value.subgroup(Unavailable) is not None and "another relay has the number" in repr(
            ended.value.exceptions
        )

    virtual_time.run(scenario())


def test_a_store_that_is_silent_for_an_hour_ends_nothing() -> None:
    class Silent(MemoryStore):
        silent = False

        async def lease_keepalive(self, lease: int) -> Any:
            if self.silent:
                await asyncio.Event().wait()
            return await super().lease_keepalive(lease)

    async def scenario() -> None:
        store = Silent()
        async with Relay(store, "1.1.1.1:1").running() as relay:
            relay.has(A)
            await asyncio.sleep(0.1)
            before = await keys(store)
            store.silent = True
            await asyncio.sleep(3600.0)
            store.silent = False
            await asyncio.sleep(10.0)
            assert await keys(store) == before and relay.moved == []

    virtual_time.run(scenario())


def test_changes_that_were_compacted_before_we_heard_of_them_are_found() -> None:
    class Forgetful(MemoryStore):
        forget = False

        async def watch(self, prefix: str, **options: Any) -> AsyncIterator[Any]:
            async for batch in super().watch(prefix, **options):
                if self.forget:
                    self.forget = False
                    raise Gone("compacted")
                yield batch

    async def scenario() -> None:
        store = Forgetful()
        async with Relay(store, "2.2.2.2:1").running() as relay:
            other = Relay(MemoryStore(), "3.3.3.3:1")
            next_hop = NextHop("third", 1, 1, "instance", [], [])
            await store.put("/bus/nodes/t/a", next_hop.encode())
            await store.put("/bus/nodes/t/b", next_hop.encode())
            await asyncio.sleep(0.1)
            assert relay.next_hop_changed == {A: "third", B: "third"}
            store.forget = True
            await store.delete("/bus/nodes/t/a")
            await asyncio.sleep(0.1)
            assert relay.next_hop_changed == {A: None, B: "third"} and other.next_hop_changed == {}

    virtual_time.run(scenario())
