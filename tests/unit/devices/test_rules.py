"""Rules from rest: a request to a tenant's API is a message on a node's broker, or a request to a service there. API, node, broker and service
are the real ones, on sockets; the link between cloud and node is a socket pair."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.api import rules
from kubeedge.api.names import NodeName, TenantId
from kubeedge.api.resources import Resources
from kubeedge.apiserver import rule_calls
from kubeedge.apiserver.builtin import BUILT_IN
from kubeedge.apiserver.registry import Registry
from kubeedge.apiserver.rules import ROWS
from kubeedge.apiserver.server import ApiServer
from kubeedge.config import forms
from kubeedge.devices.eventbus.module import EventBus
from kubeedge.devices.module import DeviceTwins
from kubeedge.devices.rules import NodeRules
from kubeedge.errors import Unavailable
from kubeedge.kit.http1 import Request, Response, serve_connection
from kubeedge.kit.streams import close_writer
from kubeedge.mqtt.client import MqttClient
from kubeedge.store.sqlite import open_sqlite
from tests.unit.apiserver.test_http import Api
from tests.unit.devices.modules import WITHIN, running, until

BASE = "/apis/rules.kubeedge.io/v1/namespaces/default"


def endpoint(name: str, kind: str, **properties: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "spec": {"ruleEndpointType": kind, **({"properties": properties} if properties else {})},
    }


def rule(name: str, source_path: str, target: str, **resource: str) -> dict[str, Any]:
    spec = {"source": "my-rest", "sourceResource": {"path": source_path}, "target": target, "targetResource": resource}
    return {"metadata": {"name": name}, "spec": spec}


class Site(Api):
    """A cloud with a node, edge1."""

    def __init__(self) -> None:
        super().__init__()
        for tenant in list(self.registries):
            self.registries[tenant] = Registry(self.store, tenant, served=Resources((*BUILT_IN, *ROWS)))
        self.node = NodeRules()
        self.away = False
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.answers = asyncio.Event()
        self.answers.set()
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.server = ApiServer(self.registries.get, self._stream, rule_stream=self._stream)

    async def __call__(
        self, method: str, target: str, body: Any = b"", *, uri: str | None = "", **headers: str
    ) -> tuple[int, Any]:
        """An answer that was read, or was not, is closed, as a connection does it."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = await self.raw(method, target, data, uri=uri, **headers)
        if isinstance(answer.body, bytes):
            got = answer.body
        else:
            try:
                got = b"".join([piece async for piece in answer.body])
            finally:
                await answer.body.aclose()  # type: ignore[attr-defined]
        return answer.status, json.loads(got) if got[:1] in (b"{", b"[") else got

    async def _stream(self, tenant: TenantId, node: NodeName) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.away or (tenant, node) != ("a", "edge1"):
            raise Unavailable(f"no link to {node}")
        port: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._tasks.add(asyncio.current_task())  # type: ignore[arg-type]
            try:
                await serve_connection(reader, writer, self.node.answer)
            except asyncio.CancelledError:
                await close_writer(writer)

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        port.set_result(server.sockets[0].getsockname()[1])
        try:
            return await asyncio.open_connection("127.0.0.1", await port)
        finally:
            server.close()

    async def _service(self, request: Request) -> Response:
        await self.answers.wait()
        body = await request.read(1 << 28)
        self.requests.append((request.method, request.target, dict(request.headers), body))
        if request.path.endswith("/missing"):
            return Response(404, [], b"not here")
        if request.path.endswith("/fails"):
            return Response(500, [], b"broken")

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(4):
                yield b"x" * 50_000

        return Response(201, [("x-own", "yes"), ("content-type", "text/plain")], pieces())

    @contextlib.asynccontextmanager
    async def service(self) -> AsyncIterator[None]:
        tasks: set[Any] = set()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tasks.add(asyncio.current_task())
            with contextlib.suppress(asyncio.CancelledError):
                await serve_connection(reader, writer, self._service)
            await close_writer(writer)

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield
            for task in (*tasks, *self._tasks):
                task.cancel()
            await asyncio.gather(*tasks, *self._tasks, return_exceptions=True)

    async def made(self) -> None:
        for obj in (
            endpoint("my-rest", "rest"),
            endpoint("my-eventbus", "eventbus"),
            endpoint("my-servicebus", "servicebus", service_port=str(self.port)),
        ):
            assert (await self("POST", f"{BASE}/ruleendpoints", obj))[0] == 201
        for obj in (
            rule("to-bus", "/a/b", "my-eventbus", topic="plant/hall"),
            rule("to-service", "/a", "my-servicebus", path="/service"),
        ):
            assert (await self("POST", f"{BASE}/rules", obj))[0] == 201

    async def status(self, name: str) -> dict[str, Any]:
        found = await self.registries[TenantId("a")].get(rules.RULES, "default", name)
        return dict(found.get("status") or {})

    async def counts(self, name: str, successes: int, failures: int) -> dict[str, Any]:
        end = asyncio.get_running_loop().time() + WITHIN
        while True:
            status = await self.status(name)
            if (status.get("successMessages", 0), status.get("failMessages", 0)) == (successes, failures):
                return status
            assert asyncio.get_running_loop().time() < end, status
            await asyncio.sleep(0.05)


