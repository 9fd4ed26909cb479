"""The server of gRPC, and clients that want all of it for themselves."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from pathlib import Path

import pytest

from kubeedge.kit import grpc_server, hpack
from kubeedge.kit.grpc import GrpcChannel
from kubeedge.kit.grpc_server import CONNECTIONS, HELD
from kubeedge.kit.http2 import DATA, HEADERS, PREFACE, SETTINGS, WINDOW_UPDATE, Http2Connection, frame
from kubeedge.kit.http2_server import STREAMS, Http2Server
from tests.unit.kit.test_grpc_server import REQUEST_HEAD, WITHIN, serving

BLOCK = hpack.encode(REQUEST_HEAD)
HALF = PREFACE + frame(SETTINGS) + frame(HEADERS, 0x4, 1, BLOCK) + frame(DATA, 0, 1, b"half of it")
NO_WINDOW = PREFACE + frame(SETTINGS, payload=struct.pack("!HI", 4, 0))


def call(stream: int, message: bytes) -> bytes:
    return frame(HEADERS, 0x4, stream, BLOCK) + frame(DATA, 0x1, stream, struct.pack("!BI", 0, len(message)) + message)


def test_requests_that_do_not_end_keep_nobody_out(tmp_path: Path) -> None:
    async def run() -> None:
        path = tmp_path / "s"
        async with serving(path) as server:
            hostile = [await asyncio.open_unix_connection(str(path)) for _ in range(CONNECTIONS)]
            for _, writer in hostile:
                writer.write(HALF)
            async with asyncio.timeout(WITHIN):
                while server.held < len(b"half of it") * CONNECTIONS:
                    await asyncio.sleep(0.01)
            channel = GrpcChannel(path)
            assert await channel.call("/x/Echo", b"a", WITHIN) == b"/x/Echo:a"
            await channel.close()
            for _, writer in hostile:
                writer.close()

    asyncio.run(run())


def test_a_request_that_stops_ends_with_its_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_server, "IDLE", 0.05)

    async def run() -> None:
        async with serving(tmp_path / "s") as server:
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
            writer.write(HALF)
            with contextlib.suppress(ConnectionError):
                await asyncio.wait_for(reader.read(), WITHIN)
            writer.close()
            async with asyncio.timeout(WITHIN):
                while server.held:
                    await asyncio.sleep(0.01)

    asyncio.run(run())


def test_answers_that_nobody_takes_are_bounded_together(tmp_path: Path) -> None:
    async def run() -> None:
        size, path, calls = 60_000, tmp_path / "s", 0

        async def big(method: str, message: bytes) -> bytes:
            nonlocal calls
            calls += 1
            return bytes(size)

        async with serving(path) as server:
            server.handler = big
            clients = [await asyncio.open_unix_connection(str(path)) for _ in range(3)]
            for _, writer in clients:
                writer.write(NO_WINDOW + b"".join(call(1 + 2 * n, b"x") for n in range(STREAMS)))
            async with asyncio.timeout(WITHIN):
                while calls < 3 * STREAMS or server.held:
                    await asyncio.sleep(0.01)
            assert HELD - 2 * size < server.unsent() <= HELD + size
            for _, writer in clients:
                writer.close()

    asyncio.run(run())


def test_a_flood_of_windows_is_one_look_at_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    server, looks = Http2Server(), 0
    server.receive_data(NO_WINDOW + b"".join(call(1 + 2 * n, b"") for n in range(STREAMS)))
    for n in range(STREAMS):
        server.respond(1 + 2 * n, [(":status", "200")], b"answer", [("grpc-status", "0")])
    look = Http2Connection._send_all

    def counted(self: Http2Connection) -> None:
        nonlocal looks
        looks += 1
        look(self)

    monkeypatch.setattr(Http2Connection, "_send_all", counted)
    server.receive_data(frame(WINDOW_UPDATE, 0, 0, struct.pack("!I", 1)) * 4000)
    assert looks == 1 and server.streams == STREAMS
    server.receive_data(b"".join(frame(WINDOW_UPDATE, 0, 1 + 2 * n, struct.pack("!I", 6)) for n in range(STREAMS)))
    assert looks == 2 and server.streams == 0
