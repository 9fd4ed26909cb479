"""The fast path's parser and rewriting in C against what the slow path does with the same bytes; what only the fast path has."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import stat
from collections.abc import AsyncIterator

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kubeedge._fastpath.plane import read_chunks, rewrite_answer, rewrite_request

from kubeedge.kit.headers import HeaderList
from kubeedge.kit.http1 import Request
from kubeedge.kit.streams import close_writer
from kubeedge.kubebus.http import headers as h
from kubeedge.kubebus.http.access import Policy
from kubeedge.kubebus.http.forward import has_body
from kubeedge.kubebus.http.limits import ProxyLimits
from kubeedge.kubebus.http.url import parse, parse_l4
from tests.unit.kubebus_http.world import Streams, World, get, read_head, scenario, until

PREFIX, HOST = "/t1/n1/shop", "shop.example:8080"

names = st.sampled_from(
    "Accept Cookie X-Own Connection TE Keep-Alive Proxy Upgrade X-Forwarded-For Forwarded Referer Content-Type Via "
    "Authorization x-real-ip Trailer Transfer-Encoding Content-Length Expect X-Forwarded-Prefix".split()
)
values = st.one_of(
    st.sampled_from(["close", "keep-alive", "x-own", "upgrade", "chunked", "0", "5", "a, b", "", "text/html; q=0.5"]),
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20),
)


def fields(head: bytes) -> list[tuple[str, str]]:
    lines = head.decode("latin-1").split("\r\n")[1:-2]
    return [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]


def understood(wire: bytes) -> Request | None:
    """As the slow path reads it; None: it refuses."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(wire)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError:
        return None
    if not isinstance(event, h11.Request):
        return None
    pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers]
    return Request(event.method.decode(), event.target.decode("latin-1"), pairs, lambda _: None, None)  # type: ignore[arg-type]


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(["GET", "HEAD", "POST", "get"]),
    st.sampled_from(["", "/", "/a/b?c=d", "?q", "/%2e%2e/", "//x", "/a b"]),
    st.lists(st.tuples(names, values), max_size=6),
    st.sampled_from(["HTTP/1.1", "HTTP/1.0"]),
)
def test_a_plain_request_goes_on_as_the_slow_path_sends_it(
    method: str, rest: str, extra: list[tuple[str, str]], version: str
) -> None:
    lines = [f"{method} {PREFIX}{rest} {version}", f"Host: {HOST}", *(f"{n}: {v}" for n, v in extra)]
    wire = "\r\n".join((*lines, "", "")).encode()
    size, plain, sent = rewrite_request(wire + b"next", "9.9.9.9")
    if not plain:
        return
    assert size == len(wire)
    request = understood(wire)
    assert request is not None and not has_body(request), "the slow path would have refused it, or read a body"
    url = parse(request.target)
    assert sent.split(b"\r\n")[0].decode() == f"{method} {url.l4_target} HTTP/1.1"
    wanted = h.forwarded(
        h.request_headers(request.headers, has_body=False),
        client="9.9.9.9",
        proto="http",
        prefix=url.prefix,
        trusted=False,
    )
    # a length of nothing may be said again: it changes nothing
    assert [f for f in fields(sent) if f[0] != "content-length"] == [f for f in wanted if f[0] != "content-length"]

    size, plain, again = rewrite_request(sent)
    assert plain and size == len(sent)
    service, path = parse_l4(url.l4_target)
    assert again.split(b"\r\n")[0].decode() == f"{method} {path} HTTP/1.1" and service == "shop"
    assert fields(again) == [f for f in fields(sent) if f[0] not in ("connection",)]


