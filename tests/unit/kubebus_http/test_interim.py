"""Uploads that ask first, interim answers, and pages that ask for absolute paths, through both proxies."""

from __future__ import annotations

import asyncio
import json

import pytest

from kubeedge.kubebus.http import server_proxy
from kubeedge.kubebus.http.access import Policy
from kubeedge.kubebus.http.limits import ProxyLimits
from tests.unit.kubebus_http.test_publishing import head_then_quiet, mirror
from tests.unit.kubebus_http.world import World, get, read_head, scenario, until

UPLOAD = get("/t1/n1/up/", "Content-Length: 5", "Expect: 100-continue", method="PUT", close=False)


def test_an_upload_is_asked_for_when_the_service_asks_for_it() -> None:
    go = asyncio.Event()

    async def service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert b"expect: 100-continue" in (await reader.readuntil(b"\r\n\r\n")).lower()
        await go.wait()
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await reader.readexactly(5)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + body.upper())

    async def tell(world: World) -> None:
        await world.serve("up", service)
        for _ in range(2):  # the connection goes on
            async with world.client() as (reader, writer):
                for _ in range(2):
                    go.clear()
                    writer.write(UPLOAD)
                    await until(lambda: world.server_proxy.in_progress == 1)
                    with pytest.raises(TimeoutError):
                        await asyncio.wait_for(reader.read(1), 0.1)  # nobody has asked yet
                    go.set()
                    assert await read_head(reader) == b"HTTP/1.1 100 \r\n\r\n"
                    writer.write(b"hello")
                    assert (await read_head(reader)).startswith(b"HTTP/1.1 200")
                    assert await reader.readexactly(5) == b"HELLO"

    scenario(tell)


def test_a_service_that_refuses_an_upload_never_sees_it_and_the_connection_ends() -> None:
    async def service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nno!")
        assert await reader.read() == b""

    async def tell(world: World) -> None:
        await world.serve("up", service)
        async with world.client() as (reader, writer):
            writer.write(UPLOAD)
            answer = await asyncio.wait_for(reader.read(), 60)  # it ends: a body would be taken for the next request
            assert answer.startswith(b"HTTP/1.1 413") and b"connection: close\r\n" in answer.lower()
            assert answer.endswith(b"no!") and b" 100 " not in answer

    scenario(tell)


@pytest.mark.parametrize(
    ("path", "status"),
    [("/t1/n1/none/", b"404"), ("/t1/n2/up/", b"404"), ("/nothing", b"404"), ("/t1/n1/keyed/", b"401")],
)
def test_the_proxies_refuse_an_upload_before_its_body(path: str, status: bytes) -> None:
    async def tell(world: World) -> None:
        await world.serve("keyed", mirror)
        world.policies["keyed"] = Policy("token")
        async with world.client() as (reader, writer):
            writer.write(UPLOAD.replace(b"/t1/n1/up/", path.encode()))
            answer = await asyncio.wait_for(reader.read(), 60)
            assert answer.startswith(b"HTTP/1.1 " + status) and b"connection: close\r\n" in answer.lower()

    scenario(tell)


def test_a_service_that_knows_nothing_of_asking_gets_the_body_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_proxy, "_HOLD", 0.1)

    async def service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(5)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + body)

    async def tell(world: World) -> None:
        await world.serve("up", service)
        async with world.client() as (reader, writer):
            writer.write(UPLOAD)
            assert (await read_head(reader)).startswith(b"HTTP/1.1 100")
            writer.write(b"hello")
            assert (await read_head(reader)).startswith(b"HTTP/1.1 200")

    scenario(tell)


def test_a_client_that_asks_and_does_not_wait_is_served() -> None:
    async def tell(world: World) -> None:
        await world.serve("up", mirror)
        async with world.client() as (reader, writer):
            writer.write(UPLOAD + b"hello" + get("/t1/n1/up/second"))
            answer = await asyncio.wait_for(reader.read(), 60)
        assert answer.count(b"HTTP/1.1 200") == 2 and b'"body": "hello"' in answer and b'"/second"' in answer

    scenario(tell)


def test_a_client_that_leaves_while_it_waits_to_be_asked_frees_the_service() -> None:
    async def tell(world: World) -> None:
        await world.serve("up", head_then_quiet)
        async with world.client() as (_, writer):
            writer.write(UPLOAD)
            await until(lambda: world.server_proxy.in_progress == 1)
            writer.transport.abort()
        await until(lambda: world.client_proxy.in_progress == 0 == world.server_proxy.in_progress)

    scenario(tell, client=ProxyLimits(answer=1.0), server=ProxyLimits(answer=1.0))


def test_early_hints_come_through_a_bounded_number_of_times() -> None:
    async def service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\r\n"
        )
        writer.write(b"HTTP/1.1 102 Processing\r\n\r\n" * 100)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async def tell(world: World) -> None:
        await world.serve("shop", service)
        answer = await world.ask(get("/t1/n1/shop/"))
        hints, _, rest = answer.partition(b"\r\n\r\n")
        assert hints.lower() == b"http/1.1 103 early hints\r\nlink: </style.css>; rel=preload"
        assert rest.count(b"HTTP/1.1 102") < 20 and rest.endswith(b"ok")  # a bounded number of them
        old = await world.ask(b"GET /t1/n1/shop/ HTTP/1.0\r\n\r\n")
        assert old.startswith(b"HTTP/1.1 200")  # HTTP/1.0 knows no interim answers

    scenario(tell)


def test_a_page_that_asks_for_an_absolute_path_is_sent_back_to_its_service() -> None:
    page = "Referer: http://shop.example:8080/t1/n1/shop/"

    async def tell(world: World) -> None:
        await world.serve("shop", mirror)
        for path in (
            "/static/x.css?v=1",
            "/favicon.ico",
            "/a/b/c/deep",
        ):  # the last one could be a service, and is none
            answer = (await world.ask(get(path, page))).decode()
            head, _, body = answer.partition("\r\n\r\n")
            assert head.startswith("HTTP/1.1 307") and not body
            assert f"location: /t1/n1/shop{path}\r\n" in head
            assert "set-cookie" not in head and "vary: referer" in head and "cache-control: no-store" in head
        seen = json.loads((await world.ask(get("/t1/n1/shop/static/x.css", page))).partition(b"\r\n\r\n")[2])
        assert seen["target"] == "/static/x.css"
        for wire in (
            get("/static/x.css"),
            get("/static/x.css", page, method="POST"),
            get("/static/x.css", page.replace("shop.example", "evil.example")),
            get("/t1/n2/shop/x", page.replace("/n1/", "/n2/")),  # below its prefix already
        ):
            assert b" 404 " in (await world.ask(wire)).partition(b"\r\n")[0]

    scenario(tell)


def test_a_page_of_another_tenant_leads_nowhere_at_a_node() -> None:
    async def tell(world: World) -> None:
        for tenant, status in (("t1", b" 307 "), ("t2", b" 404 ")):
            wire = get("/static/x", f"Referer: http://shop.example:8080/{tenant}/n1/shop/")
            assert status in (await world.ask(wire)).partition(b"\r\n")[0]

    scenario(tell, allow=lambda tenant: tenant == "t1")
