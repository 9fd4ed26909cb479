"""One Modbus device, and the handlers of the mapper of Modbus TCP and RTU."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

from kubeedge.errors import Invalid
from kubeedge.mapper import serial_port
from kubeedge.mapper.mapper import Mapper
from kubeedge.mapper.modbus import registers
from kubeedge.mapper.modbus.codec import ModbusRefusal, ModbusRequest
from kubeedge.mapper.modbus.lines import ModbusLine, SerialLines, TcpLine
from kubeedge.mapper.modbus.registers import ModbusRegisters
from kubeedge.mapper.values import MappedDevice, MappedProperty, TypedValue

_MAX_HOST = 253  # characters
_TIMEOUT = 3000  # milliseconds for an answer
_SERIAL_TIMEOUT = 500  # on a serial line, where the others wait meanwhile


class ModbusClient:
    """The device `unit` at the end of a line."""

    def __init__(self, line: ModbusLine, unit: int) -> None:
        self.unit = unit
        self._line = line
        self._places: dict[str, ModbusRegisters] = {}
        self._alone: set[str] = set()  # properties that are not read together with others: there is a hole between them

    async def ask(self, request: ModbusRequest) -> list[int]:
        """The answer's values. Raises ModbusRefusal; OSError, EOFError or PeerError when the connection is of no use any more."""
        return request.answer(await self._line.exchange(request))

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
        """Gives up the line, which others may go on using."""
        await self._line.aclose()


def modbus_mapper() -> Mapper:
    """The mapper of Modbus. A Device's configData: slaveID (1), timeout in milliseconds; for TCP host (or ip) and port (502); for RTU
    serialPort, baudRate (9600), dataBits (8), parity (none), stopBits (1)."""
    mapper = Mapper("modbus", timeout=60.0)
    serial = SerialLines()

    @mapper.connect
    async def connect(device: MappedDevice) -> ModbusClient:
        if device.config.get("serialPort") is not None:
            timeout = device.number("timeout", 10, 60_000, _SERIAL_TIMEOUT) / 1000
            unit = device.number("slaveID", 1, 247, 1)
            path, settings = serial_port.path_of(device), serial_port.settings_of(device)
            try:
                return ModbusClient(serial.line(path, settings, timeout), unit)
            except Invalid as exc:
                raise device.invalid(str(exc)) from exc
        host = device.config.get("host") or device.config.get("ip")
        if not isinstance(host, str) or not _is_host(host):
            raise device.invalid("host must be a name or an address; on a serial line serialPort is needed instead")
        timeout = device.number("timeout", 10, 60_000, _TIMEOUT) / 1000
        port, unit = device.number("port", 1, 65535, 502), device.number("slaveID", 0, 255, 1)
        return ModbusClient(await TcpLine.open(host, port, timeout), unit)

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
