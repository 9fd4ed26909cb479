"""Heads of requests that two HTTP readers could understand in two ways are refused, whole or in single bytes."""

from __future__ import annotations

import asyncio

import pytest

from kubeedge.kit.http1 import Limits, Request, Response, serve_connection, text_response

HEADERS = 8

REFUSED = {
    "bare LF everywhere": (400, b"GET / HTTP/1.1\nHost: a\n\n"),
    "bare LF between two headers": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\nY: b\r\n\r\n"),
    "bare LF that hides a coding": (
        400,
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "bare CR": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n"),
    "folded with a space": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n"),
    "folded with a tab": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n\tb\r\n\r\n"),
    "two hosts": (400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    "no host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "space before the colon": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX : a\r\n\r\n"),
    "two lengths": (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
    "a signed length": (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc"),
    "length and coding": (
        400,
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "a coding in HTTP/1.0": (400, b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "an unknown coding": (501, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "too many headers": (431, b"GET / HTTP/1.1\r\nHost: a\r\n" + b"x: y\r\n" * HEADERS + b"\r\n"),
}


async def conversation(pieces: list[bytes]) -> tuple[list[str], bytes]:
    """The targets that a handler saw, and all that was answered."""
    seen: list[str] = []

    async def handle(request: Request) -> Response:
        seen.append(request.target)
        return text_response(200, (await request.read(1000)).decode("latin-1"))

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serve_connection(reader, writer, handle, limits=Limits(headers=HEADERS))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0)
        writer.write_eof()
        answer = await asyncio.wait_for(reader.read(), 60)
        writer.close()
        await writer.wait_closed()
    return seen, answer


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_an_ambiguous_head_is_refused_and_nothing_behind_it_is_served(name, size):
    status, head = REFUSED[name]
    data = head + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    seen, answer = asyncio.run(conversation(pieces))
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert (seen, answer.count(b"HTTP/1.1 ")) == ([], 1)


def test_a_strict_head_behind_a_body_with_bare_lines_is_served():
    first = b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\na\n b\n\n"
    second = b"GET /2 HTTP/1.1\r\nHost: a\r\n" + b"x: y\r\n" * (HEADERS - 1) + b"\r\n"
    seen, answer = asyncio.run(conversation([first + second]))
    assert (seen, answer.count(b"HTTP/1.1 200")) == (["/1", "/2"], 2)


def test_an_ambiguous_head_that_is_pipelined_behind_a_good_one_is_refused():
    good = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"
    seen, answer = asyncio.run(conversation([good + b"GET /2 HTTP/1.1\r\nHost: a\r\nX: a\nY: b\r\n\r\n"]))
    assert seen == ["/1"]
    assert (answer.count(b"HTTP/1.1 200"), answer.count(b"HTTP/1.1 400")) == (1, 1)
