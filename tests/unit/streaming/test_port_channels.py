"""port-forward in channels of a WebSocket, over real sockets, with the `websockets` library as client."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from kubeedge.errors import Invalid
from kubeedge.streaming import negotiation
from kubeedge.streaming.byte_stream import SocketStream
from kubeedge.streaming.port_channels import PORTS, ChannelForwarder, requested_ports
from tests.unit.streaming.test_streaming_sessions import serving

Served = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until a line "end"."""
    while (data := await reader.read(65536)) and not data.endswith(b"end\n"):
        writer.write(data)
        await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def listening(served: Served) -> AsyncIterator[int]:
    server = await asyncio.start_server(served, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@contextlib.asynccontextmanager
async def client_of(ports: list[int], protocols: list[str]) -> AsyncIterator[ClientConnection]:
    async def dial(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", port)

    async def serve(choice: negotiation.Choice, connection: SocketStream) -> None:
        assert choice.protocol in negotiation.FORWARD_CHANNELS
        await ChannelForwarder(connection, ports, dial).run()

    async with serving(serve, negotiation.FORWARD_SPDY, negotiation.FORWARD_WEBSOCKET) as at:
        named: Any = protocols or None
        async with connect(f"ws://127.0.0.1:{at}/", subprotocols=named, compression=None) as client:
            yield client


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 60))


async def received(client: ClientConnection, channels: set[int]) -> dict[int, bytes]:
    """What came on each channel, until there is something on all of these."""
    seen: dict[int, bytes] = {}
    while not channels <= seen.keys():
        message = await client.recv()
        assert isinstance(message, bytes)
        seen[message[0]] = seen.get(message[0], b"") + message[1:]
    return seen


def announced(ports: list[int]) -> dict[int, bytes]:
    return {channel: ports[channel // 2].to_bytes(2, "little") for channel in range(2 * len(ports))}


@pytest.mark.parametrize("protocols", [["v4.channel.k8s.io"], []])
def test_each_port_has_a_channel_of_data_and_one_that_says_why_it_ended(protocols: list[str]) -> None:
    async def scenario() -> None:
        async with listening(echo) as open_port:
            with socket.socket() as closed:
                closed.bind(("127.0.0.1", 0))  # nobody listens there
                ports = [open_port, closed.getsockname()[1], open_port]
                async with client_of(ports, protocols) as client:
                    assert [await client.recv() for _ in range(6)] == [
                        bytes([channel]) + data for channel, data in announced(ports).items()
                    ]
                    why = (await received(client, {3}))[3]
                    assert why.startswith(f"error forwarding port {ports[1]}: ".encode()) and len(why) < 200
                    for message in (
                        b"",
                        b"\0",
                        b"\1to an error channel",
                        b"\2to nobody",
                        b"\x08no such port",
                        b"\xff\0",
                    ):
                        await client.send(message)
                    data = bytes(range(256)) * 1024
                    sending = asyncio.create_task(send(client, 4, data))
                    got = b""
                    while len(got) < len(data):
                        got += (await received(client, {4}))[4]
                    assert got == data
                    await sending
                    await client.send(b"\0first")
                    assert await received(client, {0}) == {0: b"first"}
                    await client.send(b"\0end\n")
                    await client.send(b"\4end\n")
                    with pytest.raises(ConnectionClosed) as over:
                        await client.recv()
                    assert over.value.rcvd is not None and over.value.rcvd.code == 1000

    run(scenario())


async def send(client: ClientConnection, channel: int, data: bytes) -> None:
    for at in range(0, len(data), 10_000):
        await client.send(bytes([channel]) + data[at : at + 10_000])


def test_a_client_that_is_gone_takes_its_connections_with_it() -> None:
    """Also while the pod takes nothing more, and nobody reads from the client for that."""

    async def scenario() -> None:
        ended = asyncio.Event()

        async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"here")
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            with contextlib.suppress(OSError):
                while not writer.is_closing():
                    writer.write(b"x" * 65536)
                    await asyncio.wait_for(writer.drain(), 30)
            ended.set()

        async with listening(deaf) as port, client_of([port], ["v4.channel.k8s.io"]) as client:
            assert (await received(client, {0, 1}))[0].startswith(port.to_bytes(2, "little"))
            flooding = asyncio.create_task(send(client, 0, bytes(32 * 1024 * 1024)))
            done, _ = await asyncio.wait((flooding,), timeout=0.5)
            assert not done, "a pod that takes nothing holds its client up"
            client.transport.abort()
            await ended.wait()
            await asyncio.gather(flooding, return_exceptions=True)

    run(scenario())


@pytest.mark.parametrize(
    ("values", "ports"),
    [(["80"], [80]), (["80,443"], [80, 443]), (["80", "65535,1"], [80, 65535, 1]), (["80,80"], [80, 80])],
)
def test_ports_are_named_by_the_request(values: list[str], ports: list[int]) -> None:
    assert requested_ports(values) == ports


@pytest.mark.parametrize(
    "values", [[], [""], ["80,"], ["0"], ["65536"], ["http"], ["-1"], ["+80"], ["８０"], ["1" * 5000]]
)
def test_what_is_no_port_is_refused(values: list[str]) -> None:
    with pytest.raises(Invalid):
        requested_ports(values)


def test_a_request_has_as_many_ports_as_a_byte_can_name() -> None:
    assert len(requested_ports([",".join(["80"] * PORTS)])) == PORTS
    with pytest.raises(Invalid, match=str(PORTS)):
        requested_ports([",".join(["80"] * (PORTS + 1))])
    with pytest.raises(Invalid, match=str(PORTS)):
        requested_ports(["80," * 1_000_000])
