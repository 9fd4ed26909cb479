"""The cloud end: who holds a node's session, and what unauthenticated peers may cost."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from kubeedge.api import keys
from kubeedge.api.names import NodeName, TenantId
from kubeedge.errors import Unavailable
from kubeedge.hub.core import REPLACED, ChannelSession
from kubeedge.hub.driver import Channel
from kubeedge.pki.identity import NodeIdentity
from kubeedge.store.memory import MemoryStore
from kubeedge.store.model import Compare, Delete, Put
from kubeedge.sync.bounds import Bounds
from kubeedge.sync.driver import run_edge
from kubeedge.sync.progress import Progress
from kubeedge_cloud.cloudhub.module import CloudHub, CloudHubSettings
from kubeedge_cloud.tenants.manager import TenantManager
from tests.kit import virtual_time
from tests.kit.certs import TestAuthority
from tests.kit.directory import EveryNode
from tests.kit.forgetful_store import ForgetfulStore
from tests.kit.ports import ADDRESS, ports
from tests.simulator.world import Socket, Wire

WHO = NodeIdentity(TenantId("default"), NodeName("edge1"))
KEY = keys.session(WHO.tenant, WHO.node)


class Cloud:
    def __init__(self) -> None:
        self.store = MemoryStore()
        self.hub = CloudHub(CloudHubSettings(), self.store, EveryNode(), None)  # type: ignore[arg-type]
        self.wire = Wire(random.Random(1))
        self.tasks: list[asyncio.Task[object]] = []

    async def attach(
        self, store: MemoryStore | None = None, *, who: NodeIdentity = WHO, up: Progress | None = None
    ) -> asyncio.Task[str]:
        """An edge's channel; its task ends with the reason."""
        mine, theirs = await self.wire.connect()
        self.tasks.append(asyncio.create_task(self._hold(theirs, who)))
        channel = Channel(mine, ChannelSession({}), asyncio.get_running_loop().time)
        edge_store = store or MemoryStore()
        task = asyncio.create_task(channel.run(lambda c: run_edge(c, edge_store, Progress(), up or Progress())))
        self.tasks.append(task)  # type: ignore[arg-type]
        await asyncio.sleep(1)
        return task

    async def _hold(self, theirs: Socket, who: NodeIdentity) -> None:
        try:
            await self.hub.hold(theirs, who, "192.0.2.7")
        finally:
            theirs.abort()

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def session(self) -> str:
        record = self.store.newest(KEY)
        return str(json.loads(record.value)["session"]) if record else ""


def test_a_session_key_is_there_as_long_as_the_channel() -> None:
    async def scenario() -> None:
        cloud = Cloud()
        await cloud.attach()
        (attachment,) = cloud.hub.attached()
        assert cloud.session() == attachment.key.session_id
        record = json.loads(cloud.store.newest(KEY).value)  # type: ignore[union-attr]
        assert record["address"] == "192.0.2.7" and record["since"] > 0
        cloud.wire.reset()
        await asyncio.sleep(3)
        assert cloud.session() == "" and cloud.hub.attached() == []
        await cloud.stop()

    virtual_time.run(scenario())


