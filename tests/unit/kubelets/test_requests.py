"""Those who are not the API server, at a kubelet port: real HTTP on socket pairs, a cluster that is asked, and a node."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest

from kubeedge.api.client import Resource
from kubeedge.api.names import NodeName, Object
from kubeedge.api.status import ServerUnavailable
from kubeedge.errors import Unavailable
from kubeedge.kit.http1 import Connection, Request, Response, Upgrade, serve_connection, text_response
from kubeedge.kit.streams import StreamPair
from kubeedge_cloud.kubelets.core import Caller, Right
from kubeedge_cloud.kubelets.requests import AuthorizingProxy
from kubeedge_cloud.kubelets.reviews import Reviews
from tests.kit import virtual_time

NODE = NodeName("edge1")
RIGHT = Right("get", "metrics")


class Cluster:
    """Knows tokens, and may say what their users may do; `away`: it answers nothing."""

    def __init__(self) -> None:
        self.tokens: dict[str, str] = {"good": "jane"}
        self.rights: set[tuple[str, str, str]] = {("jane", "get", "metrics")}
        self.asked: list[Object] = []
        self.away = False

    async def create(self, resource: Resource, namespace: str, obj: Object) -> Object:
        self.asked.append(obj)
        if self.away:
            raise ServerUnavailable("no answer")
        spec: dict[str, Any] = obj["spec"]
        if resource.plural == "tokenreviews":
            user = self.tokens.get(spec["token"])
            return {"status": {"authenticated": True, "user": {"username": user}} if user else {"error": "unknown"}}
        at = spec["resourceAttributes"]
        assert at["resource"] == "nodes" and at["name"] == NODE
        return {"status": {"allowed": (spec["user"], at["verb"], at["subresource"]) in self.rights}}


class Port:
    """The port of one node."""

    def __init__(self, *, known: Caller | None = None, welcome: Callable[[Caller], bool] = lambda user: True) -> None:
        self.cluster = Cluster()
        self.reviews = Reviews(self.cluster, asyncio.get_running_loop().time)  # type: ignore[arg-type]
        self.at_node: list[Request] = []
        self.node_is_away = False
        self._known, self._welcome = known, welcome
        self._tasks: list[asyncio.Task[None]] = []

    async def client(self) -> Connection:
        ours = await _pair()
        proxy = AuthorizingProxy(self.reviews, NODE, "192.0.2.1", self._known, self._connect, self._welcome)
        self._tasks.append(asyncio.create_task(proxy.serve(*ours[1])))
        return Connection(*ours[0])

    async def ask(self, method: str, target: str, **headers: str) -> tuple[int, str]:
        connection = await self.client()
        pairs = [("host", "x"), *((name.replace("_", "-"), value) for name, value in headers.items())]
        answer = await connection.request(method, target, pairs)
        text = (await answer.read(10_000)).decode()
        await connection.close()
        return answer.status, text

    async def _connect(self) -> StreamPair:
        if self.node_is_away:
            raise Unavailable("no link")
        ends = await _pair()
        self._tasks.append(asyncio.create_task(serve_connection(*ends[1], self._node)))
        return ends[0]

    async def _node(self, request: Request) -> Response | Upgrade:
        self.at_node.append(request)
        if request.header("upgrade"):

            async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes) -> None:
                writer.write(first + await reader.readexactly(4 - len(first)))
                await writer.drain()
                writer.close()

            return Upgrade([("connection", "Upgrade"), ("upgrade", "SPDY/3.1")], echo)
        return text_response(200, "from the node")


async def _pair() -> tuple[StreamPair, StreamPair]:
    one, other = socket.socketpair()
    return await asyncio.open_connection(sock=one), await asyncio.open_connection(sock=other)


def test_a_request_goes_on_with_the_right_and_without_the_token() -> None:
    async def scenario() -> None:
        port = Port()
        found = await port.ask(
            "GET",
            "/metrics/resource?x=1",
            authorization="Bearer good",
            accept="text/plain",
            cookie="c",
            accept_encoding="gzip",
        )
        assert found == (200, "from the node")
        (request,) = port.at_node
        assert request.target == "/metrics/resource?x=1" and dict(request.headers) == {
            "host": NODE,
            "accept": "text/plain",
            "accept-encoding": "gzip",
        }

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("method", "target", "headers", "status"),
    [
        ("GET", "/metrics", {}, 401),
        ("GET", "/metrics", {"authorization": "Bearer bad"}, 401),
        ("GET", "/metrics", {"authorization": "Bearer " + "x" * 20_000}, 401),
        ("GET", "/metrics", {"authorization": "Basic good"}, 401),
        ("GET", "/pods", {"authorization": "Bearer good"}, 403),
        ("POST", "/metrics", {"authorization": "Bearer good"}, 403),
        ("GET", "/exec/n/p/c", {"authorization": "Bearer good"}, 403),
        ("DELETE", "/metrics", {"authorization": "Bearer good"}, 405),
    ],
)
def test_nobody_else_reaches_the_node(method: str, target: str, headers: dict[str, str], status: int) -> None:
    async def scenario() -> None:
        port = Port()
        assert (await port.ask(method, target, **headers))[0] == status
        assert not port.at_node

    asyncio.run(scenario())


def test_each_request_of_a_connection_is_judged() -> None:
    async def scenario() -> None:
        port = Port()
        connection = await port.client()
        for target, status in (("/metrics", 200), ("/pods", 403), ("/metrics", 200)):
            answer = await connection.request("GET", target, [("host", "x"), ("authorization", "Bearer good")])
            await answer.read(1000)
            assert answer.status == status
        await connection.close()
        assert len(port.at_node) == 2

    asyncio.run(scenario())


def test_a_session_passes_when_it_may_be_created() -> None:
    async def scenario() -> None:
        port = Port()
        port.cluster.rights.add(("jane", "create", "proxy"))
        connection = await port.client()
        headers = [("host", "x"), ("authorization", "Bearer good"), ("connection", "Upgrade"), ("upgrade", "SPDY/3.1")]
        answer = await connection.request("POST", "/exec/n/p/c", headers)
        assert answer.status == 101
        connection.writer.write(b"echo")
        assert connection.trailing() + await connection.reader.read() == b"echo"
        await connection.close()

    asyncio.run(scenario())


def test_the_user_of_a_certificate_is_judged_as_well() -> None:
    async def scenario() -> None:
        port = Port(known=Caller("jane", groups=("system:authenticated",)))
        assert (await port.ask("GET", "/metrics"))[0] == 200
        assert (await port.ask("GET", "/pods"))[0] == 403

    asyncio.run(scenario())


def test_who_has_too_many_connections_gets_none_more() -> None:
    async def scenario() -> None:
        port = Port(welcome=lambda user: False)
        assert (await port.ask("GET", "/metrics", authorization="Bearer good"))[0] == 429
        assert not port.at_node

    asyncio.run(scenario())


def test_what_is_away_is_said() -> None:
    async def scenario() -> None:
        port = Port()
        port.cluster.away = True
        status, text = await port.ask("GET", "/metrics", authorization="Bearer good")
        assert status == 503 and "no answer" in text
        port.cluster.away, port.node_is_away = False, True
        status, text = await port.ask("GET", "/metrics", authorization="Bearer good")
        assert status == 503 and "node edge1 cannot be reached: no link" in text

    asyncio.run(scenario())


def test_answers_of_the_cluster_are_remembered_as_by_a_kubelet() -> None:
    async def scenario() -> None:
        cluster = Cluster()
        reviews = Reviews(cluster, asyncio.get_running_loop().time)  # type: ignore[arg-type]

        async def questions(token: str) -> int:
            before = len(cluster.asked)
            user = await reviews.user_of(token, "a")
            if user is not None:
                await reviews.may(user, NODE, RIGHT, "a")
            return len(cluster.asked) - before

        assert await questions("good") == 2 and await questions("good") == 0
        assert await questions("bad") == 1 and await questions("bad") == 0
        await asyncio.sleep(31)
        assert await questions("bad") == 1 and await questions("good") == 0
        await asyncio.sleep(90)
        assert await questions("good") == 1  # who it is; the right is remembered longer
        await asyncio.sleep(180)
        assert await questions("good") == 2
        cluster.rights.clear()
        await asyncio.sleep(301)
        assert await questions("good") == 2
        await asyncio.sleep(31)
        assert await questions("good") == 1  # a denial is asked again soon

    virtual_time.run(scenario())


def test_a_client_that_guesses_is_held_back_by_its_address() -> None:
    async def scenario() -> None:
        cluster = Cluster()
        reviews = Reviews(cluster, asyncio.get_running_loop().time)  # type: ignore[arg-type]
        refused = 0
        for n in range(200):
            try:
                assert await reviews.user_of(f"guess{n}", "192.0.2.9") is None
            except Unavailable:
                refused += 1
        assert refused >= 140 and len(cluster.asked) <= 60
        assert await reviews.user_of("good", "192.0.2.1") is not None  # others are not

    virtual_time.run(scenario())
