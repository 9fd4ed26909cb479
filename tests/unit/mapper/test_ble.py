"""Bluetooth Low Energy against a stack that nobody here wrote, over HCI (Bumble) and over BlueZ's API (BlueZoo), and devices that lie."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import struct
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.errors import Invalid, PeerError
from kubeedge.kit.tasks import cancel_and_wait
from kubeedge.mapper.ble import att, core, hci, uuids
from kubeedge.mapper.ble.bluez import Bluez, BluezPeer
from kubeedge.mapper.ble.controllers import transport_of
from kubeedge.mapper.ble.driver import ble_mapper
from kubeedge.mapper.ble.gatt import GattClient
from kubeedge.mapper.ble.host import HciHost
from kubeedge.mapper.dbus.bus import DbusConnection, DbusFailure
from kubeedge.mapper.scan.ble import BleFinder
from kubeedge.mapper.scan.core import ScanRequest, ScanResult
from kubeedge.mapper.scan.finder import ScanScope
from kubeedge.mapper.simulated import SimulatedDevice
from kubeedge.mapper.values import MappedDevice, MappedProperty
from tests.fuzz.decoders import mutations
from tests.kit.foreign import environment
from tests.kit.ports import ADDRESS, ports
from tests.unit.mapper.test_mapper import HALL, Node, on_a_node, running, until

PERIPHERALS = Path(__file__).parents[2] / "kit/peripherals"
THERMOMETER = "F0:F1:F2:F3:F4:F5"
OWN = "12345678-1234-5678-1234-56789abcdef{}"
BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>{address}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>
"""


def characteristic(type_: str, uuid: str, **more: Any) -> dict[str, Any]:
    return {"type": type_, "collectCycle": 100, "visitors": {"configData": {"characteristicUUID": uuid, **more}}}


PROPERTIES: dict[str, Any] = {
    "temperature": characteristic("FLOAT", "2a6e", format="int16", scale=0.01),
    "target": characteristic("INT", OWN.format(0), format="uint8", serviceUUID="181A"),
    "paired": {"type": "BOOLEAN", "visitors": {"configData": {"item": "paired"}}},
    "missing": characteristic("INT", "ffff"),
}


class Program:
    """A process that says what it does, a line each."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self.lines.append(line.decode().strip())

    async def says(self, line: str) -> None:
        await until(lambda: line in self.lines, lambda: self.lines)

    async def end(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await cancel_and_wait(self._reading)


@asynccontextmanager
async def program(*argv: str, env: dict[str, str]) -> AsyncIterator[Program]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*argv, env=env, stdin=pipe, stdout=pipe)
    made = Program(process)
    try:
        yield made
    finally:
        await made.end()


@asynccontextmanager
async def hci_thermometer(port: int) -> AsyncIterator[Program]:
    script = str(PERIPHERALS / "hci_thermometer.py")
    async with program(sys.executable, script, ADDRESS, str(port), env=environment("bluetooth")) as made:
        await made.says("ready")
        yield made


@asynccontextmanager
async def bluez_thermometer(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Program]:
    """On the adapter hci1, at 00:22:22:22:22:22; ours is hci0."""
    with tempfile.TemporaryDirectory() as directory:
        address = f"unix:path={directory}/bus"
        Path(directory, "bus.conf").write_text(BUS.format(address=address))
        daemon = shutil.which("dbus-daemon")
        assert daemon is not None, "apt-get install dbus-daemon"
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
        env = environment("bluetooth")
        zoo = ("-c", "from bluezoo.bluezoo import main; main()", "--auto-enable", "--scan-interval", "1")
        adapters = ("-a", "00:11:11:11:11:11", "-a", "00:22:22:22:22:22")
        argv = (daemon, f"--config-file={directory}/bus.conf", "--nofork", "--print-address")
        async with program(*argv, env={**os.environ}) as bus:
            await until(lambda: bus.lines, lambda: bus.lines)
            async with program(sys.executable, *zoo, *adapters, env=env):
                await _has_adapters()
                script = str(PERIPHERALS / "bluez_thermometer.py")
                async with program(sys.executable, script, env=env) as made:
                    await made.says("ready")
                    yield made


async def _has_adapters() -> None:
    """BlueZoo says nothing when it is there."""
    async with asyncio.timeout(30):
        while True:
            bluez = Bluez()
            try:
                await bluez.open()
                if "/org/bluez/hci1" in bluez.objects:
                    return
            except (OSError, PeerError):
                pass
            finally:
                await bluez.aclose()
            await asyncio.sleep(0.05)


async def through(config: dict[str, Any], thermometer: Program, more: dict[str, Any] | None = None) -> None:
    """What both ways have to do. `more`: what Bumble's has besides."""
    properties = PROPERTIES | (more or {})
    async with asyncio.timeout(60), SimulatedDevice(ble_mapper(), properties, config=config) as device:
        assert 21.5 <= float(await device.read("temperature")) < 40
        assert await device.read("target") == "20"
        await device.write("target", "33")
        await thermometer.says("written 21")
        assert await device.read("target") == "33"
        assert await device.read("paired") == "false"
        with pytest.raises(Invalid, match="property missing: the device has no characteristic 0000ffff-"):
            await device.read("missing")
        with pytest.raises(Invalid, match="property target: 300 does not fit into uint8"):
            await device.write("target", "300")
        if more:
            assert await device.read("long") == (bytes(range(256)) * 2).hex()  # several requests
            with pytest.raises(Invalid, match="property secret: .*it has to be paired first"):
                await device.read("secret")


