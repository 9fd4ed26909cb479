"""TCP connections of the DNS server: real sockets of several clients on loopback."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kubeedge.mesh.dns import server as dns
from kubeedge.mesh.dns.server import DnsServer
from kubeedge.mesh.dns.upstream import Upstream
from kubeedge.mesh.dns.zone import Zone
from kubeedge.mesh.table import MeshTable
from tests.kit.descriptors import descriptors
from tests.kit.ports import ADDRESS, ports
from tests.unit.mesh.test_dns import put, query

QUESTION = query("many.default.svc.cluster.local")
ASKED = struct.pack("!H", len(QUESTION)) + QUESTION


def _zone() -> Zone:
    table = MeshTable("edge1", [ipaddress.ip_network("10.244.0.0/16")])
    put(table, "/desired/services/default/many", {"spec": {"clusterIP": "None", "ports": [{"port": 80}]}})
    endpoints: list[Any] = [{"addresses": [f"10.244.2.{n}"]} for n in range(1, 201)]
    labels = {"labels": {"kubernetes.io/service-name": "many"}}
    value = {"metadata": labels, "addressType": "IPv4", "endpoints": endpoints, "ports": [{"port": 80}]}
    put(table, "/desired/endpointslices/default/many-1", value)
    return Zone(table, "cluster.local")


class World:
    """A server, and its clients of any address of loopback."""

    def __init__(self, server: DnsServer, port: int) -> None:
        self.server = server
        self._where = (ADDRESS, port)
        self.clients: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def say(self, data: bytes, client: str = "127.0.0.1") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        connection = socket.create_connection(self._where, source_address=(client, 0))
        reader, writer = await asyncio.open_connection(sock=connection)
        self.clients.append((reader, writer))
        writer.write(data)
        return reader, writer

    async def answered(self, client: str = "127.0.0.1") -> bool:
        reader, _ = await self.say(ASKED, client)
        return await answer_of(reader)

    @property
    def served(self) -> int:
        return len(self.server.acceptor.limiter.served)


async def answer_of(reader: asyncio.StreamReader) -> bool:
    try:
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        return len(await reader.readexactly(length)) > 200 * 16
    except (OSError, asyncio.IncompleteReadError):
        return False


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def serving(scenario: Callable[[World], Awaitable[None]]) -> None:
    async def run() -> None:
        (port,) = ports(1)
        server = DnsServer(_zone(), Upstream(lambda: ()), ADDRESS, (), port=port)
        ready, world = asyncio.Event(), World(server, port)
        running = asyncio.create_task(server.run(ready))
        try:
            async with asyncio.timeout(60):
                await ready.wait()
                await scenario(world)
                assert not running.done()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            for _, writer in world.clients:
                writer.transport.abort()
            await asyncio.sleep(0)

    asyncio.run(run())


def test_a_burst_of_twice_as_many_of_one_client_has_its_share_and_no_more() -> None:
    async def scenario(world: World) -> None:
        answers = await asyncio.gather(*(world.answered() for _ in range(2 * 8)))
        assert Counter(answers) == {True: 8, False: 8}
        assert world.served == 8 and world.server.counters.refused == 8
        assert await world.answered("127.0.0.2")

    serving(scenario)


def test_a_burst_of_twice_as_many_of_all_clients_leaves_something_for_each() -> None:
    async def scenario(world: World) -> None:
        addresses = [f"127.0.0.{n}" for n in range(1, 17)]
        for address in addresses:  # each takes its share: the first ones would leave nothing for the others
            await asyncio.gather(*(world.answered(address) for _ in range(8)))
            assert world.served <= 64
        assert world.served == 64
        limiter = world.server.acceptor.limiter
        assert min(limiter.served.count(address) for address in addresses) >= 3

    serving(scenario)


def test_connections_without_a_question_take_nothing_from_one_that_asks() -> None:
    async def scenario(world: World) -> None:
        for _ in range(64):
            await world.say(b"")
        assert await world.answered()
        for n in range(8):  # half a question is none
            for _ in range(8):
                await world.say(ASKED[:5], f"127.0.0.{n + 2}")
        await until(lambda: world.served == 64)
        assert await world.answered("127.0.0.77")

    serving(scenario)


def test_who_may_not_ask_is_closed_and_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DnsServer, "_may_ask", lambda server, client: client != "127.0.0.66")

    async def scenario(world: World) -> None:
        reader, _ = await world.say(b"", "127.0.0.66")
        assert await reader.read() == b""
        assert not world.server.acceptor.limiter.silent and world.server.counters.refused == 1

    serving(scenario)


def test_a_client_that_reads_no_answers_is_cut_off_with_all_that_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns, "_IDLE", 0.2)

    async def scenario(world: World) -> None:
        before = len(descriptors())
        _, writer = await world.say(ASKED * 5_000)  # 16 MB of answers; the kernel takes some
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await until(lambda: world.served == 1)
        await until(lambda: world.served == 0)
        await until(lambda: len(descriptors()) <= before + 1)  # the client's own, until it notices

    serving(scenario)
