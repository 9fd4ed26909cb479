"""The channel for real: TLS, WebSocket, both ends, sync over it; on loopback."""

from __future__ import annotations

import asyncio
import random
import ssl
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kubeedge.api import keys
from kubeedge.api.names import NodeName, TenantId
from kubeedge.errors import KubeEdgeError
from kubeedge.hub.driver import Channel
from kubeedge.hub.module import EdgeHub, EdgeHubSettings
from kubeedge.hub.stream import Stream
from kubeedge.kit import tcp
from kubeedge.store.memory import MemoryStore
from kubeedge.store.model import MAX_VALUE
from kubeedge.sync.driver import run_edge
from kubeedge.sync.progress import Progress
from kubeedge_cloud.cloudhub.module import CloudHub, CloudHubSettings
from tests.kit.certs import Credentials, TestAuthority
from tests.kit.directory import SomeNodes
from tests.kit.ports import ADDRESS, ports

TENANT = TenantId("default")


def server_tls(credentials: Credentials) -> Callable[[], ssl.SSLContext]:
    def make() -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(credentials.cert, credentials.key)
        context.load_verify_locations(credentials.ca)
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    return make


def client_tls(credentials: Credentials) -> Callable[[], ssl.SSLContext]:
    def make() -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(credentials.ca))
        context.load_cert_chain(credentials.cert, credentials.key)
        return context

    return make


async def until(condition: Callable[[], bool], what: str, timeout: float = 60.0) -> None:
    deadline = asyncio.get_running_loop().time() + timeout
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, f"{what}: not within {timeout:g} s"
        await asyncio.sleep(0.005)


