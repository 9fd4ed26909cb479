"""All services of all tenants share one origin: what a service says ends at its own prefix. Told both ways, and of the C against the Python."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kubeedge._fastpath.plane import rewrite_answer, rewrite_request

from kubeedge.errors import Invalid
from kubeedge.kubebus.http import headers as h
from kubeedge.kubebus.http.url import parse
from tests.unit.kubebus_http.test_fast import fields
from tests.unit.kubebus_http.test_publishing import mirror
from tests.unit.kubebus_http.world import Service, World, get, scenario

PREFIX, HOST = "/t1/n1/shop", "shop.example:8080"
both_ways = pytest.mark.parametrize("fast", [False, True], ids=["slow", "fast"])

BEYOND = """
Clear-Site-Data: "*"
Strict-Transport-Security: max-age=31536000; includeSubDomains
Public-Key-Pins: max-age=5184000; pin-sha256="x"
Public-Key-Pins-Report-Only: pin-sha256="x"
Expect-CT: max-age=86400, enforce
Alt-Svc: h3=":443"; ma=86400
Origin-Agent-Cluster: ?1
Origin-Isolation: ?1
Origin-Policy: x
NEL: {"report_to":"x","max_age":2592000}
Report-To: {"group":"x","max_age":1,"endpoints":[{"url":"https://evil.example"}]}
Accept-CH: Sec-CH-UA-Model
Accept-CH-Lifetime: 86400
Critical-CH: Sec-CH-UA-Model
Set-Login: logged-out
Set-Cookie2: a=b
Use-As-Dictionary: match="/*"
""".strip().splitlines()


def answering(*lines: str, status: str = "200 OK") -> Service:
    async def service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write("\r\n".join((f"HTTP/1.1 {status}", *lines, "Content-Length: 2", "", "ok")).encode())

    return service


def head_of(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"


@both_ways
def test_what_holds_for_the_whole_origin_does_not_cross(fast: bool) -> None:
    async def tell(world: World) -> None:
        await world.serve("shop", answering(*BEYOND, "X-Own: 1", "Reporting-Endpoints: a='/x'"))
        answer = await world.ask(get("/t1/n1/shop/"))
        names = {name for name, _ in fields(head_of(answer))}
        assert {"x-own", "reporting-endpoints"} <= names  # a document's own
        assert not names & {line.partition(":")[0].lower() for line in BEYOND}
        assert not fast or world.client_fast_path.counters()["requests"] == 1

    scenario(tell, fast=fast)


@both_ways
@pytest.mark.parametrize("wish", ["/", "/app/", "../../", "/../../", "/t2/n9/bank/", "https://shop.example:8080/"])
def test_a_service_worker_has_its_scope_below_the_prefix(wish: str, fast: bool) -> None:
    async def tell(world: World) -> None:
        await world.serve("shop", answering(f"Service-Worker-Allowed: {wish}"))
        answer = await world.ask(get("/t1/n1/shop/js/sw.js"))
        assert ("service-worker-allowed", "/t1/n1/shop/") in fields(head_of(answer))

    scenario(tell, fast=fast)


COOKIES = [
    ("/t1/n1/shop/", "a=1", "a=1; Path=/t1/n1/shop"),
    ("/t1/n1/shop/x/y?z=/w/", "a=1; Secure", "a=1; Secure; Path=/t1/n1/shop/x"),
    ("/t1/n1/shop/x;Domain=evil.example/y", "a=1", "a=1; Path=/t1/n1/shop"),
    ("/t1/n1/shop/", "a=1; Path", "a=1; Path=/t1/n1/shop"),
    ("/t1/n1/shop/", "a=1; Path=", "a=1; Path=/t1/n1/shop"),
    ("/t1/n1/shop/", 'a=1; Path="/"', "a=1; Path=/t1/n1/shop"),
    ("/t1/n1/shop/", "a=1; Path=t2; HttpOnly", "a=1; HttpOnly; Path=/t1/n1/shop"),
    ("/t1/n1/shop/", "a=1; Path=/; Domain=example.com", "a=1; Path=/t1/n1/shop"),
    ("/t1/n1/shop/", "a=1;DOMAIN = .example ; path = /t2/n9/bank", "a=1; path = /t1/n1/shop/t2/n9/bank"),
    ("/t1/n1/shop/", "a=1; Path=/t1/n1/shop; Path=/", "a=1; Path=/t1/n1/shop; Path=/t1/n1/shop"),
    ("/t1/n1/shop/", "__Host-sid=1; Path=/; Secure", None),
    ("/t1/n1/shop/", "__hOsT-Http-sid=1; Path=/; Secure", None),
    ("/t1/n1/shop/", "__Secure-sid=1; Path=/; Secure", "__Secure-sid=1; Path=/t1/n1/shop; Secure"),
    ("/t1/n1/shop/", "path=/; Domains=x", "path=/; Domains=x; Path=/t1/n1/shop"),
]


@both_ways
@pytest.mark.parametrize(("target", "cookie", "seen"), COOKIES)
def test_a_cookie_is_for_its_service_alone(target: str, cookie: str, seen: str | None, fast: bool) -> None:
    async def tell(world: World) -> None:
        await world.serve("shop", answering(f"Set-Cookie: {cookie}"))
        answer = await world.ask(get(target))
        assert [v for n, v in fields(head_of(answer)) if n == "set-cookie"] == ([seen] if seen else [])

    scenario(tell, fast=fast)


@both_ways
def test_interim_answers_obey_the_same_rules(fast: bool) -> None:
    async def service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 103 Early Hints\r\nSet-Cookie: a=1\r\nAlt-Svc: x\r\nLocation: /x\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async def tell(world: World) -> None:
        await world.serve("shop", service)
        hints = (await world.ask(get("/t1/n1/shop/"))).split(b"\r\n\r\n")[0] + b"\r\n\r\n"
        assert fields(hints) == [("set-cookie", "a=1; Path=/t1/n1/shop"), ("location", "/t1/n1/shop/x")]

    scenario(tell, fast=fast)


def test_an_upgrade_obeys_the_same_rules() -> None:
    async def service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: echo\r\nSet-Cookie: a=1\r\nClear-Site-Data: x\r\n\r\n"
        )
        await reader.read()

    async def tell(world: World) -> None:
        await world.serve("ws", service)
        async with world.client() as (reader, writer):
            writer.write(get("/t1/n1/ws", "Connection: upgrade", "Upgrade: echo", close=False))
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
        assert head.startswith(b"HTTP/1.1 101 ")  # a WebSocket client follows no redirect to the slash
        assert ("set-cookie", "a=1; Path=/t1/n1/ws") in fields(head) and b"clear-site-data" not in head.lower()

    scenario(tell)


@both_ways
def test_nobody_outside_says_who_asks_in_any_spelling(fast: bool) -> None:
    said = [
        *("X_Forwarded_For: 6.6.6.6", "X-Forwarded_For: 6.6.6.6", "x_forwarded-proto: https", "X_Real_IP: 6.6.6.6"),
        *("X-Forwarded-Port: 443", "X-Forwarded-Server: evil", "X_Forwarded_Prefix: /", "Forwarded: for=6.6.6.6"),
    ]

    async def tell(world: World) -> None:
        await world.serve("shop", mirror)
        answer = await world.ask(get("/t1/n1/shop/", *said, "X_Own: 1"))
        seen = json.loads(answer.partition(b"\r\n\r\n")[2])["headers"]
        assert {n: v for n, v in seen.items() if "orwarded" in n or "real" in n} == {
            "x-forwarded-for": "127.0.0.1", "x-forwarded-host": HOST, "x-forwarded-proto": "http",
            "x-forwarded-prefix": "/t1/n1/shop",
        }  # fmt: skip
        assert seen["x_own"] == "1"

    scenario(tell, fast=fast)


def test_a_trusted_proxy_says_more_but_not_with_underscores() -> None:
    said = [("x-forwarded-port", "443"), ("x_forwarded_for", "6.6.6.6"), ("x-forwarded-for", "1.2.3.4")]
    told = h.forwarded(said, client="10.0.0.1", proto="http", prefix="/t/n/s", trusted=True)
    assert ("x-forwarded-port", "443") in told and ("x-forwarded-for", "1.2.3.4, 10.0.0.1") in told
    assert not any("_" in name for name, _ in told)


@pytest.mark.parametrize(
    ("refresh", "seen"),
    [
        ("5; url=/x", "5; url=/t1/n1/shop/x"),
        ("0;URL='/x'", "0;URL='/t1/n1/shop/x'"),
        ("1.5, url = \"/t1/n1/shop/x\"", "1.5, url = \"/t1/n1/shop/x\""),
        ("3 /x", "3 /t1/n1/shop/x"),
        (f"3; url=http://{HOST}/x", f"3; url=http://{HOST}{PREFIX}/x"),
        ("3; url=x", "3; url=x"),
        ("3; url=https://other.example/x", "3; url=https://other.example/x"),
        ("5", "5"),
        ("; url=/x", "; url=/x"),
    ],
)  # fmt: skip
def test_a_refresh_leads_where_a_location_does(refresh: str, seen: str) -> None:
    assert h.response_headers([("refresh", refresh)], prefix=PREFIX, host=HOST) == [("refresh", seen)]
    wire = f"HTTP/1.1 200 OK\r\nRefresh: {refresh}\r\n\r\n".encode()
    assert fields(rewrite_answer(wire, PREFIX.encode(), HOST.encode())[4]) == [("refresh", seen)]


def test_a_location_never_loses_its_tls() -> None:
    location = [("location", f"https://{HOST}/x")]
    wanted = [("location", f"https://{HOST}{PREFIX}/x")]
    assert h.response_headers(location, prefix=PREFIX, host=HOST, proto="http") == wanted
    wire = f"HTTP/1.1 302 x\r\nLocation: https://{HOST}/x\r\n\r\n".encode()
    assert fields(rewrite_answer(wire, PREFIX.encode(), HOST.encode())[4]) == wanted


attributes = st.one_of(
    st.sampled_from(
        [
            "Path",
            "path=",
            "Path=/",
            "PATH = /x",
            "Path=/t1/n1/shop/y",
            "Domain=a",
            "domain",
            "Secure",
            "",
            " ",
            "=",
            "Path=/ \t",
        ]
    ),
    st.text(st.sampled_from("pathPATH=/; \tdomain"), max_size=12),
)


@settings(max_examples=600, deadline=None)
@given(
    st.sampled_from(["a=b", "=", "", "__Host-a=b", "__HOST", "Path=/"]),
    st.lists(attributes, max_size=5),
    st.text(st.sampled_from("/ab;?."), max_size=12).map("/".__add__),
    st.sampled_from(
        ["5; url=/x", "", "1;;, url=//x", "2 url", "3;u", "3;url=", "9.9,'/x'", "4;url =/", "4;urls=/x", "4;/"]
    ),
)
def test_both_languages_write_the_same_cookies_and_refreshes(
    pair: str, more: list[str], rest: str, refresh: str
) -> None:
    cookie = ";".join((pair, *more)).strip(" \t")
    url = parse(PREFIX + rest)
    wire = f"HTTP/1.1 200 OK\r\nSet-Cookie: {cookie}\r\nRefresh: {refresh}\r\n\r\n".encode()
    directory = url.directory
    sent = rewrite_answer(wire, PREFIX.encode(), HOST.encode(), directory=directory.encode())[4]
    pairs = [("set-cookie", cookie), ("refresh", refresh)]
    wanted = h.response_headers(pairs, prefix=PREFIX, host=HOST, directory=directory)
    assert fields(sent) == [(name, value.strip()) for name, value in wanted]
    for name, value in wanted:
        parts = [part.partition("=") for part in value.split(";")[1:]]
        paths = [path.strip(" \t") for key, _, path in parts if key.strip(" \t").lower() == "path"]
        assert name != "set-cookie" or (paths and all(p == PREFIX or p.startswith(PREFIX + "/") for p in paths))
        assert name != "set-cookie" or not any(key.strip(" \t").lower() == "domain" for key, _, _ in parts)


# -- WebDAV ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("destination", "seen"),
    [
        (f"http://{HOST}{PREFIX}/new%20name", f"http://{HOST}/new%20name"),
        (f"https://{HOST.upper()}{PREFIX}/new", f"https://{HOST.upper()}/new"),
        (f"{PREFIX}/new", "/new"),
        ("https://other.example/new", "https://other.example/new"),
    ],
)
def test_a_destination_loses_the_prefix_as_the_target_does(destination: str, seen: str) -> None:
    assert h.resources([("destination", destination)], prefix=PREFIX, host=HOST) == [("destination", seen)]


@pytest.mark.parametrize(
    "destination", [f"http://{HOST}/t1/n1/shop2/x", f"{PREFIX}x/y", "/x", f"http://{HOST}", PREFIX]
)
def test_a_destination_beside_the_service_is_refused(destination: str) -> None:
    with pytest.raises(Invalid):
        h.resources([("destination", destination)], prefix=PREFIX, host=HOST)


def test_tagged_lists_of_webdav_lose_the_prefix_too() -> None:
    sent = f'<http://{HOST}{PREFIX}/a> (<urn:uuid:181d4fae> ["x"]) <{PREFIX}/b> (Not <DAV:no-lock>) <http://other/c>'
    seen = f'<http://{HOST}/a> (<urn:uuid:181d4fae> ["x"]) </b> (Not <DAV:no-lock>) <http://other/c>'
    assert h.resources([("if", sent)], prefix=PREFIX, host=HOST) == [("if", seen)]


@both_ways
def test_webdav_moves_within_its_service(fast: bool) -> None:
    async def tell(world: World) -> None:
        await world.serve("shop", mirror)
        for method in ("MOVE", "GET"):
            answer = await world.ask(get("/t1/n1/shop/a", f"Destination: http://{HOST}/t1/n1/shop/b", method=method))
            seen = json.loads(answer.partition(b"\r\n\r\n")[2])
            assert (seen["target"], seen["headers"]["destination"]) == ("/a", f"http://{HOST}/b")
        refused = await world.ask(get("/t1/n1/shop/a", "Destination: /t1/n1/other/b", method="MOVE"))
        assert refused.startswith(b"HTTP/1.1 400 ")

    scenario(tell, fast=fast)


def test_a_request_that_names_another_resource_is_for_the_slow_path() -> None:
    for line in ("Destination: /x", "If: </x> (<a>)"):
        assert rewrite_request(get(f"{PREFIX}/", line), "1.1.1.1")[1] is False
