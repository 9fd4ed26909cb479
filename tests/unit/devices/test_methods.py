"""Methods of devices: called at the tenant's API and on the node, performed by a mapper. API, node, broker and mapper are the real ones."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kubeedge.agent.kubelet import cloud_calls
from kubeedge.agent.parts import Parts
from kubeedge.api import access, device_methods, meta
from kubeedge.api.access import Attributes
from kubeedge.api.device_methods import MethodCall
from kubeedge.api.names import NodeName, TenantId
from kubeedge.api.resources import Resources
from kubeedge.apiserver.builtin import BUILT_IN
from kubeedge.apiserver.devices import ROWS
from kubeedge.apiserver.registry import Registry
from kubeedge.apiserver.server import ApiServer
from kubeedge.devices.eventbus.module import EventBus
from kubeedge.devices.methods import core
from kubeedge.devices.methods.driver import DeviceMethods
from kubeedge.devices.methods.rest import call_by_rest
from kubeedge.devices.module import DeviceTwins
from kubeedge.errors import Invalid, NotFound, Unavailable
from kubeedge.kit.http1 import Request, Response, json_response, text_response
from kubeedge.kit.tasks import cancel_and_wait
from kubeedge.mapper import Device, Mapper
from kubeedge.mapper.simulated import SimulatedDevice
from kubeedge.mqtt.client import MqttClient
from kubeedge.mqtt.codec import Publish
from kubeedge.store.sqlite import open_sqlite
from tests.kit.http_server import start_tcp_server
from tests.unit.apiserver.test_http import Api
from tests.unit.cli.test_devices import kubeedge
from tests.unit.devices.modules import WITHIN, running, until

DEVICES = "/apis/devices.kubeedge.io/v1beta1/namespaces/default/devices"
MODELS = "/apis/devices.kubeedge.io/v1beta1/namespaces/default/devicemodels"
PROPERTIES = [
    {"name": "target", "type": "INT", "accessMode": "ReadWrite", "minimum": "5", "maximum": "30"},
    {"name": "speed", "type": "FLOAT", "accessMode": "ReadWrite"},
    {"name": "level", "type": "FLOAT", "accessMode": "ReadOnly"},
]
METHODS = [
    {"name": "warm", "description": "sets what is wanted", "propertyNames": ["target", "speed", "level", "gone"]},
    {"name": "measure", "propertyNames": []},
    {"name": "break", "propertyNames": []},
    {"name": "hang", "propertyNames": []},
]
BY_NAME = {str(prop["name"]): prop for prop in PROPERTIES}


class Hall(Api):
    """A cloud with a node, edge1, that has a device, hall, and perhaps a mapper for it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        for tenant in list(self.registries):
            self.registries[tenant] = Registry(self.store, tenant, served=Resources((*BUILT_IN, *ROWS)))
        self.server = ApiServer(self.registries.get, self._stream, rule_stream=self._stream)
        self.path = path
        self.parts = cast(Parts, SimpleNamespace(methods=None, rules=None))
        self.port = 0
        self.is_away = False
        self._handlers: set[asyncio.Task[None]] = set()

    async def __call__(
        self, method: str, target: str, body: Any = b"", *, uri: str | None = "", **headers: str
    ) -> tuple[int, Any]:
        answer = await self.raw(method, target, body if isinstance(body, bytes) else json.dumps(body).encode(), uri=uri)
        assert isinstance(answer.body, bytes)
        return answer.status, json.loads(answer.body)

    async def _stream(self, tenant: TenantId, node: NodeName) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.is_away or (tenant, node) != ("a", "edge1"):
            raise Unavailable(f"no link to {node}")

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._handlers.add(asyncio.current_task())  # type: ignore[arg-type]
            await cloud_calls(self.parts)(reader, writer)

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        try:
            return await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
        finally:
            server.close()

    async def call(self, method: str, body: Any = b"") -> tuple[int, Any]:
        return await self("POST", f"{DEVICES}/hall/methods/{method}", body)

    async def run(self, test: Callable[[Hall], Awaitable[None]]) -> None:
        model = {"metadata": {"name": "thermostat"}, "spec": {"protocol": "p", "properties": PROPERTIES}}
        spec = {"deviceModelRef": {"name": "thermostat"}, "nodeName": "edge1", "methods": METHODS}
        assert (await self("POST", MODELS, model))[0] == 201
        assert (await self("POST", DEVICES, {"metadata": {"name": "hall"}, "spec": spec}))[0] == 201
        store = await open_sqlite(self.path)
        row = {
            "metadata": {"name": "hall", "namespace": "default", "uid": "1"},
            "generation": 1,
            "protocol": {"protocolName": "p", "configData": {}},
            "methods": METHODS,
            "properties": {name: {k: v for k, v in prop.items() if k != "name"} for name, prop in BY_NAME.items()},
        }
        await store.put("/desired/devices/default/hall", meta.encode(row))
        twins = DeviceTwins(store, wall=lambda: 1_800_000_000.0)
        methods = DeviceMethods(twins)
        bus = EventBus(twins, "edge1", "127.0.0.1", 0, methods=methods)
        try:
            async with asyncio.timeout(WITHIN), running(twins, bus):
                await until(lambda: ("default", "hall") in twins.twins.devices)
                self.parts.methods, self.port = methods, bus.port
                await test(self)
        finally:
            await cancel_and_wait(*self._handlers)
            await store.close()
            await self.store.close()


