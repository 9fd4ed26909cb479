"""What a client sees is the same whichever way its request goes: each case is told to both, and the answers are compared."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from kubeedge.kubebus.http.access import Policy
from kubeedge.kubebus.http.limits import ProxyLimits
from kubeedge.kubebus.http.url import Target
from tests.unit.kubebus_http.test_publishing import mirror
from tests.unit.kubebus_http.world import Service, World, get, scenario

both_ways = pytest.mark.parametrize("fast", [False, True], ids=["slow", "fast"])
#: seconds, of both: every service here answers or hangs up at once, so only a machine that is slow comes near it
TIMEOUT = 50.0
Seen = tuple[list[tuple[bytes, list[tuple[bytes, bytes]]]], bytes, bool]


def raw(answer: bytes) -> Service:
    async def service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()

    return service


async def seen(world: World, wire: bytes) -> Seen:
    """(heads as (status line, sorted fields), body, whole): the body without its framing."""
    got, whole = b"", True
    async with world.client() as (reader, writer):
        writer.write(wire)
        try:
            while data := await asyncio.wait_for(reader.read(65536), TIMEOUT):
                got += data
        except ConnectionResetError:
            whole = False
    heads = []
    while True:
        head, _, got = got.partition(b"\r\n\r\n")
        line, *rest = head.split(b"\r\n")
        pairs = [(n.lower(), v.strip()) for n, _, v in (field.partition(b":") for field in rest)]
        heads.append((b" ".join(line.split(b" ")[:2]), sorted(p for p in pairs if p[0] != b"transfer-encoding")))
        if not line.startswith(b"HTTP/1.1 1"):
            break
    body, chunked = b"", (b"transfer-encoding", b"chunked") in pairs
    if not chunked:
        return heads, got, whole
    while got:
        size, _, got = got.partition(b"\r\n")
        body, got = body + got[: int(size, 16)], got[int(size, 16) + 2 :]
    return heads, body, whole


def told(answer: bytes, wire: bytes, fast: bool) -> Seen:
    out: list[Seen] = []

    async def tell(world: World) -> None:
        await world.serve("shop", raw(answer))
        heads, body, whole = await seen(world, wire)
        out.append((heads, re.sub(rb"127.0.0.1:[0-9]+", b"127.0.0.1:1", body), whole))

    limits = ProxyLimits(answer=TIMEOUT)
    scenario(tell, fast=fast, client=limits, server=limits)
    return out[0]


OK = b"HTTP/1.1 200 OK\r\n"
ANSWERS = {
    "length": OK + b"Content-Length: 2\r\n\r\nok",
    "length twice": OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    "lengths that differ": OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nokk",
    "list of lengths": OK + b"Content-Length: 2, 2\r\n\r\nok",
    "length with a sign": OK + b"Content-Length: +2\r\n\r\nok",
    "length and chunks": OK + b"Content-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "chunks": OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
    "chunks in capitals": OK + b"Transfer-Encoding: CHUNKED\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "chunks with extensions": OK + b"Transfer-Encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0;c\r\n\r\n",
    "many long extensions": OK
    + b"Transfer-Encoding: chunked\r\n\r\n"
    + b"".join(b"1;chunk-signature=%b\r\nx\r\n" % (b"a" * 200) for _ in range(300))
    + b"0\r\n\r\n",
    "trailers": OK + b"Transfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n2\r\nok\r\n0\r\nX-T: 1\r\nSet-Cookie: a=b\r\n\r\n",
    "chunks that break off": OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nok",
    "broken chunks": OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nokay\r\n0\r\n\r\n",
    "another coding": OK + b"Transfer-Encoding: gzip\r\n\r\nok",
    "another coding, chunked": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "to the end": OK + b"\r\nok",
    "to the end, HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\nok",
    "keep-alive, HTTP/1.0": b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
    "a part": OK + b"Content-Length: 9\r\n\r\nok",
    "more than the length": OK + b"Content-Length: 2\r\n\r\nokay",
    "204": b"HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n",
    "204 with a length": b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
    "304": b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n",
    "304 with a length": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\nETag: x\r\n\r\n",
    "no reason": b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok",
    "own status": b"HTTP/1.1 299 Mine\r\nContent-Length: 2\r\n\r\nok",
    "status of four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok",
    "status 600": b"HTTP/1.1 600 OK\r\nContent-Length: 2\r\n\r\nok",
    "status 99": b"HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nok",
    "space before a colon": OK + b"X-Odd : a\r\nX-Tab\t: b\r\nContent-Length : 2\r\n\r\nok",
    "chunks with a space before the colon": OK + b"Transfer-Encoding : chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "space in a name": OK + b"X Odd: a\r\nContent-Length: 2\r\n\r\nok",
    "no name": OK + b": a\r\nContent-Length: 2\r\n\r\nok",
    "only a space for a name": OK + b" : a\r\nContent-Length: 2\r\n\r\nok",
    "no colon": OK + b"X-Odd\r\nContent-Length: 2\r\n\r\nok",
    "folded": OK + b"X-Odd: a\r\n b\r\nContent-Length: 2\r\n\r\nok",
    "bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "control character": OK + b"X-Odd: a\x01b\r\nContent-Length: 2\r\n\r\nok",
    "zero byte": OK + b"X-Odd: a\0b\r\nContent-Length: 2\r\n\r\nok",
    "bare carriage return": OK + b"X-Odd: a\rb\r\nContent-Length: 2\r\n\r\nok",
    "latin": OK + b"X-Odd: \xe9\r\nContent-Length: 2\r\n\r\nok",
    "empty value": OK + b"X-Odd:\r\nContent-Length: 2\r\n\r\nok",
    "hop by hop": OK + b"Connection: X-Hop, close\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nProxy-Authenticate: x\r\nContent-Length: 2\r\n\r\nok",
    "an upgrade offered": OK + b"Connection: upgrade\r\nUpgrade: h2,h2c\r\nContent-Length: 2\r\n\r\nok",
    "100 unasked": b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok",
    "103": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok",
    "200 times 102": b"HTTP/1.1 102 Processing\r\n\r\n" * 200 + OK + b"Content-Length: 2\r\n\r\nok",
    "2000 times 102": b"HTTP/1.1 102 Processing\r\n\r\n" * 2000 + OK + b"Content-Length: 2\r\n\r\nok",
    "101 unasked": b"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    "nothing": b"",
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "HTTP/2": b"HTTP/2 200 OK\r\n\r\n",
    "half a head": OK + b"X-Odd: a",
    "90 fields": OK + b"X: y\r\n" * 90 + b"Content-Length: 2\r\n\r\nok",
    "120 fields": OK + b"X: y\r\n" * 120 + b"Content-Length: 2\r\n\r\nok",
    "20 KB of head": OK + b"X: %b\r\n" % (b"y" * 20_000) + b"Content-Length: 2\r\n\r\nok",
    "60 KB of head": OK + b"X: %b\r\n" % (b"y" * 60_000) + b"Content-Length: 2\r\n\r\nok",
    "redirect": b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Location: http://shop.example:8080/y\r\nContent-Length: 0\r\n\r\n",
}  # fmt: skip


BROKEN_OFF = ("broken chunks", "chunks that break off", "a part")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_the_same_both_ways(name: str, method: str) -> None:
    answer, wire = ANSWERS[name], get("/t1/n1/shop/", method=method)
    if method == "HEAD" and answer.endswith(b"ok"):
        answer = answer[:-2]
    slow, fast = told(answer, wire, False), told(answer, wire, True)
    if name in BROKEN_OFF and method == "GET":  # how much of it arrives is chance; that it is not whole must be seen
        assert not any(whole and heads[0][0] != b"HTTP/1.1 502" for heads, _, whole in (slow, fast))
    else:
        assert slow == fast


def test_white_space_before_a_colon_does_not_cross() -> None:
    for fast in (False, True):
        heads, body, whole = told(ANSWERS["space before a colon"], get("/t1/n1/shop/"), fast)
        assert heads[0][0] == b"HTTP/1.1 200" and (body, whole) == (b"ok", True)
        assert (b"x-odd", b"a") in heads[0][1] and (b"x-tab", b"b") in heads[0][1]


@pytest.mark.parametrize("way", ["GET", "POST"])
def test_white_space_before_a_colon_of_a_request_is_refused(way: str) -> None:
    for fast in (False, True):
        wire = get("/t1/n1/shop/", "X-Odd : a", "Content-Length: 0", method=way)
        assert told(ANSWERS["length"], wire, fast)[0][0][0] == b"HTTP/1.1 400"


REQUESTS = {
    "no slash": get("/t1/n1/shop"),
    "no slash, a query": get("/t1/n1/shop?a=/b/&c"),
    "no slash, HEAD": get("/t1/n1/shop", method="HEAD"),
    "no slash, POST": get("/t1/n1/shop?x", "Content-Length: 3", method="POST") + b"abc",
    "no slash, absolute form": get("http://shop.example:8080/t1/n1/shop?x"),
    "two slashes": get("/t1/n1/shop//x"),
    "no such service": get("/t1/n1/none/"),
    "no such service, no slash": get("/t1/n1/none"),
    "hidden": get("/t1/n1/hidden/"),
    "hidden, no slash": get("/t1/n1/hidden"),
    "guarded": get("/t1/n1/guarded/"),
    "guarded, no slash": get("/t1/n1/guarded"),
    "no such node": get("/t1/n9/shop/"),
    "no such tenant": get("/t9/n1/shop/"),
    "no service": get("/t1/n1/"),
    "refused": get("/t1/n1/gone/"),
    "two hosts": get("/t1/n1/shop/", "Host: b"),
    "HTTP/1.0": b"GET /t1/n1/shop/ HTTP/1.0\r\nHost: shop.example:8080\r\n\r\n",
    "te": get("/t1/n1/shop/", "TE: trailers", "Connection: TE, close", close=False),
    "expect": get("/t1/n1/shop/", "Expect: 100-continue"),
    "expect something": get("/t1/n1/shop/", "Expect: the-moon"),
    "options": get("/t1/n1/shop/", method="OPTIONS"),
    "trace": get("/t1/n1/shop/", method="TRACE"),
    "connect": get("/t1/n1/shop/", method="CONNECT"),
    "range": get("/t1/n1/shop/", "Range: bytes=0-1"),
    "fragment": get("/t1/n1/shop/#x"),
    "body with GET": get("/t1/n1/shop/", "Content-Length: 3") + b"abc",
    "chunks with GET": get("/t1/n1/shop/", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n0\r\n\r\n",
    "length of nothing": get("/t1/n1/shop/", "Content-Length: 0"),
    "100 fields": get("/t1/n1/shop/", *["X: y"] * 100),
    "200 fields": get("/t1/n1/shop/", *["X: y"] * 200),
    "20 KB of head": get("/t1/n1/shop/", "X: " + "y" * 20_000),
    "40 KB of head": get("/t1/n1/shop/", "X: " + "y" * 40_000),
}


def asked(wire: bytes, fast: bool) -> Seen:
    out: list[Seen] = []

    async def tell(world: World) -> None:
        for name in ("shop", "hidden", "guarded"):
            await world.serve(name, mirror)
        world.policies |= {"hidden": Policy("tenant"), "guarded": Policy("token")}
        world.services["gone"] = Target("127.0.0.1", 1)
        heads, body, whole = await seen(world, wire)
        if body.startswith(b'{"method"'):  # one way uses the connection to the service again
            told = json.loads(body)
            told["headers"].pop("connection", None)
            told["headers"].pop("content-length", None)
            body = json.dumps(told, sort_keys=True).encode()
            heads = [(line, [f for f in fields if f[0] != b"content-length"]) for line, fields in heads]
        out.append((heads, body, whole))

    scenario(tell, fast=fast)
    return out[0]


@pytest.mark.parametrize("name", [name for name in REQUESTS if "hidden" not in name])
def test_a_request_is_the_same_both_ways(name: str) -> None:
    assert asked(REQUESTS[name], False) == asked(REQUESTS[name], True)


@both_ways
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT"])
def test_a_service_without_its_slash_is_redirected_to_it(method: str, fast: bool) -> None:
    body = ("Content-Length: 3",) if method in ("POST", "PUT") else ()
    for query in ("", "?a=/b&c=%2F"):
        wire = get(f"/t1/n1/shop{query}", *body, method=method) + (b"abc" if body else b"")
        heads, got, _ = asked(wire, fast)
        assert heads[0][0] == b"HTTP/1.1 308" and not got  # method and body stay, unlike with 301
        assert (b"location", b"/t1/n1/shop/" + query.encode()) in heads[0][1]


def test_a_redirect_to_the_slash_says_nothing_of_services_that_are_not_for_outside() -> None:
    async def tell(world: World) -> None:
        await world.serve("hidden", mirror)
        world.policies["hidden"] = Policy("tenant")
        answers = [await world.ask(get(f"/t1/n1/{name}")) for name in ("hidden", "absent")]
        assert answers[0].replace(b"hidden", b"absent") == answers[1] and b" 404 " in answers[0]

    scenario(tell)


@both_ways
def test_a_first_answer_may_take_longer_than_connecting_may(fast: bool) -> None:
    """On a fresh connection, as on one that is used again: the limits of connecting end when there is a connection."""

    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(3.0)  # the fast path looks at its clock once a second
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async def tell(world: World) -> None:
        await world.serve("shop", late)
        async with world.client() as (reader, writer):
            for _ in range(2):
                writer.write(get("/t1/n1/shop/", close=False))
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
                assert head.startswith(b"HTTP/1.1 200 ") and await reader.readexactly(2) == b"ok"

    limits = ProxyLimits(connect=1.5)
    scenario(tell, fast=fast, client=limits, server=limits)


@both_ways
def test_an_answer_that_does_not_come_is_a_504_in_the_same_words(fast: bool) -> None:
    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def tell(world: World) -> None:
        await world.serve("shop", never)
        heads, body, _ = await seen(world, get("/t1/n1/shop/"))
        assert heads[0][0] == b"HTTP/1.1 504" and (b"cache-control", b"no-store") in heads[0][1]
        told = json.loads(body)
        assert told["service"] == "shop" and "did not answer in time" in told["error"]

    scenario(tell, fast=fast, client=ProxyLimits(answer=30.0), server=ProxyLimits(answer=1.0))
