"""Lines of a GPIO chip that this process holds, and the handlers of its mapper."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Mapping
from glob import glob
from typing import Any

from kubeedge.errors import Invalid
from kubeedge.mapper.gpio import core
from kubeedge.mapper.gpio.core import GpioLine
from kubeedge.mapper.machine import device_file
from kubeedge.mapper.mapper import Mapper
from kubeedge.mapper.values import MappedDevice, MappedProperty, TypedValue

_EVENTS = 32  # that are read at once
_MAX_CHIPS = 64  # that are asked for their label


class GpioClient:
    """An open chip. A line is taken when it is first used, and held until the end: nobody else can change it meanwhile."""

    def __init__(self, device: MappedDevice, chip: int) -> None:
        self.device = device
        self._chip = chip
        self._files: dict[str, int] = {}  # property -> file of its line
        self._counts: dict[str, int] = {}  # property -> edges until now

    @staticmethod
    def open(device: MappedDevice) -> GpioClient:
        """Raises Invalid for what is no chip, OSError for one that is not there."""
        path, label = core.chip_of(device)
        if path:
            return GpioClient(device, _opened(device, path)[0])
        for path in sorted(glob(device_file("/dev/gpiochip*")))[:_MAX_CHIPS]:
            with contextlib.suppress(OSError, Invalid):  # of somebody else's
                chip, found = _opened(device, path)
                if found == label:
                    return GpioClient(device, chip)
                os.close(chip)
        raise FileNotFoundError(
            errno.ENOENT, f"the machine has no GPIO chip with the label {label}, or this user may not open it"
        )

    def read(self, prop: MappedProperty) -> int:
        """Its level, or its edges until now. Raises Invalid for a line that there is none of, or that somebody else has; OSError when the chip has
        gone."""
        line, file = self._line(prop)
        if line.counted:
            return self._counts.get(prop.name, 0)
        return int(core.value_of(self._ask(prop, file, core.GET_VALUES, core.reading())))  # True is no INT

    def write(self, prop: MappedProperty, value: TypedValue) -> None:
        """Makes the line an output with that level. Raises as `read`."""
        line, file = self._line(prop)
        self._ask(prop, file, core.SET_CONFIG, core.writing(line, core.level(prop, value)))

    def _line(self, prop: MappedProperty) -> tuple[GpioLine, int]:
        line = core.line_of(prop)
        if (file := self._files.get(prop.name)) is None:
            offset = line.line if isinstance(line.line, int) else self._offset(prop, line.line)
            answer = self._ask(prop, self._chip, core.GET_LINE, core.opening(line, offset))
            file = self._files[prop.name] = core.file_of(answer)
            os.set_blocking(file, False)
        return line, file

    def _offset(self, prop: MappedProperty, name: str) -> int:
        count = core.lines_of(self._ask(prop, self._chip, core.GET_CHIP, core.chip_info()))
        for offset in range(count):
            if core.name_of(self._ask(prop, self._chip, core.GET_INFO, core.asking(offset))) == name:
                return offset
        raise prop.invalid(f"the chip has no line {name!r}")

    def _ask(self, prop: MappedProperty, file: int, request: int, argument: bytes) -> bytes:
        try:
            return fcntl.ioctl(file, request, argument)
        except OSError as exc:
            if exc.errno == errno.ENODEV:
                raise  # an expander on USB was unplugged
            why = "somebody else has this line" if exc.errno == errno.EBUSY else exc.strerror
            raise prop.invalid(f"the chip answers: {why}") from exc

    async def listen(self, report: Callable[[Mapping[str, Any]], None]) -> None:
        """Reports edges as they come. Raises OSError when the chip has gone."""
        loop = asyncio.get_running_loop()
        gone: asyncio.Future[None] = loop.create_future()
        watched: list[int] = []

        def ready(prop: MappedProperty, file: int) -> None:
            try:
                data = os.read(file, core.EVENT.size * _EVENTS)
            except BlockingIOError:
                return
            except OSError as exc:
                if not gone.done():
                    gone.set_exception(exc)
                loop.remove_reader(file)
                return
            level, count = core.edges(data)[-1]
            if core.line_of(prop).counted:
                self._counts[prop.name] = count
            report({prop.name: self._counts.get(prop.name, int(level))})

        try:
            for prop in self.device.properties.values():
                if not prop.is_pushed:
                    continue
                try:
                    file = self._line(prop)[1]
                    report({prop.name: self.read(prop)})
                except Invalid as exc:
                    report({prop.name: exc})
                    continue
                loop.add_reader(file, ready, prop, file)
                watched.append(file)
            await gone
        finally:
            for file in watched:
                loop.remove_reader(file)

    def close(self) -> None:
        """The lines are free for others; what they do then is the chip's own affair."""
        for file in (*self._files.values(), self._chip):
            with contextlib.suppress(OSError):
                os.close(file)
        self._files.clear()


def _opened(device: MappedDevice, path: str) -> tuple[int, str]:
    """The chip's file, and its label."""
    chip = os.open(device_file(path), os.O_RDWR | os.O_CLOEXEC)
    try:
        return chip, core.label_of(fcntl.ioctl(chip, core.GET_CHIP, core.chip_info()))
    except OSError as exc:
        os.close(chip)
        raise device.invalid(f"{path} is no GPIO chip") from exc


def gpio_mapper() -> Mapper:
    """The mapper of GPIO; what a Device says is in core.py. Calls of the kernel take microseconds: they are made in the loop."""
    mapper = Mapper("gpio")

    @mapper.connect
    async def connect(device: MappedDevice) -> GpioClient:
        return GpioClient.open(device)

    @mapper.read
    async def read(client: GpioClient, prop: MappedProperty) -> int:
        return client.read(prop)

    @mapper.write
    async def write(client: GpioClient, prop: MappedProperty, value: TypedValue) -> None:
        client.write(prop, value)

    @mapper.listen
    async def listen(client: GpioClient) -> None:
        await client.listen(mapper.reporter(client.device))

    return mapper
