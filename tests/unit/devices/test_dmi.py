"""DMI: the agent's module with a real store and real sockets, and a mapper that has its gRPC and protobuf from others (tests/kit/dmi)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.api import keys
from kubeedge.api.protobuf import ProtoReader, encode, parsed
from kubeedge.devices.core import Device, Twin
from kubeedge.devices.dmi import messages as dmi
from kubeedge.devices.dmi.core import DmiCall, MapperState, restored
from kubeedge.devices.dmi.driver import patience
from kubeedge.devices.dmi.module import MAPPERS, DeviceMappers
from kubeedge.devices.dmi.table import TABLE
from kubeedge.devices.module import DeviceTwins
from kubeedge.errors import Invalid
from kubeedge.kit.grpc import INVALID_ARGUMENT, NOT_FOUND, UNIMPLEMENTED, GrpcChannel, GrpcError
from kubeedge.kit.grpc_server import GrpcServer
from kubeedge.store.model import Store
from kubeedge.store.sqlite import open_sqlite

WITHIN = 90.0
MAPPER = str(Path(__file__).parents[2] / "kit/dmi/mapper.py")
MANAGER = "/v1beta1.DeviceManagerService/"
TYPES = parsed(TABLE)


def row(
    target: str | None = "20", *, uid: str = "u1", port: int = 502, model: str = "thermostat", **more: Any
) -> bytes:
    properties: dict[str, Any] = {
        "temperature": {
            "type": "FLOAT",
            "accessMode": "ReadOnly",
            "visitors": {"configData": {"offset": 3, "scale": 0.5}},
        },
        "target": {"type": "INT", "maximum": "30", **({"desired": target} if target else {})},
        "note": {"type": "STRING"},
        **more,
    }
    value = {
        "metadata": {"uid": uid},
        "generation": 1,
        "model": model,
        "protocol": {
            "protocolName": "acme",
            "configData": {"host": "h", "port": port, "fast": True, "nested": {"a": 1}},
        },
        "properties": properties,
        "methods": [{"name": "heat", "propertyNames": ["target"]}],
    }
    return json.dumps(value).encode()


class Node:
    """The modules of one agent on a store, which can be started again."""

    def __init__(self, store: Store, directory: Path) -> None:
        self.store, self.socket, self.directory = store, directory / "dmi.sock", directory
        self.noticed: list[Any] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self.twins = DeviceTwins(self.store, wall=lambda: 1_790_000_000.0)
        self.mappers = DeviceMappers(
            self.twins, self.store, self.socket, reported=lambda key, before: self.noticed.append(key)
        )
        for module in (self.twins, self.mappers):
            ready = asyncio.Event()
            self._tasks.append(asyncio.create_task(module.run(ready)))
            await asyncio.wait_for(ready.wait(), WITHIN)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def put(self, name: str, value: bytes | None) -> None:
        key = keys.desired("devices", "default", name)
        if value is None:
            await self.store.delete(key)
        else:
            await self.store.put(key, value)

    def value(self, name: str, prop: str) -> str | None:
        device = self.twins.twins.devices.get(("default", name))
        twin = device.twins.get(prop) if device else None
        return twin.reported if twin else None

    async def call(self, name: str, message: bytes) -> bytes:
        channel = GrpcChannel(self.socket)
        try:
            return await channel.call(MANAGER + name, message, WITHIN)
        finally:
            await channel.close()


class Mapper:
    """The mapper's process, and the lines that it has said."""

    def __init__(self, node: Node, name: str = "acme-mapper", own: str = "own.sock") -> None:
        self.lines: list[dict[str, Any]] = []
        self._node, self._name, self._own = node, name, own

    async def start(self) -> Mapper:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, MAPPER, self._name, "acme", str(self._node.socket),
            str(self._node.directory / self._own), stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        self._reading = asyncio.create_task(self._read())
        return self

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(json.loads(line))

    async def end(self, number: int = signal.SIGKILL) -> int:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        code = await self.process.wait()
        await self._reading
        return code

    def said(self, **what: Any) -> list[dict[str, Any]]:
        return [line for line in self.lines if what.items() <= line.items()]


