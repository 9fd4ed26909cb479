"""Who may connect to the broker, and who gives way: real sockets, real users."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from kubeedge.kit.connection_limiter import ConnectionLimits
from kubeedge.mqtt import codec, connection, driver
from kubeedge.mqtt.admission import MqttListener
from kubeedge.mqtt.codec import Publish
from kubeedge.mqtt.core import Broker, MqttLimits
from kubeedge.mqtt.driver import MqttServer
from tests.kit.ports import ADDRESS, ports
from tests.unit.mqtt.test_driver import connect, packet, text

#: becomes a user (only then: it may not be able to read this interpreter), connects as often as it is told to, says CONNECT, prints the answers, and stays
_PROGRAM = """
import os, socket, sys
os.setuid(int(sys.argv[4]))
clients = []
for n in range(int(sys.argv[3])):
    client = socket.create_connection((sys.argv[1], int(sys.argv[2])))
    client.sendall(b"\\x10" + bytes([12 + 8]) + b"\\0\\4MQTT\\4\\2\\0\\0" + b"\\0\\x08" + b"user%04d" % n)
    print(client.recv(4).hex(), flush=True)
    clients.append(client)
sys.stdin.read()
"""
_WELCOME, _FULL = b"\x20\x02\x00\x00", b"\x20\x02\x00\x03"


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def serving(
    scenario: Callable[[MqttServer, int], Awaitable[None]],
    *,
    limits: ConnectionLimits | None = None,
    sessions: int = 256,
    handle: driver.Handle = lambda message, client: None,
) -> None:
    async def run() -> None:
        more: dict[str, Any] = {"limits": limits} if limits else {}
        server = MqttServer(Broker(MqttLimits(sessions=sessions)), handle, **more)
        port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        running = asyncio.create_task(
            server.serve([MqttListener(ADDRESS, ports(1)[0])], lambda found: port.set_result(found[0]))
        )
        try:
            async with asyncio.timeout(60):
                await scenario(server, await port)
                assert not running.done()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(run())


class Clients:
    """Connections of this process."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._all: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def say(self, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(ADDRESS, self._port)
        self._all.append((reader, writer))
        writer.write(data)
        return reader, writer

    async def answered(self, name: str) -> bytes:
        """To a CONNECT; b"": the connection was closed."""
        reader, _ = await self.say(connect(name))
        with contextlib.suppress(ConnectionError):
            return await reader.read(4)
        return b""

    async def __aenter__(self) -> Clients:
        return self

    async def __aexit__(self, *_: object) -> None:
        for _, writer in self._all:
            writer.transport.abort()
        await asyncio.sleep(0)


