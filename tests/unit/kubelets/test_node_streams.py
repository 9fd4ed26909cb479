"""Connections to a node end when it is known to be lost, and not when its channel or its link was cut for a moment. On virtual time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kubeedge.api import keys
from kubeedge.api.names import NodeName, TenantId
from kubeedge.errors import Unavailable
from kubeedge.store.memory import MemoryStore
from kubeedge_cloud.kubelets.nodestreams import module as node_streams
from kubeedge_cloud.kubelets.nodestreams.module import LOST, NodeStreams
from tests.kit import virtual_time

TENANT, NODE, OTHER = TenantId("t"), NodeName("n"), NodeName("other")


class FakeTransport:
    aborted = False

    def abort(self) -> None:
        self.aborted = True


class FakeWriter:
    def __init__(self) -> None:
        self.transport = FakeTransport()


class Site:
    """`linked`: nodes that connections can be made to."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.linked = {NODE, OTHER}
        self.connects = 0
        self.streams = NodeStreams(self.store, self._connect)

    async def _connect(self, tenant: TenantId, node: NodeName) -> Any:
        self.connects += 1
        if node not in self.linked:
            await asyncio.sleep(1)
            raise Unavailable("no link")
        return None, FakeWriter()

    async def session(self, node: NodeName, value: bytes | None) -> None:
        key = keys.session(TENANT, node)
        await (self.store.delete(key) if value is None else self.store.put(key, value))
        await asyncio.sleep(0.1)

    async def open(self, node: NodeName) -> FakeWriter:
        writer: FakeWriter = (await self.streams.connect(TENANT, node))[1]  # type: ignore[assignment]
        return writer

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        for node in (NODE, OTHER):
            await self.store.put(keys.session(TENANT, node), b"1")
        ready = asyncio.Event()
        task = asyncio.create_task(self.streams.run(ready))
        await ready.wait()
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self.store.close()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of silence after which peers are to be asked, one for each time that somebody says so."""
    said: list[float] = []
    monkeypatch.setattr(node_streams, "ask_peer", lambda writer, idle: said.append(idle))
    return said


def test_the_connections_of_a_lost_node_end_and_no_others(asked: list[float]) -> None:
    async def scenario() -> None:
        site = Site()
        async with site.running():
            mine, other = await site.open(NODE), await site.open(OTHER)
            site.linked.discard(NODE)
            await site.session(NODE, None)
            await asyncio.sleep(LOST - 1)
            assert not mine.transport.aborted and asked == [node_streams.ASK]
            await asyncio.sleep(LOST)
            assert mine.transport.aborted and not other.transport.aborted
            before = site.connects
            await asyncio.sleep(600)
            assert site.connects == before, "nobody asks for a node without connections"

    virtual_time.run(scenario())


def test_a_node_that_is_back_in_time_keeps_them_and_its_agent_is_asked(asked: list[float]) -> None:
    async def scenario() -> None:
        site = Site()
        async with site.running():
            writer = await site.open(NODE)
            for n in range(50):
                site.linked.discard(NODE)
                await site.session(NODE, None)
                await asyncio.sleep(LOST * (n % 7) / 7)
                await site.session(NODE, b"%d" % n)
                await asyncio.sleep(LOST * (n % 5) / 5)
            site.linked.add(NODE)
            await asyncio.sleep(120)
            assert not writer.transport.aborted
            assert set(asked[:-1]) == {node_streams.ASK}, "an agent that was started anew knows nothing of it"
            assert asked[-1] == node_streams.KEEPALIVE, "and later as ever"

    virtual_time.run(scenario())


def test_a_node_without_its_channel_keeps_them_while_its_link_is_there(asked: list[float]) -> None:
    async def scenario() -> None:
        site = Site()
        async with site.running():
            writer = await site.open(NODE)
            await site.session(NODE, None)
            await asyncio.sleep(600)
            assert not writer.transport.aborted
            later = await site.open(NODE)
            site.linked.discard(NODE)
            await asyncio.sleep(LOST + 5)
            assert writer.transport.aborted and later.transport.aborted

    virtual_time.run(scenario())