class Thermostat:
    """What a mapper has been told."""

    def __init__(self) -> None:
        self.written: dict[str, Any] = {}
        self.mapper = mapper = Mapper("p", timeout=60.0)
        self.hanging = asyncio.Event()

        @mapper.connect
        async def connect(device: Device) -> Thermostat:
            return self

        @mapper.read
        async def read(client: Thermostat, prop: Any) -> Any:
            return client.written.get(prop.name, 7)

        @mapper.write
        async def write(client: Thermostat, prop: Any, value: Any) -> None:
            client.written[prop.name] = value

        @mapper.method("measure")
        async def measure(client: Thermostat, arguments: dict[str, Any]) -> dict[str, Any]:
            return {"samples": [1, 2.5], "arguments": arguments}

        @mapper.method("break")
        def broken(client: Thermostat, arguments: dict[str, Any]) -> None:
            raise ValueError("the valve is stuck")

        @mapper.method("hang")
        async def hang(client: Thermostat, arguments: dict[str, Any]) -> None:
            self.hanging.set()
            await asyncio.Event().wait()


def with_mapper(tmp_path: Path, test: Callable[[Hall, Thermostat], Awaitable[None]]) -> None:
    async def inside(hall: Hall) -> None:
        thermostat = Thermostat()
        serving = asyncio.create_task(thermostat.mapper.serve(f"127.0.0.1:{hall.port}"))
        try:
            await until(lambda: thermostat.mapper.health["devices"].get("default/hall", {}).get("state") == "online")
            await test(hall, thermostat)
        finally:
            await cancel_and_wait(serving)

    asyncio.run(Hall(tmp_path / "store.db").run(inside))


def test_methods_are_shown_with_their_parameters_and_performed(tmp_path: Path) -> None:
    async def test(hall: Hall, thermostat: Thermostat) -> None:
        status, found = await hall("GET", f"{DEVICES}/hall/methods")
        assert status == 200 and [one["name"] for one in found["methods"]] == ["warm", "measure", "break", "hang"]
        assert found["methods"][0]["parameters"][0] == {
            "name": "target",
            "type": "INT",
            "minimum": "5",
            "maximum": "30",
        }
        status, found = await hall.call("warm", {"parameters": {"target": 21, "speed": "0.5"}})
        assert (status, found["result"]) == (200, None) and thermostat.written == {"target": 21, "speed": 0.5}
        status, found = await hall.call("measure")
        assert (status, found["result"]) == (200, {"samples": [1, 2.5], "arguments": {}})
        assert found["metadata"] == {"name": "hall", "namespace": "default"} and found["method"] == "measure"
        status, found = await hall.call("break")
        assert status == 500 and "the valve is stuck" in found["message"] and "default/hall" in found["message"]
        assert thermostat.mapper.stats.calls == 3 and thermostat.mapper.stats.call_errors == 1

    with_mapper(tmp_path, test)


@pytest.mark.parametrize(
    ("method", "body", "status", "why"),
    [
        ("warm", {"parameters": {"target": 31}}, 400, "greater than the maximum, 30"),
        ("warm", {"parameters": {"target": "warm"}}, 400, "must be an integer"),
        ("warm", {"parameters": {"target": [1]}}, 400, "must be a text, a number or a truth value"),
        ("warm", {"parameters": {"level": 1}}, 400, "read-only"),
        ("warm", {"parameters": {"gone": 1}}, 400, "is none of the method"),
        ("measure", {"parameters": {"target": 21}}, 400, "is none of the method"),
        ("warm", {"parameters": [1]}, 400, "JSON object"),
        ("warm", {"arguments": {}}, 400, "no 'arguments'"),
        ("warm", {"timeoutSeconds": 61}, 400, "at most 60"),
        ("warm", {"timeoutSeconds": True}, 400, "at most 60"),
        ("warm", b"[]", 400, "JSON object"),
        ("warm", b"{", 400, "JSON"),
        ("melt", {}, 404, "no method 'melt', but warm, measure, break, hang"),
        ("warm", b" " * (device_methods.MAX_BODY + 1), 413, "larger"),
    ],
)
def test_a_wrong_call_is_refused_before_anybody_is_asked(
    method: str, body: Any, status: int, why: str, tmp_path: Path
) -> None:
    async def test(hall: Hall) -> None:
        hall.is_away = True
        got, found = await hall.call(method, body)
        assert got == status and why in found["message"], found

    asyncio.run(Hall(tmp_path / "store.db").run(test))