async def until(condition: Callable[[], object], what: Callable[[], object]) -> None:
    """Waits for it; a failure shows the last of `what`."""
    try:
        async with asyncio.timeout(WITHIN):
            while not condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"it did not come: {what()}") from None


@contextlib.asynccontextmanager
async def a_node() -> AsyncIterator[Node]:
    with tempfile.TemporaryDirectory() as made:  # pytest's own paths are too long for a socket
        store = await open_sqlite(Path(made) / "edge.db")
        node = Node(store, Path(made))
        await node.start()
        try:
            yield node
        finally:
            await node.stop()
            await store.close()


def test_a_mapper_gets_devices_sets_and_reports_them_through_restarts_of_either_side() -> None:
    async def run() -> None:
        async with a_node() as node:
            await node.put("hall", row())
            await until(lambda: node.twins.twins.devices, lambda: "the device")
            mapper = await Mapper(node).start()
            lines = lambda: mapper.lines[-20:]  # noqa: E731
            try:
                await until(lambda: node.value("hall", "target") == "20", lines)
                await until(lambda: node.value("hall", "temperature") == "21.5", lines)
                await until(
                    lambda: mapper.said(started="default/hall"), lines
                )  # what it says comes another way than what it reports
                first = mapper.said(started="default/hall")[0]
                assert mapper.lines[0] == {"registered": [1, 1]} and first["model"] == "thermostat"
                assert first["config"] == {"host": "h", "port": 502, "fast": True} and first["methods"] == ["heat"]
                assert first["visitors"]["temperature"] == {"offset": 3, "scale": 0.5}
                device = node.twins.twins.devices["default", "hall"]
                await until(lambda: device.state == "ok" and device.twins["target"].observed == "20", lines)
                assert ("default", "hall") in node.noticed

                # a desired value, a device more, one less
                await node.put("hall", row("22"))
                await until(lambda: node.value("hall", "target") == "22", lines)
                await node.put("attic", row(uid="u2", model="other"))
                await until(lambda: node.value("attic", "temperature"), lines)
                await until(lambda: mapper.said(call="CreateDeviceModel", model="default/other"), lines)
                await node.put("attic", None)
                await until(lambda: mapper.said(call="RemoveDeviceModel", model="default/other"), lines)
                await until(lambda: mapper.said(call="RemoveDevice", device="default/attic"), lines)
                updates = len(mapper.said(call="UpdateDevice"))
                assert updates == 1, lines()

                # the agent starts again: the mapper does not register, and its device is not started anew
                await until(lambda: mapper.said(call="RegisterDevice", device="default/hall"), lines)
                stored = await node.store.get(f"{keys.MAPPERS}acme-mapper")
                assert stored is not None and b"default/hall" in stored.value
                await node.stop()
                await node.put("hall", row("23"))  # meanwhile
                await node.put("cellar", row("9", uid="u3"))
                await node.start()
                await until(lambda: node.value("hall", "target") == "23", lines)
                await until(lambda: node.value("cellar", "target") == "9", lines)
                await until(lambda: len(mapper.said(call="RegisterDevice", device="default/hall")) >= 2, lines)
                await until(lambda: len(mapper.said(call="UpdateDevice", device="default/hall")) >= 2, lines)
                assert len(mapper.said(call="UpdateDevice", device="default/hall")) == 2, lines()

                # the mapper starts again
                await mapper.end()
                await node.put("hall", row("24"))
                mapper = await Mapper(node).start()
                await until(lambda: node.value("hall", "target") == "24", lines)
                await until(lambda: mapper.lines, lines)
                assert mapper.lines[0] == {"registered": [1, 2]}, lines()
                assert mapper.process.returncode is None
            finally:
                await mapper.end()

    asyncio.run(run())


