"""Clients over real sockets that want the memory and the time of the agent."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable

from kubeedge.kit.varint import varint
from kubeedge.mqtt import codec
from kubeedge.mqtt.admission import MqttListener
from kubeedge.mqtt.core import Broker
from kubeedge.mqtt.driver import MqttServer


def text(value: str) -> bytes:
    return len(value).to_bytes(2, "big") + value.encode()


def packet(first: int, body: bytes) -> bytes:
    return bytes([first]) + varint(len(body)) + body


def connect(name: str) -> bytes:
    return packet(0x10, text("MQTT") + b"\x04\x02\x00\x3c" + text(name))


def serving(
    scenario: Callable[[MqttServer, int], Awaitable[None]],
    handle: Callable[[codec.Publish, str], None] = lambda message, client: None,
) -> None:
    async def run() -> None:
        server, port = MqttServer(Broker(), handle), asyncio.get_running_loop().create_future()
        running = asyncio.create_task(
            server.serve([MqttListener("127.0.0.1", 0)], lambda found: port.set_result(found[0]))
        )
        try:
            async with asyncio.timeout(60):
                await scenario(server, await port)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(run())


def test_packets_of_all_clients_that_do_not_come_to_their_ends_have_a_bound() -> None:
    """Nobody has to say who he is for that."""

    async def scenario(server: MqttServer, port: int) -> None:
        good_reader, good = await asyncio.open_connection("127.0.0.1", port)
        good.write(connect("good"))
        assert (await good_reader.readexactly(4))[0] == 0x20
        held = packet(0x10, bytes(codec.MAX_PACKET))[:-1]
        others = [await asyncio.open_connection("127.0.0.1", port) for _ in range(60)]
        most = 0
        for _, writer in others:
            writer.write(held)
        ended = [asyncio.create_task(reader.read()) for reader, _ in others]
        while sum(task.done() for task in ended) < 60 - 8 * 1024 * 1024 // len(held):
            most = max(most, server.held.size)
            await asyncio.sleep(0.01)
        assert most <= 8 * 1024 * 1024
        good.write(b"\xc0\x00")
        assert await good_reader.readexactly(2) == b"\xd0\x00"
        for task in ended:
            task.cancel()
        await asyncio.gather(*ended, return_exceptions=True)
        for _, writer in [*others, (good_reader, good)]:
            writer.close()

    serving(scenario)


def test_subscriptions_to_all_that_is_retained_take_turns_with_others() -> None:
    """A packet of 300 bytes has 64 filters, each of which is compared with a thousand messages."""

    async def scenario(server: MqttServer, port: int) -> None:
        for n in range(100):
            server.publish(f"t/{n}", b"x", retain=True)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        filters = b"".join(text(f"none/{n}/#") + b"\x00" for n in range(64))
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        writer.write(connect("a"))
        assert (await reader.readexactly(4))[0] == 0x20
        counting = asyncio.create_task(count())
        writer.write(packet(0x82, b"\x00\x01" + filters) * 100)
        suback = packet(0x90, b"\x00\x01" + bytes(64))
        assert await reader.readexactly(100 * len(suback)) == suback * 100
        counting.cancel()
        assert turns >= 100 * 64 // 8  # before there was one for each read, of some 70 packets
        writer.close()

    serving(scenario)


def test_thousands_of_messages_that_come_at_once_take_turns_with_everything_else() -> None:
    """A packet has five bytes, and what is asked by it may take milliseconds: one client took the agent's loop for minutes."""
    seen = [0]

    def costly(message: codec.Publish, client: str) -> None:
        seen[0] += 1
        end = time.monotonic() + 0.003
        while time.monotonic() < end:
            pass

    async def scenario(server: MqttServer, port: int) -> None:
        turns, most = 0, 0

        async def count() -> None:
            nonlocal turns, most
            before = 0
            while True:
                await asyncio.sleep(0)
                turns, most, before = turns + 1, max(most, seen[0] - before), seen[0]

        clients = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
        for number, (reader, writer) in enumerate(clients):
            writer.write(connect(f"c{number}"))
            assert (await reader.readexactly(4))[0] == 0x20
        counting = asyncio.create_task(count())
        for _, writer in clients:
            writer.write(packet(0x30, text("t")) * 40 + b"\xc0\x00")
        for reader, _ in clients:
            assert await reader.readexactly(2) == b"\xd0\x00"
        counting.cancel()
        assert seen[0] == 200 and turns >= 100 and most <= 2
        for _, writer in clients:
            writer.close()

    serving(scenario, costly)


def test_messages_on_their_way_to_clients_that_do_not_read_and_wills_have_a_bound_together() -> None:
    """Each client may have a message of 256 KiB on its way, and a will of 64 KiB: 256 of them had 80 MB."""

    async def scenario(server: MqttServer, port: int) -> None:
        server.held._limit = 1024 * 1024
        clients = []
        for number in range(30):
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.setblocking(False)
            await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
            streams = await asyncio.open_connection(sock=connection, limit=1024)
            name = f"s{number}"
            streams[1].write(
                packet(0x10, text("MQTT") + b"\x04\x06\x00\x3c" + text(name) + text("w") + text("x" * 60_000))
            )
            streams[1].write(packet(0x82, b"\x00\x01" + text(name) + b"\x00"))
            clients.append(streams)
            most = server.held.size
            assert most <= 1024 * 1024
        while server.held.size < 500_000:  # at most 17 wills fit; who has one too many was cut off
            await asyncio.sleep(0.01)
        alive = [n for n in range(30) if f"s{n}" in server.broker.sessions]
        for _ in range(40):
            for number in alive:
                server.publish(f"s{number}", bytes(250_000), qos=0)
            await asyncio.sleep(0.01)
            waiting = sum(c.transport.get_write_buffer_size() for c in server._connections.values())
            assert server.held.size <= 1024 * 1024 and waiting <= 1024 * 1024
        for _, writer in clients:
            writer.transport.abort()

    serving(scenario)
