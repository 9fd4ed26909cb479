"""Modbus TCP against a server that nobody here wrote (pymodbus), and against one that lies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from kubeedge.errors import Invalid, PeerError
from kubeedge.mapper.modbus import codec, registers
from kubeedge.mapper.modbus.codec import ModbusRefusal, ModbusRequest
from kubeedge.mapper.modbus.driver import ModbusClient, modbus_mapper
from kubeedge.mapper.modbus.lines import TcpLine
from kubeedge.mapper.values import MappedDevice, MappedProperty

UNIT = 7


def prop(name: str, type_: str, register: str, offset: int, minimum: str = "", **visitor: Any) -> MappedProperty:
    data = {"register": f"{register}Register", "offset": offset, **visitor}
    return MappedProperty("default/boiler", name, type_, minimum=minimum, visitor=data)


PROPS = [
    prop("temperature", "FLOAT", "Input", 0, scale=0.1),
    prop("outside", "FLOAT", "Input", 1, "-50", scale="0.1"),
    prop("pressure", "FLOAT", "Holding", 0, limit=2),
    prop("backwards", "FLOAT", "Holding", 2, limit=2, isRegisterSwap=True),
    prop("energy", "INT", "Holding", 4, limit=4),
    prop("target", "INT", "Holding", 10),
    prop("name", "STRING", "Holding", 20, limit=4),
    prop("pump", "BOOLEAN", "Coil", 3),
    prop("door", "BOOLEAN", "DiscreteInput", 1),
]
BY_NAME = {one.name: one for one in PROPS}


@asynccontextmanager
async def boiler(address: str = "127.0.0.1", port: int = 0) -> AsyncIterator[int]:
    """The port of a pymodbus server."""
    bits = [SimData(0, values=[False, True] * 8, datatype=DataType.BITS)]
    inputs = [SimData(0, values=[215, 65536 - 52], datatype=DataType.REGISTERS)]
    holding = [
        SimData(0, values=1.5, datatype=DataType.FLOAT32),
        SimData(2, values=[0, 0x3FC0], datatype=DataType.REGISTERS),
        SimData(4, values=1 << 40, datatype=DataType.INT64),
        SimData(10, values=[20], datatype=DataType.REGISTERS),
        SimData(20, values=[0x6861, 0x6C6C, 0, 0], datatype=DataType.REGISTERS),
    ]
    server = ModbusTcpServer(SimDevice(UNIT, simdata=(bits, bits, holding, inputs)), address=(address, port))
    await server.serve_forever(background=True)
    try:
        assert isinstance(server.transport, asyncio.Server)
        yield server.transport.sockets[0].getsockname()[1]
    finally:
        await server.shutdown()


def with_client(scenario: Callable[[ModbusClient], Awaitable[None]]) -> None:
    async def run() -> None:
        async with boiler() as port, asyncio.timeout(30):
            client = ModbusClient(await TcpLine.open("127.0.0.1", port, 10.0), UNIT)
            try:
                await scenario(client)
            finally:
                await client.aclose()

    asyncio.run(run())


def test_every_kind_of_register_is_read_and_written() -> None:
    async def scenario(client: ModbusClient) -> None:
        assert await client.read(PROPS) == {
            "temperature": 21.5,
            "outside": -5.2,
            "pressure": 1.5,
            "backwards": 1.5,
            "energy": 1 << 40,
            "target": 20,
            "name": "hall",
            "pump": True,
            "door": True,
        }
        new = {"pressure": 2.25, "backwards": -1.0, "energy": 7, "target": 65535, "name": "kitchen", "pump": False}
        for name, value in new.items():
            await client.write(BY_NAME[name], value)
        assert await client.read([BY_NAME[name] for name in new]) == new

    with_client(scenario)


def test_what_a_device_has_not_concerns_that_property_alone() -> None:
    missing, strange = prop("missing", "INT", "Holding", 12), prop("strange", "INT", "Odd", 12)

    async def scenario(client: ModbusClient) -> None:
        for _ in range(2):  # the second time one by one
            found = await client.read([BY_NAME["target"], missing, strange])
            assert found["target"] == 20
            assert isinstance(found["missing"], ModbusRefusal) and found["missing"].is_of_address
            assert "device default/boiler: property strange: register" in str(found["strange"])
        with pytest.raises(Invalid, match="property temperature: .* coils and holding registers"):
            await client.write(BY_NAME["temperature"], 1.0)
        with pytest.raises(Invalid, match="property target: 70000 does not fit"):
            await client.write(BY_NAME["target"], 70000)

    with_client(scenario)


@pytest.mark.parametrize(
    ("visitor", "why"),
    [
        ({"register": "HoldingRegister"}, "offset must be an integer from 0 to 65535"),
        ({"register": "HoldingRegister", "offset": 65535, "limit": 2}, "offset"),
        ({"register": "HoldingRegister", "offset": True}, "offset"),
        ({"register": "HoldingRegister", "offset": 1.5}, "offset"),
        ({"register": "HoldingRegister", "offset": 0, "limit": 5}, "limit must be an integer from 1 to 4"),
        ({"register": "HoldingRegister", "offset": 0, "scale": 0}, "scale"),
        ({"register": "HoldingRegister", "offset": 0, "scale": "nan"}, "scale"),
        ({"register": "HoldingRegister", "offset": 0, "scale": 10**400}, "scale"),
        ({"register": "HoldingRegister", "offset": 0, "isSwap": 1}, "isSwap"),
        ({"register": ["HoldingRegister"], "offset": 0}, "register"),
    ],
)
def test_a_visitor_that_says_nothing_is_refused_by_name(visitor: dict[str, Any], why: str) -> None:
    with pytest.raises(Invalid, match=f"^device default/boiler: property x: {why}"):
        registers.registers_of(MappedProperty("default/boiler", "x", "INT", visitor=visitor))


@pytest.mark.parametrize("number", [21.3, -0.1, 3e38, 1e-30, 0.0, float("inf")])
def test_a_number_of_32_bits_reads_as_it_was_written(number: float) -> None:
    place = registers.registers_of(BY_NAME["pressure"])
    assert place.value(place.registers(number)) == number


@given(st.integers(-(1 << 31), (1 << 31) - 1), st.booleans(), st.booleans())
def test_an_integer_reads_as_it_was_written_in_every_order(number: int, swapped: bool, low_first: bool) -> None:
    visitor = {"limit": 2, "isSwap": swapped, "isRegisterSwap": low_first}
    place = registers.registers_of(prop("x", "INT", "Holding", 0, "-1", **visitor))
    assert place.value(place.registers(number)) == number


def test_near_registers_are_read_together_and_far_ones_are_not() -> None:
    places = [registers.registers_of(prop(str(n), "INT", "Holding", n)) for n in (0, 1, 9, 130, 131, 300)]
    groups = [[one.offset for one in group] for group in registers.together(reversed(places))]
    assert groups == [[0, 1, 9], [130, 131], [300]]
    many = [registers.registers_of(prop(str(n), "INT", "Holding", n)) for n in range(300)]
    requests = [registers.reading(group, UNIT) for group in registers.together(many)]
    assert [(one.address, one.count) for one in requests] == [(0, 125), (125, 125), (250, 50)]


REQUESTS = [ModbusRequest(UNIT, function, 5, 9) for function in (1, 2, 3, 4)]
REQUESTS += [ModbusRequest(UNIT, function, 5, values=[1]) for function in (5, 6, 16)]


@given(st.sampled_from(REQUESTS), st.binary(max_size=260))
def test_any_answer_is_values_or_an_error(request: ModbusRequest, pdu: bytes) -> None:
    for answer in (pdu, bytes((request.function,)) + pdu, bytes((request.function, 18)) + pdu):
        try:
            found = request.answer(answer)
        except (PeerError, ModbusRefusal):
            continue
        assert len(found) == (0 if request.values else request.count)


@given(st.binary(min_size=7, max_size=7))
def test_any_header_is_that_of_the_answer_or_an_error(header: bytes) -> None:
    try:
        assert 2 <= codec.rest_of(header, 1, UNIT) <= 253
    except PeerError:
        pass


@pytest.mark.parametrize(
    "answer",
    [
        bytes.fromhex("0002 0000 0005 07 03 02 0014"),  # another transaction: an answer that was late
        bytes.fromhex("0001 0001 0005 07 03 02 0014"),  # another protocol
        bytes.fromhex("0001 0000 0005 08 03 02 0014"),  # another unit
        bytes.fromhex("0001 0000 0005 07 04 02 0014"),  # another function
        bytes.fromhex("0001 0000 0007 07 03 04 0014 0014"),  # more than was asked for
        bytes.fromhex("0001 0000 ffff 07 03 02 0014"),  # a length that no frame has
        bytes.fromhex("0001 0000 0002 07 03"),
        bytes.fromhex("0001 0000 0005 07 03 02"),  # half a frame, and the end
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ],
)
def test_a_device_that_lies_loses_its_connection(answer: bytes) -> None:
    async def lie(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(12)
        writer.write(answer)
        writer.close()

    async def run() -> None:
        async with await asyncio.start_server(lie, "127.0.0.1", 0) as server, asyncio.timeout(30):
            line = await TcpLine.open("127.0.0.1", server.sockets[0].getsockname()[1], 10.0)
            client = ModbusClient(line, UNIT)
            with pytest.raises((PeerError, OSError, EOFError)):
                await client.read([BY_NAME["target"]])
            await client.aclose()

    asyncio.run(run())


@pytest.mark.parametrize(
    "config", [{}, {"host": 7}, {"host": "a b"}, {"host": "h", "port": 0}, {"host": "h", "slaveID": 256}]
)
def test_a_device_without_an_address_is_refused_by_name(config: dict[str, Any]) -> None:
    connect: Any = modbus_mapper().handlers.connect
    with pytest.raises(Invalid, match="^device default/boiler: "):
        asyncio.run(connect(MappedDevice("default/boiler", "modbus", config, {})))