def test_the_mapper_registers_with_few_or_many_devices_and_a_second_one_is_refused_while_the_first_is_there() -> None:
    async def run() -> None:
        async with a_node() as node:
            for number in range(80):
                await node.put(f"d{number}", row(uid=f"u{number}"))
            await until(lambda: len(node.twins.twins.devices) == 80, lambda: len(node.twins.twins.devices))
            first = await Mapper(node).start()
            lines = lambda: first.lines[-10:]  # noqa: E731
            try:
                await until(lambda: len(first.said(call="RegisterDevice", new=True)) == 80, lines)
                assert first.lines[0] == {"registered": [0, 0]}, "more than the answer may take in a second"
                second = await Mapper(node, "second", "second.sock").start()
                await second.process.wait()
                assert "ALREADY_EXISTS" in str((await second.end(), second.lines)), second.lines
                await first.end()
                (node.directory / "own.sock").unlink()
                second = await Mapper(node, "second", "second.sock").start()
                try:
                    await until(
                        lambda: len(second.said(call="RegisterDevice", new=True)) == 80, lambda: second.lines[-10:]
                    )
                    assert await node.store.get(f"{keys.MAPPERS}acme-mapper") is None
                finally:
                    await second.end()
            finally:
                await first.end()

    asyncio.run(run())


def test_what_is_wrong_is_said_and_changes_nothing() -> None:
    def reported(prop: str, value: str, device: str = "hall", namespace: str = "default") -> bytes:
        status = {"twins": [{"propertyName": prop, "reported": {"value": value}}]}
        request = {"deviceName": device, "deviceNamespace": namespace, "reportedDevice": status}
        return encode(TYPES, "ReportDeviceStatusRequest", request)

    def registering(**info: Any) -> bytes:
        return encode(
            TYPES, "MapperRegisterRequest", {"mapper": {"name": "m", "protocol": "p", "address": "/m", **info}}
        )

    async def run() -> None:
        async with a_node() as node:
            await node.put("hall", row())
            await until(lambda: node.twins.twins.devices, lambda: "the device")
            for name, message, code in (
                ("ReportDeviceStatus", reported("target", "31"), INVALID_ARGUMENT),
                ("ReportDeviceStatus", reported("temperature", "NaN"), INVALID_ARGUMENT),
                ("ReportDeviceStatus", reported("none", "1"), INVALID_ARGUMENT),
                ("ReportDeviceStatus", reported("note", "x" * 70_000), INVALID_ARGUMENT),
                ("ReportDeviceStatus", reported("target", "21", "none"), NOT_FOUND),
                ("ReportDeviceStatus", reported("target", "21", "hall", "other"), NOT_FOUND),
                ("ReportDeviceStatus", b"\xff" * 100, INVALID_ARGUMENT),
                ("ReportDeviceStates", b"\x0a\xff", INVALID_ARGUMENT),
                ("MapperRegister", b"", INVALID_ARGUMENT),
                ("MapperRegister", registering(address="relative"), INVALID_ARGUMENT),
                ("MapperRegister", registering(address="/" + "x" * 107), INVALID_ARGUMENT),
                ("MapperRegister", registering(name="a/b"), INVALID_ARGUMENT),
                ("MapperRegister", registering(protocol="\n"), INVALID_ARGUMENT),
                ("Other", b"", UNIMPLEMENTED),
            ):
                with pytest.raises(GrpcError) as refused:
                    await node.call(name, message)
                assert refused.value.code == code, (name, message, refused.value)
            assert node.value("hall", "target") is None
            await node.call("ReportDeviceStatus", reported("target", "21", "hall", ""))  # an older mapper
            kv = await node.store.get(keys.reported("devices", "default", "hall"))  # at once: it was answered
            assert kv is not None and json.loads(kv.value)["twins"]["target"]["value"] == "21"
            for number in range(MAPPERS):
                await node.call("MapperRegister", registering(name=f"m{number}", protocol=f"p{number}"))
            with pytest.raises(GrpcError, match="mappers have registered"):
                await node.call("MapperRegister", registering(name="more", protocol="more"))
            await node.call("MapperRegister", registering(name="m1", protocol="p1", address="/elsewhere"))

    asyncio.run(run())