def test_who_is_not_there_is_named(tmp_path: Path) -> None:
    async def test(hall: Hall) -> None:
        status, found = await hall.call("measure")
        assert status == 503 and "no mapper of default/hall listens" in found["message"]
        hall.is_away = True
        status, found = await hall.call("measure")
        assert status == 504 and "node edge1 cannot be reached" in found["message"]
        hall.is_away, hall.parts.methods = False, None
        status, found = await hall.call("measure")
        assert status == 503 and "modules.devices.enable" in found["message"]
        assert (await hall("POST", f"{DEVICES}/attic/methods/measure"))[0] == 404
        assert (await hall("PUT", f"{DEVICES}/hall/methods/measure"))[0] == 405
        assert (await hall("POST", f"{DEVICES}/hall/methods/measure/more"))[0] == 404

    asyncio.run(Hall(tmp_path / "store.db").run(test))


def test_a_mapper_that_does_not_answer_ends_in_time_and_few_calls_wait_for_it(tmp_path: Path) -> None:
    async def test(hall: Hall, thermostat: Thermostat) -> None:
        status, found = await hall.call("hang", {"timeoutSeconds": 0.2})
        assert status == 504 and "may have done it or not" in found["message"]
        waiting = [asyncio.create_task(hall.call("measure", {"timeoutSeconds": 20})) for _ in range(4)]
        methods = hall.parts.methods
        assert methods is not None
        await until(lambda: len(methods._waiting) == 4)
        status, found = await hall.call("measure")
        assert status == 429 and "4 calls of a device" in found["message"]
        await cancel_and_wait(*waiting)

    with_mapper(tmp_path, test)


def test_a_program_of_the_node_calls_by_a_topic(tmp_path: Path) -> None:
    async def test(hall: Hall, thermostat: Thermostat) -> None:
        got: dict[str, Any] = {}

        def received(message: Publish) -> None:
            value = json.loads(message.payload)
            got[value["event_id"]] = value

        client = await MqttClient.open("127.0.0.1", hall.port, "program", received)
        serving = asyncio.create_task(client.serve())
        await client.subscribe(core.ANSWER)
        for event, request in (
            ("1", {"id": "default/hall", "method": "warm", "parameters": {"target": "22"}}),
            ("2", {"id": "hall", "method": "warm", "parameters": {"target": "99"}}),
            ("3", {"id": "attic", "method": "warm"}),
            ("4", {"id": 1, "method": "warm"}),
        ):
            await client.publish(core.ASK, json.dumps({"event_id": event, **request}).encode())
        # what others send is no answer
        await client.publish("$ke/events/device/default/hall/method/result", b'{"event_id": "no-1", "result": 1}')
        await client.publish("$ke/events/device/default/hall/method/result", b"\xff")
        await until(lambda: len(got) == 4)
        assert got["1"]["result"] is None and thermostat.written == {"target": 22}
        assert [got[n]["code"] for n in "234"] == [400, 404, 400]
        broker = ("--broker", f"127.0.0.1:{hall.port}")
        assert await kubeedge("devices", "call", "default/hall", "warm", "target=23", *broker) == (0, "done\n")
        status, text = await kubeedge("devices", "call", "hall", "measure", *broker)
        assert status == 0 and json.loads(text)["samples"] == [1, 2.5] and thermostat.written == {"target": 23}
        status, text = await kubeedge("devices", "call", "attic", "warm", *broker)
        assert status == 1 and "no device attic" in text and "next: kubeedge devices list" in text
        status, text = await kubeedge("devices", "call", "hall", "warm", "target=99", *broker)
        assert status == 1 and "greater than the maximum, 30" in text
        status, text = await kubeedge("devices", "get", "hall", *broker)
        assert status == 0 and "method warm(target: INT, speed: FLOAT, level: FLOAT) sets what is wanted" in text
        await cancel_and_wait(serving)

    with_mapper(tmp_path, test)