def test_a_node_that_reports_without_end_fills_nothing_and_harms_nobody() -> None:
    """It stays attached, what it reported first goes on, the other node hears and sees nothing of it, and deleting helps."""

    async def scenario() -> None:
        cloud = Cloud()
        cloud.hub = CloudHub(
            CloudHubSettings(bounds=Bounds(keys=200, size=1 << 20)),
            cloud.store,
            EveryNode(),
            None,  # type: ignore[arg-type]
        )
        greedy, modest, up = MemoryStore(), MemoryStore(), Progress()
        other = NodeIdentity(WHO.tenant, NodeName("edge2"))
        await greedy.put("/reported/pods/default/a", b"1")
        channel = await cloud.attach(greedy, up=up)
        neighbour = await cloud.attach(modest, who=other)
        for n in range(1000):
            await greedy.put(f"/reported/events/default/{n:04}", b"x" * 500)
        await asyncio.sleep(30)
        mine = keys.edge_reported(WHO.tenant, WHO.node)

        async def there() -> int:
            return (await cloud.store.range(mine, keys.prefix_end(mine), keys_only=True)).count

        assert await there() == 200 and up.refused is not None and up.refused.count == 801
        (attachment,) = [a for a in cloud.hub.attached() if a.node == WHO.node]
        assert attachment.up.refused == up.refused, "the cloud's metric has it"
        await greedy.put("/reported/pods/default/a", b"2")
        await modest.put("/reported/pods/default/b", b"1")
        await cloud.store.put(keys.edge_desired(WHO.tenant, WHO.node) + "pods/default/a", b"wanted")
        await asyncio.sleep(5)
        assert (await cloud.store.get(mine + "pods/default/a")).value == b"2"  # type: ignore[union-attr]
        assert await cloud.store.get(keys.edge_reported(WHO.tenant, other.node) + "pods/default/b")
        assert await greedy.get("/desired/pods/default/a")
        assert not channel.done() and not neighbour.done()
        await greedy.delete("/reported/events/default/0100", "/reported/events/default/0901")
        assert "room for what was refused" in await asyncio.wait_for(channel, 60)
        channel = await cloud.attach(greedy, up=up)
        await asyncio.sleep(10)
        assert not channel.done() and await there() == 200 and up.refused is None
        await cloud.stop()

    virtual_time.run(scenario())


def test_a_node_that_rewrites_without_end_is_throttled_also_when_it_comes_again() -> None:
    """200 keys a second on a channel that is made anew every three seconds."""

    async def scenario() -> None:
        cloud = Cloud()
        cloud.hub = CloudHub(
            CloudHubSettings(bounds=Bounds(keys=100, size=1 << 20, seconds=10.0)),
            cloud.store,
            EveryNode(),
            None,  # type: ignore[arg-type]
        )
        busy, modest = MemoryStore(), MemoryStore()
        other = NodeIdentity(WHO.tenant, NodeName("edge2"))
        channel = await cloud.attach(busy)
        neighbour = await cloud.attach(modest, who=other)
        before, begun = cloud.store.revision, asyncio.get_running_loop().time()
        for n in range(1200):
            await busy.txn((), [Put(f"/reported/pods/default/{name}", b"%d" % n) for name in range(10)])
            await asyncio.sleep(0.05)
            if n % 100 == 99:
                await modest.put("/reported/pods/default/a", b"%d" % n)
                await asyncio.sleep(0.05)
                theirs = await cloud.store.get(keys.edge_reported(WHO.tenant, other.node) + "pods/default/a")
                assert theirs and theirs.value == b"%d" % n, "the other one is not held up"
            if n % 60 == 59:
                cloud.wire.reset()
                channel = await cloud.attach(busy)
                if neighbour.done():
                    neighbour = await cloud.attach(modest, who=other)
        spent = asyncio.get_running_loop().time() - begun
        mine = keys.edge_reported(WHO.tenant, WHO.node)
        there = (await cloud.store.range(mine, keys.prefix_end(mine))).kvs
        assert sum(kv.version for kv in there) <= 100 + 10 * spent + 10, (
            "all at once, ten a second, one batch on credit"
        )
        await asyncio.sleep(20)
        there = (await cloud.store.range(mine, keys.prefix_end(mine))).kvs
        assert [kv.value for kv in there] == [b"1199"] * 10 and not channel.done()
        assert cloud.store.revision > before
        await cloud.stop()

    virtual_time.run(scenario())


def test_a_newer_channel_replaces_the_older_one_and_says_so() -> None:
    async def scenario() -> None:
        cloud = Cloud()
        first = await cloud.attach()
        old = cloud.session()
        second = await cloud.attach()
        assert await first == f"peer says: {REPLACED}"
        assert not second.done() and cloud.session() not in ("", old) and len(cloud.hub.attached()) == 1
        await cloud.stop()

    virtual_time.run(scenario())


def test_an_old_channel_that_hangs_does_not_take_the_new_session_with_it() -> None:
    async def scenario() -> None:
        cloud = Cloud()
        await cloud.attach()
        cloud.wire.cut()
        await asyncio.sleep(5)
        cloud.wire = Wire(random.Random(2))
        await cloud.attach()
        new = cloud.session()
        await asyncio.sleep(120)
        assert cloud.session() == new != ""
        await cloud.stop()

    virtual_time.run(scenario())