class World:
    """A cloud hub on a free port, and edges."""

    def __init__(self, tmp_path: Path) -> None:
        self.authority = TestAuthority(tmp_path)
        self.cloud_store = MemoryStore()
        server = self.authority.issue("cloud", hosts=[ADDRESS], uri="spiffe://kubeedge/cloud/hub")
        (self.port,) = ports(1)
        settings = CloudHubSettings(address=ADDRESS, port=self.port)
        self.directory = SomeNodes("edge1", "edge2")
        self.hub = CloudHub(settings, self.cloud_store, self.directory, server_tls(server))
        self.tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        ready = asyncio.Event()
        self.tasks.append(asyncio.create_task(self.hub.run(ready)))
        await ready.wait()

    def edge(self, credentials: Credentials, store: MemoryStore) -> EdgeHub:
        async def use(channel: Channel) -> None:
            await run_edge(channel, store, Progress(), Progress())

        hub = EdgeHub(EdgeHubSettings(endpoints=[f"{ADDRESS}:{self.port}"]), client_tls(credentials), use)
        self.tasks.append(asyncio.create_task(hub.run(asyncio.Event())))
        return hub

    async def stop(self) -> None:
        for task in reversed(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


def test_desired_goes_down_and_reported_comes_up(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.start()
        edge_store = MemoryStore()
        await edge_store.put("/reported/nodes/_/edge1", b"{}")
        await world.cloud_store.put("/t/default/edge/edge1/desired/pods/default/a", b"pod a")
        await world.cloud_store.put("/t/default/edge/edge2/desired/pods/default/b", b"not for edge1")
        try:
            node = world.authority.issue("edge1", uri="spiffe://kubeedge/tenant/default/node/edge1")
            hub = world.edge(node, edge_store)
            await until(lambda: bool(edge_store.newest("/desired/pods/default/a")), "the pod at the edge")
            await until(
                lambda: bool(world.cloud_store.newest("/t/default/edge/edge1/reported/nodes/_/edge1")), "the node"
            )
            await until(
                lambda: bool(world.cloud_store.newest(keys.session(TENANT, NodeName("edge1")))), "the session key"
            )
            assert hub.status.attached
            (attachment,) = world.hub.attached()
            kernel = tcp.progress(attachment.channel._socket.transport)
            assert kernel is not None and kernel.received > 0, "silence is judged with what the kernel knows below TLS"
            assert edge_store.newest("/desired/pods/default/b") is None
            await world.cloud_store.delete("/t/default/edge/edge1/desired/pods/default/a")
            await until(lambda: edge_store.newest("/desired/pods/default/a") is None, "the deletion")
            await world.stop()
            assert world.cloud_store.newest(keys.session(TENANT, NodeName("edge1"))) is None
        finally:
            await world.stop()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("uri", "known"),
    [
        ("spiffe://kubeedge/tenant/default/user/admin", True),
        ("spiffe://kubeedge/tenant/default/node/edge9", False),
        ("https://example.org/", False),
        ((), False),
    ],
    ids=["a user", "an unknown node", "a foreign name", "no name"],
)
def test_who_is_not_a_known_node_is_refused(tmp_path: Path, uri: str, known: bool) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.start()
        try:
            hub = world.edge(world.authority.issue("x", uri=uri), MemoryStore())
            await until(lambda: "403" in hub.status.last_error, "the refusal")
            assert world.hub.attached() == []
            assert world.cloud_store.revision == 1
        finally:
            await world.stop()

    asyncio.run(scenario())


def test_a_second_channel_of_the_same_node_replaces_the_first(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.start()
        try:
            node = world.authority.issue("edge1", uri="spiffe://kubeedge/tenant/default/node/edge1")
            world.edge(node, MemoryStore())
            await until(lambda: len(world.hub.attached()) == 1, "the first channel")
            first = world.hub.attached()[0].key.session_id
            world.edge(node, MemoryStore())
            await until(
                lambda: [s.key.session_id for s in world.hub.attached()] not in ([], [first]), "the second channel"
            )
            assert len(world.hub.attached()) == 1
        finally:
            await world.stop()

    asyncio.run(scenario())


def test_an_error_of_the_store_ends_the_channel_and_the_edge_comes_back(tmp_path: Path) -> None:
    class Failing(MemoryStore):
        broken = True

        async def txn(self, *args: object, **kwargs: object):  # type: ignore[no-untyped-def, override]
            if self.broken:
                raise KubeEdgeError("disk full")
            return await super().txn(*args, **kwargs)  # type: ignore[arg-type]

    async def scenario() -> None:
        world = World(tmp_path)
        await world.start()
        store = Failing()
        await world.cloud_store.put("/t/default/edge/edge1/desired/pods/default/a", b"pod a")
        attempts = []

        async def use(channel: Channel) -> None:
            attempts.append(1)
            await run_edge(channel, store, Progress(), Progress())

        try:
            node = world.authority.issue("edge1", uri="spiffe://kubeedge/tenant/default/node/edge1")
            hub = EdgeHub(
                EdgeHubSettings(endpoints=[f"{ADDRESS}:{world.port}"], backoff_first=0.01), client_tls(node), use
            )
            world.tasks.append(asyncio.create_task(hub.run(asyncio.Event())))
            await until(lambda: len(attempts) >= 2, "a second attempt")
            store.broken = False
            await until(lambda: bool(store.newest("/desired/pods/default/a")), "the pod after all")
        finally:
            await world.stop()

    asyncio.run(scenario())


def test_an_idle_channel_holds_no_buffer(tmp_path: Path) -> None:
    """Thousands of them are in one cloud process."""

    async def scenario() -> None:
        world = World(tmp_path)
        await world.start()
        try:
            node = world.authority.issue("edge1", uri="spiffe://kubeedge/tenant/default/node/edge1")
            store = MemoryStore()
            await world.cloud_store.put("/t/default/edge/edge1/desired/pods/default/a", bytes(MAX_VALUE))
            world.edge(node, store)
            await until(lambda: bool(store.newest("/desired/pods/default/a")), "the pod at the edge")
            (attachment,) = world.hub.attached()
            await until(lambda: attachment.down.revision > 1, "its acknowledgement")
            stream = attachment.channel._socket
            assert isinstance(stream, Stream)
            assert (stream._out, stream._message, stream._messages) == (None, None, [])
            assert stream._websocket is not None and sys.getsizeof(stream._websocket.reader.buffer) < 100
        finally:
            await world.stop()

    asyncio.run(scenario())


def test_a_value_of_the_largest_size_passes(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.start()
        store = MemoryStore()
        value = random.Random(1).randbytes(MAX_VALUE)
        await world.cloud_store.put("/t/default/edge/edge1/desired/configmaps/default/big", value)
        await store.put("/reported/events/default/big", value)
        try:
            world.edge(world.authority.issue("edge1", uri="spiffe://kubeedge/tenant/default/node/edge1"), store)
            await until(lambda: bool(store.newest("/desired/configmaps/default/big")), "the value at the edge")
            up = "/t/default/edge/edge1/reported/events/default/big"
            await until(lambda: bool(world.cloud_store.newest(up)), "the value in the cloud")
            assert store.newest("/desired/configmaps/default/big").value == value  # type: ignore[union-attr]
        finally:
            await world.stop()

    asyncio.run(scenario())
