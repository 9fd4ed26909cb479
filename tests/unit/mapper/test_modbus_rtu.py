"""Modbus RTU through a pseudo-terminal, against a server that nobody here wrote (pymodbus), and against lines that garble and lie."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.server import ModbusSerialServer
from pymodbus.simulator import DataType, SimData, SimDevice

from kubeedge.errors import Invalid, PeerError
from kubeedge.mapper import serial_port
from kubeedge.mapper.machine import device_file
from kubeedge.mapper.modbus import codec
from kubeedge.mapper.modbus.codec import ModbusRefusal, ModbusRequest
from kubeedge.mapper.modbus.driver import ModbusClient, modbus_mapper
from kubeedge.mapper.modbus.lines import SerialLines
from kubeedge.mapper.serial_port import SerialPort, SerialSettings
from kubeedge.mapper.values import MappedDevice, MappedProperty

SETTINGS = SerialSettings(115200)
UNITS = (3, 9)


def prop(name: str, type_: str, register: str, offset: int) -> MappedProperty:
    return MappedProperty("default/m", name, type_, visitor={"register": f"{register}Register", "offset": offset})


TARGET, PUMP, METER = (
    prop("target", "INT", "Holding", 10),
    prop("pump", "BOOLEAN", "Coil", 3),
    prop("m", "INT", "Input", 0),
)


@pytest.fixture
def ends() -> Iterator[tuple[int, str]]:
    """A line without hardware: a file of its far end, and the path of the near one."""
    far, near = os.openpty()
    os.set_blocking(far, False)
    try:
        yield far, os.ttyname(near)
    finally:
        for file in (far, near):
            os.close(file)


@asynccontextmanager
async def meters(ends: tuple[int, str]) -> AsyncIterator[str]:
    """Two devices on one line; what carries it to the server is a second pseudo-terminal."""
    far, path = ends
    master, slave = os.openpty()
    os.set_blocking(master, False)
    loop = asyncio.get_running_loop()
    for source, target in ((far, master), (master, far)):
        loop.add_reader(source, lambda source=source, target=target: os.write(target, os.read(source, 4096)))
    devices = []
    for unit in UNITS:
        bits = [SimData(0, values=[False, True] * 8, datatype=DataType.BITS)]
        holding = [SimData(10, values=[20 + unit], datatype=DataType.REGISTERS)]
        inputs = [SimData(0, values=[unit], datatype=DataType.REGISTERS)]
        devices.append(SimDevice(unit, simdata=(bits, bits, holding, inputs)))
    server = ModbusSerialServer(devices, port=os.ttyname(slave), baudrate=115200)
    await server.serve_forever(background=True)
    try:
        yield path
    finally:
        await server.shutdown()
        for source in (far, master):
            loop.remove_reader(source)
        for file in (master, slave):
            os.close(file)


def test_devices_on_one_line_are_read_and_written(ends: tuple[int, str]) -> None:
    async def run() -> None:
        async with meters(ends) as path, asyncio.timeout(60):
            lines = SerialLines()
            clients = [ModbusClient(lines.line(path, SETTINGS, 10.0), unit) for unit in UNITS]
            found = await asyncio.gather(*(client.read([METER, TARGET, PUMP]) for client in clients))
            assert found == [{"m": unit, "target": 20 + unit, "pump": True} for unit in UNITS]
            await clients[0].write(TARGET, 65535)
            await clients[1].write(PUMP, False)
            found = await asyncio.gather(*(client.read([TARGET, PUMP]) for client in clients))
            assert found == [{"target": 65535, "pump": True}, {"target": 29, "pump": False}]
            missing = await clients[0].read([prop("none", "INT", "Holding", 500)])
            assert isinstance(missing["none"], ModbusRefusal)
            await clients[0].aclose()
            assert await clients[1].read([METER]) == {"m": 9}, "the other one keeps the line"
            await clients[1].aclose()
            again = lines.line(path, SerialSettings(9600), 10.0)  # nobody has it: other settings are no conflict
            await again.aclose()

    asyncio.run(run())


def with_line(ends: tuple[int, str], scenario: Callable[[ModbusClient, int], Awaitable[None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(60):
            client = ModbusClient(SerialLines().line(ends[1], SETTINGS, 0.5), 3)
            await scenario(client, ends[0])
            await client.aclose()

    asyncio.run(run())


async def received(far: int, size: int) -> bytes:
    found = b""
    while len(found) < size:
        try:
            found += os.read(far, size - len(found))
        except BlockingIOError:
            await asyncio.sleep(0.001)
    return found


def answer(*pdu: int) -> bytes:
    data = bytes((3, *pdu))
    return data + codec.crc(data)


@pytest.mark.parametrize(
    "wrong",
    [
        answer(3, 2, 0, 21)[:-1] + b"\0",  # garbled
        answer(4, 2, 0, 21),  # another function
        answer(3, 4, 0, 21, 0, 0),  # more than was asked for
        b"\x09" + answer(3, 2, 0, 21)[1:],  # another unit
        answer(3, 2, 0, 21)[:5],  # half a frame
        b"",
        b"\xff" * 300,
    ],
)
def test_what_is_wrong_on_the_line_is_no_value_and_the_next_answer_is_one(ends: tuple[int, str], wrong: bytes) -> None:
    async def scenario(client: ModbusClient, far: int) -> None:
        reading = asyncio.ensure_future(client.ask(ModbusRequest(3, 3, 10)))
        await received(far, 8)
        os.write(far, wrong)
        with pytest.raises((PeerError, OSError)):
            await reading
        os.write(far, answer(3, 2, 0, 99))  # what comes too late
        reading = asyncio.ensure_future(client.ask(ModbusRequest(3, 3, 10)))
        await received(far, 8)
        os.write(far, answer(3, 2, 0, 21))
        assert await reading == [21]

    with_line(ends, scenario)


def test_noise_is_no_value(ends: tuple[int, str]) -> None:
    async def scenario(client: ModbusClient, far: int) -> None:
        async def noise() -> None:
            while True:
                try:
                    os.write(far, b"\x55" * 64)
                except BlockingIOError:
                    pass
                await asyncio.sleep(0)

        noisy = asyncio.ensure_future(noise())
        for _ in range(3):
            with pytest.raises((PeerError, OSError)):
                await client.ask(ModbusRequest(3, 3, 10))
        noisy.cancel()

    with_line(ends, scenario)


def test_a_line_that_goes_away_ends_all_its_users() -> None:
    far, near = os.openpty()
    os.set_blocking(far, False)
    path = os.ttyname(near)

    async def run() -> None:
        async with asyncio.timeout(60):
            lines = SerialLines()
            clients = [ModbusClient(lines.line(path, SETTINGS, 30.0), unit) for unit in UNITS]
            asking = [asyncio.ensure_future(client.ask(ModbusRequest(client.unit, 3, 10))) for client in clients]
            await received(far, 8)
            os.close(near)
            os.close(far)
            for one in asking:
                with pytest.raises(OSError):
                    await one
            for client in clients:
                await client.aclose()
            with pytest.raises(OSError):
                lines.line(path, SETTINGS, 1.0)

    asyncio.run(run())


def test_a_port_is_one_program_s_and_a_serial_line(ends: tuple[int, str], tmp_path: Path) -> None:
    async def run() -> None:
        port = SerialPort.open(ends[1], SETTINGS)
        with pytest.raises(OSError, match="another program"):
            SerialPort.open(ends[1], SETTINGS)
        port.close()
        SerialPort.open(ends[1], SETTINGS).close()
        (tmp_path / "file").write_text("")
        with pytest.raises(OSError, match="no serial line"):
            SerialPort.open(str(tmp_path / "file"), SETTINGS)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"serialPort": path}, "serialPort")
        for path in (7, "", "/etc/passwd", "/dev/mem", "/dev/tty1", "/dev/console", "/dev/ttyS0/../mem", "/dev/pts/0")
    ]
    + [
        ({"serialPort": "/dev/ttyKB9", **more}, why)
        for more, why in [
            ({"baudRate": 1234}, "baudRate must be one of 300,"),
            ({"parity": "maybe"}, "parity must be"),
            ({"dataBits": 9}, "dataBits"),
            ({"stopBits": 3}, "stopBits"),
            ({"slaveID": 0}, "slaveID must be an integer from 1 to 247"),
        ]
    ],
)
def test_a_configuration_that_names_no_line_is_refused_by_name(config: dict[str, Any], why: str) -> None:
    connect: Any = modbus_mapper().handlers.connect
    with pytest.raises(Invalid, match=f"^device default/boiler: {why}"):
        asyncio.run(connect(MappedDevice("default/boiler", "modbus", config, {})))


def test_the_machine_s_devices_may_be_elsewhere(
    ends: tuple[int, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "serial/by-id").mkdir(parents=True)
    (tmp_path / "serial/by-id/usb-acme").symlink_to(ends[1])
    monkeypatch.setenv("KUBEEDGE_DEV", str(tmp_path))

    async def run() -> None:
        SerialPort.open("/dev/serial/by-id/usb-acme", SETTINGS).close()

    asyncio.run(run())
    assert device_file("/elsewhere/ttyS0") == "/elsewhere/ttyS0"
    monkeypatch.delenv("KUBEEDGE_DEV")
    assert device_file("/dev/gpiochip0") == "/dev/gpiochip0"


def test_devices_of_one_line_agree_on_its_settings(ends: tuple[int, str]) -> None:
    link = Path(f"/dev/ttyKB{os.getpid()}")
    link.symlink_to(ends[1])
    try:

        async def run() -> None:
            connect: Any = modbus_mapper().handlers.connect
            config = {"serialPort": str(link), "baudRate": "19200", "parity": "Even"}
            first = await connect(MappedDevice("default/a", "modbus", config, {}))
            with pytest.raises(
                Invalid, match="^device default/b: other devices use .* with 19200 8E1, .* wants 19200 8N1"
            ):
                await connect(MappedDevice("default/b", "modbus", {**config, "parity": "none"}, {}))
            await first.aclose()

        asyncio.run(run())
    finally:
        link.unlink()


def test_the_known_checksum() -> None:
    assert codec.crc(bytes.fromhex("010400000002")) == bytes.fromhex("71cb")  # of the specification's kind of example
    assert ModbusRequest(1, 4, 0, 2).rtu_frame() == bytes.fromhex("01040000000271cb")


@given(
    st.sampled_from([ModbusRequest(3, 3, 10, 2), ModbusRequest(3, 1, 0, 9), ModbusRequest(3, 6, 1, values=[1])]),
    st.binary(min_size=3, max_size=3),
)
def test_any_head_says_a_short_rest_or_is_an_error(request: ModbusRequest, head: bytes) -> None:
    try:
        assert 2 <= request.rtu_rest(head) <= 255
    except PeerError:
        pass


def test_a_character_takes_its_time() -> None:
    assert SerialSettings(9600).character == pytest.approx(10 / 9600)
    assert SerialSettings(9600, 8, "even", 2).character == pytest.approx(12 / 9600)
    assert serial_port.settings_of(MappedDevice("a/b", "modbus", {}, {})) == SerialSettings()
