"""The MQTT client against our broker (which Paho judges), and against servers that lie."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.errors import Unavailable
from kubeedge.mqtt import answers, requests
from kubeedge.mqtt import client as client_module
from kubeedge.mqtt.client import MqttClient
from kubeedge.mqtt.codec import V311, MqttError, Puback, Publish
from kubeedge.mqtt.driver import MqttServer
from kubeedge.mqtt.requests import AnswerDecoder, Connack, Pingresp, Suback
from tests.unit.mqtt.test_driver import serving


def test_messages_go_to_the_broker_and_come_back() -> None:
    got: list[tuple[str, bytes]] = []

    async def scenario(server: MqttServer, port: int) -> None:
        client = await MqttClient.open(
            "127.0.0.1", port, "one", lambda message: got.append((message.topic, message.payload))
        )
        serving_ = asyncio.create_task(client.serve())
        await client.subscribe("a/+", "b")
        await asyncio.gather(*(client.publish(f"a/{n}", b"x" * n) for n in range(300)))
        await client.publish("c", b"")
        await client.publish("b", b"last")
        while len(got) < 301:
            await asyncio.sleep(0.01)
        assert got[-1] == ("b", b"last") and got[299] == ("a/299", b"x" * 299)
        waiting = asyncio.create_task(client.publish("a/1", b""))
        await client.close()
        for task in (waiting, serving_):
            with pytest.raises(OSError):
                await task
        with pytest.raises(OSError):
            await client.publish("a/1", b"")

    serving(scenario)


@pytest.mark.parametrize(
    ("says", "error"),
    [
        (b"\x20\x02\x00\x05", Unavailable),
        (b"\x90\x03\x00\x01\x00", MqttError),
        (b"\x30\xff\xff\xff\x7f", MqttError),
        (b"", OSError),
    ],
)
def test_a_server_that_refuses_or_lies_ends_the_attempt(says: bytes, error: type[Exception]) -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(says)
        writer.close()

    async def run() -> None:
        async with await asyncio.start_server(say, "127.0.0.1", 0) as server, asyncio.timeout(30):
            with pytest.raises(error):
                await MqttClient.open("127.0.0.1", server.sockets[0].getsockname()[1], "x", lambda message: None)

    asyncio.run(run())


def test_a_server_that_sends_and_reads_nothing_costs_no_memory_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_UNREAD", 64 * 1024)

    async def scenario() -> None:
        async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(100)
            writer.write(b"\x20\x02\0\0")
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            messages = b"".join(answers.publish(V311, Publish("a", b"", 1, packet_id=n)) for n in range(1, 1000))
            with contextlib.suppress(OSError):
                while True:
                    writer.write(messages)
                    await writer.drain()

        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            server = await asyncio.start_server(flood, sock=listening)
            client = await MqttClient.open("127.0.0.1", listening.getsockname()[1], "one", lambda message: None)
            client._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            with pytest.raises(MqttError, match="acknowledgements"):
                await asyncio.wait_for(client.serve(), 60)
            server.close()

    asyncio.run(scenario())


def test_what_our_broker_says_is_understood() -> None:
    message = Publish("a/b", b"xyz", 1, packet_id=9)
    data = b"".join(
        (
            answers.connack(V311, True),
            answers.suback(V311, 3, (1, 0x80)),
            answers.puback(V311, 4),
            answers.publish(V311, message),
            answers.pingresp(),
        )
    )
    expected = [Connack(True, 0), Suback(3, (1, 0x80)), Puback(4), message, Pingresp()]
    whole, bytewise = AnswerDecoder(), AnswerDecoder()
    assert list(whole.feed(data)) == expected
    assert [packet for n in range(len(data)) for packet in bytewise.feed(data[n : n + 1])] == expected


@given(st.binary(max_size=80))
def test_any_bytes_are_packets_or_an_error(data: bytes) -> None:
    decoder = AnswerDecoder(limit=64)
    try:
        list(decoder.feed(data))
    except MqttError:
        return
    assert decoder.waiting <= 69


def test_requests_are_what_our_broker_reads() -> None:
    from kubeedge.mqtt.codec import Connect, PacketDecoder, Pingreq, Subscribe

    decoder = PacketDecoder()
    found = decoder.feed(requests.connect("me", 30) + requests.subscribe(2, ["a/#", "b"]) + requests.pingreq())
    assert isinstance(found[0], Connect) and (found[0].client_id, found[0].keepalive, found[0].clean) == (
        "me",
        30,
        True,
    )
    assert isinstance(found[1], Subscribe) and [(one.filter, one.qos) for one in found[1].filters] == [
        ("a/#", 1),
        ("b", 1),
    ]
    assert found[2] == Pingreq()
