"""RemoteClient against a server that behaves oddly. What a real kube-apiserver says is in tests/kubernetes."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from kubeedge.api import status
from kubeedge.api.names import NodeName
from kubeedge.api.resources import CONFIGMAPS, DEPLOYMENTS, EVENTS, PODS
from kubeedge.errors import Conflict, Gone, Invalid, NotFound, Refused, Unavailable
from kubeedge.kit.http1 import Request, Response, serve_connection
from kubeedge_cloud.clusters import core
from kubeedge_cloud.clusters.client import RemoteClient
from kubeedge_cloud.clusters.core import Access, Lines
from kubeedge_cloud.clusters.credentials import Credentials
from kubeedge_cloud.clusters.transport import ClusterTransport
from kubeedge_cloud.controllers.informer.driver import Informer
from tests.kit import virtual_time

Handler = Callable[[Request], Awaitable[Response]]
END = {"metadata": {"resourceVersion": "77", "annotations": {core.INITIAL_EVENTS_END: "true"}}}


def answer(code: int, body: Any, *headers: tuple[str, str]) -> Response:
    return Response(code, [("content-type", "application/json"), *headers], json.dumps(body).encode())


def failure(code: int, reason: str, message: str = "no", **details: Any) -> Response:
    return answer(code, status.failure(code, reason, message, details))


def lines(*events: tuple[str, dict[str, Any]], forever: bool = False) -> Response:
    async def body() -> AsyncIterator[bytes]:
        for kind, obj in events:
            yield json.dumps({"type": kind, "object": obj}).encode() + b"\n"
        if forever:
            await asyncio.Event().wait()

    return Response(200, [], body())


def obj(name: str, version: str = "1") -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "n", "uid": name, "resourceVersion": version}}


class Server:
    """A server behind socket pairs; `handle` is what it answers, None: it is away."""

    def __init__(self, handle: Handler | None = None) -> None:
        self.handle = handle
        self.seen: list[Request] = []
        self.attempts: list[float] = []
        self.loads = 0
        self.host = "https://api.test"
        self.wall = 1000.0
        self.life: float | None = None  # seconds of a credential
        self._tasks: set[asyncio.Task[None]] = set()

    async def load(self, source: str) -> Access:
        self.loads += 1
        expires = None if self.life is None else self.now() + self.life
        return Access(self.host, authorization=f"Bearer {self.loads}", expires=expires)

    def now(self) -> float:
        return self.wall + asyncio.get_running_loop().time()

    async def connect(self, access: Access) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self.attempts.append(asyncio.get_running_loop().time())
        if self.handle is None:
            raise ConnectionRefusedError("connection refused")
        ours, theirs = socket.socketpair()
        task = asyncio.create_task(self._serve(theirs))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: theirs.close())  # also of one that was ended before it began
        return await asyncio.open_connection(sock=ours)

    async def _serve(self, sock: socket.socket) -> None:
        async def handle(request: Request) -> Response:
            self.seen.append(request)
            assert self.handle is not None
            return await self.handle(request)

        await serve_connection(*await asyncio.open_connection(sock=sock), handle)

    def power_cut(self) -> None:
        self.handle = None
        for task in self._tasks:
            task.cancel()

    def client(self) -> RemoteClient:
        clock = asyncio.get_running_loop().time
        self.credentials = Credentials("test", load=self.load, wall=self.now, clock=clock)
        self.transport = ClusterTransport(self.credentials, connect=self.connect, chance=lambda: 0.5, wall=self.now)
        return RemoteClient(self.transport, chance=lambda: 0.5)

    async def close(self) -> None:
        await self.transport.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def scenario(handle: Handler | None, test: Callable[[Server, RemoteClient], Awaitable[None]]) -> Server:
    server = Server(handle)

    async def whole() -> None:
        try:
            await test(server, server.client())
        finally:
            await server.close()

    virtual_time.run(whole())
    return server


# Pure


@pytest.mark.parametrize(
    "code, reason, details, kind, base",
    [
        (400, "BadRequest", {}, status.BadRequest, Invalid),
        (401, "Unauthorized", {}, status.Unauthorized, Refused),
        (403, "Forbidden", {}, status.Forbidden, Refused),
        (404, "NotFound", {"kind": "pods", "name": "x"}, status.ObjectNotFound, NotFound),
        (404, "NotFound", {}, status.NoSuchPath, NotFound),
        (405, "MethodNotAllowed", {}, status.MethodNotAllowed, Invalid),
        (409, "AlreadyExists", {}, status.AlreadyExists, Conflict),
        (409, "Conflict", {}, status.ObjectModified, Conflict),
        (410, "Expired", {}, status.Expired, Gone),
        (413, "RequestEntityTooLarge", {}, status.TooLarge, Invalid),
        (418, "Teapot", {}, status.BadRequest, Invalid),
        (422, "Invalid", {}, status.InvalidObject, Invalid),
        (429, "TooManyRequests", {"retryAfterSeconds": 7}, status.TooManyRequests, Unavailable),
        (500, "InternalError", {}, status.ServerUnavailable, Unavailable),
        (503, "ServiceUnavailable", {"retryAfterSeconds": 7}, status.ServerUnavailable, Unavailable),
        (504, "Timeout", {}, status.ServerUnavailable, Unavailable),
    ],
)
def test_an_answer_is_an_error_of_its_kind(
    code: int, reason: str, details: dict[str, Any], kind: type[Exception], base: type[Exception]
) -> None:
    error = core.error(code, status.failure(code, reason, "because", details))
    assert type(error) is kind and isinstance(error, base) and str(error) == "because"
    if "retryAfterSeconds" in details:
        assert isinstance(error, Unavailable) and error.retry_after == 7.0


@pytest.mark.parametrize("said", [None, "text", [], {"details": 7}, {"details": {"retryAfterSeconds": "soon"}}])
def test_an_answer_that_is_no_status_is_an_error_too(said: Any) -> None:
    assert isinstance(core.error(502, said), status.ServerUnavailable)
    assert core.error(429, said).retry_after == 1.0  # type: ignore[attr-defined]


def test_no_name_leads_to_another_path() -> None:
    assert core.one(PODS, "n", "a/../b?c#d") == "/api/v1/namespaces/n/pods/a%2F..%2Fb%3Fc%23d"
    assert core.one(DEPLOYMENTS, "n", "a", "status") == "/apis/apps/v1/namespaces/n/deployments/a/status"
    for name in ("", ".", ".."):
        with pytest.raises(Invalid):
            core.one(PODS, "n", name)


def test_lines_come_in_any_pieces() -> None:
    for size in range(1, 9):
        cut, data = Lines(100), b"one\n\ntwo\nthree"
        found = [line for at in range(0, len(data), size) for line in cut.feed(data[at : at + size])]
        assert found == [b"one", b"two"]
    with pytest.raises(status.ServerUnavailable, match="more than 100 bytes"):
        list(Lines(100).feed(b"x" * 101))


@pytest.mark.parametrize(
    "line",
    [b"", b"null", b"7", b"[]", b'"x"', b'{"type":"ADDED"}', b'{"type":"ADDED","object":7}', b'{"type":7,"object":{}}',
     b'{"type":"NEW","object":{}}', b"\xff", b'{"type":"ERROR","object":{}}'],
)  # fmt: skip
def test_what_is_no_event_may_pass(line: bytes) -> None:
    with pytest.raises(status.ServerUnavailable):
        core.event(PODS, line)


@pytest.mark.parametrize("field", ["authorization", "key"])
def test_secrets_are_not_in_the_text_of_credentials(field: str) -> None:
    assert "hush" not in repr(Access("https://a", **{field: "hush"}))


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"server": "http://10.0.0.1"}, "not https"),
        ({"server": "ftp://a"}, "not the URL"),
        ({"server": "https://a:no"}, "no valid port"),
        ({"server": "https://a", "proxy": "socks5://b:1"}, "socks5"),
        ({"server": "https://a", "proxy": "https://b:1"}, "https"),
        ({"nothing": 1}, "cannot be read"),
    ],
)
def test_what_this_client_does_not_do_is_said(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(Invalid, match=said):
        core.decode_access(json.dumps(fields).encode())


# Lists and watches


def test_a_list_is_streamed_where_the_server_does_it() -> None:
    async def handle(request: Request) -> Response:
        assert request.query["sendInitialEvents"] == ["true"]
        events = [("ADDED", obj("a")), ("ADDED", obj("b")), ("DELETED", obj("b")), ("BOOKMARK", {"metadata": {}})]
        return lines(*events, ("ADDED", obj("c")), ("BOOKMARK", END), ("ADDED", obj("later")), forever=True)

    async def test(server: Server, client: RemoteClient) -> None:
        found = await client.list(CONFIGMAPS)
        assert [o["metadata"]["name"] for o in found.items] == ["a", "c"] and found.resource_version == "77"
        assert found.items[0]["kind"] == "ConfigMap"

    scenario(handle, test)


BOMBS = [b"[" * 100_000, b"[],", b"0,"]


@pytest.mark.parametrize("piece", BOMBS)
def test_what_would_take_more_memory_than_it_has_bytes_is_refused_before_it_is_made(piece: bytes) -> None:
    """By the API server of one tenant, in the process of all."""
    body = b'{"items":[' + piece * (9_000_000 // len(piece)) + b"0]}"

    async def handle(request: Request) -> Response:
        async def event() -> AsyncIterator[bytes]:
            yield b'{"type":"ADDED","object":' + body + b"}\n"

        return Response(200, [], event() if "watch" in request.query else body)

    async def test(server: Server, client: RemoteClient) -> None:
        for target in (client.get(PODS, "n", "x"), client.list(PODS, "n")):
            with pytest.raises(status.ServerUnavailable, match="more than 4000000 values|is not JSON"):
                await target
        with pytest.raises(status.ServerUnavailable, match="more than 1000000 values|no event"):
            await client.list(PODS)

    tracemalloc.start()
    try:
        scenario(handle, test)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12 * len(body)


def test_a_streamed_list_that_breaks_off_is_no_list() -> None:
    async def handle(request: Request) -> Response:
        return lines(("ADDED", obj("a")))

    async def test(server: Server, client: RemoteClient) -> None:
        with pytest.raises(status.ServerUnavailable, match="ended before its end"):
            await client.list(CONFIGMAPS)

    scenario(handle, test)


@pytest.mark.parametrize("code, reason", [(422, "Invalid"), (400, "BadRequest")])
def test_a_server_without_streamed_lists_is_asked_for_one_once(code: int, reason: str) -> None:
    async def handle(request: Request) -> Response:
        if "sendInitialEvents" in request.query:
            return failure(code, reason, "sendInitialEvents is forbidden for watch")
        if "continue" not in request.query:
            assert request.query["limit"] == ["500"]
            return answer(200, {"metadata": {"resourceVersion": "5", "continue": "more&="}, "items": [obj("a")]})
        assert request.query["continue"] == ["more&="]
        return answer(200, {"metadata": {"resourceVersion": "5"}, "items": [obj("b")]})

    async def test(server: Server, client: RemoteClient) -> None:
        for _ in range(2):
            found = await client.list(CONFIGMAPS)
            assert [o["metadata"]["name"] for o in found.items] == ["a", "b"] and found.resource_version == "5"
        assert server.transport.requests == {"WATCH": 1, "GET": 4}

    scenario(handle, test)


def test_a_list_whose_history_goes_is_read_at_once() -> None:
    async def handle(request: Request) -> Response:
        if "continue" in request.query:
            return failure(410, "Expired", "the provided continue parameter is too old")
        more = {"continue": "x"} if "limit" in request.query else {}
        return answer(200, {"metadata": {"resourceVersion": "5", **more}, "items": None if more else [obj("a")]})

    async def test(server: Server, client: RemoteClient) -> None:
        assert len((await client.list(CONFIGMAPS, "n")).items) == 1

    scenario(handle, test)


@pytest.mark.parametrize("how", ["status", "event"])
def test_a_watch_from_too_far_back_is_expired(how: str) -> None:
    gone = status.failure(410, "Expired", "too old resource version: 1 (7)")

    async def handle(request: Request) -> Response:
        return answer(410, gone) if how == "status" else lines(("ERROR", gone))

    async def test(server: Server, client: RemoteClient) -> None:
        with pytest.raises(status.Expired, match="too old"):
            async for _ in client.watch(CONFIGMAPS, resource_version="1"):
                pass

    scenario(handle, test)


def test_a_watch_asks_for_an_end_and_does_not_hang_on_a_silent_server() -> None:
    async def handle(request: Request) -> Response:
        if "watch" not in request.query:  # how far it has got
            return answer(200, {"metadata": {"resourceVersion": "1"}, "items": []})
        assert 300 <= int(request.query["timeoutSeconds"][0]) <= 600
        return lines(("ADDED", obj("a")), ("BOOKMARK", obj("")), forever=True)

    async def test(server: Server, client: RemoteClient) -> None:
        told = []
        with pytest.raises(status.ServerUnavailable, match="no answer in time"):
            async for event in client.watch(CONFIGMAPS, resource_version="1"):
                told.append(event.type)
        assert told == ["ADDED"] and 300 < asyncio.get_running_loop().time() < 700

    scenario(handle, test)


# Identities


def test_a_node_is_impersonated_and_shares_the_connections() -> None:
    async def handle(request: Request) -> Response:
        return answer(200, obj("a"))

    async def test(server: Server, client: RemoteClient) -> None:
        for n in range(20):
            await client.as_node(NodeName(f"edge{n}")).get(PODS, "n", "a")
        await client.get(PODS, "n", "a")
        assert server.transport.connections == 1

    seen = scenario(handle, test).seen
    assert seen[3].header("impersonate-user") == "system:node:edge3"
    assert seen[3].header("impersonate-group") == "system:nodes"
    assert seen[-1].header("impersonate-user") is None
    assert seen[0].header("authorization") == "Bearer 1" and seen[0].header("host") == "api.test:443"


def test_a_token_is_asked_for_by_a_node_and_rights_by_the_account() -> None:
    rules = [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]

    async def handle(request: Request) -> Response:
        if request.path.endswith("/token"):
            return answer(201, {"status": {"token": "a.b.c"}})
        if request.header("impersonate-user") == "system:serviceaccount:ns:unknown":
            return failure(403, "Forbidden")
        return answer(201, {"status": {"resourceRules": [*rules, "x"]}})

    async def test(server: Server, client: RemoteClient) -> None:
        found = await client.as_node(NodeName("edge1")).create_token("ns", "robot", {"spec": {}})
        assert found["status"] == {"token": "a.b.c"}
        assert await client.account_rules("ns", "robot") == rules
        assert await client.account_rules("ns", "unknown") == ()

    seen = scenario(handle, test).seen
    assert seen[0].path == "/api/v1/namespaces/ns/serviceaccounts/robot/token"
    assert seen[0].header("impersonate-user") == "system:node:edge1"
    assert seen[1].path == "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
    assert seen[1].header("impersonate-user") == "system:serviceaccount:ns:robot"
    groups = [value for key, value in seen[1].headers if key == "impersonate-group"]
    assert groups == [], "the API server adds those of a service account; naming them would be one more right"


def test_a_credential_that_the_server_does_not_know_is_loaded_again_once() -> None:
    async def handle(request: Request) -> Response:
        good = request.header("authorization") == "Bearer 2"
        return answer(200, obj("a")) if good else failure(401, "Unauthorized")

    async def test(server: Server, client: RemoteClient) -> None:
        with pytest.raises(status.Unauthorized):
            await client.get(PODS, "n", "a")  # it was loaded a moment ago
        await asyncio.sleep(11)
        await client.get(PODS, "n", "a")
        assert server.loads == 2

    scenario(handle, test)


@pytest.mark.parametrize(
    ("date", "said"),
    [
        ("Sat, 28 Nov 2026 10:00:00 GMT", ""),
        ("Sat, 28 Nov 2026 10:04:00 GMT", ""),
        ("Sat, 28 Nov 2026 13:00:00 GMT", "is 3 hours ahead of this one"),
        ("Wed, 28 Nov 2001 10:00:00 GMT", "is 9131 days behind this one"),
        ("no date", ""),
        (None, ""),
    ],
)
def test_a_clock_that_is_apart_is_named_with_a_credential_that_is_refused(date: str | None, said: str) -> None:
    now = datetime(2026, 11, 28, 10, tzinfo=UTC).timestamp()

    async def handle(request: Request) -> Response:
        refused = failure(401, "Unauthorized", "Unauthorized")
        return Response(401, [*refused.headers, *([("date", date)] if date else [])], refused.body)

    async def test(server: Server, client: RemoteClient) -> None:
        server.wall = now
        with pytest.raises(status.Unauthorized) as refused:
            await client.get(PODS, "n", "a")
        hint = f"; the API server's clock {said}: is it right?" if said else ""
        assert str(refused.value) == f"Unauthorized{hint}"

    scenario(handle, test)


def test_a_certificate_that_does_not_count_now_makes_us_doubt_our_clock() -> None:
    async def connect(access: Access) -> Any:
        raise ssl.SSLCertVerificationError(1, "certificate verify failed: certificate has expired")

    async def test(server: Server, _: RemoteClient) -> None:
        client = RemoteClient(ClusterTransport(server.credentials, connect=connect))
        with pytest.raises(status.ServerUnavailable, match="is the clock of this machine right"):
            await client.get(PODS, "n", "a")

    scenario(None, test)


def test_a_user_without_rights_costs_one_load_in_a_while() -> None:
    async def handle(request: Request) -> Response:
        return failure(401, "Unauthorized")

    async def test(server: Server, client: RemoteClient) -> None:
        for _ in range(100):
            with pytest.raises(status.Unauthorized):
                await client.get(PODS, "n", "a")
            await asyncio.sleep(1)
        assert server.loads <= 11

    scenario(handle, test)


def test_a_credential_is_renewed_before_its_end() -> None:
    async def handle(request: Request) -> Response:
        return answer(200, obj("a"))

    async def test(server: Server, client: RemoteClient) -> None:
        server.life = 900.0
        for _ in range(60):
            await client.get(PODS, "n", "a")
            await asyncio.sleep(60)
        assert server.loads == 5  # an hour, a quarter of an hour each, a minute before the end

    scenario(handle, test)


def test_without_credentials_the_reason_is_said_and_plugins_are_not_hammered() -> None:
    loads = 0

    async def load(source: str) -> Access:
        nonlocal loads
        loads += 1
        raise status.ServerUnavailable("exec: plugin returned 1")

    async def whole() -> None:
        transport = ClusterTransport(Credentials("test", load=load, clock=asyncio.get_running_loop().time))
        for _ in range(30):
            with pytest.raises(status.ServerUnavailable, match="plugin returned 1"):
                await RemoteClient(transport).get(PODS, "n", "a")
            await asyncio.sleep(1)
        assert loads == 3

    virtual_time.run(whole())


# A server that is away


def test_a_server_that_is_away_for_an_hour_is_tried_rarely_and_found_again() -> None:
    """Five caches and fifty writers want it all the time. A credential expires meanwhile; nothing that happened is missing afterwards."""
    objects, version = {"a": obj("a", "1")}, "77"

    async def handle(request: Request) -> Response:
        if "sendInitialEvents" in request.query:
            end = {"metadata": {**END["metadata"], "resourceVersion": version}}
            return lines(*(("ADDED", o) for o in objects.values()), ("BOOKMARK", end), forever=True)
        if "watch" in request.query:
            if request.query["resourceVersion"] != [version]:
                return failure(410, "Expired", "too old resource version")
            return lines(forever=True)
        return answer(200, obj("a"))

    async def test(server: Server, client: RemoteClient) -> None:
        server.life = 600.0
        informers = [Informer(client, CONFIGMAPS) for _ in range(5)]
        followers = [asyncio.create_task(informer.run()) for informer in informers]
        for informer in informers:
            await informer.synced.wait()

        async def write() -> None:
            while True:
                try:
                    await client.merge_patch(CONFIGMAPS, "n", "a", {})
                    await asyncio.sleep(5)
                except status.ServerUnavailable as exc:
                    assert "connection" in str(exc)
                    await asyncio.sleep(max(1.0, exc.retry_after or 0.0))

        writers = [asyncio.create_task(write()) for _ in range(50)]
        await asyncio.sleep(10)
        nonlocal version
        server.power_cut()
        version = "99"
        objects["b"] = obj("b", "2")
        del objects["a"]
        before = len(server.attempts)
        await asyncio.sleep(3600)
        attempts = server.attempts[before:]
        assert 100 <= len(attempts) <= 260, len(attempts)  # one in 15 to 30 s, though 55 want it
        server.handle = handle
        await asyncio.sleep(90)
        for informer in informers:
            assert [o["metadata"]["name"] for o in informer] == ["b"]
        assert 6 <= server.loads <= 9
        for task in (*followers, *writers):
            assert not task.done()
            task.cancel()
        await asyncio.gather(*followers, *writers, return_exceptions=True)

    scenario(handle, test)


def test_a_connection_that_the_server_has_closed_is_not_used_again() -> None:
    async def handle(request: Request) -> Response:
        return answer(200, obj("a"))

    async def test(server: Server, client: RemoteClient) -> None:
        await client.get(PODS, "n", "a")
        for task in tuple(server._tasks):
            task.cancel()
        await asyncio.sleep(1)
        await client.get(PODS, "n", "a")
        assert server.transport.connections == 2

    scenario(handle, test)


def test_a_request_that_takes_too_long_ends() -> None:
    async def handle(request: Request) -> Response:
        await asyncio.Event().wait()
        raise AssertionError

    async def test(server: Server, client: RemoteClient) -> None:
        with pytest.raises(status.ServerUnavailable, match="in time"):
            await client.get(PODS, "n", "a")

    scenario(handle, test)


def test_requests_that_hang_leave_the_others_their_turns() -> None:
    """A webhook hangs on Events; a hundred of them wait."""

    async def handle(request: Request) -> Response:
        if request.method == "POST":
            await asyncio.Event().wait()
        return answer(200, obj("a"))

    async def test(server: Server, client: RemoteClient) -> None:
        now = asyncio.get_running_loop().time
        async with asyncio.TaskGroup() as group:
            hanging = [group.create_task(client.create(EVENTS, "n", obj(f"e{n}"))) for n in range(100)]
            await asyncio.sleep(0.1)
            assert len(server.seen) < 40, "a server that is busy gets no more at a time"
            began = now()
            await client.get(PODS, "n", "a")
            assert now() - began < 10
            for task in hanging:
                task.cancel()
        began = now()
        async with asyncio.TaskGroup() as group:
            for _ in range(500):
                group.create_task(client.get(PODS, "n", "a"))
        assert now() == began, "each turn came back"
        seen = len(server.seen)
        async with asyncio.TaskGroup() as group:
            hanging = [group.create_task(client.create(EVENTS, "n", obj(f"e{n}"))) for n in range(100)]
            await asyncio.sleep(0.1)
            assert len(server.seen) - seen < 40, "and none twice"
            for task in hanging:
                task.cancel()

    scenario(handle, test)


@pytest.mark.parametrize("moved", [True, False])
def test_a_watch_of_the_server_that_was_ends_when_the_source_leads_to_another(moved: bool) -> None:
    """What is read at the one would be written at the other. A credential alone that is another ends no watch."""

    async def handle(request: Request) -> Response:
        return lines(("ADDED", obj("a")), forever=True) if "watch" in request.target else answer(200, obj("b"))

    async def test(server: Server, client: RemoteClient) -> None:
        server.life = 100.0
        watch = client.watch(PODS, "n", resource_version="1")
        assert (await anext(watch)).object["metadata"]["name"] == "a"
        reading = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(200)
        server.host = "https://another.test" if moved else server.host
        await client.get(PODS, "n", "b")
        await asyncio.sleep(1)
        assert reading.done() == moved
        if moved:
            with pytest.raises(status.ServerUnavailable):
                await reading
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await watch.aclose()

    server = scenario(handle, test)
    assert server.loads == 2
