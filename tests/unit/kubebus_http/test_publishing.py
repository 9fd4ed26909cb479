"""Requests from a plain web client, through both proxies, to services on TCP; socket pairs stand for L4."""

from __future__ import annotations

import asyncio
import hashlib
import json
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kubeedge.errors import LinkNotUp, Unavailable
from kubeedge.kit.http1 import Connection, Limits, Request, Response, close_writer, serve_connection, text_response
from kubeedge.kubebus.http.limits import ProxyLimits
from kubeedge.kubebus.http.url import Target
from tests.unit.kubebus_http.world import World, get, read_head, scenario, until

MB = 1024 * 1024


async def mirror(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers with what it was asked."""

    async def handler(request: Request) -> Response:
        body = await request.read(MB)
        seen = {"method": request.method, "target": request.target, "body": body.decode("latin-1")}
        return text_response(200, json.dumps(seen | {"headers": dict(request.headers)}))

    await serve_connection(reader, writer, handler)


@pytest.fixture(params=[False, True], ids=["slow", "fast"])
def fast(request: pytest.FixtureRequest) -> bool:
    way: bool = request.param
    return way


async def head_then_quiet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    await reader.read()


def status_and_error(answer: bytes) -> tuple[int, dict[str, str]]:
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def test_a_service_sees_its_own_paths_and_who_asks(fast: bool) -> None:
    async def tell(world: World) -> None:
        await world.serve("shop", mirror)
        answer = await world.ask(get("/t1/n1/shop/a%2Fb/?q=%20", "X-Forwarded-For: 1.1.1.1", "X-Own: yes"))
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK")
        seen = json.loads(body)
        assert (seen["method"], seen["target"]) == ("GET", "/a%2Fb/?q=%20")
        assert (seen["headers"].pop("connection", "") == "close") is not fast  # the fast way uses it again
        assert seen["headers"] == {
            "host": "shop.example:8080",
            "x-own": "yes",
            "x-forwarded-for": "127.0.0.1",
            "x-forwarded-host": "shop.example:8080",
            "x-forwarded-proto": "http",
            "x-forwarded-prefix": "/t1/n1/shop",
            "via": "1.1 kubeedge",
        }

    scenario(tell, fast=fast)


def test_redirects_and_cookies_of_a_service_come_back_below_its_prefix(fast: bool) -> None:
    async def service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 302 Found\r\nLocation: /login\r\nSet-Cookie: a=1; Path=/\r\nSet-Cookie: b=2; Path=/x\r\n"
            b"Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nContent-Length: 0\r\n\r\n"
        )

    async def tell(world: World) -> None:
        await world.serve("shop", service)
        head = (await world.ask(get("/t1/n1/shop/"))).decode().lower()
        assert "location: /t1/n1/shop/login\r\n" in head
        assert "set-cookie: a=1; path=/t1/n1/shop\r\n" in head and "set-cookie: b=2; path=/t1/n1/shop/x\r\n" in head
        assert "x-hop" not in head

    scenario(tell, fast=fast)


def test_a_hundred_megabytes_go_both_ways_in_a_few(fast: bool) -> None:
    size = 100 * MB
    block = bytes(range(256)) * 256

    async def service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def handler(request: Request) -> Response:
            total, digest = 0, hashlib.sha1(usedforsecurity=False)
            async for chunk in request.stream():
                total += len(chunk)
                digest.update(chunk)
            if request.method == "PUT":
                return text_response(200, f"{total} {digest.hexdigest()}")
            return Response(200, [("content-length", str(size))], blocks())

        await serve_connection(reader, writer, handler)

    async def blocks():  # type: ignore[no-untyped-def]
        for _ in range(size // len(block)):
            yield block

    expected = hashlib.sha1(usedforsecurity=False)
    for _ in range(size // len(block)):
        expected.update(block)

    async def tell(world: World) -> None:
        await world.serve("files", service)
        async with world.client() as (reader, writer):
            client = Connection(reader, writer)
            for headers in ([("content-length", str(size))], []):
                answer = await client.request("PUT", "/t1/n1/files/x", headers, blocks())
                assert await answer.read(100) == f"{size} {expected.hexdigest()}".encode()
            answer = await client.request("GET", "/t1/n1/files/x")
            total, got = 0, hashlib.sha1(usedforsecurity=False)
            tracemalloc.start()
            async for chunk in answer.stream():
                total += len(chunk)
                got.update(chunk)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert (total, got.hexdigest(), answer.header("content-length")) == (size, expected.hexdigest(), str(size))
            assert peak < 4 * MB
            await client.close()

    scenario(tell, fast=fast)


def test_a_client_that_does_not_read_stops_the_service(fast: bool) -> None:
    sent = 0

    async def service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(bytes(65536))
            sent += 65536
            await writer.drain()

    async def tell(world: World) -> None:
        await world.serve("video", service)
        async with world.client() as (_, writer):
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(get("/t1/n1/video/"))
            before = -1
            while sent != before or not sent:  # until nothing has moved for a while
                before = sent
                await asyncio.sleep(0.3)
            assert 0 < sent < 48 * MB  # what the kernel's socket buffers took, and a little

    scenario(tell, fast=fast)


def test_an_event_arrives_before_the_answer_ends_and_the_service_hears_of_the_end(fast: bool) -> None:
    service_ended = asyncio.Event()

    async def service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(b"d\r\ndata: first\n\n\r\n")
        assert await reader.read() == b""  # the service's own view of a client that leaves
        service_ended.set()

    async def tell(world: World) -> None:
        await world.serve("events", service)
        async with world.client() as (reader, writer):
            writer.write(get("/t1/n1/events/"))
            await read_head(reader)
            assert b"data: first\n\n" in await asyncio.wait_for(reader.readuntil(b"\n\n"), 60)
            assert not service_ended.is_set()
        await asyncio.wait_for(service_ended.wait(), 60)

    scenario(tell, fast=fast)


def test_a_client_that_leaves_before_the_answer_frees_the_service(fast: bool) -> None:
    ended = asyncio.Event()

    async def service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_then_quiet(reader, writer)
        ended.set()

    async def tell(world: World) -> None:
        await world.serve("slow", service)
        async with world.client() as (_, writer):
            writer.write(get("/t1/n1/slow/"))
            await until(lambda: world.server_in_progress == 1)
        await asyncio.wait_for(ended.wait(), 60)

    scenario(tell, fast=fast)


def test_a_client_that_leaves_in_its_body_frees_the_service(fast: bool) -> None:
    got = asyncio.Queue[bytes]()

    async def service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        while data := await reader.read(100):
            await got.put(data)
        await got.put(b"")

    async def tell(world: World) -> None:
        await world.serve("slow", service)
        async with world.client() as (_, writer):
            writer.write(get("/t1/n1/slow/", "Content-Length: 1000", method="POST") + b"begin")
            assert await asyncio.wait_for(got.get(), 60) == b"begin"
        assert await asyncio.wait_for(got.get(), 60) == b""

    scenario(tell, fast=fast)


@pytest.mark.parametrize("first", [b"", b"early"])
def test_an_upgraded_connection_carries_bytes_both_ways(first: bytes, fast: bool) -> None:
    async def service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert b"connection: upgrade" in head and b"upgrade: websocket" in head and b"sec-websocket-key: k" in head
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-A: b\r\n\r\nhello"
        )
        while data := await reader.read(1000):
            writer.write(data.upper())
        writer.write(b"-bye")

    async def tell(world: World) -> None:
        await world.serve("chat", service)
        async with world.client() as (reader, writer):
            asked = get(
                "/t1/n1/chat/ws",
                "Connection: keep-alive, Upgrade",
                "Upgrade: websocket",
                "Sec-WebSocket-Key: k",
                close=False,
            )
            writer.write(asked + first)
            head = (await read_head(reader)).lower()
            assert head.startswith(b"http/1.1 101") and b"upgrade: websocket" in head and b"x-a: b" in head
            assert await reader.readexactly(5 + len(first)) == b"hello" + first.upper()
            big = b"x" * MB
            writer.write(big)
            assert await asyncio.wait_for(reader.readexactly(MB), 60) == big.upper()
            writer.write_eof()  # one direction ends; the other still has something to say
            assert await asyncio.wait_for(reader.read(), 60) == b"-bye"

    scenario(tell, fast=fast)


def test_a_service_may_decline_an_upgrade(fast: bool) -> None:
    async def tell(world: World) -> None:
        await world.serve("shop", mirror)
        async with world.client() as (reader, writer):
            for _ in range(2):
                writer.write(get("/t1/n1/shop/", "Connection: Upgrade", "Upgrade: websocket", close=False))
                head = await read_head(reader)
                assert head.startswith(b"HTTP/1.1 200")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                assert json.loads(await reader.readexactly(length))["headers"]["upgrade"] == "websocket"

    scenario(tell, fast=fast)


def test_requests_on_one_connection_are_answered_in_order_over_one_l4_connection(fast: bool) -> None:
    async def tell(world: World) -> None:
        await world.serve("shop", mirror)
        wire = b"".join(get(f"/t1/n1/shop/{i}", close=i == 9) for i in range(10))
        answer = await world.ask(wire)
        targets = [
            json.loads(part.split(b"\r\n\r\n")[1].split(b"HTTP/1.1")[0])["target"]
            for part in answer.split(b"HTTP/1.1 200")[1:]
        ]
        assert targets == [f"/{i}" for i in range(10)]
        assert world.l4_opened == (0 if fast else 1)

    scenario(tell, fast=fast)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(cuts=st.lists(st.integers(1, 60), max_size=30))
def test_the_network_may_cut_requests_anywhere(cuts: list[int], fast: bool) -> None:
    wire = (
        get("/t1/n1/shop/a", "Transfer-Encoding: chunked", method="POST", close=False)
        + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: t\r\n\r\n"
        + get("/t1/n1/shop/b")
    )

    async def tell(world: World) -> None:
        await world.serve("shop", mirror)
        async with world.client() as (reader, writer):
            rest = wire
            for cut in cuts:
                writer.write(rest[:cut])
                rest = rest[cut:]
                await asyncio.sleep(0)
            writer.write(rest)
            answer = await asyncio.wait_for(reader.read(), 60)
        assert answer.count(b"HTTP/1.1 200") == 2
        assert b'"target": "/a", "body": "abcde"' in answer and b'"target": "/b", "body": ""' in answer

    scenario(tell, fast=fast)


def test_head_and_empty_answers_leave_the_connection_usable(fast: bool) -> None:
    async def service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        if request.startswith(b"HEAD"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n")
        else:
            writer.write(b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n")

    async def tell(world: World) -> None:
        await world.serve("shop", service)
        wire = get("/t1/n1/shop/", close=False, method="HEAD") * 2 + get("/t1/n1/shop/")
        answer = (await world.ask(wire)).lower()
        assert answer.count(b"http/1.1 200") == 2 == answer.count(b"content-length: 12345")
        assert answer.count(b"http/1.1 304") == 1 and b"etag: x" in answer
        assert world.l4_opened == (0 if fast else 1)

    scenario(tell, fast=fast)


def test_an_old_client_and_an_old_service_are_understood(fast: bool) -> None:
    async def service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nuntil the end")

    async def tell(world: World) -> None:
        await world.serve("old", service)
        assert (await world.ask(b"GET /t1/n1/old/ HTTP/1.0\r\n\r\n")).endswith(b"\r\n\r\nuntil the end")
        assert (await world.ask(get("/t1/n1/old/"))).endswith(b"d\r\nuntil the end\r\n0\r\n\r\n")

    scenario(tell, fast=fast)


def test_an_early_answer_ends_a_long_request(fast: bool) -> None:
    async def service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nno!")
        await asyncio.get_running_loop().create_future()  # and never reads the body

    async def tell(world: World) -> None:
        await world.serve("small", service)
        async with world.client() as (reader, writer):
            writer.write(get("/t1/n1/small/", "Content-Length: 999999999", close=False, method="POST") + bytes(MB))
            head = await read_head(reader)
            assert head.startswith(b"HTTP/1.1 413") and await reader.readexactly(3) == b"no!"
            assert await asyncio.wait_for(reader.read(), 60) == b""  # the connection cannot go on

    scenario(tell, fast=fast)


def test_an_answer_that_breaks_off_is_not_taken_for_a_whole_one(fast: bool) -> None:
    async def service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = (
            b"Content-Length: 100"
            if b"/length" in await reader.readuntil(b"\r\n\r\n")
            else b"Transfer-Encoding: chunked"
        )
        writer.write(b"HTTP/1.1 200 OK\r\n" + length + b"\r\n\r\n5\r\nhello\r\n")

    async def broken(reader: asyncio.StreamReader) -> None:
        if b" 502 " in await read_head(reader):  # the break has overtaken the beginning of the answer
            return
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), 60)

    async def tell(world: World) -> None:
        await world.serve("flaky", service)
        for path in ("length", "chunked"):
            async with world.client() as (reader, writer):
                writer.write(get(f"/t1/n1/flaky/{path}"))
                await broken(reader)
        # an HTTP/1.0 client knows the end of an answer by the end of the connection: it must be a reset
        async with world.client() as (reader, writer):
            writer.write(b"GET /t1/n1/flaky/chunked HTTP/1.0\r\n\r\n")
            await broken(reader)

    scenario(tell, fast=fast)


@pytest.mark.parametrize(
    ("wire", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(600), 400),
        (b"GET /t1/n1/shop/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET /t1/n1/shop/ HTTP/1.1\r\n\r\n", 400),
        (get("/t1/n1/shop/", "Content-Length: 3", "Transfer-Encoding: chunked", method="POST") + b"0\r\n\r\n", 400),
        (get("/t1/n1/shop/", "Content-Length: 3", "Content-Length: 4", method="POST") + b"abcd", 400),
        (get("/t1/n1/shop/", "Content-Length: +3", method="POST") + b"abc", 400),
        (get("/t1/n1/shop/", "Transfer-Encoding : chunked", method="POST") + b"0\r\n\r\n", 400),
        (get("/t1/n1/shop/", "Transfer-Encoding: chunked", method="POST") + b"zz\r\n\r\n", 400),
        (get("/t1/n1/shop/", "Transfer-Encoding: chunked", method="POST") + b"f" * 30 + b"\r\n", 400),
        (get("/t1/n1/shop/", "Transfer-Encoding: gzip, chunked", method="POST"), 501),
        (get("/t1/n1/shop/", " folded: x"), 400),
        (get("/t1/n1/shop/", "X: " + "y" * 40_000), 431),
        (get("/t1/n1/shop/", "X: a\0b"), 400),
        (get("*", method="OPTIONS"), 404),
        (get("shop:80", method="CONNECT"), 405),
        (get("/favicon.ico"), 404),
        (get("/t1/n1/shop%2f../x/"), 404),
        (get("http://shop.example/t1/n1/shop/x"), 200),
    ],
)
def test_what_breaks_the_rules_never_reaches_a_service(wire: bytes, status: int, fast: bool) -> None:
    whole = 0

    async def service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal whole
        await mirror(reader, writer)
        whole += 1

    async def tell(world: World) -> None:
        await world.serve("shop", service)
        assert int((await world.ask(wire)).split(b" ")[1]) == status

    scenario(tell, fast=fast)


def test_a_smuggled_request_stays_a_body(fast: bool) -> None:
    inner = get("/t1/n1/secret/")

    async def tell(world: World) -> None:
        await world.serve("shop", mirror)
        answer = await world.ask(get("/t1/n1/shop/", f"Content-Length: {len(inner)}", method="POST") + inner)
        assert answer.count(b"HTTP/1.1 200") == 1
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["body"] == inner.decode()

    scenario(tell, fast=fast)


def test_who_is_to_blame_is_said_by_the_status(fast: bool) -> None:
    async def tell(world: World) -> None:
        await world.serve("slow", head_then_quiet)
        await world.serve("gone", mirror)
        world.services["closed"] = Target("127.0.0.1", 1)
        world.services["unready"] = Unavailable("web service unready has no ready pod")

        async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"SSH-2.0-nonsense\r\n\r\n")

        await world.serve("ssh", garbage)

        async def asked(path: str) -> tuple[int, str]:
            status, body = status_and_error(await world.ask(get(path)))
            return status, body["error"]

        assert await asked("/t1/n1/none/") == (404, "this node has no web service none")
        assert await asked("/t1/n1/unready/") == (502, "web service unready has no ready pod")
        status, text = await asked("/t1/n1/closed/")
        assert status == 502 and "web service closed at 127.0.0.1:1 refuses connections" in text
        status, text = await asked("/t1/n1/ssh/")
        assert status == 502 and "web service ssh" in text
        status, text = await asked("/t1/n1/slow/")
        assert status == 504 and "web service slow" in text
        assert await asked("/t1/n2/shop/") == (404, "there is no node n2 of tenant t1")
        if fast:  # who cannot be reached is learned by the slow way alone
            return
        world.l4_fault = LinkNotUp("no link")
        world.l4_ends.pop().transport.abort()  # the idle connection is stale
        status, text = await asked("/t1/n1/gone/")
        assert status == 502 and "node n1 of tenant t1 cannot be reached: no link" in text
        world.l4_fault = TimeoutError()
        status, text = await asked("/t1/n1/gone/")
        assert status == 504 and "node n1 of tenant t1" in text

    scenario(tell, fast=fast, server=ProxyLimits(answer=0.2))


def test_a_stale_idle_connection_costs_a_get_nothing_and_a_post_is_never_repeated() -> None:
    posts = 0

    async def service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal posts
        request = await reader.readuntil(b"\r\n\r\n")
        if request.startswith(b"POST"):
            posts += 1
            world_now.l4_ends[-1].transport.abort()  # the node dies after the service has acted
            return
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async def tell(world: World) -> None:
        nonlocal world_now
        world_now = world
        await world.serve("shop", service)
        assert b" 200 " in await world.ask(get("/t1/n1/shop/"))
        assert world.l4_opened == 1
        world.l4_ends[-1].transport.abort()
        assert b" 200 " in await world.ask(get("/t1/n1/shop/"))
        assert world.l4_opened == 2
        assert b" 502 " in await world.ask(get("/t1/n1/shop/", "Content-Length: 0", method="POST"))
        assert posts == 1

    world_now: World
    scenario(tell)


def test_a_connection_that_is_closed_while_it_is_used_again_is_replaced_for_a_get() -> None:
    asked = 0

    async def closes_at_the_second_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        try:
            for answer in (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b""):
                await reader.readuntil(b"\r\n\r\n")
                asked += 1
                writer.write(answer)
        finally:
            await close_writer(writer)

    async def tell(world: World) -> None:
        world.far_end = closes_at_the_second_request
        for n in (1, 2):
            assert (await world.ask(get("/t1/n1/shop/"))).endswith(b"ok")
            assert world.l4_opened == n
        assert asked == 3

    scenario(tell)


def test_an_upload_may_last_longer_than_the_timeout_of_its_answer_while_it_moves(fast: bool) -> None:
    async def tell(world: World) -> None:
        await world.serve("shop", mirror)
        async with world.client() as (reader, writer):
            writer.write(get("/t1/n1/shop/", "Content-Length: 10", method="PUT"))
            for _ in range(10):
                await asyncio.sleep(0.3)
                writer.write(b"x")
            assert b" 200 " in await asyncio.wait_for(reader.readline(), 60)

    scenario(tell, fast=fast, client=ProxyLimits(answer=2.0), server=ProxyLimits(answer=2.0))


def test_a_tenant_has_its_share_of_requests_and_no_more(fast: bool) -> None:
    async def tell(world: World) -> None:
        await world.serve("slow", head_then_quiet)
        async with world.client() as (_, one), world.client() as (_, two):
            one.write(get("/t1/n1/slow/"))
            two.write(get("/t1/n1/slow/"))
            await until(lambda: world.client_in_progress == 2)
            status, body = status_and_error(await world.ask(get("/t1/n1/slow/")))
            assert status == 503 and "tenant t1 has 2 requests in progress" in body["error"]
            assert status_and_error(await world.ask(get("/t2/n1/slow/")))[0] == 404  # others are not concerned
        await until(lambda: world.client_in_progress == 0)
        await world.serve("shop", mirror)
        assert b" 200 " in await world.ask(get("/t1/n1/shop/"))

    scenario(tell, fast=fast, client=ProxyLimits(concurrent=2))


def test_another_tenant_is_answered_as_one_that_does_not_exist(fast: bool) -> None:
    async def tell(world: World) -> None:
        await world.serve("shop", mirror)
        foreign = await world.ask(get("/t1/n1/shop/"))
        absent = await world.ask(get("/tx/n1/shop/"))
        own = await world.ask(get("/t2/n1/shop/"))  # ours, without such a node
        assert foreign == absent.replace(b"tx", b"t1") == own.replace(b"t2", b"t1")
        assert status_and_error(foreign)[0] == 404 and world.l4_opened == 0

    scenario(tell, fast=fast, allow=lambda tenant: tenant == "t2")


def test_a_client_that_dribbles_its_request_is_let_go(fast: bool) -> None:
    async def tell(world: World) -> None:
        async with world.client() as (reader, writer):
            began = asyncio.get_running_loop().time()

            async def dribble() -> None:
                for byte in get("/t1/n1/shop/", "X-Slow: " + "y" * 500):
                    writer.write(bytes((byte,)))
                    await asyncio.sleep(0.02)

            dribbling = asyncio.create_task(dribble())
            assert await asyncio.wait_for(reader.read(), 60) == b""
            assert asyncio.get_running_loop().time() - began < 2
            dribbling.cancel()
            await asyncio.gather(dribbling, return_exceptions=True)

    scenario(tell, fast=fast, client=ProxyLimits(http=Limits(head=0.2)))


def test_a_client_that_never_reads_is_let_go(fast: bool) -> None:
    async def service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(bytes(65536))
            await writer.drain()

    async def tell(world: World) -> None:
        await world.serve("video", service)
        async with world.client() as (_, writer):
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(get("/t1/n1/video/"))
            await until(lambda: world.client_in_progress == 1)
            await until(lambda: world.client_in_progress == 0)

    scenario(tell, fast=fast, client=ProxyLimits(http=Limits(stall=0.3)))


def test_idle_l4_connections_are_closed_after_a_while(fast: bool) -> None:
    async def tell(world: World) -> None:
        await world.serve("shop", mirror)
        assert b" 200 " in await world.ask(get("/t1/n1/shop/"))
        assert len(world.tasks) > 0  # the server proxy waits for the next request
        await until(lambda: len(world.tasks) == 0)

    scenario(tell, fast=fast, client=ProxyLimits(pooled_seconds=0.1), server=ProxyLimits(pooled_seconds=0.1))
