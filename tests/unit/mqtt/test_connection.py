"""One connection: what it writes and when, and how it ends. Real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from kubeedge.kit.varint import varint
from kubeedge.mqtt import answers, codec, connection
from kubeedge.mqtt.codec import Publish
from kubeedge.mqtt.driver import MqttServer
from tests.unit.mqtt.test_connections import Clients, serving, until
from tests.unit.mqtt.test_driver import connect, packet, text

_WELCOME = b"\x20\x02\x00\x00"


def subscribe(topic: str) -> bytes:
    return packet(0x82, b"\x00\x01" + text(topic) + b"\x01")


def message(topic: str, number: int, payload: bytes = b"") -> bytes:
    return answers.publish(codec.V311, Publish(topic, payload, 1, packet_id=number))


def puback(number: int) -> bytes:
    return answers.puback(codec.V311, number)


def test_a_message_to_oneself_and_its_acknowledgement_are_one_write() -> None:
    async def scenario(server: MqttServer, port: int) -> None:
        async with Clients(port) as clients:
            reader, writer = await clients.say(connect("a") + subscribe("t"))
            assert await reader.readexactly(9) == _WELCOME + packet(0x90, b"\x00\x01\x01")
            transport, written = server._connections["a"].transport, list[bytes]()
            send = transport.write
            transport.write = lambda data: (written.append(bytes(data)), send(data))  # type: ignore[method-assign, assignment, func-returns-value]
            writer.write(message("t", 7, b"x" * 200))
            expected = message("t", 1, b"x" * 200) + puback(7)
            assert await reader.readexactly(len(expected)) == expected and written == [expected]
            writer.write(puback(1) + b"".join(message("t", n) for n in range(8, 11)))  # and so are those of several
            expected = b"".join(message("t", n - 6) + puback(n) for n in range(8, 11))
            assert await reader.readexactly(len(expected)) == expected and len(written) == 2

    serving(scenario)


def test_acknowledgements_keep_the_order_of_arrival_and_what_is_not_durable_has_none() -> None:
    durable: list[asyncio.Future[None]] = []

    def handle(one: Publish, client: str) -> asyncio.Future[None] | None:
        if one.topic == "at/once":
            return None
        durable.append(asyncio.get_running_loop().create_future())
        return durable[-1]

    async def scenario(server: MqttServer, port: int) -> None:
        async with Clients(port) as clients:
            reader, writer = await clients.say(connect("a") + message("at/once", 9))
            assert await reader.readexactly(8) == _WELCOME + puback(9)
            writer.write(message("d", 1) + message("at/once", 2) + message("d", 3) + b"\xc0\x00")
            assert await reader.readexactly(2) == b"\xd0\x00", "nothing is acknowledged yet"
            durable[1].set_result(None)
            writer.write(b"\xc0\x00")
            assert await reader.readexactly(2) == b"\xd0\x00", "the first one is not on the disk"
            durable[0].set_result(None)
            assert await reader.readexactly(12) == puback(1) + puback(2) + puback(3)
            writer.write(message("d", 4) + message("d", 5) + message("d", 6))
            await until(lambda: len(durable) == 5)
            durable[2].set_result(None)
            durable[3].cancel()
            durable[4].set_result(None)
            assert await reader.read() == puback(4), "the client has to send the others again"

    serving(scenario, handle=handle)


def test_more_than_may_be_in_flight_wait_and_all_are_acknowledged_in_the_end() -> None:
    durable: list[asyncio.Future[None]] = []

    def handle(one: Publish, client: str) -> asyncio.Future[None]:
        durable.append(asyncio.get_running_loop().create_future())
        return durable[-1]

    def in_flight(number: int) -> Callable[[], bool]:
        return lambda: len(durable) == number

    async def scenario(server: MqttServer, port: int) -> None:
        count = 3 * answers.RECEIVE_MAX
        async with Clients(port) as clients:
            reader, _ = await clients.say(connect("a") + b"".join(message("t", n) for n in range(1, count + 1)))
            assert await reader.readexactly(4) == _WELCOME
            done = 0
            while done < count:
                await until(in_flight(min(count, done + answers.RECEIVE_MAX)))
                for one in durable[done : done + 100]:
                    one.set_result(None)
                some = min(100, len(durable) - done)
                expected = b"".join(puback(n) for n in range(done + 1, done + some + 1))
                assert await reader.readexactly(len(expected)) == expected
                done += some

    serving(scenario, handle=handle)


def test_a_client_that_reads_nothing_is_cut_off_and_one_that_reads_again_gets_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "_STALLED", 3600.0)

    async def scenario(server: MqttServer, port: int) -> None:
        async with Clients(port) as clients:
            reader, writer = await clients.say(connect("a") + subscribe("t"))
            assert await reader.readexactly(9) == _WELCOME + packet(0x90, b"\x00\x01\x01")
            one: Any = writer.transport
            one.pause_reading()
            sent = 0
            while not server.broker.sessions["a"].queue:  # until the kernel and asyncio take no more
                server.publish("t", sent.to_bytes(4, "big") + bytes(100_000), qos=0)
                sent += 1
                await asyncio.sleep(0)
            assert server.held.size > 0
            one.resume_reading()
            for n in range(sent):
                size = 3 + 4 + 100_000
                assert (await reader.readexactly(1 + len(varint(size)) + size))[-100_004:][:4] == n.to_bytes(4, "big")
            await until(lambda: server.held.size == 0)
            monkeypatch.setattr(connection, "_STALLED", 0.05)
            one.pause_reading()
            while "a" in server.broker.sessions:
                server.publish("t", bytes(100_000), qos=0)
                await asyncio.sleep(0.001)
            assert not server._connections

    serving(scenario)


def test_a_client_that_is_silent_for_longer_than_it_has_said_is_sent_away() -> None:
    async def scenario(server: MqttServer, port: int) -> None:
        async with Clients(port) as clients:
            five = packet(0x10, text("MQTT") + b"\x05\x02\x00\x01\x00" + text("a"))
            reader, _ = await clients.say(five)
            assert (await reader.read())[-3:] == b"\xe0\x01" + bytes((codec.KEEPALIVE,))
            await until(lambda: not server.broker.sessions)

    serving(scenario)
