"""What clusters of users' own ask: devices in another version, and calls that the cluster has to allow. The cluster is a store of objects that answers
reviews; HTTP is real."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml

from kubeedge.agent.kubelet import cloud_calls
from kubeedge.agent.parts import Parts
from kubeedge.api import keys, node_messages
from kubeedge.api.client import KubeClient, Resource
from kubeedge.api.devices import DEVICEMODELS, DEVICES
from kubeedge.api.names import NodeName, Object, TenantId
from kubeedge.api.node_messages import MessageBlock, NodeMessage
from kubeedge.api.resources import Resources
from kubeedge.api.rules import RULEENDPOINTS, RULES
from kubeedge.api.status import ObjectNotFound, ServerUnavailable
from kubeedge.apiserver.builtin import BUILT_IN
from kubeedge.apiserver.device_calls import DeviceCalls
from kubeedge.apiserver.devices import ROWS as DEVICE_ROWS
from kubeedge.apiserver.message_calls import MessageCalls
from kubeedge.apiserver.message_log import MessageLog
from kubeedge.apiserver.offload import Offload
from kubeedge.apiserver.registry import Registry
from kubeedge.apiserver.rule_calls import RuleCalls
from kubeedge.apiserver.rules import ROWS as RULE_ROWS
from kubeedge.devices.rules import NodeRules
from kubeedge.kit.http1 import Connection, Request, serve_connection
from kubeedge.kit.tasks import cancel_and_wait
from kubeedge.store.memory import MemoryStore
from kubeedge_cloud.clustercalls import conversion, webhook
from kubeedge_cloud.clustercalls import server as server_module
from kubeedge_cloud.clustercalls.server import ClusterServer
from kubeedge_cloud.clustercalls.webhook import ConversionWebhook, change, client_config
from kubeedge_cloud.devicecontroller.crds import NO_WEBHOOK, definitions
from tests.unit.devices.modules import WITHIN, until
from tests.unit.devices.test_rules import endpoint, rule

MANIFESTS = Path(__file__).parent / "manifests"
OLD, NEW = (list(yaml.safe_load_all((MANIFESTS / f"{name}.yaml").read_text())) for name in ("v1alpha2", "v1beta1"))
TENANT = TenantId("site")


def review(wanted: str, *objects: Any, **more: Any) -> dict[str, Any]:
    request = {"uid": "1", "desiredAPIVersion": wanted, "objects": list(objects), **more}
    return {"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1", "request": request}


def test_objects_are_converted_both_ways_and_nothing_is_lost() -> None:
    older, newer = "devices.kubeedge.io/v1alpha2", "devices.kubeedge.io/v1beta1"
    there = conversion.answer(review(newer, *OLD))["response"]
    assert there["result"] == {"status": "Success"} and there["uid"] == "1"
    assert {one["apiVersion"] for one in there["convertedObjects"]} == {newer}
    back = conversion.answer(review(older, *there["convertedObjects"]))["response"]["convertedObjects"]
    assert back == OLD
    there = conversion.answer(review(older, *NEW))["response"]["convertedObjects"]
    assert conversion.answer(review(newer, *there))["response"]["convertedObjects"] == NEW
    assert conversion.answer(review(newer, *NEW))["response"]["convertedObjects"] == NEW


@pytest.mark.parametrize(
    ("obj", "why"),
    [
        ({"kind": "Pod", "apiVersion": "v1"}, "Pod of v1 is not converted"),
        ({"kind": "Device", "apiVersion": "devices.kubeedge.io/v9"}, "is not converted"),
        (5, "no JSON object"),
    ],
)
def test_what_cannot_be_converted_is_said_in_the_response(obj: Any, why: str) -> None:
    response = conversion.answer(review("devices.kubeedge.io/v1beta1", obj))["response"]
    assert response["result"]["status"] == "Failure" and why in response["result"]["message"]


class Cluster:
    """Objects, and reviews: tokens are names of users, who may do what `rights` say."""

    def __init__(self) -> None:
        self.objects = Registry(MemoryStore(), TENANT, served=Resources((*BUILT_IN, *RULE_ROWS, *DEVICE_ROWS)))
        self.rights = {
            ("jane", "create", "rules.kubeedge.io", "rules", "", "default"),
            ("jane", "create", "devices.kubeedge.io", "devices", "methods", "default"),
            ("joe", "get", "devices.kubeedge.io", "devices", "methods", "default"),
            ("joe", "get", "devices.kubeedge.io", "devices", "", ""),
            ("jane", "get", "devices.kubeedge.io", "devices", "", ""),
            ("jane", "create", "devices.kubeedge.io", "devices", "", ""),
        }
        self.away = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.objects, name)

    async def create(self, resource: Resource, namespace: str, obj: Object) -> Object:
        if self.away:
            raise ServerUnavailable("no answer")
        spec = obj.get("spec") or {}
        if resource.plural == "tokenreviews":
            known = spec["token"] in ("jane", "joe")
            return {"status": {"authenticated": known, "user": {"username": spec["token"]} if known else {}}}
        if resource.plural == "subjectaccessreviews":
            at = spec["resourceAttributes"]
            names = ("verb", "group", "resource", "subresource", "namespace")
            return {"status": {"allowed": (spec["user"], *(at.get(name, "") for name in names)) in self.rights}}
        return await self.objects.create(resource, namespace, obj)


class Port:
    """The server, and a node with a broker and methods that take what comes."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        self.store = MemoryStore()
        self.published: list[tuple[str, bytes]] = []
        node = NodeRules()
        node.publish = lambda topic, payload: self.published.append((topic, payload))
        self.parts = cast(Parts, SimpleNamespace(methods=None, rules=node))
        clients = {TENANT: cast(KubeClient, self.cluster)}
        self.server = ClusterServer(
            clients.get,
            RuleCalls(self._stream),
            DeviceCalls(self._stream),
            MessageCalls(lambda tenant: MessageLog(self.store, tenant)),
            Offload(),
            lambda: 0.0,
            lambda: 17.0,
        )
        self._tasks: set[asyncio.Task[None]] = set()

    async def _stream(self, tenant: TenantId, node: NodeName) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await self._joined(lambda reader, writer: cloud_calls(self.parts)(reader, writer))

    async def _joined(self, serve: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._tasks.add(asyncio.current_task())  # type: ignore[arg-type]
            await serve(reader, writer)

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        try:
            return await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
        finally:
            server.close()

    async def ask(self, method: str, target: str, body: Any = b"", token: str = "") -> tuple[int, Any]:
        streams = await self._joined(lambda reader, writer: serve_connection(reader, writer, self.server.handle))
        connection = Connection(*streams)
        headers = [("host", "x"), *([("authorization", f"Bearer {token}")] if token else [])]
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = await connection.request(method, target, headers, data)
        text = await answer.read(1 << 20)
        await connection.close()
        return answer.status, json.loads(text) if text[:1] == b"{" else text

    async def close(self) -> None:
        await cancel_and_wait(*self._tasks)


def run(test: Any) -> None:
    async def inside() -> None:
        port = Port()
        try:
            async with asyncio.timeout(WITHIN):
                await test(port)
        finally:
            await port.close()

    asyncio.run(inside())


def test_an_api_server_has_objects_converted_without_a_token() -> None:
    async def test(port: Port) -> None:
        status, found = await port.ask("POST", webhook.PATH, review("devices.kubeedge.io/v1beta1", *OLD))
        assert status == 200 and len(found["response"]["convertedObjects"]) == len(OLD)
        for body in (b"{", b"[]", b"{}", {"kind": "ConversionReview", "request": {"uid": 1}}):
            assert (await port.ask("POST", webhook.PATH, body))[0] == 400
        assert (await port.ask("GET", webhook.PATH))[0] == 404

    run(test)


def test_who_is_slow_or_sends_much_keeps_no_api_server_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_HELD", 64 * 1024)
    review_of_all = json.dumps(review("devices.kubeedge.io/v1beta1", *OLD)).encode()

    async def test(port: Port) -> None:
        ended = asyncio.Event()

        def asked(address: str, *parts: bytes, ends: bool = False) -> asyncio.Task[Any]:
            async def body() -> AsyncIterator[bytes]:
                for part in parts:
                    yield part
                if not ends:
                    await ended.wait()

            peer = {"peername": (address, 1)}
            return asyncio.create_task(port.server.handle(Request("POST", webhook.PATH, [], peer.get, body())))

        slow = [asked("192.0.2.1", b"{") for _ in range(8)]
        large = [asked("192.0.2.2", b"x" * 30_000) for _ in range(2)]
        await asyncio.sleep(0.05)
        found = await asked("198.51.100.1", review_of_all, ends=True)
        assert found.status == 200, "neither those that are slow nor what they hold"
        assert (await asked("192.0.2.1", review_of_all, ends=True)).status == 429
        assert (await asked("192.0.2.2", b"x" * 30_000, ends=True)).status == 429
        assert not any(one.done() for one in (*slow, *large))
        ended.set()
        assert {(await one).status for one in (*slow, *large)} == {400}
        assert not port.server._sizes and (await asked("192.0.2.1", review_of_all, ends=True)).status == 200

    run(test)


def test_a_cluster_says_who_may_call() -> None:
    async def test(port: Port) -> None:
        objects = port.cluster.objects
        await objects.create(RULEENDPOINTS, "default", endpoint("my-rest", "rest"))
        await objects.create(RULEENDPOINTS, "default", endpoint("bus", "eventbus"))
        await objects.create(RULES, "default", rule("bell", "/bell", "bus", topic="house/bell"))
        model = {"metadata": {"name": "valve"}, "spec": {"properties": [{"name": "open", "type": "BOOLEAN"}]}}
        await objects.create(DEVICEMODELS, "default", model)
        methods = [{"name": "turn", "propertyNames": ["open"]}]
        spec = {"deviceModelRef": {"name": "valve"}, "nodeName": "edge1", "methods": methods}
        await objects.create(DEVICES, "default", {"metadata": {"name": "v"}, "spec": spec})
        bell = "/rules/site/edge1/default/bell"
        assert await port.ask("POST", bell, b"ding", "jane") == (200, b"message delivered")
        assert port.published == [("house/bell", b"ding")]

        async def counted() -> int:
            return int(((await objects.get(RULES, "default", "bell")).get("status") or {}).get("successMessages") or 0)

        async with asyncio.timeout(WITHIN):
            while await counted() != 1:
                await asyncio.sleep(0.05)
        shown = "/devices/site/default/v/methods"
        status, found = await port.ask("GET", shown, token="joe")
        assert status == 200 and found["methods"][0]["name"] == "turn"
        status, found = await port.ask("POST", f"{shown}/turn", {"parameters": {"open": 5}}, "jane")
        assert status == 400 and 'must be "true" or "false"' in found["message"]
        status, found = await port.ask("POST", f"{shown}/turn", {"parameters": {"open": True}}, "jane")
        assert status == 503 and "modules.devices.enable" in found["message"]
        for target, token, wanted in (
            (bell, "", 401),
            (bell, "stranger", 401),
            (bell, "joe", 403),
            ("/rules/site/edge1/other/bell", "jane", 403),
            ("/rules/nobody/edge1/default/bell", "jane", 401),
            ("/rules/SITE/edge1/default/bell", "jane", 404),
            ("/rules/site/edge1/default/none", "jane", 404),
            (f"{shown}/turn", "joe", 403),
            ("/devices/site/default/v/status", "jane", 404),
            ("/", "jane", 404),
        ):
            assert (await port.ask("POST", target, b"", token))[0] == wanted, (target, token)

    run(test)


def test_messages_of_nodes_are_read_with_a_token_of_the_cluster() -> None:
    async def test(port: Port) -> None:
        await port.store.put(keys.nodes(TENANT) + "edge1", b"{}")
        row = node_messages.encode(MessageBlock("q", [NodeMessage(1, 17, "me/user/x", b"hello")], 1))
        await port.store.put(keys.message_log(TENANT, NodeName("edge1")) + node_messages.name_of(1), row)
        at = "/messages/site/edge1"
        status, found = await port.ask("GET", f"{at}?after=0", token="joe")
        assert status == 200 and [one["payload"] for one in found["messages"]] == ["hello"] and found["next"] == 1
        for body, token, wanted in (
            ({"through": 1}, "joe", 403),
            ({"through": 2}, "jane", 400),
            ({"through": 1}, "jane", 200),
        ):
            assert (await port.ask("POST", f"{at}/readers/billing", body, token))[0] == wanted
        assert (await port.ask("GET", f"{at}/readers", token="joe")) == (200, {"billing": {"through": 1, "at": 17}})
        for target, token, wanted in (
            (at, "", 401),
            (at, "stranger", 401),
            ("/messages/nobody/edge1", "jane", 401),
            ("/messages/site/edge9", "jane", 404),
            ("/messages/site/edge1/x", "jane", 404),
            ("/messages/site", "jane", 404),
        ):
            assert (await port.ask("GET", target, token=token))[0] == wanted, (target, token)

    run(test)


def test_a_cluster_that_is_away_lets_nobody_in() -> None:
    async def test(port: Port) -> None:
        port.cluster.away = True
        assert (await port.ask("POST", "/rules/site/edge1/default/bell", b"", "jane"))[0] == 503

    run(test)


def test_the_definitions_of_a_cluster_get_our_address_and_those_of_others_stay() -> None:
    by_url, by_service = client_config(b"PEM", endpoint="cloud:10004"), client_config(b"PEM", service="ns/name")
    assert by_url == {"url": f"https://cloud:10004{webhook.PATH}", "caBundle": base64.b64encode(b"PEM").decode()}

    class Definitions:
        def __init__(self) -> None:
            self.found = {one["metadata"]["name"]: one for one in definitions()}
            self.patches = 0

        async def get(self, resource: Resource, namespace: str, name: str) -> Object:
            if name not in self.found:
                raise ObjectNotFound.of(resource, name)
            return self.found[name]

        async def merge_patch(self, resource: Resource, namespace: str, name: str, patch: Object) -> Object:
            self.patches += 1
            config = patch["spec"]["conversion"]["webhook"]["clientConfig"]
            has = {**self.found[name]["spec"]["conversion"]["webhook"]["clientConfig"], **config}
            has = {key: value for key, value in has.items() if value is not None}
            self.found[name]["spec"]["conversion"]["webhook"]["clientConfig"] = has
            return self.found[name]

    async def scenario() -> None:
        cluster = Definitions()
        for config in (by_url, by_service):
            task = asyncio.create_task(ConversionWebhook(TENANT, cast(KubeClient, cluster), config).run())
            await until(
                lambda config=config: all(  # type: ignore[misc]
                    one["spec"]["conversion"]["webhook"]["clientConfig"] == config for one in cluster.found.values()
                )
            )
            await cancel_and_wait(task)
        assert cluster.patches == 4
        cluster.found.clear()
        task = asyncio.create_task(ConversionWebhook(TENANT, cast(KubeClient, cluster), by_url).run())
        await asyncio.sleep(0)
        await cancel_and_wait(task)

    asyncio.run(scenario())
    other = {"spec": {"conversion": {"strategy": "Webhook", "webhook": {"clientConfig": {"url": "https://other/x"}}}}}
    assert change(other, by_url) is None and change({"spec": {"conversion": {"strategy": "None"}}}, by_url) is None
    assert NO_WEBHOOK.startswith("https://kubeedge.invalid/")