@settings(max_examples=400, deadline=None)
@given(
    st.integers(100, 599),
    st.lists(
        st.one_of(
            st.tuples(names, values),
            st.tuples(
                st.sampled_from(["Location", "Content-Location"]),
                st.sampled_from(
                    [
                        "/",
                        "/a?b",
                        "//other/x",
                        "x/y",
                        "",
                        f"http://{HOST}",
                        f"http://{HOST.upper()}/x",
                        f"https://{HOST}{PREFIX}/x",
                        f"{PREFIX}",
                        f"{PREFIX}x",
                        f"{PREFIX}/y",
                        f"http://{HOST}x/",
                        "mailto:a@b",
                    ]  # fmt: skip
                ),
            ),
            st.tuples(
                st.just("Set-Cookie"),
                st.sampled_from(
                    [
                        "a=b",
                        "a=b; Path=/",
                        "a=b;path=/x; Secure",
                        "a=b; PATH = /; path=/z",
                        f"a=b; Path={PREFIX}/q",
                        "a=b; Path=",
                        "a; Pathx=/",
                    ]
                ),
            ),
        ),
        max_size=6,
    ),
)
def test_an_answer_comes_back_as_the_slow_path_sends_it(status: int, extra: list[tuple[str, str]]) -> None:
    wire = "\r\n".join((f"HTTP/1.1 {status} Some reason", *(f"{n}: {v}" for n, v in extra), "", "")).encode()
    size, seen, _, chunked, sent = rewrite_answer(wire, PREFIX.encode(), HOST.encode())
    if size <= 0:
        return
    assert (size, seen) == (len(wire), status)
    pairs = [(name.lower(), value.strip()) for name, value in extra]
    wanted = h.response_headers(h.end_to_end(pairs), prefix=PREFIX, host=HOST)
    assert fields(sent) == _lengths_once(wanted)
    assert chunked == any(name == "transfer-encoding" for name, _ in pairs)


def _lengths_once(pairs: HeaderList) -> HeaderList:
    kept: HeaderList = []
    for name, value in pairs:
        if name != "content-length" or not any(n == name for n, _ in kept):
            kept.append((name, value))
    return kept


@pytest.mark.parametrize(
    "wire",
    [
        b"GET /t/n/s HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
        b"GET /t/n/s HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
        b"GET /t/n/s HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET /t/n/s HTTP/1.1\r\nHost: a\rb\r\n\r\n",
        b"GET /t/n/s HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        b"GET /t/n/s HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n",
        b"GET /t/n/s HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 7\r\n\r\n",
        b"GET /t/n/s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /t/n/s HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"GET /t/n/s HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
        b"GET /t/n/s  HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /t/n/s HTTP/1.1 \r\nHost: a\r\n\r\n",
        b"GET /t/n/s HTTP/2.0\r\nHost: a\r\n\r\n",
        b"GET http://a/t/n/s HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /T/n/s HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /t/-n/s HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /t//s HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /t/n/s HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
        b"GET /t/n/s HTTP/1.1\r\n: a\r\n\r\n",
        b"GET /t/n/s HTTP/1.1\r\n" + b"A: b\r\n" * 97 + b"\r\n",
        b"GET /t/n/s HTTP/1.1\r\nHost: " + b"a" * 20_000 + b"\r\n\r\n",
        b"\r\n\r\n",
        b"DELETE /t/n/s HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_what_is_not_plain_is_for_the_slow_path(wire: bytes) -> None:
    assert rewrite_request(wire, "1.1.1.1")[1] is False


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.binary(min_size=1, max_size=300), max_size=8), st.lists(st.integers(1, 50), max_size=40), st.booleans()
)
def test_chunks_are_read_wherever_the_network_cuts_them(chunks: list[bytes], cuts: list[int], trailers: bool) -> None:
    wire = (
        b"".join(b"%x;ext=1\r\n%b\r\n" % (len(c), c) for c in chunks)
        + b"0\r\n"
        + (b"T: 1\r\n" if trailers else b"")
        + b"\r\n"
    )
    parts, rest = [], wire + b"HTTP/1.1 200 OK"
    for cut in cuts:
        parts.append(rest[:cut])
        rest = rest[cut:]
    assert read_chunks([p for p in (*parts, rest) if p]) == (b"".join(chunks), b"HTTP/1.1 200 OK")
    assert read_chunks([wire[:-1]]) is None