def run(test: Any) -> None:
    async def inside() -> None:
        site = Site()
        try:
            async with asyncio.timeout(WITHIN * 2), site.service():
                await site.made()
                await test(site)
        finally:
            await site.store.close()

    asyncio.run(inside())


def test_a_request_is_a_message_on_the_broker_of_a_node(tmp_path: Path) -> None:
    async def inside(site: Site) -> None:
        store = await open_sqlite(tmp_path / "store.db")
        twins = DeviceTwins(store, wall=lambda: 0.0)
        bus = EventBus(twins, "edge1", "127.0.0.1", 0)
        got: list[tuple[str, bytes]] = []
        async with running(twins, bus):
            client = await MqttClient.open(
                "127.0.0.1", bus.port, "c", lambda message: got.append((message.topic, message.payload))
            )
            serving = asyncio.create_task(client.serve())
            await client.subscribe("plant/#")
            status, answer = await site("POST", "/rules/edge1/default/a/b", b"early")
            assert status == 503  # the broker is not known to the rules yet
            site.node.publish = bus.publish
            assert await site("POST", "/rules/edge1/default/a/b", b"one") == (200, b"message delivered")
            assert await site("PUT", "/rules/edge1/default/a/b/more/levels", b"two") == (200, b"message delivered")
            await until(lambda: got == [("plant/hall", b"one"), ("plant/hall/more/levels", b"two")])
            status, answer = await site("POST", "/rules/edge1/default/a/b", b"x" * (rule_calls.MESSAGE + 1))
            assert status == 413
            # a change counts at once
            changed = rule("to-bus", "/a/b", "my-eventbus", topic="other")
            _, old = await site("GET", f"{BASE}/rules/to-bus")
            assert (await site("PUT", f"{BASE}/rules/to-bus", {**old, "spec": changed["spec"]}))[0] == 200
            await client.subscribe("other")
            assert (await site("POST", "/rules/edge1/default/a/b", b"three"))[0] == 200
            await until(lambda: got[2:] == [("other", b"three")])
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            await client.close()
        found = await site.counts("to-bus", 3, 2)
        assert any("does not run yet" in error for error in found["errors"])
        await store.close()

    run(inside)


def test_a_request_goes_on_to_a_service_of_a_node_and_its_answer_comes_back() -> None:
    async def inside(site: Site) -> None:
        answer = await site.raw(
            "PUT",
            "/rules/edge1/default/a/x%20y?q=1&q=2",
            b"b" * 300_000,
            authorization="Bearer secret",
            content_length="300000",
            x_mine="m",
            cookie="c=1",
        )
        assert answer.status == 201 and ("x-own", "yes") in answer.headers
        assert not any(name.startswith("x-kubeedge") for name, _ in answer.headers)
        assert not isinstance(answer.body, bytes)
        assert sum([len(piece) async for piece in answer.body]) == 200_000
        await answer.body.aclose()  # type: ignore[attr-defined]
        ((method, target, headers, body),) = site.requests
        assert (method, target) == ("PUT", "/service/x%20y?q=1&q=2") and body == b"b" * 300_000
        assert headers["x-mine"] == "m" and "authorization" not in headers and "cookie" not in headers
        status, _ = await site("GET", "/rules/edge1/default/a/fails")
        assert status == 500
        status, body = await site("GET", "/rules/edge1/default/a/missing")
        assert (status, body) == (404, b"not here")  # of the service: it has had the request
        found = await site.counts("to-service", 2, 1)
        assert found["errors"] == ["node edge1 answered 500"]

    run(inside)


