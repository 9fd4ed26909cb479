"""A connection to one Modbus TCP device, and the handlers of its mapper.

One request at a time: many devices have room for one. An answer that comes too late ends the connection, so that it is never taken for the
answer to another request.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence
from typing import Any

from kubeedge.errors import Invalid
from kubeedge.kit.streams import abort_writer, close_writer
from kubeedge.mapper.mapper import Mapper
from kubeedge.mapper.modbus import codec, registers
from kubeedge.mapper.modbus.codec import ModbusRefusal, ModbusRequest
from kubeedge.mapper.modbus.registers import ModbusRegisters
from kubeedge.mapper.values import MappedDevice, MappedProperty, TypedValue

_READ = 1024  # bytes of the buffer: an answer has 260 at most
_MAX_HOST = 253  # characters


class ModbusClient:
    """`timeout`: seconds for an answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, unit: int, timeout: float) -> None:
        self.unit = unit
        self._reader, self._writer = reader, writer
        self._timeout = timeout
        self._transaction = 0
        self._turn = asyncio.Lock()
        self._places: dict[str, ModbusRegisters] = {}
        self._alone: set[str] = set()  # properties that are not read together with others: there is a hole between them

    @staticmethod
    async def open(host: str, port: int, unit: int, timeout: float) -> ModbusClient:
        """Raises OSError, TimeoutError included."""
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(host, port, limit=_READ)
        return ModbusClient(reader, writer, unit, timeout)

    async def ask(self, request: ModbusRequest) -> list[int]:
        """The answer's values. Raises ModbusRefusal; OSError, EOFError or PeerError when the connection is of no use any more."""
        async with self._turn:
            self._transaction = (self._transaction + 1) & 0xFFFF
            is_whole = False
            try:
                async with asyncio.timeout(self._timeout):
                    self._writer.write(request.frame(self._transaction))
                    await self._writer.drain()
                    header = await self._reader.readexactly(codec.HEADER)
                    pdu = await self._reader.readexactly(codec.rest_of(header, self._transaction, request.unit))
                is_whole = True
            finally:
                if not is_whole:
                    abort_writer(self._writer)
        return request.answer(pdu)

    def registers_of(self, prop: MappedProperty) -> ModbusRegisters:
        """Where the property is. Raises Invalid."""
        if (found := self._places.get(prop.name)) is None:
            found = self._places[prop.name] = registers.registers_of(prop)
        return found

    async def read(self, props: Sequence[MappedProperty]) -> dict[str, Any]:
        """Property -> value, or the exception that came instead. Raises as `ask`, but for refusals."""
        found: dict[str, Any] = {}
        places = []
        for prop in props:
            try:
                places.append(self.registers_of(prop))
            except Invalid as exc:
                found[prop.name] = exc
        groups = registers.together(one for one in places if one.prop.name not in self._alone)
        groups += [[one] for one in places if one.prop.name in self._alone]
        for group in groups:
            found |= await self._group(group)
        return found

    async def _group(self, group: Sequence[ModbusRegisters]) -> dict[str, Any]:
        request = registers.reading(group, self.unit)
        try:
            data = await self.ask(request)
        except ModbusRefusal as exc:
            if len(group) == 1 or not exc.is_of_address:
                return {one.prop.name: exc for one in group}
            found: dict[str, Any] = {}
            for one in group:
                self._alone.add(one.prop.name)
                found |= await self._group([one])
            return found
        start = request.address
        return {one.prop.name: one.value(data[one.offset - start : one.end - start]) for one in group}

    async def write(self, prop: MappedProperty, value: TypedValue) -> None:
        """Raises Invalid for what cannot be written, and as `ask`."""
        await self.ask(registers.writing(self.registers_of(prop), value, self.unit))

    async def aclose(self) -> None:
        """Ends the connection, when the device has taken what was written."""
        await close_writer(self._writer)


def modbus_mapper() -> Mapper:
    """The mapper of Modbus TCP. A Device's configData: host (or ip), port (502), slaveID (1), timeout in milliseconds (3000)."""
    mapper = Mapper("modbus", timeout=60.0)

    @mapper.connect
    async def connect(device: MappedDevice) -> ModbusClient:
        host = device.config.get("host") or device.config.get("ip")
        if not isinstance(host, str) or not _is_host(host):
            raise device.invalid("host must be a name or an address")
        unit = device.number("slaveID", 0, 255, 1)
        timeout = device.number("timeout", 10, 60_000, 3000) / 1000
        return await ModbusClient.open(host, device.number("port", 1, 65535, 502), unit, timeout)

    @mapper.read_many
    async def read_many(client: ModbusClient, props: Sequence[MappedProperty]) -> dict[str, Any]:
        return await client.read(props)

    @mapper.write
    async def write(client: ModbusClient, prop: MappedProperty, value: TypedValue) -> None:
        await client.write(prop, value)

    return mapper


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
        return True
    except ValueError:
        return 0 < len(text) <= _MAX_HOST and all(c.isalnum() or c in "-._" for c in text)