@pytest.mark.parametrize(
    "wire", [b"\r\n", b"g\r\n", b"-1\r\n", b"1\n", b"1\r\nabc", b"1" * 16 + b"\r\n", b"0\r\n\n", b"1;" + b"x" * 20_000]
)
def test_broken_chunks_are_refused(wire: bytes) -> None:
    with pytest.raises(ValueError):
        read_chunks([wire])


# -- the way through both proxies -------------------------------------------------------------------------------------------------------


async def echo_path(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        body = head.split(b" ")[1]
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


def test_pipelined_requests_are_answered_in_order_over_connections_that_are_used_again() -> None:
    async def tell(world: World) -> None:
        await world.serve("shop", echo_path)
        async with world.client() as (reader, writer):
            for n in range(50):
                writer.write(get(f"/t1/n1/shop/{n}", close=False))
            for n in range(50):
                head = await read_head(reader)
                assert (await reader.readexactly(len(f"/{n}"))).decode() == f"/{n}" and b" 200 " in head
        assert world.client_fast_path.counters()["requests"] == world.server_fast_path.counters()["requests"] == 50
        assert world.client_fast_path.counters()["reused"] >= 49 <= world.server_fast_path.counters()["reused"]
        assert world.client_fast_path.counters()["handed_over"] == 0
        await until(lambda: world.client_fast_path.counters()["connections"] == 0)

    scenario(tell, fast=True)


def another_process_has(client: Streams) -> socket.socket:
    """As a child has it that is being started, until it execs: a duplicate of the proxy's end of a connection to it."""
    name = client[1].get_extra_info("sockname")
    for entry in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):  # it is closed by now, no socket, or not connected
            if stat.S_ISSOCK(os.fstat(entry).st_mode):
                with socket.socket(fileno=os.dup(entry)) as duplicate:
                    if duplicate.family == socket.AF_INET and duplicate.getpeername() == name:
                        return duplicate.dup()
    raise AssertionError(f"nobody has a connection to {name}")


def test_nothing_looks_at_a_connection_that_was_closed_while_a_child_had_it_too() -> None:
    async def tell(world: World) -> None:
        await world.serve("shop", echo_path)
        for _ in range(8):
            async with world.client() as (reader, writer):
                writer.write(get("/t1/n1/shop/first", close=False))
                assert b" 200 " in await read_head(reader)
                assert await reader.readexactly(6) == b"/first"
                with another_process_has((reader, writer)):
                    writer.write(get("/t1/n1/shop/last"))
                    assert b" 200 " in await read_head(reader)
                    await until(lambda: world.client_fast_path.counters()["connections"] == 0)
                    for _ in range(3):  # epoll would tell of it
                        writer.write(b"more")
                        assert b" 200 " in await world.ask(get("/t1/n1/shop/other"))

    scenario(tell, fast=True)


def test_a_service_that_closed_its_idle_connection_costs_a_request_nothing() -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")  # and closes, though it did not say so

    async def tell(world: World) -> None:
        await world.serve("shop", once)
        for _ in range(30):
            assert (await world.ask(get("/t1/n1/shop/"))).endswith(b"ok")

    scenario(tell, fast=True)


def test_what_has_changed_is_asked_for_again_and_a_connection_stays_on_the_fast_path() -> None:
    async def tell(world: World) -> None:
        await world.serve("shop", echo_path)
        async with world.client() as (reader, writer):
            for n in range(6):
                if n == 3:
                    await world.serve("shop", echo_path)  # somewhere else now
                world.server_fast_path.forget()
                world.client_fast_path.forget()
                writer.write(get(f"/t1/n1/shop/{n}", close=False))
                await read_head(reader)
                assert await reader.readexactly(2) == b"/%d" % n
        assert world.client_fast_path.counters()["requests"] == world.server_fast_path.counters()["requests"] == 6
        assert world.client_fast_path.counters()["handed_over"] == world.server_fast_path.counters()["handed_over"] == 0
        world.policies["shop"] = Policy("tenant", ())
        world.server_fast_path.forget()
        assert b" 200 " in await world.ask(get("/t1/n1/shop/x"))  # we are a node of the tenant
        assert world.server_fast_path.counters()["handed_over"] == 1

    scenario(tell, fast=True)


