"""What carries the requests of a Modbus client: a TCP connection of its own, or a serial line that many devices share.

One request at a time: many devices have room for one, and on a serial line there can be no more. An answer that comes too late is never
taken for the answer to another request: the TCP connection ends, and of a serial line everything is discarded that comes until it is silent.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from kubeedge.errors import Invalid
from kubeedge.kit.streams import abort_writer, close_writer
from kubeedge.mapper.modbus import codec
from kubeedge.mapper.modbus.codec import ModbusRequest
from kubeedge.mapper.serial_port import SerialPort, SerialSettings

_READ = 1024  # bytes of the buffer: an answer has 260 at most
_SILENCE = 3.5  # characters between two frames of RTU
_FAST = 19200  # bits a second, above which the silence does not become shorter
_SHORTEST = 0.00175  # seconds
_RECOVERY = 0.1  # seconds of silence after what went wrong: answers have no number, and a late one looks like that to the next request


class ModbusLine(Protocol):
    """A way to a device."""

    async def exchange(self, request: ModbusRequest) -> bytes:
        """The PDU of the answer. Raises OSError, EOFError or PeerError when the connection is of no use any more."""
        ...

    async def aclose(self) -> None:
        """Ends this device's use of it."""
        ...


class TcpLine:
    """`timeout`: seconds for an answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, timeout: float) -> None:
        self._reader, self._writer = reader, writer
        self._timeout = timeout
        self._transaction = 0
        self._turn = asyncio.Lock()

    @staticmethod
    async def open(host: str, port: int, timeout: float) -> TcpLine:
        """Raises OSError, TimeoutError included."""
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(host, port, limit=_READ)
        return TcpLine(reader, writer, timeout)

    async def exchange(self, request: ModbusRequest) -> bytes:
        """The PDU of the answer. Raises OSError, EOFError or PeerError; then the connection is of no use any more."""
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
        return pdu

    async def aclose(self) -> None:
        """Ends the connection, when the device has taken what was written."""
        await close_writer(self._writer)


class _SerialBus:
    """A serial line, and how many devices use it."""

    def __init__(self, port: SerialPort) -> None:
        self.port = port
        self.users = 0
        self.turn = asyncio.Lock()
        self.silence = max(_SHORTEST, _SILENCE * port.settings.character if port.settings.rate <= _FAST else 0.0)
        self.is_silent = False

    async def exchange(self, request: ModbusRequest, timeout: float) -> bytes:
        async with self.turn:
            if not self.is_silent:
                await self._settle(timeout)
            self.is_silent = False
            self.port.discard()
            self.port.write(request.rtu_frame())
            async with asyncio.timeout(timeout):
                head = await self.port.read(codec.RTU_HEAD)
                rest = await self.port.read(request.rtu_rest(head))
            pdu = request.rtu_answer(head + rest)
            await asyncio.sleep(self.silence)
            self.is_silent = True
            return pdu

    async def _settle(self, timeout: float) -> None:
        """Until nothing has come for a while; somebody who never stops is not waited for."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        while loop.time() < end:
            self.port.discard()
            try:
                async with asyncio.timeout(_RECOVERY):
                    await self.port.read(1)
            except TimeoutError:
                return
        raise TimeoutError(f"{self.port.path}: the line is never silent")


class SerialLine:
    """One device's use of a serial line. `timeout`: seconds for an answer, and for the line to be silent."""

    def __init__(self, buses: dict[str, _SerialBus], bus: _SerialBus, timeout: float) -> None:
        self._buses, self._bus = buses, bus
        self._timeout = timeout
        self._is_open = True
        bus.users += 1

    async def exchange(self, request: ModbusRequest) -> bytes:
        """The PDU of the answer. Raises OSError or PeerError; the line itself may still be of use to others."""
        return await self._bus.exchange(request, self._timeout)

    async def aclose(self) -> None:
        """The last device closes the line."""
        if self._is_open:
            self._is_open = False
            self._bus.users -= 1
            if not self._bus.users:
                self._bus.port.close()
                if self._buses.get(self._bus.port.path) is self._bus:
                    del self._buses[self._bus.port.path]


class SerialLines:
    """The serial lines of a mapper: each is opened once."""

    def __init__(self) -> None:
        self._buses: dict[str, _SerialBus] = {}

    def line(self, path: str, settings: SerialSettings, timeout: float) -> SerialLine:
        """Raises OSError for a port that cannot be opened, Invalid when other devices use it with other settings."""
        bus = self._buses.get(path)
        if bus is None or not bus.port.is_open:
            bus = self._buses[path] = _SerialBus(SerialPort.open(path, settings))
        elif bus.port.settings != settings:
            raise Invalid(f"other devices use {path} with {bus.port.settings}, this one wants {settings}")
        return SerialLine(self._buses, bus, timeout)
