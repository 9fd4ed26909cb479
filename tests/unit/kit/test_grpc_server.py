"""The server of gRPC on a real socket: our own client, another implementation's (h2), and clients that break the rules."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.errors import PeerError
from kubeedge.kit import grpc_server
from kubeedge.kit.grpc import INTERNAL, INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNIMPLEMENTED, GrpcChannel, GrpcError
from kubeedge.kit.grpc_server import CONNECTIONS, REQUEST, GrpcServer, by_method
from kubeedge.kit.http2 import PREFACE, SETTINGS, frame
from kubeedge.kit.http2_server import RESETS, STREAMS, Http2Server
from kubeedge.kit.streams import unix_listener

WITHIN = 60.0
REQUEST_HEAD = [(":method", "POST"), (":scheme", "http"), (":path", "/x/Echo"), (":authority", "localhost")]


async def echo(method: str, message: bytes) -> bytes:
    if message == b"hang":
        await asyncio.get_running_loop().create_future()
    if message == b"fail":
        raise RuntimeError("no")
    if message == b"refuse":
        raise GrpcError(INVALID_ARGUMENT, "über 100 % of it\nis wrong")
    if message.startswith(b"x"):
        return bytes(int(message[1:]))
    return method.encode() + b":" + message


@contextlib.asynccontextmanager
async def serving(path: Path) -> AsyncIterator[GrpcServer]:
    server, started = GrpcServer(echo), asyncio.Event()
    running = asyncio.create_task(server.run(path, started.set))
    try:
        await asyncio.wait_for(started.wait(), WITHIN)
        yield server
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert not path.exists() and server.held == 0


def test_methods_by_their_paths_at_two_sockets(tmp_path: Path) -> None:
    async def run() -> None:
        async def back(message: bytes) -> bytes:
            return message[::-1]

        listeners = [unix_listener(tmp_path / name, 0o600) for name in ("a", "b")]
        started = asyncio.Event()
        server = GrpcServer(by_method({"/x/Back": back}))
        running = asyncio.create_task(server.serve(listeners, started.set))
        await asyncio.wait_for(started.wait(), WITHIN)
        for name in ("a", "b"):
            channel = GrpcChannel(tmp_path / name)
            assert await channel.call("/x/Back", b"abc", WITHIN) == b"cba"
            with pytest.raises(GrpcError) as unknown:
                await channel.call("/x/Other", b"", WITHIN)
            assert unknown.value.code == UNIMPLEMENTED
            await channel.close()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert all(listener.fileno() == -1 for listener in listeners)

    asyncio.run(run())


def test_calls_of_our_own_client(tmp_path: Path) -> None:
    async def run() -> None:
        path = tmp_path / "dmi.sock"
        async with serving(path):
            assert path.stat().st_mode & 0o777 == 0o600
            channel = GrpcChannel(path)
            assert await channel.call("/x/Echo", b"a", WITHIN) == b"/x/Echo:a"
            answers = await asyncio.gather(*(channel.call("/x/Echo", b"x400000", WITHIN) for _ in range(8)))
            assert answers == [bytes(400_000)] * 8
            big = bytes(REQUEST)
            assert (await channel.call("/x/Echo", big, WITHIN))[8:] == big
            for message, code in ((bytes(REQUEST + 1), RESOURCE_EXHAUSTED), (b"fail", INTERNAL)):
                with pytest.raises(GrpcError) as failed:
                    await channel.call("/x/Echo", message, WITHIN)
                assert failed.value.code == code
            with pytest.raises(GrpcError, match="über 100 % of it\nis wrong"):
                await channel.call("/x/Echo", b"refuse", WITHIN)
            with pytest.raises(GrpcError, match="no answer"):
                await channel.call("/x/Echo", b"hang", 0.05)
            assert await channel.call("/x/Echo", b"b", WITHIN) == b"/x/Echo:b"
            await channel.close()

    asyncio.run(run())


def test_a_client_of_another_implementation_with_a_connection_for_each_call(tmp_path: Path) -> None:
    async def call(path: Path, message: bytes) -> tuple[bytes, dict[str, str]]:
        reader, writer = await asyncio.open_unix_connection(str(path))
        client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        client.initiate_connection()
        client.send_headers(1, REQUEST_HEAD)
        client.send_data(1, struct.pack("!BI", 0, len(message)) + message, end_stream=True)
        body, trailers = b"", {}
        while True:
            writer.write(client.data_to_send())
            for event in client.receive_data(await reader.read(65536)):
                match event:
                    case h2.events.DataReceived():
                        body += event.data
                        client.acknowledge_received_data(event.flow_controlled_length, 1)
                    case h2.events.TrailersReceived():
                        trailers = {bytes(k).decode(): bytes(v).decode() for k, v in event.headers}
                    case h2.events.StreamEnded():
                        writer.close()
                        return body, trailers

    async def run() -> None:
        path = tmp_path / "s"
        async with serving(path) as server:
            for n in range(CONNECTIONS * 2):
                body, trailers = await asyncio.wait_for(call(path, b"%d" % n), WITHIN)
                assert body[5:] == b"/x/Echo:%d" % n and trailers == {"grpc-status": "0"}
            body, _ = await asyncio.wait_for(call(path, b"x200000"), WITHIN)  # more than its window
            assert len(body) == 200_005
            assert server.unsent() == 0

    asyncio.run(run())


def test_idle_connections_give_way_and_a_client_that_goes_ends_its_call(tmp_path: Path) -> None:
    async def run() -> None:
        path = tmp_path / "s"
        async with serving(path) as server:
            leaked = [await asyncio.open_unix_connection(str(path)) for _ in range(CONNECTIONS * 2)]
            channel = GrpcChannel(path)
            assert await channel.call("/x/Echo", b"a", WITHIN)
            hanging = asyncio.create_task(channel.call("/x/Echo", b"hang", WITHIN))
            while not server.held:
                await asyncio.sleep(0.01)
            hanging.cancel()
            while server.held:
                await asyncio.sleep(0.01)
            await channel.close()
            for _, writer in leaked:
                writer.close()

    asyncio.run(run())


def test_connections_that_come_while_the_server_ends_are_closed(tmp_path: Path) -> None:
    async def run() -> None:
        for turns in range(6):
            async with serving(tmp_path / "s"):
                pairs = [await asyncio.open_unix_connection(str(tmp_path / "s")) for _ in range(5)]
                for _ in range(turns):
                    await asyncio.sleep(0)
            for reader, writer in pairs:  # whatever of its greeting came before
                with contextlib.suppress(ConnectionError):
                    await asyncio.wait_for(reader.read(), WITHIN)
                writer.close()

    asyncio.run(run())
    gc.collect()  # warns of a transport that nobody closed


def test_an_idle_connection_ends_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_server, "IDLE", 0.05)

    async def run() -> None:
        async with serving(tmp_path / "s"):
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
            await asyncio.wait_for(reader.read(), WITHIN)
            writer.close()

    asyncio.run(run())


def _client() -> h2.connection.H2Connection:
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, validate_outbound_headers=False))
    client.initiate_connection()
    return client


def test_more_streams_than_are_allowed_are_refused_and_rapid_resets_end_the_connection() -> None:
    server, client = Http2Server(), _client()
    for n in range(STREAMS + 5):
        client.send_headers(1 + 2 * n, REQUEST_HEAD)
    server.receive_data(client.data_to_send())
    assert server.streams == STREAMS
    refused = [e for e in client.receive_data(server.data_to_send()) if isinstance(e, h2.events.StreamReset)]
    assert len(refused) == 5
    server, client = Http2Server(), _client()
    with pytest.raises(PeerError, match="given up"):
        for n in range(RESETS + 1):
            client.send_headers(1 + 2 * n, REQUEST_HEAD)
            client.reset_stream(1 + 2 * n)
            server.receive_data(client.data_to_send())
    assert server.streams == 0


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        PREFACE + frame(1, 0x4, 2, b""),  # an even stream
        PREFACE + frame(0, 0, 1, b"x"),  # data without headers
        PREFACE + frame(1, 0x5, 1, b"\x82") + frame(0, 0, 1, b"x"),  # behind the end
        PREFACE + frame(1, 0x5, 1, b"\x82") + frame(1, 0x5, 1, b"\x82"),
        PREFACE + frame(1, 0x4, 1, b"\x82") + frame(1, 0x4, 1, b"\x82"),
        PREFACE + frame(SETTINGS, 0, 0, b"1234567"),
        PREFACE + frame(9, 0x4, 1, b""),
    ],
)
def test_what_breaks_the_rules_ends_the_connection(data: bytes) -> None:
    with pytest.raises(PeerError):
        Http2Server().receive_data(data)


@given(
    st.lists(st.tuples(st.integers(0, 10), st.integers(0, 255), st.integers(0, 5), st.binary(max_size=40)), max_size=20)
)
def test_any_frames_end_in_events_or_a_peer_error(frames: list[tuple[int, int, int, bytes]]) -> None:
    server = Http2Server()
    data = PREFACE + b"".join(frame(*one) for one in frames)
    with contextlib.suppress(PeerError):
        for at in range(0, len(data), 7):
            for event in server.receive_data(data[at : at + 7]):
                stream = getattr(event, "stream", 0)
                server.respond(stream, [(":status", "200")], b"x", [("grpc-status", "0")])
            server.data_to_send()
    assert server.streams <= STREAMS