def test_a_device_behind_a_controller_that_speaks_hci() -> None:
    (port,) = ports(1)
    config = {"macAddress": THERMOMETER, "addressType": "random", "adapter": f"tcp:{ADDRESS}:{port}"}
    more = {
        "long": characteristic("STRING", OWN.format(1), format="hex"),
        "secret": characteristic("STRING", OWN.format(2)),
    }

    async def run() -> None:
        async with hci_thermometer(port) as thermometer:
            await through(config, thermometer, more)
            await until_controller_is_free(port)
            with pytest.raises(TimeoutError, match="F0:F1:F2:F3:F4:00 was not heard"):
                nobody = {**config, "macAddress": "F0:F1:F2:F3:F4:00", "timeout": 200}
                async with SimulatedDevice(ble_mapper(), more, config=nobody):
                    pass

    asyncio.run(run())


async def until_controller_is_free(port: int) -> None:
    """Bumble's has room for one connection, and forgets the one before when it pleases."""
    while True:
        host = None
        try:
            host = await HciHost.open(await transport_of(f"tcp:{ADDRESS}:{port}"))
            heard = await host.scan(1.2)
            assert [(one.address, one.is_random, one.rssi) for one in heard] in ([], [(THERMOMETER, True, -50)])
            if heard:
                return
        except OSError:
            pass
        finally:
            if host is not None:
                await host.aclose()
                await asyncio.sleep(0.2)