def test_what_does_not_arrive_is_counted_and_said() -> None:
    async def inside(site: Site) -> None:
        site.away = True
        status, answer = await site("GET", "/rules/edge1/default/a")
        assert status == 504 and "edge1" in answer["message"]
        site.away = False
        nowhere = endpoint("my-servicebus", "servicebus", service_port="1")
        _, old = await site("GET", f"{BASE}/ruleendpoints/my-servicebus")
        await site("PUT", f"{BASE}/ruleendpoints/my-servicebus", {**old, "spec": nowhere["spec"]})
        status, answer = await site("GET", "/rules/edge1/default/a")
        assert status == 502 and "port 1" in answer["error"]
        assert (await site("DELETE", f"{BASE}/ruleendpoints/my-eventbus"))[0] == 200
        assert (await site("POST", "/rules/edge1/default/a/b"))[0] == 404
        _, answer = await site("GET", "/rules/edge1/default/none/at?x=1")
        assert "no rule of namespace default" in answer["message"] and "/none/at" in answer["message"]
        for target in ("/rules/edge1/default/none", "/rules/edge1/other/a", "/rules/edge1/default"):
            assert (await site("GET", target))[0] == 404
        away, itself = (await site.counts("to-service", 0, 2))["errors"]
        assert (
            away.startswith("node edge1 cannot be reached")
            and itself == "node edge1 answered 502 itself, not its service"
        )

    run(inside)


def test_another_tenant_has_neither_the_rule_nor_the_node() -> None:
    async def inside(site: Site) -> None:
        uri = "spiffe://kubeedge/tenant/b/user/admin"
        assert (await site("GET", "/rules/edge1/default/a", uri=uri))[0] == 404
        for obj in (endpoint("my-rest", "rest"), endpoint("s", "servicebus", service_port="80")):
            await site("POST", f"{BASE}/ruleendpoints", obj, uri=uri)
        await site("POST", f"{BASE}/rules", rule("r", "/a", "s", path="/"), uri=uri)
        assert (await site("GET", "/rules/edge1/default/a", uri=uri))[0] == 504
        status, answer = await site("GET", "/rules/edge1/default/a", uri=None)
        assert status == 401 and "or the token of a service account, is needed" in answer["message"]

    run(inside)


def test_a_rule_has_so_many_calls_at_once_and_gives_them_back() -> None:
    async def inside(site: Site) -> None:
        site.answers.clear()
        open_ = [asyncio.create_task(site("GET", "/rules/edge1/default/a")) for _ in range(16)]
        await until(lambda: site.node._calls == 16)
        assert (await site("GET", "/rules/edge1/default/a"))[0] == 429
        open_.pop().cancel()
        site.answers.set()
        answers = await asyncio.gather(*open_, return_exceptions=True)
        assert {answer[0] for answer in answers if isinstance(answer, tuple)} == {201}
        await until(lambda: site.node._calls == 0)

    run(inside)


def test_calls_end_their_slots_with_their_answers() -> None:
    """Answers that nobody reads to the end hold no place."""

    async def inside(site: Site) -> None:
        for _ in range(40):
            answer = await site.raw("GET", "/rules/edge1/default/a")
            assert answer.status == 201
            await answer.body.aclose()  # type: ignore[union-attr]
        await until(lambda: site.node._calls == 0)
        assert not site.server._rules._open

    run(inside)


@pytest.mark.parametrize(
    "target",
    [
        "/rules/eventbus?topic=%24hw/events/device/default/hall/twin/update",
        "/rules/eventbus?topic=a/%23",
        "/rules/eventbus",
        "/rules/eventbus?topic=" + "a" * 5000,
        "/rules/servicebus/abc/x",
        "/rules/servicebus/999999/x",
        "/rules/servicebus",
        "/rules/other/80/x",
    ],
)
def test_the_node_refuses_what_is_no_rule(target: str) -> None:
    async def inside() -> None:
        node = NodeRules()
        node.publish = lambda topic, payload: pytest.fail(topic)

        async def body() -> AsyncIterator[bytes]:
            yield b"x"

        answer = await node.answer(Request("POST", target, [], lambda name: None, body()))
        assert answer.status in (400, 404)  # type: ignore[union-attr]

    asyncio.run(inside())