def test_a_tenant_that_asks_too_fast_is_told_to_wait_whichever_way_it_asks() -> None:
    async def tell(world: World) -> None:
        await world.serve("shop", echo_path)
        answers = [await world.ask(get("/t1/n1/shop/", method=m)) for m in ("GET", "OPTIONS") * 4]
        told = [int(a.split(b" ")[1]) for a in answers]
        assert told[:3] == [200] * 3 and told[3:] == [429] * 5
        for answer in answers[3:]:
            head, _, body = answer.partition(b"\r\n\r\n")
            assert b"retry-after: 1" in head.lower()
            assert json.loads(body)["error"] == "tenant t1 has sent more than 0.01 requests a second; try again later"
        assert (await world.ask(get("/t2/n1/shop/"))).split(b" ")[1] == b"404"  # others are not concerned

    scenario(tell, fast=True, client=ProxyLimits(rate=0.01, burst=3))
    scenario(tell, fast=False, client=ProxyLimits(rate=0.01, burst=3))


async def tried(world: World, service: str = "shop") -> bytes:
    try:
        return await world.ask(get(f"/t1/n1/{service}/"))
    except ConnectionResetError:
        return b""


def test_one_address_may_not_take_all_connections() -> None:
    async def tell(world: World) -> None:
        await world.serve("shop", echo_path)
        async with world.client() as one, world.client() as two:
            for reader, writer in (one, two):
                writer.write(get("/t1/n1/shop/", close=False))
                await read_head(reader)
            answer = await tried(world)
            assert not answer if world.fast else b" 429 " in answer
        assert b" 200 " in await asyncio.wait_for(_until_answered(world), 60)

    async def _until_answered(world: World) -> bytes:
        while b" 200 " not in (answer := await tried(world)):
            pass
        return answer

    scenario(tell, fast=True, client=ProxyLimits(per_client=2))
    scenario(tell, fast=False, client=ProxyLimits(per_client=2))


@contextlib.asynccontextmanager
async def asking(world: World, source: str, path: str) -> AsyncIterator[Streams]:
    """A connection from that address, with a request on it."""
    streams = await asyncio.open_connection("127.0.0.1", world.port, limit=65536, local_addr=(source, 0))
    try:
        streams[1].write(get(path, close=False))
        yield streams
    finally:
        streams[1].transport.abort()
        await close_writer(streams[1])


MOST = 64  # connections of a World


@pytest.mark.parametrize("fast", [False, True], ids=["slow", "fast"])
def test_an_idle_connection_of_the_greediest_address_gives_way(fast: bool) -> None:
    """Four addresses with 256 idle connections each held all 1,024, and nobody else came in."""

    async def tell(world: World) -> None:
        await world.serve("shop", echo_path)
        async with contextlib.AsyncExitStack() as stack:
            held = []
            for n in range(MOST):
                source = "127.0.0.2" if n % 4 else "127.0.0.3"
                reader, writer = await stack.enter_async_context(asking(world, source, "/t1/n1/shop/"))
                head = await read_head(reader)
                length = int(re.findall(rb"(?i)content-length: (\d+)", head)[0])
                await reader.readexactly(length)
                held.append((source, reader, writer))
            for _ in range(3):
                assert b" 200 " in await world.ask(get("/t1/n1/shop/"))
            await until(lambda: any(reader.at_eof() for _, reader, _ in held))
            ended = {source for source, reader, _ in held if reader.at_eof()}
            assert ended == {"127.0.0.2"}, "who has the most gives way"
            for source, reader, writer in held:
                if source == "127.0.0.3":
                    writer.write(get("/t1/n1/shop/", close=False))
                    assert b" 200 " in await read_head(reader)

    scenario(tell, fast=fast, client=ProxyLimits(connections=MOST))


