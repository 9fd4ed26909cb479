"""Clients over real sockets that want the memory and the time of the agent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from kubeedge.kit.varint import varint
from kubeedge.mqtt import codec
from kubeedge.mqtt.core import Broker
from kubeedge.mqtt.driver import MqttServer


def text(value: str) -> bytes:
    return len(value).to_bytes(2, "big") + value.encode()


def packet(first: int, body: bytes) -> bytes:
    return bytes([first]) + varint(len(body)) + body


def connect(name: str) -> bytes:
    return packet(0x10, text("MQTT") + b"\x04\x02\x00\x3c" + text(name))


def serving(scenario: Callable[[MqttServer, int], Awaitable[None]]) -> None:
    async def run() -> None:
        server, port = MqttServer(Broker(), lambda message: None), asyncio.get_running_loop().create_future()
        running = asyncio.create_task(server.serve("127.0.0.1", 0, port.set_result))
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
