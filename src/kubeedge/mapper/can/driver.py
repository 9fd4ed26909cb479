"""A socket on a CAN bus (SocketCAN, raw), and the handlers of its mapper. Devices on a bus send by themselves: nothing is asked for."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Mapping
from typing import Any

from kubeedge.errors import Invalid
from kubeedge.mapper.can import core, interface
from kubeedge.mapper.can.core import CanSignal
from kubeedge.mapper.mapper import Mapper
from kubeedge.mapper.values import MappedDevice, MappedProperty, TypedValue

_AT_ONCE = 64  # frames that are read before others have a turn


class CanClient:
    """`signals`: property -> where it is; `wrong`: what is wrong with those that are nowhere."""

    def __init__(self, device: MappedDevice, sock: socket.socket) -> None:
        self.device = device
        self.signals: dict[str, CanSignal] = {}
        self.wrong: dict[str, Invalid] = {}
        self._socket = sock
        self._latest: dict[int, bytes] = {}  # id -> data of the newest frame, of the ids of the Device
        for prop in device.properties.values():
            try:
                self.signals[prop.name] = core.signal_of(prop)
            except Invalid as exc:
                self.wrong[prop.name] = exc
        self._by_id: dict[int, list[str]] = {}
        for name, signal in self.signals.items():
            self._by_id.setdefault(signal.id, []).append(name)

    @staticmethod
    def open(device: MappedDevice) -> CanClient:
        """Raises Invalid, and OSError where the kernel has no CAN, or no such interface."""
        name, bitrate = core.interface_of(device), core.bitrate_of(device)
        try:
            sock = socket.socket(socket.AF_CAN, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.CAN_RAW)
        except OSError as exc:
            raise OSError(
                exc.errno, f"{name}: the kernel gives no CAN sockets (modprobe can_raw): {exc.strerror}"
            ) from exc
        try:
            client = CanClient(device, sock)
            filters = core.filters(client._by_id)
            sock.setsockopt(socket.SOL_CAN_RAW, socket.CAN_RAW_FILTER, filters)
            if not interface.is_up(sock, name):
                if not bitrate:
                    raise OSError(errno.ENETDOWN, f"{name} is down: its bitrate is missing, or somebody who sets it up")
                interface.set_up(name, bitrate)
            sock.bind((name,))
            return client
        except BaseException:
            sock.close()
            raise

    async def listen(self, report: Callable[[Mapping[str, Any]], None]) -> None:
        """Reports signals as they come; of frames that come at once the newest counts. Raises OSError when the interface is down."""
        if self.wrong:
            report(dict(self.wrong))
        loop = asyncio.get_running_loop()
        while True:
            values = self._values(await loop.sock_recv(self._socket, core.FRAME.size))
            for _ in range(_AT_ONCE):
                try:
                    values |= self._values(self._socket.recv(core.FRAME.size))
                except BlockingIOError:
                    break
            if values:
                report(values)
            await asyncio.sleep(0)  # `sock_recv` does not wait while there are frames, and a bus may always have some

    def _values(self, data: bytes) -> dict[str, Any]:
        if (found := core.parsed(data)) is None or found[0] not in self._by_id:
            return {}
        number, content = found
        self._latest[number] = content
        values: dict[str, Any] = {}
        for name in self._by_id[number]:
            value = self.signals[name].of(content)
            values[name] = Invalid(f"frame 0x{number:X} has {len(content)} bytes") if value is None else value
        return values

    def write(self, prop: MappedProperty, value: TypedValue) -> None:
        """Sends the frame, with what else was in its newest one. Raises Invalid, and OSError for a bus that is down or full."""
        if (signal := self.signals.get(prop.name)) is None:
            raise self.wrong[prop.name]
        try:
            data = signal.into(self._latest.get(signal.id, b""), core.number_of(prop, value))
        except ValueError as exc:
            raise prop.invalid(str(exc)) from exc
        self._socket.send(core.frame(signal.id, data))
        self._latest[signal.id] = data

    def close(self) -> None:
        """Closes the socket; the bus goes on without us."""
        self._socket.close()


def can_mapper() -> Mapper:
    """The mapper of CAN; what a Device says is in core.py."""
    mapper = Mapper("can")

    @mapper.connect
    async def connect(device: MappedDevice) -> CanClient:
        return CanClient.open(device)

    @mapper.write
    async def write(client: CanClient, prop: MappedProperty, value: TypedValue) -> None:
        client.write(prop, value)

    @mapper.listen
    async def listen(client: CanClient) -> None:
        await client.listen(mapper.reporter(client.device))

    return mapper