@pytest.mark.parametrize("fast", [False, True], ids=["slow", "fast"])
def test_a_request_in_progress_gives_way_to_nobody(fast: bool) -> None:
    async def tell(world: World) -> None:
        came = []
        over = asyncio.Event()

        async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_head(reader)
            came.append(None)
            await over.wait()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

        await world.serve("slow", slow)
        async with contextlib.AsyncExitStack() as stack:
            held = [await stack.enter_async_context(asking(world, "127.0.0.2", "/t1/n1/slow/")) for _ in range(MOST)]
            await until(lambda: len(came) == MOST)
            answer = await tried(world, "slow")
            assert not answer if fast else b" 503 " in answer
            over.set()
            for reader, _ in held:
                assert b" 200 " in await read_head(reader)

    scenario(tell, fast=fast, client=ProxyLimits(connections=MOST))


@pytest.mark.parametrize("fast", [False, True], ids=["slow", "fast"])
def test_a_page_with_paths_from_the_root_is_led_back_below_its_prefix(fast: bool) -> None:
    async def tell(world: World) -> None:
        await world.serve("shop", echo_path)
        page = f"Referer: http://{HOST}/t1/n1/shop/index.html"

        async def led(path: str, *headers: str, method: str = "GET") -> tuple[int, str]:
            head = (await world.ask(get(path, *headers, method=method))).partition(b"\r\n\r\n")[0].decode()
            location = [line[10:] for line in head.split("\r\n") if line.lower().startswith("location: ")]
            return int(head.split()[1]), location[0] if location else ""

        assert await led("/static/app.js?v=1", page) == (307, "/t1/n1/shop/static/app.js?v=1")
        assert await led("/a/b/c", page) == (307, "/t1/n1/shop/a/b/c")  # looks like a service, and is none
        assert await led("/", page) == (307, "/t1/n1/shop/")
        assert await led("/static/app.js") == (404, "")
        assert await led("/static/app.js", "Referer: http://elsewhere.example/t1/n1/shop/") == (404, "")
        assert await led("/static/app.js", f"Referer: http://{HOST}/static/style.css") == (404, "")
        assert await led("/static/app.js", page, "Content-Length: 0", method="POST") == (404, "")
        assert await led("//evil.example/x", page) == (404, "")
        assert await led("/static/app.js", "Referer: http://[::1") == (404, "")

    scenario(tell, fast=fast)


def test_an_upstream_without_an_answer_is_left_to_the_slow_path_after_a_moment() -> None:
    async def tell(world: World) -> None:
        await world.serve("shop", echo_path)
        asyncio.get_running_loop().remove_reader(world.server_fast_path.fileno())
        began = asyncio.get_running_loop().time()
        answers = await asyncio.gather(*(world.ask(get(f"/t1/n1/shop/{n}")) for n in range(5)))
        assert [a[-2:] for a in answers] == [b"/%d" % n for n in range(5)]
        assert asyncio.get_running_loop().time() - began > 1.5 and world.server_fast_path.lookups() == ["shop"]
        asyncio.get_running_loop().add_reader(world.server_fast_path.fileno(), lambda: None)

    scenario(tell, fast=True)


def test_requests_for_nodes_that_do_not_exist_are_bounded() -> None:
    async def tell(world: World) -> None:
        async with asyncio.TaskGroup() as tasks:
            for n in range(40):
                tasks.create_task(world.ask(get(f"/t1/x{n}/shop/")))
        assert world.client_fast_path.counters()["handed_over"] == 40
        assert set(world.client_fast_path.accounts()) <= {"t1"}

    scenario(tell, fast=True)