def test_a_device_through_bluez(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with bluez_thermometer(monkeypatch) as thermometer:
            await through({"macAddress": "00:22:22:22:22:22"}, thermometer)
            result = ScanResult()
            await BleFinder().find(ScanScope(ScanRequest(radios=["hci0"], seconds=3.0), result))
            (found,) = [one.as_json() for one in result.findings]
            assert found["config"] == {"macAddress": "00:22:22:22:22:22", "adapter": "hci0"}
            assert found["name"] == "ble-00-22-22-22-22-22" and found["info"]["name"] == "thermo"
            with pytest.raises(Invalid, match="no adapter hci7"):
                where = core.BleAddress("00:22:22:22:22:22", False, "hci7", 5.0)
                await Bluez().connect(where)

    asyncio.run(run())


def test_without_bluez_or_without_a_bus_the_device_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere/bus")

    async def run() -> None:
        with pytest.raises(ConnectionRefusedError, match="the bus of this machine, /nowhere/bus"):
            await Bluez().open()

    asyncio.run(run())


def test_values_come_by_themselves_and_a_lost_device_is_connected_again(tmp_path: Path) -> None:
    (port,) = ports(1)
    properties = {
        "temperature": characteristic("FLOAT", "2a6e", format="int16", scale=0.01, push=True),
        "target": {**PROPERTIES["target"], "desired": "21"},
    }

    async def scenario(node: Node) -> None:
        await node.desire(
            HALL, properties, "ble", macAddress=THERMOMETER, addressType="random", adapter=f"tcp:{ADDRESS}:{port}"
        )
        mapper = ble_mapper()

        def temperature() -> float:
            return float(node.reported().get("temperature") or 0)

        async with running(mapper, node):
            await until(lambda: node.state() == "offline", node.state)  # there is no controller yet
            async with hci_thermometer(port) as thermometer:
                await thermometer.says("written 15")
                await until(
                    lambda: node.state() == "online" and temperature() > 21.6, lambda: (node.reported(), mapper.health)
                )
                connects = mapper.stats.connects
                assert thermometer.process.stdin is not None
                thermometer.process.stdin.write(b"drop\n")
                await until(lambda: mapper.stats.connects > connects, lambda: mapper.health)
                before = temperature()
                await until(lambda: node.state() == "online" and temperature() > before, lambda: mapper.health)
            await until(lambda: node.state() == "offline", node.state)

    on_a_node(tmp_path, scenario)


# A controller whose device says what it likes


class Liar:
    """The controller's side of a stream: connects to everything, and answers a device's requests by what `say` gives."""

    def __init__(self, say: Callable[[bytes], list[bytes]]) -> None:
        self._say = say
        self._out: asyncio.Queue[bytes] = asyncio.Queue()

    async def read(self, most: int) -> bytes:
        return await self._out.get()

    def write(self, data: bytes) -> None:
        if data[0] == hci.COMMAND:
            opcode = int.from_bytes(data[1:3], "little")
            result = {hci.LE_READ_BUFFER_SIZE: struct.pack("<HB", 64, 4)}.get(opcode, b"")
            done = struct.pack("<BHB", 1, opcode, 0) + result
            self._out.put_nowait(bytes((hci.EVENT, 0x0E, len(done))) + done)
            if opcode == hci.LE_CREATE_CONNECTION:
                body = b"\x01\x00" + struct.pack("<HBB", 5, 0, 1) + data[10:16] + bytes(7)
                self._out.put_nowait(bytes((hci.EVENT, 0x3E, len(body))) + body)
            if opcode == hci.DISCONNECT:
                self._out.put_nowait(bytes((hci.EVENT, 0x05, 4, 0, 5, 0, 0x16)))
            return
        self._out.put_nowait(bytes((hci.EVENT, 0x13, 5, 1, 5, 0, 1, 0)))
        if data[2] >> 4 & 3 == 0:  # the first piece of a packet has it all here
            for answer in self._say(data[9:]):
                for piece in hci.l2cap(5, att.CHANNEL, answer, 64):
                    self._out.put_nowait(piece[:2] + bytes((piece[2] | (0x20 if piece[2] < 0x10 else 0),)) + piece[3:])

    async def aclose(self) -> None: ...


def with_a_liar(say: Callable[[bytes], list[bytes]], scenario: Callable[[GattClient], Awaitable[None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(60):
            host = await HciHost.open(Liar(say))
            try:
                await scenario(GattClient(await host.connect(THERMOMETER, True, 5.0)))
            finally:
                await host.aclose()

    asyncio.run(run())


def honest(request: bytes) -> list[bytes]:
    """A device with one service of one characteristic, which sends values."""
    code, handle = request[0], int.from_bytes(request[1:3], "little")
    answers = {
        att.MTU: bytes((att.MTU_ANSWER,)) + struct.pack("<H", 100),
        att.READ: bytes((att.READ_ANSWER, 7)),
        att.WRITE: bytes((att.WRITE_ANSWER,)),
    }
    found = {
        att.BY_GROUP: (2, bytes((att.BY_GROUP_ANSWER, 6)) + struct.pack("<HHH", 1, 9, 0x181A)),
        att.BY_TYPE: (3, bytes((att.BY_TYPE_ANSWER, 7)) + struct.pack("<HBHH", 2, 0x12, 3, 0x2A6E)),
        att.FIND: (5, bytes((att.FIND_ANSWER, 1)) + struct.pack("<HH", 4, 0x2902)),
    }
    if code in found:
        limit, answer = found[code]
        if handle < limit:
            return [answer]
        return [struct.pack("<BBHB", att.ERROR, code, handle, 0x0A)]
    return [answers[code]]


def test_an_honest_device_is_what_the_others_are_compared_with() -> None:
    async def scenario(gatt: GattClient) -> None:
        await gatt.discover()
        (one,) = gatt.characteristics
        assert (one.uuid, one.service, one.handle, one.last) == (uuids.uuid_of("2a6e"), uuids.uuid_of("181a"), 3, 9)
        await gatt.subscribe(one)
        assert await gatt.read(one) == b"\x07" and gatt.connection.mtu == 100

    with_a_liar(honest, scenario)


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        (att.BY_GROUP, bytes((att.BY_GROUP_ANSWER, 6)) + struct.pack("<HHH", 0, 1, 0x181A)),  # handles that do not grow
        (att.BY_GROUP, bytes((att.BY_GROUP_ANSWER, 6)) + struct.pack("<HHH", 9, 1, 0x181A)),
        (att.BY_GROUP, bytes((att.BY_GROUP_ANSWER, 0))),
        (att.BY_GROUP, bytes((att.BY_GROUP_ANSWER, 6, 1))),
        (att.BY_GROUP, bytes((att.BY_TYPE_ANSWER, 6)) + bytes(6)),  # the answer to something else
        (att.BY_TYPE, bytes((att.BY_TYPE_ANSWER, 7)) + struct.pack("<HBHH", 2, 2, 2, 0x2A6E)),
        (att.BY_TYPE, bytes((att.BY_TYPE_ANSWER, 7)) + struct.pack("<HBHH", 8, 2, 100, 0x2A6E)),  # beyond its service
        (att.BY_TYPE, struct.pack("<BBHB", att.ERROR, att.READ, 0, 0x0A)),
        (att.FIND, bytes((att.FIND_ANSWER, 3)) + bytes(18)),
        (att.FIND, bytes((att.FIND_ANSWER, 1)) + struct.pack("<HH", 1, 0x2902)),
        (att.MTU, bytes((att.MTU_ANSWER,))),
    ],
)
def test_an_answer_that_cannot_be_ends_the_connection_and_nothing_else(code: int, answer: bytes) -> None:
    def say(request: bytes) -> list[bytes]:
        return [answer] if request[0] == code else honest(request)

    async def scenario(gatt: GattClient) -> None:
        await gatt.discover()
        await gatt.subscribe(gatt.characteristics[0])

    with pytest.raises(PeerError):
        with_a_liar(say, scenario)


def test_a_device_without_end_is_given_up() -> None:
    asked = 0

    def say(request: bytes) -> list[bytes]:
        nonlocal asked
        if request[0] != att.BY_GROUP:
            return honest(request)
        asked += 1
        return [bytes((att.BY_GROUP_ANSWER, 6)) + struct.pack("<HHH", asked, asked, 0x181A)]

    with pytest.raises(PeerError, match="more than 64 services"):
        with_a_liar(say, lambda gatt: gatt.discover())
    assert asked < 70


def test_what_a_device_sends_by_itself_takes_no_memory_and_no_answer() -> None:
    def say(request: bytes) -> list[bytes]:
        flood = [bytes((att.NOTIFICATION,)) + struct.pack("<H", n) + b"x" for n in range(1000)]
        strange = [b"", bytes(60), bytes((att.READ, 1, 0)), bytes((att.INDICATION, 3, 0, 9)), bytes((0x52, 1, 0, 0))]
        return [*honest(request), *(flood + strange if request[0] == att.READ else [])]

    async def scenario(gatt: GattClient) -> None:
        await gatt.discover()
        assert await gatt.read(gatt.characteristics[0]) == b"\x07"
        with pytest.raises(ConnectionError):  # an empty PDU is none
            while True:
                assert len(await gatt.connection.pushed()) <= 64

    with_a_liar(say, scenario)


@pytest.mark.parametrize("seed", range(8))
def test_damaged_streams_of_a_controller_are_refused_or_understood(seed: int) -> None:
    whole = b"".join(
        (
            bytes((hci.EVENT, 0x0E, 4, 1, 3, 0x0C, 0)),
            bytes((hci.EVENT, 0x3E, 19, 1, 0)) + struct.pack("<HBB", 5, 0, 1) + bytes(13),
            bytes((hci.EVENT, 0x3E, 15, 2, 1, 0, 1)) + bytes(6) + b"\x03abc\xce",
            *hci.l2cap(5, att.CHANNEL, bytes((att.NOTIFICATION, 3, 0)) + bytes(90), 27),
            bytes((hci.EVENT, 0x13, 5, 1, 5, 0, 1, 0)),
            bytes((hci.EVENT, 0x05, 4, 0, 5, 0, 0x13)),
        )
    )
    assert len(hci.HciStream().receive_data(whole)) == 6
    for damaged in mutations(whole, 300, seed):
        stream = hci.HciStream()
        try:
            for at in range(0, len(damaged), 7):
                stream.receive_data(damaged[at : at + 7])
        except PeerError:
            pass
        assert sum(map(len, stream._parts.values())) <= 5000


# Values


@given(st.sampled_from(["int8", "int16", "int24", "int32", "int64"]), st.booleans(), st.booleans(), st.data())
def test_an_integer_reads_as_it_was_written(name: str, signed: bool, big: bool, data: st.DataObject) -> None:
    bits = int(name[3:])
    number = data.draw(
        st.integers(-(1 << bits - 1), (1 << bits - 1) - 1) if signed else st.integers(0, (1 << bits) - 1)
    )
    prop = prop_of("INT", format=name if signed else f"u{name}", bigEndian=big)
    raw = core.bytes_of(prop, number)
    assert len(raw) == bits // 8 and core.value_of(prop, raw) == number


@pytest.mark.parametrize(
    ("type_", "visitor", "raw", "value"),
    [
        ("INT", {}, "0102", 0x0201),
        ("INT", {"offset": 1, "format": "uint8"}, "ff05", 5),
        ("INT", {"format": "int16", "scale": 10}, "feff", -20),
        ("FLOAT", {}, "0000c03f", 1.5),
        ("FLOAT", {"bigEndian": True}, "3ff8000000000000", 1.5),
        ("FLOAT", {"format": "sfloat16"}, "72f1", 37.0),  # 370 x 10^-1: a thermometer's
        ("FLOAT", {"format": "float11073"}, "720100ff", 37.0),
        ("FLOAT", {"format": "sfloat16"}, "fe07", float("inf")),
        ("BOOLEAN", {}, "02", True),
        ("STRING", {}, "68616c6c00", "hall"),
        ("STRING", {"format": "hex", "offset": 1}, "00ff10", "ff10"),
        ("BYTES", {}, "00ff", b"\x00\xff"),
    ],
)
def test_values_of_bytes(type_: str, visitor: dict[str, Any], raw: str, value: object) -> None:
    assert core.value_of(prop_of(type_, **visitor), bytes.fromhex(raw)) == value


@pytest.mark.parametrize(
    ("type_", "visitor", "raw", "why"),
    [
        ("INT", {"format": "uint32"}, "0102", "has 2 bytes where uint32 takes 4"),
        ("FLOAT", {}, "0102", "format is missing"),
        ("INT", {"offset": 2}, "0102", "offset 2 is behind"),
        ("INT", {"format": "uint99"}, "01", "format 'uint99' is none"),
        ("INT", {"scale": 0}, "01", "scale must be"),
        ("INT", {"scale": 10**400}, "01", "scale must be"),
        ("STRING", {}, "ff", "no text in UTF-8"),
        ("BOOLEAN", {}, "", "offset 0 is behind"),
        ("INT", {"scale": 0.5}, "ff" * 512, "format is missing: a value of 512 bytes"),
        ("INT", {}, "ff" * 9, "format is missing: a value of 9 bytes"),
    ],
)
def test_bytes_that_are_no_value(type_: str, visitor: dict[str, Any], raw: str, why: str) -> None:
    with pytest.raises(Invalid, match=f"^device default/hall: property x: .*{why}"):
        core.value_of(prop_of(type_, **visitor), bytes.fromhex(raw))


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({}, "macAddress"),
        ({"macAddress": "F0:F1:F2:F3:F4"}, "macAddress"),
        ({"macAddress": THERMOMETER, "addressType": "both"}, "addressType"),
        ({"macAddress": THERMOMETER, "adapter": "../hci0"}, "adapter"),
        ({"macAddress": THERMOMETER, "adapter": "serial:/etc/passwd"}, "adapter"),
        ({"macAddress": THERMOMETER, "timeout": 1}, "timeout"),
    ],
)
def test_a_configuration_that_names_no_device_is_refused(config: dict[str, Any], why: str) -> None:
    with pytest.raises(Invalid, match=f"^device default/hall: {why}"):
        core.address_of(MappedDevice("default/hall", "ble", config, {}))


