"""Mappers on the broker of a node: real twins, store and MQTT; Modbus against pymodbus."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pymodbus.client import AsyncModbusTcpClient

from kubeedge.api import keys
from kubeedge.devices.eventbus.module import EventBus
from kubeedge.devices.module import DeviceTwins
from kubeedge.errors import Invalid
from kubeedge.kit.tasks import cancel_and_wait
from kubeedge.mapper import NOTHING, Device, Mapper, Property
from kubeedge.mapper.modbus.driver import modbus_mapper
from kubeedge.mapper.virtual.core import VirtualDevice
from kubeedge.mapper.virtual.driver import virtual_mapper
from kubeedge.store.model import Store
from kubeedge.store.sqlite import open_sqlite
from tests.unit.mapper.test_modbus import UNIT, boiler

HALL = ("default", "hall")
ADDRESS = f"127.78.{os.getpid() >> 8 & 255}.{os.getpid() & 255 or 1}"  # of our own: a port that was ours is free when we come again


class Node:
    """A store, its twins and its broker; the broker can go away and come again."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.port = 0
        self.twins: DeviceTwins
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self.twins = DeviceTwins(self.store, wall=lambda: 1_790_000_000.0)
        bus = EventBus(self.twins, "edge1", ADDRESS, self.port)
        for module in (self.twins, bus):
            ready = asyncio.Event()
            self._tasks.append(asyncio.create_task(module.run(ready)))
            await ready.wait()
        self.port = bus.port

    async def stop(self) -> None:
        await cancel_and_wait(*self._tasks)
        self._tasks.clear()

    async def desire(self, key: tuple[str, str], properties: dict[str, Any], protocol: str, **config: Any) -> None:
        metadata = {"namespace": key[0], "name": key[1], "uid": f"uid-{key[1]}"}
        row = {
            "metadata": metadata,
            "generation": 1,
            "properties": properties,
            "protocol": {"protocolName": protocol, "configData": config},
        }
        await self.store.put(keys.desired("devices", *key), json.dumps(row).encode())

    def reported(self, key: tuple[str, str] = HALL) -> dict[str, str | None]:
        device = self.twins.twins.devices.get(key)
        return {} if device is None else {name: twin.reported for name, twin in device.twins.items()}

    def state(self, key: tuple[str, str] = HALL) -> str:
        device = self.twins.twins.devices.get(key)
        return "" if device is None else device.state


async def until(true: Callable[[], object], shown: Callable[[], object]) -> None:
    """Raises AssertionError with what was seen last."""
    try:
        async with asyncio.timeout(20):
            while not true():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"the last thing seen: {shown()}") from None


@asynccontextmanager
async def running(mapper: Mapper, node: Node) -> AsyncIterator[None]:
    task = asyncio.create_task(mapper.serve(f"{ADDRESS}:{node.port}"))
    try:
        yield
    finally:
        await cancel_and_wait(task)


def on_a_node(path: Path, scenario: Callable[[Node], Awaitable[None]]) -> None:
    async def run() -> None:
        store = await open_sqlite(path / "edge.db")
        node = Node(store)
        await node.start()
        try:
            async with asyncio.timeout(60):
                await scenario(node)
        finally:
            await node.stop()
            await store.close()

    asyncio.run(run())


def register(kind: str, offset: int, **more: Any) -> dict[str, Any]:
    return {
        "collectCycle": 50,
        "visitors": {
            "protocolName": "modbus",
            "configData": {"register": f"{kind}Register", "offset": offset, **more},
        },
    }


def test_a_modbus_device_is_set_and_read_through_a_cut_of_either_side(tmp_path: Path) -> None:
    properties = {
        "temperature": {"type": "FLOAT", "accessMode": "ReadOnly", **register("Input", 0, scale=0.1)},
        "target": {"type": "INT", "minimum": "5", "maximum": "30", "desired": "21", **register("Holding", 10)},
    }

    async def scenario(node: Node) -> None:
        mapper = modbus_mapper()

        async def desire(target: str) -> None:
            changed = {**properties, "target": {**properties["target"], "desired": target}}
            await node.desire(HALL, changed, "modbus", host=ADDRESS, port=port, slaveID=UNIT)

        def has(target: str, state: str = "online") -> Callable[[], bool]:
            return lambda: (
                node.reported() == {"temperature": "21.5", "target": target}
                and node.state() == state
                and node.twins.twins.devices[HALL].twins["target"].observed == target
            )

        def shown() -> object:
            return node.reported(), node.state(), mapper.health

        async with running(mapper, node):
            async with boiler(ADDRESS) as port:
                await desire("21")  # after the mapper
                await until(has("21"), shown)
                await desire("22")
                await until(has("22"), shown)
            await until(lambda: node.state() == "offline", shown)
            await node.stop()
            await desire("23")  # while neither is there
            async with boiler(ADDRESS, port):
                await node.start()
                await until(has("23"), shown)
        assert mapper.stats.writes >= 3

    on_a_node(tmp_path, scenario)