def test_a_node_that_is_removed_is_detached() -> None:
    async def scenario() -> None:
        cloud = Cloud()
        edge = await cloud.attach()
        await cloud.hub.disconnect(WHO.tenant, WHO.node)
        assert await edge == "peer says: the node was removed" and cloud.session() == ""
        await cloud.stop()

    virtual_time.run(scenario())


def test_sessions_of_a_process_that_was_killed_are_forgotten_at_the_start() -> None:
    async def scenario() -> None:
        cloud = Cloud()
        await cloud.store.put(KEY, b"{}")
        await cloud.hub.forget_the_past()
        assert cloud.session() == ""

    virtual_time.run(scenario())


def test_unauthenticated_peers_hold_so_many_connections_and_no_more(tmp_path: Path) -> None:
    """Connections that never begin TLS, against the real server."""

    async def scenario() -> None:
        credentials = TestAuthority(tmp_path).issue("cloud", hosts=["127.0.0.1"], uri="spiffe://kubeedge/cloud/hub")

        def tls() -> object:
            import ssl

            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(credentials.cert, credentials.key)
            context.load_verify_locations(credentials.ca)
            context.verify_mode = ssl.CERT_REQUIRED
            return context

        (port,) = ports(1)
        settings = CloudHubSettings(address=ADDRESS, port=port, max_unauthenticated=5, handshake_timeout=1.0)
        hub = CloudHub(settings, MemoryStore(), None, tls)  # type: ignore[arg-type]
        ready = asyncio.Event()
        running = asyncio.create_task(hub.run(ready))
        await ready.wait()
        unauthenticated = [await asyncio.open_connection(ADDRESS, port) for _ in range(12)]
        held = set()
        async with asyncio.timeout(10):  # each is over soon, and then the next ones have their turn
            for reader, _ in unauthenticated:
                assert hub.acceptor
                held.add(len(hub.acceptor.limiter.served))
                await reader.read()
        assert max(held) <= 5
        for _, writer in unauthenticated:
            writer.close()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(scenario())


class Lease:
    """A member of several processes, whose lease is given or taken away by hand."""

    id = "p1"

    def __init__(self) -> None:
        self.held = 0

    @property
    def lease(self) -> int:
        if not self.held:
            raise Unavailable("no lease")
        return self.held

    async def lead(self, work: str, do: Any) -> None:
        await do()

    def fence(self, work: str) -> Sequence[Compare]:
        return ()

    def on_loss(self, tell: Callable[[], None]) -> None:
        pass


def test_a_channel_at_another_process_replaces_the_one_here() -> None:
    async def scenario() -> None:
        here, there = Cloud(), Cloud()
        there.store = here.store
        there.hub = CloudHub(CloudHubSettings(), here.store, EveryNode(), None)  # type: ignore[arg-type]
        following = [asyncio.create_task(c.hub.follow_session_keys()) for c in (here, there)]
        first = await here.attach()
        second = await there.attach()
        assert REPLACED in await first
        assert not here.hub.attached() and not second.done()
        (attachment,) = there.hub.attached()
        assert here.session() == attachment.key.session_id, "the end of the first leaves the key of the second"
        third = await here.attach()
        assert REPLACED in await second and not third.done()
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
        await here.stop()
        await there.stop()

    virtual_time.run(scenario())


def test_a_node_that_is_removed_loses_its_channel_wherever_it_is() -> None:
    async def scenario() -> None:
        cloud = Cloud()
        tenants = TenantManager(cloud.store)
        await tenants.ensure_tenant(WHO.tenant)
        await tenants.ensure_node(WHO.tenant, WHO.node)
        following = asyncio.create_task(cloud.hub.follow_session_keys())
        channel = await cloud.attach()
        assert not channel.done()
        await tenants.remove_node(WHO.tenant, WHO.node)
        assert "removed" in await channel and not cloud.hub.attached() and cloud.session() == ""
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await cloud.stop()

    virtual_time.run(scenario())


