"""A serial line with one device that speaks lines of text, and the handlers of its mapper."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from kubeedge.errors import Invalid, NotFound
from kubeedge.mapper import serial_port
from kubeedge.mapper.mapper import Mapper
from kubeedge.mapper.serial import core
from kubeedge.mapper.serial.core import LineVisitor
from kubeedge.mapper.serial_port import SerialPort
from kubeedge.mapper.values import NOTHING, MappedDevice, MappedProperty, TypedValue

_TIMEOUT = 2000  # milliseconds
_UNASKED = 16  # lines that are nobody's answer, in a row, until a request is given up


class LineClient:
    """One request at a time; whatever comes that is no answer to it may be a value that the device sends by itself."""

    def __init__(self, device: MappedDevice, port: SerialPort) -> None:
        self.device = device
        self._port = port
        self._end = core.end_of(device)
        self._timeout = device.number("timeout", 10, 60_000, _TIMEOUT) / 1000
        self._turn = asyncio.Lock()
        self._lines: asyncio.Queue[str] = asyncio.Queue(64)
        self._asking = 0
        self._report: Callable[[Mapping[str, Any]], None] = lambda values: None
        self._pushed: dict[str, LineVisitor] = {}
        self._written: dict[str, TypedValue] = {}
        for prop in device.properties.values():
            with contextlib.suppress(Invalid):  # `listen` says what is wrong
                if prop.is_pushed:
                    self._pushed[prop.name] = core.visitor_of(prop)

    @staticmethod
    def open(device: MappedDevice) -> LineClient:
        """Raises OSError for a port that cannot be opened, Invalid."""
        core.end_of(device)
        return LineClient(device, SerialPort.open(serial_port.path_of(device), serial_port.settings_of(device)))

    async def listen(self, report: Callable[[Mapping[str, Any]], None]) -> None:
        """Takes all lines: answers, and values that come by themselves. Raises OSError when the port has gone, PeerError for a line without end."""
        self._report = report
        for prop in self.device.properties.values():
            try:
                core.visitor_of(prop)
            except Invalid as exc:
                report({prop.name: exc})
        while True:
            line = (await self._port.read_line(self._end, core.MAX_LINE)).decode("utf-8", "replace")
            if not self._is_value(line) and self._asking and not self._lines.full():
                self._lines.put_nowait(line)

    def _is_value(self, line: str) -> bool:
        """The line is a value that the device sends by itself: a property with `push` has its beginning."""
        values: dict[str, Any] = {}
        for name, visitor in self._pushed.items():
            if visitor.start and not line.startswith(visitor.start):
                continue
            try:
                values[name] = core.value_of(self.device.properties[name], visitor, line)
            except Invalid as exc:
                values[name] = exc
        if values:
            self._report(values)
        return bool(values)

    async def read(self, prop: MappedProperty) -> Any:
        """NOTHING of a property that can only be written, until it is. Raises Invalid for another answer; TimeoutError, which is this property's alone; OSError."""
        visitor = core.visitor_of(prop)
        if not visitor.request:  # it can only be written: its value is what was
            return self._written.get(prop.name, NOTHING)
        return core.value_of(prop, visitor, await self._ask(prop, visitor.request, visitor.start))

    async def write(self, prop: MappedProperty, value: TypedValue) -> None:
        """Sends the line that sets the value. Raises as `read`."""
        visitor = core.visitor_of(prop)
        line = core.writing(prop, visitor, value)
        if visitor.answer:
            answer = await self._ask(prop, line, "")
            if not answer.startswith(visitor.answer):
                raise prop.invalid(f"the device answers {answer[:40]!r}")
        else:
            async with self._turn:
                self._port.write(line.encode() + self._end)
        self._written[prop.name] = value

    async def _ask(self, prop: MappedProperty, line: str, start: str) -> str:
        """The answer that begins so; other lines are left out, up to a number."""
        async with self._turn:
            while not self._lines.empty():
                self._lines.get_nowait()  # an answer that came too late
            self._asking += 1
            answer = ""
            try:
                self._port.write(line.encode() + self._end)
                async with asyncio.timeout(self._timeout):
                    for _ in range(_UNASKED):
                        answer = await self._lines.get()
                        if answer.startswith(start):
                            break
            except TimeoutError as exc:
                raise prop.invalid(f"the device does not answer {line[:40]!r}") from exc
            finally:
                self._asking -= 1
            return answer

    def close(self) -> None:
        """The line is free for others."""
        self._port.close()


def serial_mapper() -> Mapper:
    """The mapper of lines of text; what a Device says is in core.py."""
    mapper = Mapper("serial", timeout=65.0)

    @mapper.connect
    async def connect(device: MappedDevice) -> LineClient:
        return LineClient.open(device)

    @mapper.read
    async def read(client: LineClient, prop: MappedProperty) -> Any:
        return await client.read(prop)

    @mapper.write
    async def write(client: LineClient, prop: MappedProperty, value: TypedValue) -> None:
        await client.write(prop, value)

    @mapper.listen
    async def listen(client: LineClient) -> None:
        def report(values: Mapping[str, Any]) -> None:
            with contextlib.suppress(Invalid, NotFound):  # the Device says what is wrong with it
                mapper.report(client.device, values)

        await client.listen(report)

    return mapper
