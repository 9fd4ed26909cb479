"""Values for other servers, where a Device or a server is hostile: what comes of it is that destination's alone, and costs nothing."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from kubeedge.devices.sinks.core import Destination, PushedValue, destinations
from kubeedge.devices.sinks.module import DevicePush
from kubeedge.devices.sinks.queue import PushQueue
from kubeedge.errors import Invalid
from tests.kit.ports import ADDRESS
from tests.unit.devices.modules import running, until

NOON = 1_790_000_000_000


def pusher(path: Path) -> DevicePush:
    return DevicePush(PushQueue(path / "push.db", 1 << 20, 86400.0), "n", None, wall=lambda: NOON / 1000)


def value() -> PushedValue:
    return PushedValue(0, "default", "hall", "t", "INT", NOON, "20")


@pytest.mark.parametrize("host", ["a..b", "a" * 64, "a." + "b" * 64 + ".c", ".a", "a\x01b"])
def test_a_host_that_cannot_be_looked_up_is_refused(host: str) -> None:
    """For such a name a lookup raises no OSError."""
    for push in (
        {"http": {"hostName": f"http://{host}"}},
        {"mqtt": {"address": f"tcp://{host}:1883", "topic": "t"}},
        {"dbMethod": {"redis": {"redisClientConfig": {"addr": host}}}},
    ):
        with pytest.raises(Invalid):
            destinations(push)
    assert destinations({"http": {"hostName": "http://" + "a" * 63 + ".example."}})


@pytest.mark.parametrize("kind", ["http", "mqtt", "redis", "mysql"])
def test_a_destination_that_fails_in_an_unusual_way_is_tried_with_growing_delays(kind: str, tmp_path: Path) -> None:
    """One that is in the queue of an earlier version, say."""

    async def inside() -> None:
        settings = {"path": "/", "topic": "t", "qos": 1, "retained": False, "db": 0, "database": "d"}
        push, wrong = pusher(tmp_path), Destination(kind, "a..b", 1, tls=False, settings=settings)
        async with running(push):
            await push.append([(wrong.spec, value())], NOON)
            await until(lambda: bool(push.problems))
            before = time.process_time()
            await asyncio.sleep(0.5)
            assert time.process_time() - before < 0.3, "it is tried without a pause"
            assert push.queue.waiting() == {wrong.spec: 1}

    asyncio.run(inside())


def test_a_database_that_talks_nonsense_is_tried_with_growing_delays(tmp_path: Path) -> None:
    """The driver raises IndexError, struct.error and more at what it does not expect."""

    async def inside() -> None:
        asked = 0

        async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal asked
            asked += 1
            writer.write(b"\x03\x00\x00\x00\x0a8\x00")  # a greeting that ends after the version
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(nonsense, ADDRESS, 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            push, to = pusher(tmp_path), Destination("mysql", ADDRESS, port, tls=False, settings={"database": "d"})
            async with running(push):
                await push.append([(to.spec, value())], NOON)
                await until(lambda: bool(push.problems))
                await asyncio.sleep(0.5)
                assert asked <= 2 and push.queue.waiting() == {to.spec: 1}

    asyncio.run(inside())