def test_a_device_that_the_mapper_refuses_does_not_hold_up_the_others_and_a_silent_mapper_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kubeedge.devices.dmi.driver._LOOK", 0.2)
    monkeypatch.setattr(
        "kubeedge.devices.dmi.driver._CALL", 3.0
    )  # for all calls: one that is answered is not to be late
    asked: list[str] = []

    async def answer(method: str, message: bytes) -> bytes:
        name = method.rsplit("/", 1)[1]
        asked.append(f"{name} {b'bad' in message} {b'slow' in message}")
        if name == "RegisterDevice" and b"bad" in message:
            raise GrpcError(INVALID_ARGUMENT, "no")
        if name == "RegisterDevice" and b"slow" in message:
            await asyncio.get_running_loop().create_future()
        return b""

    async def run() -> None:
        async with a_node() as node:
            own = node.directory / "m.sock"
            for number, name in enumerate(("bad", "good", "slow", "zeta")):
                await node.put(name, row(uid=f"u{number}"))
            await until(lambda: len(node.twins.twins.devices) == 4, lambda: node.twins.twins.devices)
            serving = asyncio.create_task(GrpcServer(answer).run(own, lambda: None))
            try:
                info = {"mapper": {"name": "m", "protocol": "acme", "address": str(own)}}
                await node.call("MapperRegister", encode(TYPES, "MapperRegisterRequest", info))
                await until(lambda: asked.count("RegisterDevice False False") >= 2, lambda: asked)
                await until(lambda: asked.count("RegisterDevice True False") >= 2, lambda: asked)  # tried again
                await until(lambda: asked.count("RegisterDevice False True") >= 2, lambda: asked)
                assert asked.count("CreateDeviceModel False False") == 1
                status = {"deviceName": "good", "deviceNamespace": "default", "state": "online"}
                await node.call("ReportDeviceStates", encode(TYPES, "ReportDeviceStatesRequest", status))
                device = node.twins.twins.devices["default", "good"]
                assert device.state == "online"
                device.seen -= 60_000
            finally:
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)
            await until(lambda: device.state == "unknown", lambda: device.state)

    asyncio.run(run())


def test_a_device_without_anything_has_all_that_a_mapper_looks_at() -> None:
    found = dmi.described(("default", "d"), Device("u", properties={"p": {}}, protocol="acme"))
    spec = ProtoReader(TYPES).message(TYPES["Device"], memoryview(found.device))["spec"]
    assert spec["deviceModelReference"] == "d-model" and spec["protocol"] == {"protocolName": "acme", "configData": {}}
    assert spec["properties"][0]["visitors"] == {"protocolName": "acme", "configData": {}}
    assert "desired" in spec["properties"][0] and spec["properties"][0]["reportToCloud"]
    both = ProtoReader(TYPES).message(TYPES["MapperRegisterResponse"], memoryview(dmi.registered([found, found])))
    assert len(both["modelList"]) == 1 and len(both["deviceList"]) == 2
    other = dmi.described(("default", "d"), Device("u", properties={"p": {"type": "INT"}}, protocol="acme"))
    assert other.model_fingerprint != found.model_fingerprint and other.fingerprint != found.fingerprint


def test_a_device_that_has_not_got_what_is_desired_is_started_anew_ever_more_rarely() -> None:
    key, state = ("default", "d"), MapperState(dmi.MapperInfo("m", "acme", "/m"))
    device = Device("u", properties={"p": {"type": "INT", "collectCycle": 20_000}}, protocol="acme", wanted={"p": "7"})
    messages = dmi.described(key, device)

    def anew(now: float) -> bool:
        state.lacks(key, messages.fingerprint, patience(device), now)
        if (call := state.next_call(key, messages, now)) is None:
            return False
        assert call is DmiCall.UPDATE
        state.done(key, call, messages)
        return True

    while (call := state.next_call(key, messages, 0.0)) is not None:
        state.done(key, call, messages)
    assert patience(device) == 40.0
    assert [now for now in range(1000) if anew(float(now))] == [40, 80, 120, 200, 360, 660, 960]
    assert state.is_back(key) and anew(1000.0) and not anew(1001.0)
    device.twins["p"] = Twin("8", observed="7")  # it is as near as it can be
    assert patience(device) == 0.0 and not anew(2000.0) and not state.is_back(key)
    device.twins["p"] = Twin("7.0")
    assert patience(device) == 0.0
    device.twins.clear()
    device.properties["p"]["reportToCloud"] = False
    assert patience(device) == 0.0


