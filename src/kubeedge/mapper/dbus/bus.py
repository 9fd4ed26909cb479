"""A connection to the machine's bus: calls of services, and their signals."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from kubeedge.errors import Invalid, PeerError
from kubeedge.kit.streams import abort_writer
from kubeedge.kit.tasks import cancel_and_wait
from kubeedge.mapper.dbus import codec
from kubeedge.mapper.dbus.codec import DbusMessage

log = logging.getLogger("kubeedge.mapper.dbus")

SYSTEM_BUS = "unix:path=/run/dbus/system_bus_socket"
_VARIABLE = "DBUS_SYSTEM_BUS_ADDRESS"
_BUS = "org.freedesktop.DBus"
_READ = 64 * 1024  # bytes of the buffer
_OPEN = 5.0  # seconds

Hear: TypeAlias = Callable[[DbusMessage], None]


class DbusFailure(Invalid):
    """A service has answered with an error. `name` as "org.bluez.Error.NotPermitted"."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name.rpartition('.')[2]}{': ' if text else ''}{text[:300]}")
        self.name = name


class DbusConnection:
    """`hear` gets signals that were asked for (`add_match`). Memory: one message."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hear: Hear) -> None:
        self._reader, self._writer = reader, writer
        self._hear = hear
        self._serial = 0
        self._waiting: dict[int, asyncio.Future[DbusMessage]] = {}
        self._reading: asyncio.Task[None] | None = None
        self.lost = ""

    @staticmethod
    async def open(hear: Hear, address: str = "") -> DbusConnection:
        """To the system's bus, or to where `address` or $DBUS_SYSTEM_BUS_ADDRESS says. Raises OSError, PeerError, Invalid."""
        path = path_of(address or os.environ.get(_VARIABLE) or SYSTEM_BUS)
        async with asyncio.timeout(_OPEN):
            try:
                reader, writer = await asyncio.open_unix_connection(path, limit=_READ)
            except OSError as exc:
                raise ConnectionRefusedError(f"the bus of this machine, {path}: {exc.strerror or exc}") from exc
            try:
                writer.write(b"\0AUTH EXTERNAL " + str(os.getuid()).encode().hex().encode() + b"\r\n")
                said = await reader.readuntil(b"\r\n")
                if not said.startswith(b"OK "):
                    raise PeerError("the bus of this machine does not take this user")
                writer.write(b"BEGIN\r\n")
                bus = DbusConnection(reader, writer, hear)
                bus._reading = asyncio.create_task(bus._read(), name="d-bus")
            except (asyncio.LimitOverrunError, asyncio.IncompleteReadError) as exc:
                abort_writer(writer)
                raise PeerError("this is no D-Bus") from exc
            except BaseException:
                abort_writer(writer)
                raise
            try:
                await bus.call(_BUS, "/org/freedesktop/DBus", _BUS, "Hello")
            except BaseException:
                await bus.aclose()
                raise
        return bus

    async def call(
        self, service: str, path: str, interface: str, member: str, signature: str = "", body: Sequence[Any] = ()
    ) -> Sequence[Any]:
        """What a method gives. Raises DbusFailure for an error of the service, ConnectionError when the bus is gone."""
        if self.lost:
            raise ConnectionResetError(self.lost)
        self._serial = self._serial % 0xFFFFFFFF + 1
        serial = self._serial
        message = DbusMessage(
            codec.CALL, path, interface, member, service, signature=signature, body=body, serial=serial
        )
        future: asyncio.Future[DbusMessage] = asyncio.get_running_loop().create_future()
        self._waiting[serial] = future
        try:
            self._writer.write(codec.encode(message))
            await self._writer.drain()
            answer = await future
        finally:
            self._waiting.pop(serial, None)
        if answer.kind == codec.ERROR:
            text = answer.body[0] if answer.body and isinstance(answer.body[0], str) else ""
            raise DbusFailure(answer.error, text)
        return answer.body

    async def add_match(self, rule: str) -> None:
        """Asks for the signals of a match rule. Raises as `call`."""
        await self.call(_BUS, "/org/freedesktop/DBus", _BUS, "AddMatch", "s", (rule,))

    async def aclose(self) -> None:
        """Ends the connection; calls that wait fail."""
        self._end("the bus is not used any more")
        if self._reading is not None:
            await cancel_and_wait(self._reading)
        abort_writer(self._writer)

    async def _read(self) -> None:
        try:
            while True:
                head = await self._reader.readexactly(codec.HEAD)
                rest = await self._reader.readexactly(codec.length_of(head) - codec.HEAD)
                self._take(codec.decode(head + rest))
        except (OSError, EOFError) as exc:
            self._end(f"the bus of this machine has gone: {exc}")
        except PeerError as exc:
            log.warning("d-bus: %s", exc)
            self._end(str(exc))
            abort_writer(self._writer)

    def _take(self, message: DbusMessage) -> None:
        if message.kind == codec.SIGNAL:
            self._hear(message)
        elif message.kind in (codec.RETURN, codec.ERROR):
            future = self._waiting.get(message.reply_to)
            if future is not None and not future.done():
                future.set_result(message)
        elif message.kind == codec.CALL:
            refusal = DbusMessage(
                codec.ERROR, destination=message.sender, error=f"{_BUS}.Error.UnknownMethod", reply_to=message.serial
            )
            self._serial = self._serial % 0xFFFFFFFF + 1
            refusal.serial = self._serial
            with contextlib.suppress(OSError):
                self._writer.write(codec.encode(refusal))

    def _end(self, why: str) -> None:
        self.lost = self.lost or why
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ConnectionResetError(self.lost))
                future.exception()  # whoever waits has it; nobody may
        self._hear(DbusMessage(0))  # so that whoever waits for signals looks


def has_system_bus() -> bool:
    """The machine has one, or $DBUS_SYSTEM_BUS_ADDRESS says so."""
    return _VARIABLE in os.environ or os.path.exists(path_of(SYSTEM_BUS))


def path_of(address: str) -> str:
    """The socket of an address of D-Bus; "\\0..." is an abstract one. Raises Invalid where there is none of this machine."""
    for one in address.split(";"):
        kind, _, rest = one.partition(":")
        values = dict(part.partition("=")[::2] for part in rest.split(","))
        if kind == "unix" and values.get("path", "").startswith("/"):
            return values["path"]
        if kind == "unix" and values.get("abstract"):
            return "\0" + values["abstract"]
    raise Invalid(f"{address[:128]!r} is no address of a bus on this machine")