def test_mappers_of_kubeedge_s_framework_are_called_by_http(tmp_path: Path) -> None:
    asked: list[str] = []

    async def mapper(request: Request) -> Response:
        asked.append(request.target)
        if "/break/" in request.target or "/speed/" in request.target:
            return text_response(500, "Write device data error: stuck")
        return json_response(200, {"statusCode": 200, "message": "done"})

    async def test(hall: Hall) -> None:
        server = await start_tcp_server("127.0.0.1", 0, mapper)
        port = server.sockets[0].getsockname()[1]
        assert hall.parts.methods is not None
        hall.parts.methods = DeviceMethods(hall.parts.methods._twins, {"p": ("127.0.0.1", port)})
        status, found = await hall.call("warm", {"parameters": {"target": 21}})
        assert (status, found["result"]) == (200, None)
        assert asked == ["/api/v1/devicemethod/default/hall/warm/target/21"]
        status, found = await hall.call("warm", {"parameters": {"speed": 1.5, "target": 22}})
        assert status == 500 and "answers 500: Write device data error: stuck" in found["message"] and len(asked) == 2
        status, found = await hall.call("measure")
        assert status == 400 and "there is no parameter" in found["message"]
        server.close()
        await server.wait_closed()
        status, found = await hall.call("warm", {"parameters": {"target": 21}})
        assert status == 503 and f"does not listen at 127.0.0.1:{port}" in found["message"]

    asyncio.run(Hall(tmp_path / "store.db").run(test))


@pytest.mark.parametrize("value", ["", "a/b", "..", "50%", "a?b", "x" * 5000])
def test_a_value_that_would_be_another_path_is_refused(value: str) -> None:
    with pytest.raises(core.MethodFailed, match="value"):
        asyncio.run(call_by_rest(("127.0.0.1", 1), ("default", "hall"), MethodCall("warm", {"name": value})))


def test_an_account_needs_the_right_of_methods() -> None:
    def account(level: str) -> list[access.PolicyRule]:
        return access.granted({"metadata": {"annotations": {access.ACCESS: level}}}, ROWS)

    call = Attributes("create", "devices.kubeedge.io", "devices/methods", "default", "hall")
    look = Attributes("get", "devices.kubeedge.io", "devices/methods", "default", "hall")
    assert access.allows(account("edit"), call) and access.allows(account("view"), look)
    assert not access.allows(account("view"), call)


def test_a_simulated_device_has_its_methods() -> None:
    async def run() -> None:
        async with SimulatedDevice(Thermostat().mapper, BY_NAME) as device:
            assert await device.call("warm", target="9") is None and await device.read("target") == "9"
            assert await device.call("measure", speed="1.5") == {"samples": [1, 2.5], "arguments": {"speed": 1.5}}
            with pytest.raises(Invalid, match="greater than the maximum"):
                await device.call("warm", target="99")
            with pytest.raises(ValueError, match="stuck"):
                await device.call("break")

    asyncio.run(run())


def test_a_result_of_other_letters_is_no_larger_on_its_way() -> None:
    async def scenario() -> None:
        calls = DeviceMethods(cast(DeviceTwins, None))

        async def call(*arguments: Any) -> Any:
            return "\u00e9" * 90_000

        calls.call = call  # type: ignore[method-assign]

        async def body() -> AsyncIterator[bytes]:
            yield b"{}"

        answer = await calls.answer(Request("POST", "/methods/default/hall/measure", [], lambda name: None, body()))
        assert isinstance(answer.body, bytes) and len(answer.body) < device_methods.MAX_BODY

    asyncio.run(scenario())


def test_what_is_in_messages_is_checked() -> None:
    assert core.answered(b'{"event_id": "1", "result": [1]}') == ("1", [1])
    event, failed = core.answered(b'{"event_id": "1", "code": 99, "reason": 5}')
    assert isinstance(failed, core.MethodFailed) and failed.code == 500 and "does not say why" in str(failed)
    for payload in (b"[]", b"{", b'{"a":"' + b"x" * device_methods.MAX_BODY + b'"}'):
        with pytest.raises(Invalid):
            core.answered(payload)
        with pytest.raises(Invalid):
            core.request(payload)
    with pytest.raises(NotFound):
        device_methods.method_call(None, {}, "x", {})
    assert device_methods.method_call(METHODS, BY_NAME, "warm", {"parameters": {"speed": 1}}) == MethodCall(
        "warm", {"speed": "1"}
    )