@contextlib.contextmanager
def program(port: int, user: int, count: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", _PROGRAM, ADDRESS, str(port), str(count), str(user)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.communicate()


@contextlib.asynccontextmanager
async def watched(server: MqttServer) -> AsyncIterator[list[int]]:
    """The most that were served before they had sent CONNECT, in turns of the loop."""
    most = [0]

    async def watch() -> None:
        while True:
            names = [task.get_name() for task in asyncio.all_tasks()]
            most[0] = max(most[0], names.count("MQTT client"))
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    try:
        yield most
    finally:
        watching.cancel()


def test_a_burst_of_twice_as_many_never_has_more_tasks_than_the_bound() -> None:
    """Those that do not finish their CONNECT: each turn of the loop is looked at."""
    limits = ConnectionLimits(silent=16, queued=4, unauthenticated=8)

    async def scenario(server: MqttServer, port: int) -> None:
        async with Clients(port) as clients, watched(server) as most:
            burst = await asyncio.gather(*(clients.say(connect(f"c{n}")[:-1]) for n in range(2 * 8)))
            refused = [asyncio.create_task(reader.read(1)) for reader, _ in burst]
            await until(lambda: sum(task.done() for task in refused) == 4)  # beyond served and queued
            assert most == [8]
            assert (len(server.acceptor.limiter.served), len(server.acceptor.limiter.queued)) == (8, 4)
            for task in refused:
                task.cancel()
            await asyncio.gather(*refused, return_exceptions=True)

    serving(scenario, limits=limits)


def test_a_burst_of_twice_as_many_sessions_fills_the_broker_and_no_more() -> None:
    async def scenario(server: MqttServer, port: int) -> None:
        async with Clients(port) as clients:
            answers = await asyncio.gather(*(clients.answered(f"c{n}") for n in range(2 * 32)))
            assert sorted(answers) == [_WELCOME] * 32 + [_FULL] * 32
            assert len(server.broker.sessions) == len(server.acceptor.limiter.tenants) == 32

    serving(scenario, sessions=32)


def test_clients_that_say_nothing_or_half_of_it_give_way_to_one_that_connects() -> None:
    limits = ConnectionLimits(silent=4, queued=4, unauthenticated=4, stall=0.1)

    async def scenario(server: MqttServer, port: int) -> None:
        async with Clients(port) as clients:
            for data in [b""] * 8 + [b"\x10"] * 4:
                await clients.say(data)
            await until(lambda: len(server.acceptor.limiter.served) == 4)
            for n in range(4):
                assert await clients.answered(f"c{n}") == _WELCOME

    serving(scenario, limits=limits)


@pytest.mark.parametrize("said", [b"", b"\x10"])
def test_a_client_that_has_not_sent_connect_in_time_is_closed(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_CONNECT", 0.2)

    async def scenario(server: MqttServer, port: int) -> None:
        async with Clients(port) as clients:
            reader, _ = await clients.say(said)
            assert await reader.read() == b""
            await until(lambda: not server.acceptor.limiter.silent and not server.acceptor.limiter.served)

    serving(scenario, limits=ConnectionLimits(first_byte=0.2))


@pytest.mark.root
def test_a_user_that_has_all_sessions_gives_way_to_another_user() -> None:
    async def scenario(server: MqttServer, port: int) -> None:
        with program(port, 65533, 8) as greedy:
            assert greedy.stdout is not None
            for _ in range(8):
                assert await asyncio.to_thread(greedy.stdout.readline) == _WELCOME.hex() + "\n"
            async with Clients(port) as clients:
                answers = [await clients.answered(f"ours{n}") for n in range(8)]
            assert answers == [_WELCOME] * 4 + [_FULL] * 4
            await until(lambda: len(server.broker.sessions) == len(server.acceptor.limiter.tenants) == 4)
            assert sorted(server.broker.sessions) == [f"user{n:04d}" for n in range(4, 8)]  # its oldest gave way

    serving(scenario, sessions=8)


@pytest.mark.root
def test_a_user_that_connects_and_says_nothing_more_gives_way_to_another_user() -> None:
    limits = ConnectionLimits(silent=4, queued=0, unauthenticated=4, stall=60)

    async def scenario(server: MqttServer, port: int) -> None:
        async with Clients(port) as clients:
            for _ in range(4):
                await clients.say(b"\x10")
            await until(lambda: len(server.acceptor.limiter.served) == 4)
            with program(port, 65533, 1) as other:
                assert other.stdout is not None
                assert await asyncio.to_thread(other.stdout.readline) == _WELCOME.hex() + "\n"

    serving(scenario, limits=limits)


def test_a_connection_that_waits_for_the_disk_ends_when_another_takes_its_session() -> None:
    """Its client has more on its way than may be, and nothing is acknowledged."""
    never: list[asyncio.Future[None]] = []

    def handle(message: Publish, client: str) -> asyncio.Future[None]:
        never.append(asyncio.get_running_loop().create_future())
        return never[-1]

    async def scenario(server: MqttServer, port: int) -> None:
        async with Clients(port) as clients:
            messages = b"".join(packet(0x32, text("t") + n.to_bytes(2, "big")) for n in range(1, 1000))
            await clients.say(connect("a") + messages)
            await until(lambda: len(never) > 500)
            for _ in range(3):
                assert await clients.answered("a") == _WELCOME
            await until(lambda: [task.get_name() for task in asyncio.all_tasks()].count("MQTT client") == 1)
            assert list(server.broker.sessions) == ["a"] and len(server.acceptor.limiter.tenants) == 1

    serving(scenario, sessions=1, handle=handle)


def test_a_client_that_reads_nothing_does_not_keep_its_connection_when_another_takes_its_session() -> None:
    async def scenario(server: MqttServer, port: int) -> None:
        async with Clients(port) as clients:
            reader, writer = await clients.say(connect("a") + packet(0x82, b"\x00\x01" + text("t") + b"\x00"))
            assert await reader.readexactly(9) == _WELCOME + packet(0x90, b"\x00\x01\x00")
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            session = server.broker.sessions["a"]
            while not session.queue:  # until the kernel and asyncio take no more
                server.publish("t", bytes(codec.MAX_PACKET // 2), qos=0)
                await asyncio.sleep(0.001)
            assert await clients.answered("a") == _WELCOME
            await until(lambda: [task.get_name() for task in asyncio.all_tasks()].count("MQTT client") == 1)

    serving(scenario)