def test_devices_come_change_and_go_and_others_are_left_alone(tmp_path: Path) -> None:
    connected: list[str] = []

    async def scenario(node: Node) -> None:
        mapper = virtual_mapper()
        made: Any = mapper.handlers.connect

        @mapper.connect
        async def connect(device: Device) -> Any:
            connected.append(device.id)
            return await made(device)

        def prop(value: str) -> dict[str, Any]:
            return {"x": {"type": "INT", "collectCycle": 20, "visitors": {"configData": {"value": value}}}}

        names = [f"d{n:03}" for n in range(150)]  # more than a page of them
        for name in names:
            await node.desire(("default", name), prop("1" * 18) | {"pad": {"unit": "u" * 1000}}, "virtual")
        await node.desire(("default", "other"), prop("1"), "modbus")
        async with running(mapper, node):
            keys_ = [("default", name) for name in names]
            await until(
                lambda: all(node.reported(key).get("x") == "1" * 18 for key in keys_),
                lambda: [key for key in keys_ if not node.reported(key)],
            )
            assert sorted(connected) == [f"default/{name}" for name in names] and not node.reported(
                ("default", "other")
            )
            await node.desire(keys_[0], prop("2"), "virtual")
            await node.desire(keys_[1], prop("1"), "modbus")
            await node.store.delete(keys.desired("devices", *keys_[2]))
            await until(
                lambda: node.reported(keys_[0]).get("x") == "2" and len(mapper.health["devices"]) == 148,
                lambda: (node.reported(keys_[0]), len(mapper.health["devices"])),
            )
        assert len(connected) == 151, "a device that has not changed is not connected to again"

    on_a_node(tmp_path, scenario)