def test_the_node_says_which_ports_are_for_rules() -> None:
    async def inside() -> None:
        async def none() -> AsyncIterator[bytes]:
            return
            yield b""

        node = NodeRules([forms.port_range("8080"), forms.port_range("1-2")])
        for port, status in ((22, 403), (8081, 403), (1, 502), (2, 502)):  # nothing listens at 1 and 2
            answer = await node.answer(Request("GET", f"/rules/servicebus/{port}/x", [], lambda name: None, none()))
            assert answer.status == status, port  # type: ignore[union-attr]

    asyncio.run(inside())
    for text in ("", "0", "x", "5-4", "1-", "-5", "1-65536", "1-2-3", "\u0661"):
        with pytest.raises(ValueError):
            forms.port_range(text)


def test_a_node_whose_broker_says_nothing_is_named_with_what_is_missing() -> None:
    async def inside(site: Site) -> None:
        async def cut(request: Request) -> Response:
            request.abort()
            return Response(200, [], b"")

        site.node.answer = cut  # type: ignore[method-assign,assignment]
        status, answer = await site("POST", "/rules/edge1/default/a/b", b"x")
        assert status == 504 and "has taken the message and not said that its broker has it" in answer["message"]
        site.away = True
        status, answer = await site("POST", "/rules/edge1/default/a/b", b"x")
        assert status == 504 and "its rules can be called again when it is connected" in answer["message"]
        assert "on the node itself" not in answer["message"]

    run(inside)


def test_a_message_for_a_broker_that_is_away_is_not_said_to_be_delivered() -> None:
    def away(topic: str, payload: bytes) -> None:
        raise Unavailable("the broker is away")

    async def inside(site: Site) -> None:
        site.node.publish = away
        status, answer = await site("POST", "/rules/edge1/default/a/b", b"x")
        assert status == 503 and "away" in answer["error"]
        await site.counts("to-bus", 0, 1)

    run(inside)


def test_a_path_that_hides_its_slashes_is_no_rules() -> None:
    async def inside(site: Site) -> None:
        for path in ("/rules%2Fedge1%2Fdefault%2Fa", "/rules/edge1%2Fdefault/a", "/rules/edge1/default"):
            assert (await site("POST", path, b"x", content_length="1"))[0] == 404

    run(inside)


def test_a_node_that_takes_no_rules_is_a_failure_and_no_404_of_a_service() -> None:
    async def off(request: Request) -> Response:
        return Response(404, [], b"no such path on this node")

    async def inside(site: Site) -> None:
        site.node.answer = off  # type: ignore[method-assign,assignment]
        for name, target in (("to-bus", "/rules/edge1/default/a/b"), ("to-service", "/rules/edge1/default/a")):
            status, answer = await site("POST", target, b"x", content_length="1")
            assert status == 502 and "modules.devices.rules" in answer["error"]
            await site.counts(name, 0, 1)

    run(inside)


@given(st.lists(st.sampled_from(["a", "a/b", "/a/b/", "b", "/", "", "a/bc"]), max_size=6), st.sampled_from(["a", "a/b", "a/b/c", "a/bcd", "", "b/"]))  # fmt: skip
def test_the_longest_path_that_begins_a_request_wins(paths: list[str], path: str) -> None:
    found = rules.for_path([rule(str(n), text, "t", topic="x") for n, text in enumerate(paths)], path)
    lengths = [len(rules.text_of(obj, "sourceResource", "path").strip("/")) for obj, _ in found]
    assert lengths == sorted(lengths, reverse=True)
    for obj, rest in found:
        own = rules.text_of(obj, "sourceResource", "path").strip("/")
        assert own and path == own + rest and (not rest or rest[0] == "/")


def test_objects_are_checked() -> None:
    assert not rules.endpoint(endpoint("x", "rest")) and not rules.rule(rule("x", "/a", "t", topic="b"))
    for bad in (endpoint("x", "mqtt"), endpoint("x", "servicebus"), endpoint("x", "servicebus", service_port="0x50")):
        assert rules.endpoint(bad)
    found = {
        error.path for error in rules.rule({"spec": {"source": "", "target": "t", "sourceResource": {"path": "a\n"}}})
    }
    assert found == {"spec.source", "spec.sourceResource.path", "spec.targetResource"}
    assert json.loads(json.dumps(rules.counted({"status": {"successMessages": 2}}, 1, 1, ["x"] * 9, 5)))["status"] == {
        "successMessages": 3,
        "failMessages": 1,
        "errors": ["x"] * 5,
    }
