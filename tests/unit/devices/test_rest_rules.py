"""Rules from a node to REST endpoints: a broker, a ServiceBus, the queue, sync, the cloud's log and an HTTP server, all of them the real ones."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ipaddress
import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.agent.kubelet import cloud_calls
from kubeedge.agent.parts import Parts
from kubeedge.api import keys, node_messages, rules
from kubeedge.api.names import NodeName, TenantId
from kubeedge.api.node_messages import NodeMessage
from kubeedge.api.resources import Resources
from kubeedge.api.rules import RULEENDPOINTS, RULES, RestTarget
from kubeedge.apiserver.builtin import BUILT_IN
from kubeedge.apiserver.message_log import LoggedMessage, MessageLog
from kubeedge.apiserver.registry import Registry
from kubeedge.apiserver.rule_counts import RuleCounts
from kubeedge.apiserver.rules import ROWS
from kubeedge.devices.eventbus.module import EventBus
from kubeedge.devices.module import DeviceTwins
from kubeedge.devices.servicebus.module import ServiceBus
from kubeedge.devices.upstream.module import MessageUpstream
from kubeedge.devices.upstream.queue import UpstreamQueue
from kubeedge.errors import Invalid, Unavailable
from kubeedge.kit.http1 import Connection, Request, Response, serve_connection
from kubeedge.kit.streams import close_writer
from kubeedge.mqtt import core as mqtt
from kubeedge.mqtt.client import MqttClient
from kubeedge.store.memory import MemoryStore
from kubeedge.store.model import Store
from kubeedge.store.sqlite import open_sqlite
from kubeedge_cloud.messages.driver import TenantMessages
from kubeedge_cloud.rules import addresses, core
from kubeedge_cloud.rules.addresses import TargetNetwork
from kubeedge_cloud.rules.core import MessageRoute
from kubeedge_cloud.rules.delivery import MessageRefused, RuleDelivery, is_own
from kubeedge_cloud.rules.driver import TenantRules
from tests.kit.certs import TestAuthority
from tests.unit.devices.modules import WITHIN, running, until
from tests.unit.devices.test_rules import endpoint
from tests.unit.devices.test_upstream import NODE, TENANT, line

NOON = 1_790_000_000.0
LOOPBACK: list[TargetNetwork] = [ipaddress.ip_network("127.0.0.0/8")]
URL = "http://shop.example/orders"


class Target:
    """A REST endpoint. `status`: what it answers."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.got: list[tuple[str, str, bytes]] = []
        self.headers: list[Mapping[str, str]] = []
        self.status = 200
        self.body = b"x" * 100
        self.port = 0
        self._context = context
        self._tasks: set[asyncio.Task[None]] = set()

    async def _answer(self, request: Request) -> Response:
        body = await request.read(1 << 20)
        self.headers.append(dict(request.headers))
        if self.status == 200:
            self.got.append((request.method, request.target, body))
        return Response(self.status, [("location", "http://127.0.0.1:1/")], self.body)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.current_task())  # type: ignore[arg-type]
        with contextlib.suppress(asyncio.CancelledError):
            await serve_connection(reader, writer, self._answer)
        await close_writer(writer)

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._context)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            try:
                yield
            finally:
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)


class Nodes:
    """The nodes of the tenant."""

    async def follow_nodes(self, tenant: TenantId) -> AsyncGenerator[Mapping[NodeName, Any], None]:
        yield {NODE: None}
        await asyncio.Event().wait()


