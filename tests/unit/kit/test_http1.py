"""HTTP/1.1 over streams: our server and client against each other and against raw bytes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from kubeedge.kit.http1 import (
    BodyTooLarge,
    ClientGone,
    Connection,
    Limits,
    Request,
    RequestHandler,
    Response,
    Upgrade,
    json_response,
    start_unix_server,
    text_response,
)
from tests.kit.http_server import start_tcp_server


async def echo(request: Request) -> Response:
    body = await request.read(1 << 20)
    return text_response(200, f"{request.method} {request.path} {len(body)}")


def serving(handler: RequestHandler, scenario: Callable[[int], Awaitable[None]], limits: Limits | None = None) -> None:
    async def run() -> None:
        server = await start_tcp_server("127.0.0.1", 0, handler, limits=limits)
        try:
            await scenario(server.sockets[0].getsockname()[1])
        finally:
            server.close()
            await server.wait_closed()
            pending = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
            await asyncio.wait_for(asyncio.gather(*pending, return_exceptions=True), 60)

    asyncio.run(run())


async def exchange(port: int, *pieces: bytes, end: bool = True) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(ConnectionError):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if end:
            writer.write_eof()
    try:
        return await asyncio.wait_for(reader.read(), 60)
    except ConnectionError:
        return b""
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def test_a_client_and_a_server_agree_over_several_requests_on_one_connection() -> None:
    async def scenario(port: int) -> None:
        client = Connection(*await asyncio.open_connection("127.0.0.1", port))
        for n in (0, 1, 70_000):
            answer = await client.request("POST", f"/a%20b?x={n}", body=b"x" * n)
            assert (answer.status, await answer.read(100)) == (200, f"POST /a b {n}".encode())
            assert client.reusable
        await client.close()

    serving(echo, scenario)


def test_requests_may_be_cut_anywhere_and_pipelined() -> None:
    wire = b"POST /1 HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabcGET /2 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"

    async def scenario(port: int) -> None:
        whole = await exchange(port, wire)
        assert b"POST /1 3" in whole and b"GET /2 0" in whole
        assert await exchange(port, *(wire[i : i + 1] for i in range(len(wire)))) == whole

    serving(echo, scenario)


@pytest.mark.parametrize(
    ("wire", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nhost: x\r\na: " + b"b" * 38_000 + b"\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabc", b"400"),
        (b"GET /" + b"a" * 50_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 10_000 + b"\r\n", b"431"),
        (b"GET /%ff HTTP/1.1\r\nhost: x\r\n\r\n", b"400"),
        (b"GET /%00 HTTP/1.1\r\nhost: x\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2000000\r\n\r\n" + b"x" * 2_000_000, b"413"),
    ],
    ids=[
        "garbage",
        "two lengths",
        "headers that come in one piece",
        "two different lengths",
        "long line",
        "many headers",
        "not UTF-8",
        "zero byte",
        "too large",
    ],
)
def test_what_breaks_the_rules_is_refused(wire: bytes, status: bytes) -> None:
    async def scenario(port: int) -> None:
        answer = await exchange(port, wire)
        assert status in answer.partition(b"\r\n")[0]

    serving(echo, scenario)


def test_a_streamed_body_goes_out_chunk_by_chunk_and_ends_when_the_client_leaves() -> None:
    closed = asyncio.Event()

    async def ticks() -> AsyncIterator[bytes]:
        try:
            yield b"one"
            await asyncio.get_running_loop().create_future()
            yield b"never"
        finally:
            closed.set()

    async def handler(request: Request) -> Response:
        return Response(200, [], ticks())

    async def scenario(port: int) -> None:
        client = Connection(*await asyncio.open_connection("127.0.0.1", port))
        answer = await client.request("GET", "/")
        assert await anext(answer.stream()) == b"one"
        client.writer.transport.abort()
        await asyncio.wait_for(closed.wait(), 60)
        await client.close()

    serving(handler, scenario)


def test_a_large_body_streams_with_bounded_memory() -> None:
    biggest = 0

    async def handler(request: Request) -> Response:
        nonlocal biggest
        total = 0
        async for chunk in request.stream():
            biggest, total = max(biggest, len(chunk)), total + len(chunk)
        return text_response(200, str(total))

    async def body() -> AsyncIterator[bytes]:
        for _ in range(512):
            yield bytes(64 * 1024)

    async def scenario(port: int) -> None:
        client = Connection(*await asyncio.open_connection("127.0.0.1", port))
        answer = await client.request("PUT", "/", body=body())
        assert await answer.read(100) == str(512 * 64 * 1024).encode()
        await client.close()

    serving(handler, scenario)
    assert biggest <= 256 * 1024


async def failing_body() -> AsyncIterator[bytes]:
    yield b"half of it"
    raise RuntimeError("the secret of the house")


@pytest.mark.parametrize(
    "answer",
    [
        lambda: Response(200, [], failing_body()),
        lambda: Response(200, [("content-length", "99")], failing_body()),
        lambda: Response(200, [("content-length", "3")], failing_body()),
        lambda: Response(200, [("bad", "two\r\nlines")], b""),
        lambda: Response(200, [("bad", "\u20ac")], b""),
    ],
    ids=["chunked", "too short", "too long", "line break in a header", "header not latin-1"],
)
def test_a_response_that_breaks_in_the_middle_is_never_taken_for_a_whole_one(
    answer: Callable[[], Response], caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Request) -> Response:
        return answer()

    async def scenario(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            while await asyncio.wait_for(reader.read(100), 60):
                pass
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        assert "response" in caplog.text

    serving(handler, scenario)


def test_a_handler_may_ask_whether_anybody_still_waits() -> None:
    heard = asyncio.Event()

    async def handler(request: Request) -> Response:
        await request.read(10)
        await request.gone()
        heard.set()
        raise ClientGone

    async def scenario(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhiGET /pipelined")
        await asyncio.sleep(0.05)
        assert not heard.is_set()
        writer.close()
        await asyncio.wait_for(heard.wait(), 60)
        await writer.wait_closed()

    serving(handler, scenario)


@pytest.mark.parametrize("error", [OSError(2, "no such file"), ConnectionRefusedError(), TimeoutError(), KeyError("x")])
def test_a_failure_of_the_handlers_own_files_and_sockets_is_a_500(error: Exception) -> None:
    async def handler(request: Request) -> Response:
        raise error

    async def scenario(port: int) -> None:
        assert (await exchange(port, b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).startswith(
            b"HTTP/1.1 500"
        )

    serving(handler, scenario)


def test_a_body_that_breaks_the_rules_is_a_400() -> None:
    async def scenario(port: int) -> None:
        wire = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"
        assert (await exchange(port, wire, end=False)).startswith(b"HTTP/1.1 400")

    serving(echo, scenario)


def test_a_request_whose_body_fails_does_not_wait_for_an_answer() -> None:
    async def scenario(port: int) -> None:
        client = Connection(*await asyncio.open_connection("127.0.0.1", port))
        with pytest.raises(RuntimeError, match="secret"):
            await asyncio.wait_for(client.request("POST", "/", body=failing_body()), 60)
        assert not client.reusable
        await client.close()

    serving(echo, scenario)


def test_a_client_does_not_reuse_a_connection_that_says_more_than_it_was_asked() -> None:
    async def run() -> None:
        async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged"
            )
            await reader.read()
            writer.close()

        async with await asyncio.start_server(rude, "127.0.0.1", 0) as server:
            client = Connection(*await asyncio.open_connection(*server.sockets[0].getsockname()))
            answer = await client.request("GET", "/")
            assert await answer.read(100) == b"ok"
            assert not client.reusable
            await client.close()

    asyncio.run(run())


def test_a_handler_that_fails_says_nothing_of_why(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: Request) -> Response:
        raise RuntimeError("the secret of the house")

    async def scenario(port: int) -> None:
        answer = await exchange(port, b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert b"500" in answer and b"secret" not in answer
        assert "the secret of the house" in caplog.text

    serving(handler, scenario)


def test_an_idle_connection_is_closed() -> None:
    async def scenario(port: int) -> None:
        assert await exchange(port, end=False) == b""
        assert await exchange(port, b"GET / HT", end=False) == b""

    serving(echo, scenario, Limits(idle=0.05, head=0.05))


def test_an_upgrade_hands_over_the_connection_with_what_came_already() -> None:
    async def takeover(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes) -> None:
        data = first + await reader.readexactly(6 - len(first))
        writer.write(data.upper())
        await writer.drain()

    async def handler(request: Request) -> Response | Upgrade:
        return Upgrade([("upgrade", "shout"), ("connection", "upgrade")], takeover)

    async def scenario(port: int) -> None:
        answer = await exchange(
            port, b"GET / HTTP/1.1\r\nhost: x\r\nupgrade: shout\r\nconnection: upgrade\r\n\r\nabc", b"def"
        )
        assert answer.startswith(b"HTTP/1.1 101") and answer.endswith(b"ABCDEF")

    serving(handler, scenario)


def test_expect_100_continue_is_answered_before_the_body_is_sent() -> None:
    async def scenario(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\nconnection: close\r\n\r\n"
        )
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)).startswith(b"HTTP/1.1 100")
        writer.write(b"hi")
        assert b"POST / 2" in await asyncio.wait_for(reader.read(), 60)
        writer.close()
        await writer.wait_closed()

    serving(echo, scenario)


def test_a_client_refuses_an_endless_answer() -> None:
    async def handler(request: Request) -> Response:
        async def forever() -> AsyncIterator[bytes]:
            while True:
                yield bytes(65536)

        return Response(200, [], forever())

    async def scenario(port: int) -> None:
        client = Connection(*await asyncio.open_connection("127.0.0.1", port))
        answer = await client.request("GET", "/")
        with pytest.raises(BodyTooLarge):
            await answer.read(1 << 20)
        client.writer.transport.abort()
        await client.close()

    serving(handler, scenario)


def test_json_response_is_compact() -> None:
    assert json_response(200, {"a": [1]}).body == b'{"a":[1]}'


def test_the_socket_of_a_server_has_its_mode_and_no_other_file_gets_it(tmp_path: Path) -> None:
    """Others write files while it starts: a umask that was set for the socket would be theirs too."""
    before = os.umask(0o022)
    written: list[int] = []

    async def write_files() -> None:
        for n in range(20):
            path = tmp_path / f"{len(written)}-{n}"
            path.write_bytes(b"")
            written.append(stat.S_IMODE(path.stat().st_mode))
            await asyncio.sleep(0)

    async def run() -> None:
        writing = asyncio.create_task(write_files())
        for n in range(10):
            server = await start_unix_server(tmp_path / f"s{n}", echo)
            assert stat.S_IMODE((tmp_path / f"s{n}").stat().st_mode) == 0o600
            server.close()
        await writing

    try:
        asyncio.run(run())
    finally:
        os.umask(before)
    assert set(written) == {0o644}, written


def test_a_socket_that_cannot_be_bound_is_closed(tmp_path: Path) -> None:
    async def run() -> None:
        with pytest.raises(OSError):
            await start_unix_server(tmp_path / ("x" * 120), echo)

    asyncio.run(run())