def prop_of(type_: str, **visitor: Any) -> MappedProperty:
    return MappedProperty("default/hall", "x", type_, visitor={"characteristicUUID": "2a6e", **visitor})


class Deaf(Liar):
    """A controller that looks for the devices that it is asked for, one at a time as real ones do, and hears those in `near`. `late`: an order to
    stop comes after it has just connected."""

    def __init__(self, near: set[str], *, late: bool = False) -> None:
        super().__init__(honest)
        self.near, self.late = near, late
        self.looks_for = b""
        self.connected = 0

    def write(self, data: bytes) -> None:
        opcode = int.from_bytes(data[1:3], "little") if data[0] == hci.COMMAND else 0
        if opcode == hci.LE_CREATE_CONNECTION:
            self._answer(opcode, 0x0C if self.looks_for or self.connected else 0)
            if not self.looks_for and not self.connected:
                self.looks_for = data[10:16]
                if self.looks_for in map(hci.address_bytes, self.near):
                    self.connect()
        elif opcode == hci.LE_CREATE_CONNECTION_CANCEL:
            if self.late and self.looks_for:
                self.connect()
            self._answer(opcode, 0 if self.looks_for else 0x0C)
            if self.looks_for:
                self.connect(0x02)
        else:
            self.connected -= opcode == hci.DISCONNECT
            super().write(data)

    def _answer(self, opcode: int, status: int) -> None:
        self._out.put_nowait(bytes((hci.EVENT, 0x0E, 4, 1)) + struct.pack("<HB", opcode, status))

    def connect(self, status: int = 0) -> None:
        body = struct.pack("<BBHBB", 1, status, 5, 0, 1) + self.looks_for + bytes(7)
        self._out.put_nowait(bytes((hci.EVENT, 0x3E, len(body))) + body)
        self.looks_for = b""
        self.connected += not status


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("ends", ["cancelled", "not heard"])
def test_who_gives_up_a_device_leaves_the_controller_to_the_others(late: bool, ends: str) -> None:
    async def run() -> None:
        controller = Deaf({THERMOMETER}, late=late)
        host = await HciHost.open(controller)
        try:
            if ends == "cancelled":
                waiting = asyncio.create_task(host.connect("F0:00:00:00:00:01", True, 30.0))
                while not controller.looks_for:
                    await asyncio.sleep(0)
                await cancel_and_wait(waiting)
            else:
                with contextlib.suppress(TimeoutError):
                    await (await host.connect("F0:00:00:00:00:01", True, 0.05)).aclose()
            await until(lambda: not controller.connected and not controller.looks_for, lambda: controller)
            await (await host.connect(THERMOMETER, True, 5.0)).aclose()
        finally:
            await host.aclose()

    async def bounded() -> None:
        async with asyncio.timeout(60):
            await run()

    asyncio.run(bounded())


def test_a_device_that_is_connected_for_nobody_is_let_go() -> None:
    async def run() -> None:
        controller = Deaf(set())
        host = await HciHost.open(controller)
        try:
            controller.looks_for = hci.address_bytes(THERMOMETER)
            controller.connect()
            await until(lambda: not controller.connected, lambda: controller)
        finally:
            await host.aclose()

    asyncio.run(run())


def test_each_property_of_a_characteristic_that_sends_nothing_says_so() -> None:
    class Bus:
        async def call(self, *_: Any) -> Any:
            raise DbusFailure("org.bluez.Error.NotSupported", "Operation is not supported")

    async def run() -> None:
        bluez, device = Bluez(), "/org/bluez/hci0/dev_1"
        place = core.BlePlace(uuids.uuid_of("2a6e"))
        bluez.objects[f"{device}/char1"] = {"org.bluez.GattCharacteristic1": {"UUID": place.characteristic}}
        peer = BluezPeer(bluez, cast(DbusConnection, Bus()), device, core.BleAddress(THERMOMETER, True, "hci0", 5.0))
        for _ in range(2):
            with pytest.raises(Invalid, match="Operation is not supported"):
                await peer.subscribe(place)

    asyncio.run(run())