def test_a_record_comes_back_and_a_damaged_one_does_not() -> None:
    state = MapperState(dmi.MapperInfo("m", "p", "/m", "1"), {("a", "b"): "f"}, {("a", "c"): "g"})
    again = restored(state.row())
    assert again is not None and (again.info, again.devices, again.models) == (state.info, state.devices, state.models)
    assert again.is_restored and again.unused_models() == []
    for bad in (
        b"",
        b"[]",
        b"{}",
        b'{"name":1,"protocol":2,"address":3,"version":4,"devices":{},"models":{}}',
        b"[" * 9999,
    ):
        assert restored(bad) is None
    state.devices = {("n" * 60, f"{number:060}"): "f" * 16 for number in range(5000)}
    assert len(state.row()) < 400_000


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_invalid(data: bytes) -> None:
    for read in (dmi.mapper_info, dmi.report, dmi.state):
        with contextlib.suppress(Invalid):
            read(data)


@given(st.dictionaries(st.text(max_size=8), st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)), max_size=6))  # fmt: skip
def test_any_configuration_can_be_sent(config: dict[str, Any]) -> None:
    push = {
        "http": config,
        "dbMethod": {"influxdb2": {"influxdb2DataConfig": {"tag": config, "measurement": 7}}},
        **config,
    }
    device = Device(
        "u", properties={"p": {"visitors": {"configData": config}, "pushMethod": push, **config}}, protocol="x"
    )
    device.config, device.methods = json.dumps(config), ({"name": "m", "propertyNames": [config]},)
    assert dmi.described(("default", "d"), device).device


@given(
    st.lists(
        st.tuples(st.sampled_from(["have", "lack", "fail", "restart", "crash", "spec"]), st.integers(0, 2)), max_size=30
    )
)
def test_whatever_happens_the_mapper_ends_with_what_the_node_has(steps: list[tuple[str, int]]) -> None:
    """A model of a Go mapper: RegisterDevice changes nothing where it has the device, and UpdateDevice needs the model."""
    info = dmi.MapperInfo("m", "acme", "/m")
    state, now = MapperState(info), 0.0
    wanted: dict[tuple[str, str], dmi.DeviceMessages] = {}
    has: dict[tuple[str, str], str] = {}
    models: dict[str, str] = {}

    written = b""

    def settle(failing: bool) -> None:
        nonlocal written
        for key in sorted({*wanted, *state.devices}):
            messages = wanted.get(key)
            if state.doubt(key, messages):
                written = state.row()
            while (call := state.next_call(key, messages, now)) is not None:
                if failing:
                    state.failed(key, call, messages, now)
                    break
                if messages is None:
                    has.pop(key, None)
                elif call in (DmiCall.CREATE_MODEL, DmiCall.UPDATE_MODEL):
                    models[messages.model_name] = messages.model_fingerprint
                else:
                    assert models[messages.model_name] == messages.model_fingerprint
                    has[key] = messages.fingerprint if call is DmiCall.UPDATE else has.get(key, messages.fingerprint)
                state.done(key, call, messages)

    for number, (step, which) in enumerate(steps):
        key = ("default", f"d{which}")
        now += 1000
        written = state.row()
        if step in ("have", "spec", "crash"):
            device = Device("u", properties={"p": {"type": "INT"}}, protocol="acme", model="m")
            device.wanted = {"p": str(number)} if step != "have" else {}
            wanted[key] = dmi.described(key, device)
        elif step == "lack":
            wanted.pop(key, None)
        settle(failing=step == "fail")
        # a crash: before the last calls were written down, and the device changes meanwhile
        if step in ("restart", "crash"):
            again = restored(written if step == "crash" else state.row())
            assert again is not None
            state = again
            if step == "crash":
                wanted[key] = dmi.described(
                    key, Device("u", properties={"p": {"type": "INT"}}, protocol="acme", model="m")
                )
            state.may_have(wanted)
    now += 1000
    settle(failing=False)
    assert has == {key: messages.fingerprint for key, messages in wanted.items()}
    assert not state.unused_models() or state.devices.keys() <= wanted.keys()
