"""Whoever does not read makes nothing grow: services without end, clients that stop, nodes that only ask."""

from __future__ import annotations

import asyncio
import hashlib
import socket

import pytest

from kubeedge.kit.http1 import Limits
from kubeedge.kubebus.http.limits import ProxyLimits
from tests.unit.kubebus_http.test_fast import echo_path
from tests.unit.kubebus_http.world import NUMBER, Streams, World, get, read_head, scenario, until

KB, MB = 1024, 1024 * 1024
both_ways = pytest.mark.parametrize("fast", [False, True], ids=["slow", "fast"])


async def quiet(count: list[int]) -> int:
    """The first element, once it has not moved for a while."""
    before = -1
    while count[0] != before or not before:
        before = count[0]
        await asyncio.sleep(0.3)
    return before


@both_ways
@pytest.mark.parametrize("reads", [False, True], ids=["silent", "reading"])
def test_interim_answers_without_end_are_a_failure(reads: bool, fast: bool) -> None:
    sent = [0]
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: </%b>\r\n\r\n" % (b"x" * 8000)

    async def service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        while True:
            writer.write(hint)
            sent[0] += len(hint)
            await writer.drain()

    async def tell(world: World) -> None:
        await world.serve("shop", service)
        await world.serve("other", echo_path)
        async with world.client() as (reader, writer):
            if not reads:
                writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(get("/t1/n1/shop/"))
            await until(lambda: sent[0] > 0)
            assert b" 200 " in await world.ask(get("/t1/n1/other/x"))  # others have their turn meanwhile
            # GETs that failed are repeated once on each hop; each time the service gets no further
            assert await quiet(sent) < 4 * Limits().interim_most * len(hint) + 32 * MB
            if not reads:
                writer.transport.resume_reading()  # type: ignore[attr-defined]
            answer = await asyncio.wait_for(reader.read(), 20)
        assert 0 < answer.count(b"HTTP/1.1 103 ") <= 4 * Limits().interim
        assert b"HTTP/1.1 502 " in answer and b"interim answers" in answer

    scenario(tell, fast=fast)


def test_what_a_lazy_reader_has_taken_is_kept_no_longer() -> None:
    size, block = 32 * MB, bytes(range(256)) * 256

    async def service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // len(block)):
            writer.write(block)
            await writer.drain()

    async def tell(world: World) -> None:
        await world.serve("film", service)
        loop, digest, most = asyncio.get_running_loop(), hashlib.sha256(), 0
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * KB)
            client.setblocking(False)
            await loop.sock_connect(client, ("127.0.0.1", world.port))
            await loop.sock_sendall(client, get("/t1/n1/film/"))
            got = b""
            while b"\r\n\r\n" not in got:
                got += await loop.sock_recv(client, 1 * KB)
            left = size - len(got.partition(b"\r\n\r\n")[2])
            digest.update(got.partition(b"\r\n\r\n")[2])
            while left:
                data = await loop.sock_recv(client, 8 * KB)
                assert data
                left -= len(data)
                digest.update(data)
                most = max(most, world.client_fast_path.accounts()["t1"]["held"])
        print(f"at most {most / MB:.1f} MB held")
        assert digest.digest() == hashlib.sha256(block * (size // len(block))).digest()
        assert most < 6 * MB  # 4 MB are L4's window

    scenario(tell, fast=True)


def test_a_node_that_asks_and_never_reads_is_answered_so_often() -> None:
    answered = [0]

    async def service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4 * KB):  # one request at a time comes on a connection
            answered[0] += 1
            writer.write(b"HTTP/1.1 200 OK\r\nX: %b\r\n\r\n" % (b"x" * 8000))

    async def tell(world: World) -> None:
        await world.serve("shop", service)
        reader, writer = await world._endpoint.connect(NUMBER, 80)
        try:
            for _ in range(4000):
                writer.write(get("/shop/", method="HEAD", close=False))
            # L4's window, what one connection may leave unsent, and a reader of asyncio
            assert 0 < await quiet(answered) < 6 * MB // 8000
            assert sum(a["held"] for a in world.server_fast_path.accounts().values()) < 1 * MB
            for _ in range(1000):  # who reads again is answered again
                assert b"200 OK" in await read_head(reader)
        finally:
            writer.transport.abort()

    scenario(tell, fast=True)


async def stream(world: World, streams: list[Streams], count: int) -> None:
    for _ in range(count):
        streams.append(await asyncio.open_connection("127.0.0.1", world.port, limit=4096))
        streams[-1][1].transport.pause_reading()  # type: ignore[attr-defined]
        streams[-1][1].write(get("/t1/n1/film/"))


def test_the_buffers_of_a_tenant_have_one_limit_and_everybody_is_served_all_the_same() -> None:
    size, count = 12 * MB, 16

    async def service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for n in range(size // (64 * KB)):
            writer.write(bytes([n % 251]) * (64 * KB))
            await writer.drain()

    def held(world: World) -> int:
        return int(world.server_fast_path.counters()["held"])

    async def tell(world: World) -> None:
        await world.serve("film", service)
        streams: list[Streams] = []
        try:
            await stream(world, streams, count)
            await until(lambda: held(world) > MB, 20)
            seen = []
            for _ in range(20):
                await asyncio.sleep(0.05)
                seen.append(held(world))
            print(f"held: {max(seen) / MB:.1f} MB")
            assert max(seen) < MB + count * 256 * KB
            for _, writer in streams:
                writer.transport.resume_reading()  # type: ignore[attr-defined]

            async def whole(reader: asyncio.StreamReader) -> None:
                await read_head(reader)
                for n in range(size // (64 * KB)):
                    assert await reader.readexactly(64 * KB) == bytes([n % 251]) * (64 * KB)

            await asyncio.gather(*(whole(reader) for reader, _ in streams))
        finally:
            for _, writer in streams:
                writer.transport.abort()
        await until(lambda: held(world) == 0 and not world.client_fast_path.counters()["connections"])

    scenario(tell, fast=True, server=ProxyLimits(memory=MB, concurrent=64))


@both_ways
def test_a_client_that_pipelines_much_waits_for_its_turn(fast: bool) -> None:
    """More than a head's worth of requests behind the one at hand: the rest stays in the socket, and the client is not taken for gone."""
    count = 400

    async def tell(world: World) -> None:
        await world.serve("shop", echo_path)
        wire = b"".join(
            get(f"/t1/n1/shop/{n}", "X: " + "y" * 400, close=n == count - 1, method="OPTIONS") for n in range(count)
        )
        async with world.client() as (reader, writer):
            writer.write(wire)
            for n in range(count):
                assert b" 200 " in await read_head(reader)
                assert await reader.readexactly(len(f"/{n}")) == f"/{n}".encode()

    scenario(tell, fast=fast)
