"""Modbus TCP: each address of the networks is asked who it is (function 43/14), and for a register where it does not know that question."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator

from kubeedge.errors import PeerError
from kubeedge.kit.streams import abort_writer
from kubeedge.mapper.modbus import codec
from kubeedge.mapper.modbus.codec import ModbusRefusal, ModbusRequest
from kubeedge.mapper.scan import core
from kubeedge.mapper.scan.core import Finding, ScanRequest
from kubeedge.mapper.scan.finder import ScanScope

PORT = 502
_AT_ONCE = 32
_CONNECT, _ANSWER = 2.0, 1.0  # seconds
_READ = 1024  # bytes of the buffer
_IDENTIFY = bytes((0x2B, 0x0E, 0x01, 0x00))  # the basic objects, from the first one on
_TEXTS = ("vendor", "product", "revision")
_SILENT = (10, 11)  # exceptions of a gateway: there is nobody behind it with this unit


class ModbusFinder:
    """One Device for each unit that answers; one that says it cannot do what it was asked has answered, too."""

    def __init__(self, port: int = PORT) -> None:
        self._port = port

    def wants(self, request: ScanRequest) -> bool:
        """It asks each address of the networks."""
        return bool(request.networks)

    async def find(self, scope: ScanScope) -> None:
        """Raises Invalid for networks with too many addresses."""
        waiting = iter(core.hosts(scope.request))
        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(self._worker(waiting, scope))

    async def _worker(self, waiting: Iterator[str], scope: ScanScope) -> None:
        for host in waiting:
            await self._look(host, scope)

    async def _look(self, host: str, scope: ScanScope) -> None:
        known: list[dict[str, str]] = []
        for unit in scope.request.units:
            await scope.packet()
            try:
                async with asyncio.timeout(_CONNECT):
                    reader, writer = await asyncio.open_connection(host, self._port, limit=_READ)
            except OSError:
                return  # nobody listens
            try:
                info = await self._ask(reader, writer, unit, scope)
            except (OSError, EOFError, PeerError):
                continue  # of this unit; a gateway ends the connection, or says nothing, where it has no such unit
            finally:
                abort_writer(writer)
            config = {"host": host, "port": self._port, "slaveID": unit}
            if not known or info not in known and info:  # a device that takes any unit for its own is one device
                scope.found(Finding("modbus", "modbus", f"{host}-{unit}", config, info))
            known.append(info)

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, unit: int, scope: ScanScope
    ) -> dict[str, str]:
        try:
            pdu = await _exchange(reader, writer, unit, 1, _IDENTIFY)
            if pdu[0] == _IDENTIFY[0]:
                return identification(pdu)
        except TimeoutError:
            pass  # some devices say nothing to what they do not know
        await scope.packet()
        request = ModbusRequest(unit, codec.READ_HOLDING_REGISTERS, 0)
        try:
            request.answer(await _exchange(reader, writer, unit, 2, request.pdu))
        except ModbusRefusal as exc:
            if exc.code in _SILENT:
                raise PeerError("nobody with this unit") from exc
        return {}


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, unit: int, transaction: int, pdu: bytes
) -> bytes:
    """Raises OSError, EOFError, PeerError."""
    async with asyncio.timeout(_ANSWER):
        writer.write(struct.pack(">HHHB", transaction, 0, len(pdu) + 1, unit) + pdu)
        await writer.drain()
        header = await reader.readexactly(codec.HEADER)
        found = await reader.readexactly(codec.rest_of(header, transaction, unit))
    if found[0] & 0x7F != pdu[0]:
        raise PeerError(f"function {pdu[0]} was answered by {found[0]}")
    if found[0] & 0x80 and found[1] in _SILENT:
        raise PeerError("nobody with this unit")
    return found


def identification(pdu: bytes) -> dict[str, str]:
    """What a device says of itself: vendor, product, revision, as far as they are in the answer. Raises PeerError for what is none."""
    if len(pdu) < 7 or pdu[1] != _IDENTIFY[1]:
        raise PeerError("the answer has no identification")
    found: dict[str, str] = {}
    position = 7
    for _ in range(pdu[6]):
        if position + 2 > len(pdu):
            break
        number, size = pdu[position], pdu[position + 1]
        text = pdu[position + 2 : position + 2 + size].decode("utf-8", "replace").strip()
        if number < len(_TEXTS) and text:
            found[_TEXTS[number]] = text
        position += 2 + size
    return found