def test_what_handlers_do_wrong_is_said_with_device_and_property(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    properties = {
        "good": {"type": "INT"},
        "nan": {"type": "FLOAT"},
        "text": {"type": "INT"},
        "high": {"type": "INT", "maximum": "5"},
        "raises": {"type": "INT"},
        "target": {"type": "INT", "desired": "9", "maximum": "5"},
    }
    values = {"good": 1, "nan": float("nan"), "text": "warm", "high": 7, "target": 1}
    written: list[object] = []
    mapper = Mapper("odd")

    @mapper.read
    def read(client: None, prop: Property) -> Any:  # a plain function: in a thread
        return values[prop.name]

    @mapper.write
    async def write(client: None, prop: Property, value: Any) -> None:
        written.append(value)

    async def scenario(node: Node) -> None:
        await node.desire(HALL, properties, "odd")
        async with running(mapper, node):
            await until(
                lambda: node.state() == "unhealthy" and len(node.twins.twins.devices[HALL].refused) == 2,
                lambda: (node.state(), node.reported(), mapper.health),
            )
        device = node.twins.twins.devices[HALL]
        assert node.reported() == {"good": "1", "target": "1"} and not written
        assert device.refused == {"nan": "must be a finite number", "high": "is greater than the maximum, 5"}

    on_a_node(tmp_path, scenario)
    for line in (
        "device default/hall: property text: 'warm' (str) is no INT",
        "device default/hall: property raises: 'raises'",
        "device default/hall: property target: '9' is greater than the maximum, 5",
    ):
        assert caplog.text.count(line) == 1, caplog.text


def test_a_property_that_can_only_be_written_is_no_error(tmp_path: Path) -> None:
    """And what a handler has forgotten to return is one."""
    mapper, asked = Mapper("odd"), Counter[str]()

    @mapper.read
    async def read(client: None, prop: Property) -> Any:
        asked[prop.name] += 1
        return {"level": 1, "tare": NOTHING}.get(prop.name)

    async def scenario(node: Node) -> None:
        cycle = {"type": "INT", "collectCycle": 20}
        await node.desire(HALL, {"level": cycle, "tare": cycle}, "odd")
        async with running(mapper, node):
            await until(
                lambda: asked["tare"] > 3 and node.reported() == {"level": "1"} and node.state() == "online",
                lambda: (asked, node.reported(), node.state()),
            )
            await node.desire(HALL, {"level": cycle, "tare": cycle, "forgotten": cycle}, "odd")
            await until(lambda: node.state() == "unhealthy", lambda: mapper.health)
            assert list(mapper.health["devices"]["default/hall"]["errors"]) == ["forgotten"]
        assert node.reported() == {"level": "1"}

    on_a_node(tmp_path, scenario)


def test_a_handler_that_reads_many_fails_for_those_alone_and_a_lost_connection_for_the_device(tmp_path: Path) -> None:
    mapper = Mapper("many")
    connected: list[str] = []

    @mapper.connect
    async def connect(device: Device) -> str:
        connected.append(device.id)
        return device.id

    @mapper.read_many
    async def read_many(client: str, props: list[Property]) -> Any:
        match client:
            case "default/none":
                return None
            case "default/gone" if len(connected) < 5:
                raise EOFError
        return {"x": 5} if client == "default/gone" else {}

    async def scenario(node: Node) -> None:
        names = [("default", name) for name in ("none", "gone", "empty")]
        for key in names:
            await node.desire(key, {"x": {"type": "INT"}}, "many")
        async with running(mapper, node):
            await until(
                lambda: [node.state(key) for key in names] == ["unhealthy", "online", "unhealthy"],
                lambda: ([node.state(key) for key in names], mapper.health),
            )
        assert connected.count("default/none") == connected.count("default/empty") == 1
        assert connected.count("default/gone") == 3 and node.reported(names[1]) == {"x": "5"}

    on_a_node(tmp_path, scenario)


def test_a_device_has_one_connection_at_a_time_however_often_it_changes(tmp_path: Path) -> None:
    mapper = Mapper("slow")
    opened: list[str] = []
    open_now: set[str] = set()
    closing = asyncio.Event()

    @mapper.connect
    async def connect(device: Device) -> str:
        assert not open_now, "the one before is still there"
        opened.append(str(device.config["n"]))
        open_now.add(opened[-1])
        return opened[-1]

    @mapper.close
    async def close(client: str) -> None:
        await closing.wait()
        open_now.discard(client)

    async def scenario(node: Node) -> None:
        def known() -> list[Any]:
            return [runner.cycle.device.config["n"] for runner in mapper._runners.values()]

        async with running(mapper, node):
            await node.desire(HALL, {"x": {"type": "INT"}}, "slow", n=0)
            await until(lambda: opened == ["0"], lambda: opened)
            for n in (1, 2):
                await node.desire(HALL, {"x": {"type": "INT"}}, "slow", n=n)
                await until(lambda n=n: known() == [n], known)  # type: ignore[misc]
            await node.store.delete(keys.desired("devices", *HALL))
            await until(lambda: known() == [], known)
            await node.desire(HALL, {"x": {"type": "INT"}}, "slow", n=3)
            await until(lambda: known() == [3], known)
            assert opened == ["0"]
            closing.set()
            await until(lambda: opened == ["0", "3"], lambda: (opened, mapper.health))
            assert mapper.stats.connect_errors == 0 and not mapper._ending

    on_a_node(tmp_path, scenario)


def test_a_device_that_sends_by_itself_is_not_polled(tmp_path: Path) -> None:
    mapper = Mapper("push")
    devices: list[Device] = []

    @mapper.connect
    async def connect(device: Device) -> None:
        devices.append(device)

    @mapper.write
    async def write(client: None, prop: Property, value: Any) -> None:
        assert isinstance(value, bool)

    async def scenario(node: Node) -> None:
        await node.desire(HALL, {"n": {"type": "INT"}, "on": {"type": "BOOLEAN", "desired": "true"}}, "push")
        async with running(mapper, node):
            await until(lambda: devices, lambda: mapper.health)
            before = node.twins.commits
            for n in range(1000):
                mapper.report(devices[0], {"n": n})
            await until(lambda: node.reported() == {"n": "999", "on": "true"}, node.reported)
            assert node.twins.commits - before < 20, "a chatty device does not cost the disk a write for each value"
            with pytest.raises(Invalid, match="device default/hall: property m"):
                mapper.report(devices[0], {"m": 1})

    on_a_node(tmp_path, scenario)


def test_metrics_are_what_prometheus_reads_and_few() -> None:
    from prometheus_client.parser import text_string_to_metric_families as parsed

    from kubeedge.kit.metrics import exposition
    from kubeedge.mapper.observe import families

    mapper = virtual_mapper()
    mapper.stats.reads = 3
    health = {"broker": True, "devices": {"a/b": {"state": "online"}, "a/c": {"state": ""}}}
    samples = {
        (s.name, s.labels.get("state")): s.value
        for family in parsed(exposition(families(mapper.stats, health)))
        for s in family.samples
    }
    assert samples[("kubeedge_mapper_reads_total", None)] == 3 and samples[("kubeedge_mapper_broker_up", None)] == 1
    assert samples[("kubeedge_mapper_devices", "online")] == samples[("kubeedge_mapper_devices", "unknown")] == 1
    assert len(samples) == 14


@pytest.mark.parametrize(
    ("kind", "minimum", "maximum", "value"),
    [
        ("INT", "5", "30", 5),
        ("INT", "", "-3", -3),
        ("INT", "-5", "5", 0),
        ("FLOAT", "0.5", "", 0.5),
        ("INT", "", "", 0),
        ("STRING", "", "", ""),
    ],
)
def test_a_virtual_property_of_which_nothing_is_said_is_in_its_range(
    kind: str, minimum: str, maximum: str, value: Any
) -> None:
    prop = Property("default/hall", "target", kind, minimum=minimum, maximum=maximum)
    assert VirtualDevice(0.0).read(prop, 1.0) == value


def test_the_handlers_of_a_mapper_are_tested_without_a_node() -> None:
    from kubeedge.mapper.simulated import SimulatedDevice

    async def run() -> None:
        properties = {
            "temperature": {"type": "FLOAT", "maximum": "20", **register("Input", 0, scale=0.1)},
            "target": {"type": "INT", "maximum": "30", **register("Holding", 10)},
            "fixed": {"type": "INT", "accessMode": "ReadOnly", **register("Holding", 10)},
        }
        async with boiler() as port, asyncio.timeout(30):
            config = {"host": "127.0.0.1", "port": port, "slaveID": UNIT}
            async with SimulatedDevice(modbus_mapper(), properties, config=config) as device:
                await device.write("target", "25")
                assert await device.read("target") == "25"
                for attempt, why in (
                    (device.write("target", "31"), "target: '31' is greater than the maximum, 30"),
                    (device.write("fixed", "1"), "fixed: is read-only"),
                    (device.read("temperature"), "temperature: '21.5' is greater than the maximum, 20"),
                    (device.read("humidity"), "humidity is not in its DeviceModel"),
                ):
                    with pytest.raises(Invalid, match=f"^device default/simulated: property {why}"):
                        await attempt

    asyncio.run(run())


def test_a_mapper_of_twenty_lines_on_a_client_of_others(tmp_path: Path) -> None:
    """pymodbus' client, as an author would use it: it has a plain close()."""
    mapper = Mapper(protocol="acme")

    @mapper.connect
    async def connect(device: Device) -> AsyncModbusTcpClient:
        client = AsyncModbusTcpClient(device.config["host"], port=device.config["port"], retries=0)
        if not await client.connect():
            raise ConnectionError("nobody answers")
        return client

    @mapper.read
    async def read(client: AsyncModbusTcpClient, prop: Property) -> float:
        found = await client.read_holding_registers(prop.visitor["offset"], count=1, device_id=UNIT)
        return float(found.registers[0] * prop.visitor.get("scale", 1))

    @mapper.write
    async def write(client: AsyncModbusTcpClient, prop: Property, value: int) -> None:
        await client.write_register(prop.visitor["offset"], value, device_id=UNIT)

    async def scenario(node: Node) -> None:
        async with boiler(ADDRESS) as port:
            properties = {"target": {"type": "INT", "desired": "23", "visitors": {"configData": {"offset": 10}}}}
            await node.desire(HALL, properties, "acme", host=ADDRESS, port=port)
            async with running(mapper, node):
                await until(lambda: node.reported() == {"target": "23"}, lambda: (node.reported(), mapper.health))
                runner = next(iter(mapper._runners.values()))
                assert runner.cycle.state == "online"

    on_a_node(tmp_path, scenario)
