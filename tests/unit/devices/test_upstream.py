"""Messages of programs for the cloud: a real broker and client (Eclipse Paho), real stores and sync between them, a line that is cut, an agent that
ends in between, a full disk, readers that are late."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.api import keys, node_messages
from kubeedge.api.names import NodeName, TenantId
from kubeedge.api.node_messages import SILENT, MessageBlock, MessageReader, NodeMessage, Taken
from kubeedge.apiserver.message_log import MAX_READERS, MessageLog
from kubeedge.apiserver.server import ApiServer
from kubeedge.devices.eventbus.module import EventBus
from kubeedge.devices.module import DeviceTwins
from kubeedge.devices.upstream.core import CloudTopics, SentBlocks
from kubeedge.devices.upstream.module import MessageUpstream
from kubeedge.devices.upstream.queue import IncomingMessage, UpstreamQueue
from kubeedge.errors import Invalid
from kubeedge.store.memory import MemoryStore
from kubeedge.store.model import Store
from kubeedge.store.sqlite import open_sqlite
from kubeedge.sync.progress import Progress
from kubeedge.sync.sink import run_sink
from kubeedge.sync.source import run_source
from kubeedge_cloud.messages import core
from kubeedge_cloud.messages.driver import TenantMessages
from tests.unit.apiserver.test_http import Api
from tests.unit.devices.modules import WITHIN, running, until
from tests.unit.devices.test_eventbus import Client, paho

TENANT, NODE = TenantId("a"), NodeName("edge1")
NOON = 1_790_000_000.0
DAY = 86_400_000
MIB = 1024 * 1024


def queue(tmp_path: Path, most: int = 16 * MIB, age: float = 1e9) -> UpstreamQueue:
    return UpstreamQueue(tmp_path / "messages.db", most, age)


def incoming(text: str | bytes, **more: Any) -> IncomingMessage:
    return IncomingMessage("a/user/b", text if isinstance(text, bytes) else text.encode(), 1, **more)


@contextlib.asynccontextmanager
async def line(edge: Store, cloud: Store) -> AsyncIterator[None]:
    """Sync in both directions, until the line is cut."""
    pipes = [asyncio.Queue[bytes]() for _ in range(4)]
    up = keys.edge_reported(TENANT, NODE), keys.edge_sync_up(TENANT, NODE)
    jobs = (
        run_source(edge, keys.REPORTED, pipes[0].put, pipes[1].get, Progress()),
        run_sink(cloud, *up, pipes[1].put, pipes[0].get, Progress(), rich=True),
        run_source(cloud, keys.edge_desired(TENANT, NODE), pipes[2].put, pipes[3].get, Progress()),
        run_sink(edge, keys.DESIRED, keys.SYNC_DOWN, pipes[3].put, pipes[2].get, Progress(), rich=True),
    )
    tasks = [asyncio.create_task(job) for job in jobs]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def cloud(*, wall: Callable[[], float] = lambda: NOON) -> AsyncIterator[tuple[Store, MessageLog]]:
    store = MemoryStore()
    await store.put(keys.nodes(TENANT) + NODE, b"{}")
    async with running(TenantMessages(TENANT, store, wall=wall)):  # type: ignore[arg-type]  # it has no name
        yield store, MessageLog(store, TENANT)


async def read(log: MessageLog, after: int = 0) -> list[tuple[int, str, bytes]]:
    found = []
    while page := await log.read(NODE, after, 100, 64 * 1024):
        found += [(one.position, one.message.topic, one.message.payload) for one in page]
        after = page[-1].position
    return found


async def count(log: MessageLog, wanted: int) -> list[tuple[int, str, bytes]]:
    """All messages, once so many are there."""
    async with asyncio.timeout(WITHIN):
        while len(found := await read(log)) < wanted:
            await asyncio.sleep(0.02)
    return found


# The life of a message


@pytest.mark.parametrize("version", [paho.MQTTv311, paho.MQTTv5])
def test_messages_arrive_once_and_in_order_through_cuts_and_restarts(tmp_path: Path, version: int) -> None:
    async def scenario() -> None:
        edge = await open_sqlite(tmp_path / "edge.db")
        sent: list[tuple[str, bytes]] = []

        @contextlib.asynccontextmanager
        async def agent() -> AsyncIterator[Client]:
            upstream = MessageUpstream(edge, queue(tmp_path), wall=lambda: NOON)
            twins = DeviceTwins(edge, wall=lambda: NOON)
            bus = EventBus(twins, "edge1", "127.0.0.1", 0, upstream=upstream)
            async with running(upstream, twins, bus):
                client = await asyncio.to_thread(Client, bus.port, version, "program")
                try:
                    yield client
                finally:
                    await asyncio.to_thread(client.close)

        async def publish(client: Client, *topics: str) -> None:
            for topic in topics:
                sent.append((topic, f"{len(sent)}".encode()))
                await asyncio.to_thread(client.publish, *sent[-1])

        async with cloud() as (store, log):
            async with agent() as client, line(edge, store):
                await publish(client, "SYS/dis/upload_records", "$hw/events/upload/a/b", "me/user/x/y", "user/user/")
                await asyncio.to_thread(client.publish, "other/topic", b"stays")
                await asyncio.to_thread(client.publish, "$hw/events/device/default/x/twin/get", b"{}")
                assert [(topic, payload) for _, topic, payload in await count(log, 4)] == sent
            async with agent() as client:  # without the cloud
                await publish(client, *(["SYS/dis/upload_records", "me/user/x"] * 20))
            for _ in range(2):  # and what it has said is lost on the way back once
                async with agent() as client, line(edge, store):
                    await publish(client, *["me/user/x"] * 10)
                    await count(log, len(sent))
            async with agent() as client, line(edge, store):
                found = await count(log, len(sent))
                assert [position for position, _, _ in found] == list(range(1, len(sent) + 1))
                assert [(topic, payload) for _, topic, payload in found] == sent
                await until(
                    lambda: not sqlite3.connect(tmp_path / "messages.db").execute("SELECT 1 FROM waiting").fetchall()
                )

                async def rows() -> int:
                    prefix = node_messages.BLOCKS
                    return len((await edge.range(prefix, keys.prefix_end(prefix))).kvs)

                async with asyncio.timeout(WITHIN):
                    while await rows():
                        await asyncio.sleep(0.02)
        await edge.close()

    asyncio.run(scenario())


def test_topics_of_rules_come_from_the_cloud_and_go_with_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        edge = await open_sqlite(tmp_path / "edge.db")
        upstream = MessageUpstream(edge, queue(tmp_path), wall=lambda: NOON)
        async with running(upstream):
            assert not upstream.topics.has("default/test")
            row = node_messages.encode_topics(["default/test", "plant/+/state", "$hw/#", "a/#/b"])
            await edge.put(node_messages.ANSWERS + node_messages.TOPICS, row)
            await until(lambda: upstream.topics.has("default/test") and upstream.topics.has("plant/7/state"))
            assert not upstream.topics.has("$hw/secret") and not upstream.topics.has("a/x/b")
            await edge.delete(node_messages.ANSWERS + node_messages.TOPICS)
            await until(lambda: not upstream.topics.has("default/test"))
        await edge.close()

    asyncio.run(scenario())


def test_a_message_that_is_sent_again_is_there_once(tmp_path: Path) -> None:
    waiting = queue(tmp_path)
    waiting.append([incoming("a", client="c", packet=7), incoming("b", client="c", packet=8)], 1)
    waiting.close()  # the agent was killed, and its client has had no acknowledgement
    waiting = queue(tmp_path)
    again = [
        incoming("a", client="c", packet=7, dup=True),
        incoming("b", client="c", packet=8, dup=True),
        incoming("c", client="c", packet=9, dup=True),  # it never came
        incoming("a", client="d", packet=7, dup=True),  # of another client
        incoming("a", client="c", packet=7),  # the identifier is used again, for the same text
        incoming("x", client="c", packet=7, dup=True),  # and for another one
    ]
    waiting.append(again, 1)
    assert [m.payload for m in waiting.after(0, 100, MIB)] == [b"a", b"b", b"c", b"a", b"a", b"x"]


def test_a_queue_that_is_full_or_old_loses_its_oldest_and_says_so(tmp_path: Path) -> None:
    waiting = queue(tmp_path, most=64 * 1024, age=3600.0)
    for number in range(100):
        waiting.append([incoming(f"{number:04}".encode() * 256)], number)
    left = waiting.after(0, 1000, MIB)
    assert left[-1].number == 100 and waiting.lost + len(left) == 100 and waiting.bytes <= 64 * 1024
    assert len(left) > 20 and waiting.count == len(left)
    waiting.append([incoming("new")], 100 + DAY)
    (only,) = waiting.after(0, 1000, MIB)
    assert only.payload == b"new" and waiting.lost == 100


def test_a_disk_that_takes_nothing_acknowledges_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        edge = await open_sqlite(tmp_path / "edge.db")
        waiting = queue(tmp_path)
        upstream = MessageUpstream(edge, waiting, wall=lambda: NOON)
        async with running(upstream):
            (tmp_path / "messages.db").mkdir()
            future = upstream.append("a/user/b", b"x")
            assert future is not None
            with pytest.raises(asyncio.CancelledError):
                await future
            (tmp_path / "messages.db").rmdir()
            future = upstream.append("a/user/b", b"y")
            assert future is not None
            await asyncio.wait_for(future, WITHIN)
            assert [m.payload for m in waiting.after(0, 9, MIB)] == [b"y"]
            large = upstream.append("a/user/b", bytes(node_messages.MAX_PAYLOAD + 1))
            named = upstream.append("a/user/" + "b" * node_messages.MAX_TOPIC, b"x")
            assert large is named is None and upstream.refused == 2, "sent again they were too large again"
            flood = [upstream.append("a/user/b", bytes(100_000), durable=False) for _ in range(100)]
            assert flood == [None] * 100 and upstream.dropped > 50
            polite = upstream.append("a/user/b", b"z")  # what is not acknowledged takes no room from what is
            assert polite is not None
            await asyncio.wait_for(polite, WITHIN)
        await edge.close()

    asyncio.run(scenario())


def test_a_duplicate_of_another_program_of_that_name_is_none_of_the_first(tmp_path: Path) -> None:
    """As `mosquitto_pub -i name -q 1` sends them: each run has packet 1, and says goodbye. What the line has swallowed comes as a duplicate."""

    def publish(port: int, version: int, first: int) -> None:
        with socket.create_connection(("127.0.0.1", port), WITHIN) as connection:
            level = b"\x05" if version == 5 else b"\x04"
            more = b"\0" if version == 5 else b""
            connect = b"\0\4MQTT" + level + b"\2\0\x3c" + more + b"\0\5alarm"
            connection.sendall(b"\x10" + bytes((len(connect),)) + connect)
            message = b"\0\x0aalarm/user\0\1" + more + b"on"
            assert connection.recv(64)[:1] == b"\x20"
            connection.sendall(bytes((first, len(message))) + message)
            assert connection.recv(64)[:1] == b"\x40", "it is acknowledged"
            connection.sendall(b"\xe0\0")
            assert connection.recv(64) == b""

    async def scenario() -> None:
        edge = await open_sqlite(tmp_path / "edge.db")
        waiting = queue(tmp_path)
        upstream = MessageUpstream(edge, waiting, wall=lambda: NOON)
        bus = EventBus(DeviceTwins(edge, wall=lambda: NOON), NODE, "127.0.0.1", 0, upstream=upstream)
        async with running(upstream, bus):
            for number, (version, first) in enumerate([(4, 0x32), (4, 0x3A), (5, 0x3A), (5, 0x32)], 1):
                await asyncio.to_thread(publish, bus.port, version, first)
                await until(lambda number=number: waiting.count == number)  # type: ignore[misc]
        await edge.close()

    asyncio.run(scenario())


def test_a_damaged_queue_is_put_aside_and_the_cloud_knows_the_new_one(tmp_path: Path) -> None:
    waiting = queue(tmp_path)
    waiting.append([incoming("a")], 1)
    before = waiting.uid
    waiting.close()
    (tmp_path / "messages.db").write_bytes(b"no database" * 1000)
    waiting = queue(tmp_path)
    waiting.open()
    assert waiting.uid != before and waiting.count == 0 and (tmp_path / "messages.damaged").exists()


def test_a_queue_that_was_restored_from_an_older_copy_is_another_one(tmp_path: Path) -> None:
    """Its next numbers are those of messages that the cloud has."""
    waiting = queue(tmp_path)
    waiting.append([incoming("a")], 1)
    before = waiting.uid
    waiting.done(1)
    assert waiting.uid == before and not waiting.after(0, 9, MIB)
    waiting.append([incoming("b")], 1)
    waiting.done(50)
    assert waiting.uid != before
    assert [(m.number, m.payload) for m in waiting.after(0, 9, MIB)] == [(2, b"b")]


# In the cloud


def test_blocks_that_come_again_and_gaps_are_known() -> None:
    def block(*numbers: int, uid: str = "q") -> MessageBlock:
        return MessageBlock(uid, [NodeMessage(number, 0, "t", b"") for number in numbers])

    taken, fresh, gap = Taken().after(block(1, 2))
    assert (fresh.position, len(fresh.messages), gap) == (1, 2, 0)
    taken, fresh, gap = taken.after(block(1, 2, 3))
    assert (fresh.position, [m.number for m in fresh.messages], gap) == (3, [3], 0)
    taken, fresh, gap = taken.after(block(7, 9))
    assert (fresh.position, gap) == (4, 3)
    assert taken.after(block(9))[1].messages == ()
    taken, fresh, gap = taken.after(block(1, uid="r"))  # the disk was replaced
    assert (fresh.position, taken.queues) == (6, {"q": 9, "r": 1})
    for number in range(10):
        taken, _, _ = taken.after(block(1, uid=f"s{number}"))
    assert len(taken.queues) == 4 and taken.next == 17
    assert node_messages.decode_taken(node_messages.encode_taken(taken)) == taken


@pytest.mark.parametrize("readers", [False, True])
def test_a_log_is_bounded_and_waits_for_its_readers(readers: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "NODE_BYTES", 20_000)

    async def scenario() -> None:
        now = NOON
        async with cloud(wall=lambda: now) as (store, log):
            if readers:
                await log.acknowledge(NODE, "billing", 0, NOON)

            async def report(number: int) -> None:
                row = node_messages.encode(MessageBlock("q", [NodeMessage(number, 0, "t", bytes(3000))]))
                await store.put(keys.edge_reported(TENANT, NODE) + f"messages/_/{node_messages.name_of(number)}", row)

            async def through() -> int:
                kv = await store.get(keys.edge_desired(TENANT, NODE) + "messages/_/taken")
                return node_messages.decode_taken(kv.value).queues.get("q", 0) if kv is not None else 0

            async def settled(wanted: int) -> None:
                async with asyncio.timeout(WITHIN):
                    while await through() < wanted:
                        await asyncio.sleep(0.01)

            for number in range(1, 21):
                await report(number)
                if not readers:
                    await settled(number)
            if not readers:
                found = [position for position, _, _ in await read(log)]
                assert found[-1] == 20 and 0 < len(found) < 8
                return

            async def size() -> int:
                prefix = keys.message_log(TENANT, NODE)
                return sum(len(kv.value) for kv in (await store.range(prefix, keys.prefix_end(prefix))).kvs)

            seen: list[int] = []
            while len(seen) < 20:
                async with asyncio.timeout(WITHIN):
                    while not (page := await log.read(NODE, seen[-1] if seen else 0, 100, MIB)):
                        await asyncio.sleep(0.01)
                assert 0 < await size() <= 20_000
                seen += [one.position for one in page]
                await log.acknowledge(NODE, "billing", seen[-1], NOON)
            assert seen == list(range(1, 21))

    asyncio.run(scenario())


def test_a_silent_reader_holds_nothing_up_for_ever() -> None:
    assert core.floor([MessageReader(5, NOON), MessageReader(9, NOON)], NOON) == 5
    assert core.floor([MessageReader(5, NOON - SILENT - 1), MessageReader(9, NOON)], NOON) == 9
    assert core.floor([MessageReader(5, NOON - SILENT - 1)], NOON) is None
    assert core.share(1) == core.NODE_BYTES and core.share(1000) * 1000 <= core.TENANT_BYTES


def test_what_a_node_reports_wrongly_is_no_message(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with cloud() as (store, log):
            prefix = keys.edge_reported(TENANT, NODE) + "messages/_/"
            for number, row in enumerate([b"{", b'{"queue": "../../x", "messages": [[1, 1, "t", ""]]}', b"[]"]):
                await store.put(prefix + node_messages.name_of(number + 1), row)
            good = MessageBlock("q", [NodeMessage(7, 0, "t", b"\xff\x00")])
            await store.put(prefix + node_messages.name_of(7), node_messages.encode(good))
            assert await count(log, 1) == [(1, "t", b"\xff\x00")]
            assert "edge1 reported" in caplog.text

    asyncio.run(scenario())


def test_over_http_messages_are_read_waited_for_and_acknowledged() -> None:
    async def scenario() -> None:
        api = Api()
        api.server = ApiServer(api.registries.get, api._no_node, messages=lambda tenant: MessageLog(api.store, tenant))
        await api.store.put(keys.nodes(TENANT) + NODE, b"{}")
        assert await api("GET", "/messages/edge1") == (200, {"messages": [], "next": 0})
        waiting = asyncio.create_task(api("GET", "/messages/edge1?after=0&wait=60"))
        await asyncio.sleep(0)
        messages = [NodeMessage(4, 17, "me/user/x", b"hello"), NodeMessage(5, 0, "t", b"\xff")]
        row = node_messages.encode(MessageBlock("q", messages, 3))
        await api.store.put(keys.message_log(TENANT, NODE) + node_messages.name_of(3), row)
        status, found = await asyncio.wait_for(waiting, WITHIN)
        first = {"position": 3, "number": 4, "time": 17, "topic": "me/user/x", "payload": "hello"}
        last = {"position": 4, "number": 5, "time": 0, "topic": "t", "payloadBase64": "/w=="}
        assert (status, found) == (200, {"messages": [first, last], "next": 4})
        assert (await api("GET", "/messages/edge1?after=3"))[1]["messages"] == [last]
        assert (await api("GET", "/messages/edge1?limit=1"))[1]["next"] == 3
        assert (await api("GET", "/messages/edge1?after=-1"))[0] == 400
        assert (await api("GET", "/messages/edge9?wait=60"))[0] == 404
        assert (await api("GET", "/messages/edge1", uri="urn:kubeedge:user:b:x"))[0] in (401, 403, 200)
        reader = "/messages/edge1/readers/billing"
        assert (await api("POST", reader, b'{"through": 3}'))[0] == 200
        status, found = await api("POST", reader, b'{"through": 5}')
        assert status == 400 and "would miss those that come" in found["message"]
        assert (await api("POST", reader, b'{"through": true}'))[0] == 400
        assert (await api("POST", "/messages/edge1/readers/..", b'{"through": 3}'))[0] == 400
        assert (await api("POST", "/messages/edge9/readers/a", b'{"through": 3}'))[0] == 404
        assert (await api("POST", reader, b'{"through": 1}'))[0] == 200  # never back
        assert (await api("GET", "/messages/edge1/readers"))[1]["billing"]["through"] == 3
        for number in range(MAX_READERS - 1):
            assert (await api("POST", f"/messages/edge1/readers/r{number}", b'{"through": 0}'))[0] == 200
        assert (await api("POST", "/messages/edge1/readers/more", b'{"through": 0}'))[0] == 429
        assert (await api("DELETE", reader))[0] == 200 and (await api("DELETE", reader))[0] == 404
        assert (await api("PUT", reader))[0] == 405

    asyncio.run(scenario())


# Formats

messages = st.lists(
    st.tuples(st.text(min_size=1, max_size=20), st.binary(max_size=60_000)), min_size=1, max_size=40
)  # fmt: skip


@given(messages)
def test_blocks_come_back_as_they_were_and_are_bounded(texts: Sequence[tuple[str, bytes]]) -> None:
    given_ = [NodeMessage(number, 0, topic, payload) for number, (topic, payload) in enumerate(texts, 1)]
    found = node_messages.blocks("q1", given_)
    assert [node_messages.decode(node_messages.encode(block)) for block in found] == found
    assert [message for block in found for message in block.messages] == given_
    for block in found:
        size = sum(message.size for message in block.messages)
        assert len(block.messages) == 1 or size <= node_messages.BLOCK_BYTES


shapes: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8), lambda inner: st.lists(inner, max_size=6)
)


@given(shapes, shapes, shapes)
def test_no_row_breaks_the_readers(uid: Any, rows: Any, position: Any) -> None:
    row = json.dumps({"queue": uid, "messages": rows, "position": position}).encode()
    with contextlib.suppress(Invalid):
        node_messages.decode(row)
    node_messages.decode_taken(json.dumps({"queues": rows, "next": position}).encode())
    node_messages.decode_taken(row)
    for one in node_messages.decode_topics(json.dumps({"filters": rows}).encode()):
        CloudTopics().set_rules([one])
    SentBlocks().restore("1", row)