def test_a_process_without_a_lease_holds_nobody() -> None:
    """Its session keys would stay for ever when it dies, and the nodes be Ready without being there."""

    async def scenario() -> None:
        cloud = Cloud()
        member = Lease()
        cloud.hub = CloudHub(CloudHubSettings(), cloud.store, EveryNode(), None, membership=member)  # type: ignore[arg-type]
        assert "no lease" in await (await cloud.attach())
        assert cloud.session() == ""
        member.held = await cloud.store.lease_grant(60)
        channel = await cloud.attach()
        assert not channel.done() and cloud.store.newest(KEY).lease == member.held  # type: ignore[union-attr]
        await cloud.stop()

    virtual_time.run(scenario())


def test_another_machine_that_joins_ends_the_session_at_whichever_process_it_is() -> None:
    async def scenario() -> None:
        here, there = Cloud(), Cloud()
        there.store = here.store
        there.hub = CloudHub(CloudHubSettings(), here.store, EveryNode(), None)  # type: ignore[arg-type]
        following = [asyncio.create_task(cloud.hub.follow_session_keys()) for cloud in (here, there)]
        tenants = TenantManager(here.store)
        await tenants.ensure_tenant(WHO.tenant)
        await tenants.ensure_node(WHO.tenant, WHO.node)
        channel = await there.attach()
        assert here.session()
        compares, ops = await tenants.entitle(WHO.tenant, WHO.node, "2")
        assert (await here.store.txn(compares, ops)).succeeded
        assert "session was ended" in await asyncio.wait_for(channel, 5)
        assert here.session() == "" and there.hub.attached() == []
        compares, ops = await tenants.entitle(WHO.tenant, WHO.node, "2")
        assert compares and not ops, "a join that repeats itself disturbs nobody"
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
        await here.stop()
        await there.stop()

    virtual_time.run(scenario())


@pytest.mark.parametrize("meanwhile", ["removed", "replaced"])
def test_a_node_whose_rights_end_while_it_is_let_in_does_not_stay(meanwhile: str) -> None:
    """Its certificate was looked at, and then the record changed, before there was a session that could be ended."""

    async def scenario() -> None:
        store = MemoryStore()
        tenants = TenantManager(store)
        cloud = Cloud()
        cloud.store, cloud.hub = store, CloudHub(CloudHubSettings(), store, tenants, None)  # type: ignore[arg-type]
        await tenants.ensure_tenant(WHO.tenant)
        await tenants.ensure_node(WHO.tenant, WHO.node)
        if meanwhile == "removed":
            await tenants.remove_node(WHO.tenant, WHO.node)
        else:
            await store.txn(*await tenants.entitle(WHO.tenant, WHO.node, "2"))
        channel = await cloud.attach()  # as it goes on after it was looked at
        await asyncio.wait_for(channel, 5)
        assert cloud.session() == "" and cloud.hub.attached() == []
        await cloud.stop()

    virtual_time.run(scenario())


def test_a_process_that_missed_changes_of_session_keys_ends_those_that_are_not_its_own() -> None:
    """Its watch was behind the compaction. Nodes that are still its own stay attached, at any number of them."""

    async def scenario() -> None:
        cloud = Cloud()
        store = ForgetfulStore(cloud.store)
        cloud.hub = CloudHub(CloudHubSettings(), store, EveryNode(), None)  # type: ignore[arg-type]
        following = asyncio.create_task(cloud.hub.follow_session_keys())
        names = [NodeIdentity(WHO.tenant, NodeName(f"edge{n}")) for n in (1, 2, 3)]
        stays, replaced, removed = [await cloud.attach(who=who) for who in names]
        store.forgets = True
        keys_of = [keys.session(who.tenant, who.node) for who in names]
        await cloud.store.txn((), [Put(keys_of[1], b'{"session":"another"}'), Delete(keys_of[2])])
        assert REPLACED in await replaced and "session was ended" in await removed
        await asyncio.sleep(30)
        assert not stays.done() and [a.node for a in cloud.hub.attached()] == [names[0].node]
        await cloud.store.delete(keys_of[0])
        assert "session was ended" in await stays, "and it goes on watching"
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await cloud.stop()

    virtual_time.run(scenario())