class World:
    """A cloud and a node, with a line between them when there is one."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path
        self.store = MemoryStore()
        self.api = Registry(self.store, TENANT, served=Resources((*BUILT_IN, *ROWS)))
        self.target = Target()
        self.log = MessageLog(self.store, TENANT)
        self.service: ServiceBus | None = None
        self.timeout = 0.0

    async def rule(self, name: str, source: str, **resource: str) -> None:
        path = f"http://127.0.0.1:{self.target.port}/in/{name}"
        spec = {"source": source, "sourceResource": resource, "target": "rest", "targetResource": {"resource": path}}
        await self.api.create(RULES, "default", {"metadata": {"name": name}, "spec": spec})

    async def made(self) -> None:
        await self.store.put(keys.nodes(TENANT) + NODE, b"{}")
        for obj in (
            endpoint("rest", "rest"),
            endpoint("bus", "eventbus"),
            endpoint("service", "servicebus", service_port="9060"),
        ):
            await self.api.create(RULEENDPOINTS, "default", obj)

    async def node_stream(self, tenant: TenantId, node: NodeName) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """To the port of the node that the cloud alone reaches."""
        parts = cast(Parts, SimpleNamespace(methods=None, rules=None, service_bus=self.service))
        server = await asyncio.start_server(cloud_calls(parts), "127.0.0.1", 0)
        try:
            return await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
        finally:
            server.close()

    @contextlib.asynccontextmanager
    async def cloud(self, allowed: list[TargetNetwork] = LOOPBACK) -> AsyncIterator[None]:
        serving = TenantRules(
            TENANT,
            self.store,
            self.api,
            Nodes(),
            RuleCounts(),
            allowed=allowed,
            wall=lambda: NOON,  # type: ignore[arg-type]
            node_stream=self.node_stream,
        )
        async with running(TenantMessages(TENANT, self.store, wall=lambda: NOON), serving):  # type: ignore[arg-type]
            yield

    @contextlib.asynccontextmanager
    async def agent(self, edge: Store) -> AsyncIterator[tuple[MqttClient, ServiceBus, MessageUpstream]]:
        upstream = MessageUpstream(edge, UpstreamQueue(self.tmp_path / "messages.db", 1 << 24, 1e9), wall=lambda: NOON)
        bus = EventBus(DeviceTwins(edge, wall=lambda: NOON), NODE, "127.0.0.1", 0, upstream=upstream)
        service = self.service = ServiceBus(upstream, "127.0.0.1", 0, timeout=self.timeout)
        async with running(upstream, service, bus):
            client = await MqttClient.open("127.0.0.1", bus.port, "program", lambda message: None)
            serving = asyncio.create_task(client.serve())
            try:
                yield client, service, upstream
            finally:
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)

    async def status(self, name: str) -> dict[str, Any]:
        return dict((await self.api.get(RULES, "default", name)).get("status") or {})

    async def says(self, name: str, what: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        async with asyncio.timeout(WITHIN):
            while not what(status := await self.status(name)):
                await asyncio.sleep(0.05)
        return status


async def ask(service: ServiceBus, body: Any, *headers: tuple[str, str]) -> tuple[int, dict[str, Any]]:
    connection = Connection(*await asyncio.open_connection("127.0.0.1", service.port))
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = await connection.request("POST", "/", [("host", "127.0.0.1"), *headers], data)
    found = json.loads(await answer.read(4096))
    await connection.close()
    return answer.status, found


async def begun(world: World, *names: str) -> None:
    """The rules read: what comes from here on is theirs."""
    async with asyncio.timeout(WITHIN):
        while len(await world.log.readers(NODE)) < len(names):
            await asyncio.sleep(0.02)


def test_messages_and_requests_arrive_in_order_through_cuts_of_line_target_and_cloud(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        edge = await open_sqlite(tmp_path / "edge.db")
        await world.made()
        async with world.target.listening():
            pass
        await world.rule("plant", "bus", topic="plant/+", node_name=NODE)
        await world.rule("orders", "service", target_url=URL, node_name=NODE)
        async with world.agent(edge) as (client, service, upstream):
            async with world.cloud():
                await begun(world, "plant", "orders")
                async with line(edge, world.store):
                    await until(lambda: upstream.topics.has("default/plant/1") and URL in upstream.topics.services)
                await client.publish("default/plant/1", b'{"n": 1}')  # the line is cut
                assert (await ask(service, {"method": "PUT", "targetURL": URL, "payload": {"n": 2}}))[0] == 202
                await client.publish("other/plant/1", b"of another namespace")
                async with line(edge, world.store):  # the target is away
                    waits = await world.says("plant", lambda status: bool(status.get("errors")))
                    assert "message 1 waits" in waits["errors"][0] and not waits.get("failMessages")
            await client.publish("default/plant/2", b"\xff\x00")  # the cloud's process is away
            async with world.cloud(), line(edge, world.store), world.target.listening():
                await until(lambda: len(world.target.got) == 3)
                assert [one for one in world.target.got if "plant" in one[1]] == [
                    ("POST", "/in/plant", b'{"n": 1}'),
                    ("POST", "/in/plant", b"\xff\x00"),
                ]
                assert ("PUT", "/in/orders", b'{"n":2}') in world.target.got
                first = next(one for one in world.target.headers if one["x-kubeedge-topic"] == "default/plant/1")
                assert first["x-kubeedge-node"] == NODE and first["idempotency-key"].endswith("-edge1-1")
                assert first["content-type"] == "application/json"
                assert (await world.says("plant", lambda status: status.get("successMessages") == 2))[
                    "failMessages"
                ] == 0
                await world.says("orders", lambda status: status.get("successMessages") == 1)
                # what it will never take is counted as failed, and holds up nothing
                world.target.status = 422
                await client.publish("default/plant/3", b"bad")
                failed = await world.says("plant", lambda status: status.get("failMessages") == 1)
                assert "answers 422" in failed["errors"][-1]
                world.target.status = 503
                await client.publish("default/plant/3", b"later")
                await world.says("plant", lambda status: "answers 503" in status["errors"][-1])
                world.target.status = 200
                await until(lambda: world.target.got[-1] == ("POST", "/in/plant", b"later"))
                # a rule that goes takes its topics and its reader along
                await world.api.delete(RULES, "default", "plant")
                await until(lambda: not upstream.topics.has("default/plant/1"))
                async with asyncio.timeout(WITHIN):
                    while len(await world.log.readers(NODE)) != 1:
                        await asyncio.sleep(0.02)
        await edge.close()
        await world.store.close()

    asyncio.run(scenario())


def test_what_an_endpoint_answers_comes_back_to_the_program(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        world.timeout = float(WITHIN)
        edge = await open_sqlite(tmp_path / "edge.db")
        await world.made()
        async with world.target.listening(), world.agent(edge) as (_, service, upstream), world.cloud():
            await world.rule("orders", "service", target_url=URL, node_name=NODE)
            await begun(world, "orders")
            request = {"method": "PUT", "targetURL": URL, "payload": {"n": 2}}
            async with line(edge, world.store):
                await until(lambda: URL in upstream.topics.services)
                for status, answer, body in (
                    (200, b"made", {"body": "made"}),
                    (201, b"\xff", {"body": "", "bodyBase64": "/w=="}),
                    (422, b'{"why": "no"}', {"body": '{"why": "no"}'}),
                    (200, b"x" * (rules.MAX_ANSWER + 1), {"body": ""}),
                ):
                    world.target.status, world.target.body = status, answer
                    got, found = await ask(service, request)
                    assert got == found["code"] == status and found.items() >= body.items(), found
                several = await asyncio.gather(*(ask(service, {**request, "payload": str(n)}) for n in range(3)))
                assert [found["code"] for _, found in several] == [200] * 3
            assert world.target.got[0] == ("PUT", "/in/orders", b'{"n":2}') and not service._asks
            service._timeout = 0.05  # and the line is cut
            got, found = await ask(service, request)
            assert got == 202 == found["code"]
            world.target.body, before = b"late", len(world.target.headers)
            async with line(edge, world.store):  # it is made all the same, and nobody waits for the answer
                await until(lambda: len(world.target.headers) == before + 1)
                await world.says("orders", lambda status: status.get("successMessages") == 7)
            service._asks = {str(n): asyncio.Future() for n in range(24)}
            service._timeout = float(WITHIN)
            assert (await ask(service, request))[0] == 202, "so many wait already"
        await edge.close()
        await world.store.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("target", "headers", "status"),
    [
        ("/answers/0", [("x-kubeedge-status", "200")], 404),
        ("/answers/" + "0" * 32, [], 400),
        ("/answers/" + "0" * 32, [("x-kubeedge-status", "99")], 400),
        ("/answers/" + "0" * 32, [("x-kubeedge-status", "1000")], 400),
        ("/answers/" + "0" * 32, [("x-kubeedge-status", "\u0662\u0660\u0660")], 400),
    ],
)
def test_answers_that_are_none_are_refused(target: str, headers: list[tuple[str, str]], status: int) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"x"

    async def scenario() -> None:
        service = ServiceBus(cast(MessageUpstream, None), "127.0.0.1", 0, timeout=1.0)
        answer = await service.answered(Request("POST", target, headers, lambda name: None, body()))
        assert answer.status == status
        connection = Connection(*await World(Path()).node_stream(TENANT, NODE))
        assert (await connection.request("POST", "/answers/x", [("host", "x")], b"")).status == 404, (
            "it has no ServiceBus"
        )
        connection.abort()

    asyncio.run(scenario())


@given(st.sampled_from(rules.METHODS), st.sampled_from(["", "0123456789abcdef" * 2]), st.binary(max_size=200))
def test_a_request_of_a_program_is_read_as_it_was_written(method: str, ask: str, body: bytes) -> None:
    assert rules.decode_request(rules.encode_request(method, ask, body)) == (method, ask, body)


@given(st.binary(max_size=100))
def test_any_other_payload_is_refused(payload: bytes) -> None:
    with contextlib.suppress(Invalid):
        method, ask, _ = rules.decode_request(payload)
        assert method in rules.METHODS and len(ask) in (0, 32)


def test_a_rule_reaches_no_address_of_the_cloud_unless_the_operator_allows_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        edge = await open_sqlite(tmp_path / "edge.db")
        await world.made()
        async with world.target.listening(), world.agent(edge) as (client, _, upstream):
            await world.rule("inside", "bus", topic="a", node_name=NODE)
            await world.rule("nowhere", "bus", topic="a", node_name="edge7")
            async with world.cloud(allowed=[]), line(edge, world.store):
                await begun(world, "inside")
                await until(lambda: upstream.topics.has("default/a"))
                await client.publish("default/a", b"1")
                status = await world.says("inside", lambda status: bool(status.get("errors")))
                assert "127.0.0.1 is no address of the Internet (rules.allowedTargets)" in status["errors"][0]
                assert not world.target.headers
                status = await world.says("nowhere", lambda status: bool(status.get("errors")))
                assert status["errors"] == ["no node edge7 has joined"]
            async with world.cloud(), line(edge, world.store):
                await until(lambda: len(world.target.got) == 1)
        await edge.close()
        await world.store.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255",
        "::1", "::", "fe80::1", "fe80::1%eth0", "fd00::1", "ff02::1", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::a00:1", "here",
        "2001:0:4136:e378:8000:63bf:f5ff:fffe", "::127.0.0.1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_of_the_internet_are_refused_in_every_form(address: str) -> None:
    assert addresses.refusal(address, [], lambda text: False)


def test_addresses_of_the_internet_and_those_of_the_operator_are_taken() -> None:
    allowed: list[TargetNetwork] = [ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("fd00::/8")]
    for address in ("8.8.8.8", "2606:4700::1111", "10.1.2.3", "fd00::5", "::ffff:10.1.2.3"):
        assert not addresses.refusal(address, allowed, lambda text: False)
    assert "is this machine" in addresses.refusal("8.8.8.8", [], lambda text: True)
    assert is_own("127.0.0.1") and not is_own("192.0.2.1")


def message(payload: bytes = b"{}", topic: str = "default/a") -> LoggedMessage:
    return LoggedMessage(7, NodeMessage(7, 1, topic, payload))


async def deliver(target: Target, secret: dict[str, bytes], *, tls: bool = True, host: str = "localhost") -> None:
    """One message, with that Secret."""
    where = RestTarget(tls, host, target.port, "/x")
    route = MessageRoute(("default", "a"), "u", NODE, "default/a", where)

    async def secret_of() -> dict[str, bytes]:
        return secret

    delivery = RuleDelivery(route, LOOPBACK, secret_of)
    try:
        await delivery.deliver(message())
    finally:
        delivery.close()


def test_an_endpoint_may_ask_for_a_client_certificate(tmp_path: Path) -> None:
    ours, other = TestAuthority(tmp_path), TestAuthority(tmp_path, "other CA")
    serving, client = ours.issue("target", hosts=["localhost"]), ours.issue("kubeedge")
    strange = other.issue("kubeedge", file="strange")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ours.ca)
    context.load_cert_chain(serving.cert, serving.key)
    context.verify_mode = ssl.CERT_REQUIRED

    async def scenario() -> None:
        target = Target(context)
        good = {"ca.crt": ours.ca.read_bytes()}
        mine = {"tls.crt": client.cert.read_bytes(), "tls.key": client.key.read_bytes()}
        async with target.listening():
            await deliver(target, {**good, **mine, "token": b"secret"})
            assert [one.get("authorization") for one in target.headers] == ["Bearer secret"]
            for secret, more, why in (
                (good, {}, "localhost"),  # the server ends the connection
                ({**good, "tls.crt": strange.cert.read_bytes(), "tls.key": strange.key.read_bytes()}, {}, "localhost"),
                ({**good, **mine, "tls.key": strange.key.read_bytes()}, {}, "not a PEM certificate and its key"),
                ({**good, **mine, "tls.crt": b"none"}, {}, "not a PEM certificate and its key"),
                ({**good, "tls.crt": mine["tls.crt"]}, {}, "one of tls.crt and tls.key"),
                ({**good, **mine, "tls.key": b"x" * 65537}, {}, "tls.key of the Secret is larger"),
                (mine, {"tls": False}, "a client certificate is for https alone"),
            ):
                with pytest.raises(Unavailable, match=why):
                    await deliver(target, secret, **more)  # type: ignore[arg-type]
            assert len(target.got) == 1

    asyncio.run(scenario())


def test_certificates_are_verified_and_credentials_go_by_tls_alone(tmp_path: Path) -> None:
    ours, other = TestAuthority(tmp_path), TestAuthority(tmp_path, "other CA")
    serving = ours.issue("target", hosts=["localhost"])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(serving.cert, serving.key)

    async def scenario() -> None:
        target = Target(context)

        async with target.listening():
            good = {"ca.crt": ours.ca.read_bytes()}
            await deliver(target, {**good, "token": b"secret\n"})
            await deliver(target, {**good, "username": b"me", "password": b"pass"})
            basic = base64.b64encode(b"me:pass").decode()
            assert [one.get("authorization") for one in target.headers] == ["Bearer secret", f"Basic {basic}"]
            for secret, more, why in (
                ({"ca.crt": other.ca.read_bytes()}, {}, "certificate verify failed"),
                ({}, {}, "certificate verify failed"),
                (good, {"host": "127.0.0.1"}, "certificate"),
                ({"ca.crt": b"none"}, {}, "cannot be used"),
                ({**good, "token": b"a\r\nb: c"}, {}, "no printable ASCII"),
                ({"token": b"secret"}, {"tls": False}, "credentials are for https alone"),
            ):
                with pytest.raises(Unavailable, match=why):
                    await deliver(target, secret, **more)  # type: ignore[arg-type]
            assert len(target.got) == 2
            target.status = 302  # nothing is followed
            with pytest.raises(Unavailable, match="answers 302"):
                await deliver(target, good)
            target.status = 401
            with pytest.raises(MessageRefused, match="answers 401"):
                await deliver(target, good)

    asyncio.run(scenario())


def test_the_service_bus_takes_what_a_rule_names_and_no_more(tmp_path: Path) -> None:
    async def scenario() -> None:
        edge = await open_sqlite(tmp_path / "edge.db")
        upstream = MessageUpstream(edge, UpstreamQueue(tmp_path / "messages.db", 1 << 24, 1e9), wall=lambda: NOON)
        upstream.topics.set_rules([rules.SERVICES + URL])
        service = ServiceBus(upstream, "127.0.0.1", 0)
        upstream.topics_changed = lambda: None
        await edge.put(
            node_messages.ANSWERS + node_messages.TOPICS, node_messages.encode_topics([rules.SERVICES + URL, "$hw/#"])
        )
        async with running(upstream, service):
            assert upstream.topics.services == {URL} and upstream.topics.rules == []
            assert (await ask(service, {"targetURL": URL, "payload": "text"}))[0] == 202
            for body, status in (
                ({"targetURL": f"{URL}/more", "payload": ""}, 404),
                ({"targetURL": URL, "method": "CONNECT"}, 400),
                ({"targetURL": URL, "method": 1}, 400),
                ({"targetURL": 5}, 400),
                ([], 400),
                (b"{", 400),
                ({"targetURL": URL, "payload": "x" * node_messages.MAX_PAYLOAD}, 400),
                (b" " * (3 * node_messages.MAX_PAYLOAD), 413),
            ):
                got, found = await ask(service, body)
                assert got == status == found["code"], found
            assert (await ask(service, {"targetURL": URL}, ("origin", "http://evil.example")))[0] == 403
        await edge.close()

    asyncio.run(scenario())


def found_routes(*objects: dict[str, Any]) -> tuple[list[MessageRoute], dict[Any, str]]:
    endpoints = {
        ("default", name): endpoint(name, kind)
        for name, kind in (("bus", "eventbus"), ("rest", "rest"), ("service", "servicebus"))
    }
    return core.routes(objects, endpoints)


def rule(name: str = "r", **more: Any) -> dict[str, Any]:
    spec = {
        "source": "bus",
        "sourceResource": {"topic": "a/#", "node_name": "edge1"},
        "target": "rest",
        "targetResource": {"resource": "https://a.example/x?y=1"},
        **more,
    }
    return {"metadata": {"name": name, "namespace": "default", "uid": name}, "spec": spec}


CALLED = {"source": "rest", "sourceResource": {"path": "a"}, "target": "bus"}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"source": "gone"}, "no RuleEndpoint gone"),
        ({"target": "gone"}, "no RuleEndpoint gone"),
        ({"target": "bus"}, "goes to rest, and not to eventbus"),
        ({"sourceResource": {"topic": "a"}}, "of which node"),
        ({"sourceResource": {"topic": "a/#/b", "node_name": "n"}}, "no filter"),
        ({"sourceResource": {"topic": "/", "node_name": "n"}}, "no filter"),
        ({"source": "service", "sourceResource": {"node_name": "n"}}, "target_url is empty"),
        ({"targetResource": {"resource": "ftp://a/"}}, "is not http"),
        ({"targetResource": {"resource": "http://user@a/"}}, "no host and port"),
        ({"targetResource": {"resource": "http://a:0/"}}, "no host and port"),
        ({"targetResource": {"resource": "http://a/ b"}}, "printable ASCII"),
        ({"targetResource": {"resource": "http://a/\r\nx: y"}}, "printable ASCII"),
        ({"targetResource": {"resource": "http:///x"}}, "no host and port"),
        ({"source": "rest"}, "goes to eventbus or servicebus, and not to rest"),
        ({"source": "rest", "target": "gone"}, "no RuleEndpoint gone"),
        ({"source": "rest", "target": "bus"}, "sourceResource.path is empty"),
        ({**CALLED, "targetResource": {"path": "a"}}, "targetResource.topic is empty"),
        ({**CALLED, "targetResource": {"topic": "$hw/a"}}, "no topic for rules"),
        ({**CALLED, "targetResource": {"topic": "a/#"}}, "no topic for rules"),
    ],
)
def test_a_rule_that_leads_nowhere_says_why(change: dict[str, Any], why: str) -> None:
    made, wrong = found_routes(rule(**change))
    assert not made and why in wrong["default", "r"]


def test_rules_of_a_node_are_bounded_and_those_from_rest_are_no_routes() -> None:
    made, wrong = found_routes(
        *(rule(f"r{n:02}") for n in range(core.OF_NODE + 2)), rule("called", **CALLED, targetResource={"topic": "b"})
    )
    assert len(made) == core.OF_NODE and sorted(wrong) == [("default", "r12"), ("default", "r13")]
    assert made[0].target == RestTarget(True, "a.example", 443, "/x?y=1") and made[0].reader == "rule.r00"
    assert core.topics(made)[NODE] == ["default/a/#"] * core.OF_NODE


@given(st.text(alphabet="ab/+#$", max_size=8), st.text(alphabet="ab/$", min_size=1, max_size=8))
def test_topics_are_matched_as_the_broker_does(wanted: str, topic: str) -> None:
    if rules.is_topic_filter(wanted):
        assert rules.topic_matches(wanted, topic) == mqtt.matches(wanted, topic)


@given(st.text(max_size=40))
def test_no_text_breaks_the_parser_of_targets(text: str) -> None:
    for url in (text, f"http://{text}", f"https://a.example{text}"):
        with contextlib.suppress(Invalid):
            found = rules.rest_target(url)
            assert found.host and found.path.startswith("/") and found.path.isascii() and found.path.isprintable()


def test_targets_are_taken_apart() -> None:
    assert rules.rest_target("http://a") == RestTarget(False, "a", 80, "/")
    assert rules.rest_target("https://[2001:db8::1]:8443/x") == RestTarget(True, "2001:db8::1", 8443, "/x")
    assert rules.rest_target("http://[2001:db8::1]?q").authority == "[2001:db8::1]"
    assert rules.rest_target("http://a:8080").authority == "a:8080"
