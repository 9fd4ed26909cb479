"""A Bluetooth controller behind a stream, and its connections to devices: what a kernel and BlueZ do elsewhere. No pairing: what wants it needs BlueZ."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import struct
from collections.abc import Callable
from typing import Any, Protocol

from kubeedge.errors import PeerError
from kubeedge.kit.tasks import cancel_and_wait
from kubeedge.mapper.ble import att, hci
from kubeedge.mapper.ble.hci import HciAnswer, LeAdvertised

log = logging.getLogger("kubeedge.mapper.ble")

_ANSWER = 5.0  # seconds of the controller for a command
_CANCELLED = 1.0  # seconds in which it says that it does not look for a device any more, or that it has just found it
_READ = 4096
_MAX_FOUND = 256  # devices of a scan
_INTERVAL = (24, 40)  # of a connection, in 1.25 ms: 30 to 50 ms
_SUPERVISION = 500  # in 10 ms: after so long without a sign of life the controller gives a device up
_MAX_PUSHED = 64  # attributes whose newest value waits to be taken


class HciTransport(Protocol):
    """What carries the bytes of a controller."""

    async def read(self, most: int) -> bytes:
        """Some bytes; b"" at the end. Raises OSError."""
        ...

    def write(self, data: bytes) -> None:
        """Without waiting. Raises OSError."""
        ...

    async def aclose(self) -> None:
        """Ends it; who reads gets the end."""
        ...


class LeConnection:
    """A connection to one device. One request at a time, as the protocol has it."""

    def __init__(self, host: HciHost, handle: int, timeout: float) -> None:
        self.handle = handle
        self.mtu = att.LEAST_MTU
        self._host = host
        self._timeout = timeout
        self._turn = asyncio.Lock()
        self._waiting: asyncio.Future[bytes] | None = None
        self._pushed: dict[int, bytes] = {}
        self._wake = asyncio.Event()
        self.lost = ""  # why it has ended; "": it has not

    async def ask(self, request: bytes) -> bytes:
        """The answer without its opcode. Raises AttRefusal; OSError and PeerError when the connection is of no use."""
        async with self._turn:
            self._check()
            future = self._waiting = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(self._timeout):
                    await self._host.send(self.handle, att.CHANNEL, request)
                    data = await future
            finally:
                self._waiting = None
                if (
                    not future.done() or future.cancelled()
                ):  # an answer that comes later would be taken for the next one's
                    self._host.drop(self, "the device does not answer")
            return att.answer(request, data)

    async def tell(self, command: bytes) -> None:
        """A command that is not answered. Raises OSError."""
        self._check()
        async with asyncio.timeout(self._timeout):
            await self._host.send(self.handle, att.CHANNEL, command)

    async def pushed(self) -> dict[int, bytes]:
        """Handle -> the newest value of each that has come by itself since the last call. Raises ConnectionError."""
        while not self._pushed:
            self._check()
            self._wake.clear()
            await self._wake.wait()
        found, self._pushed = self._pushed, {}
        return found

    def receive(self, data: bytes) -> bytes:
        """A PDU of the device; what it is to be answered with, or b"". Raises PeerError."""
        if not data or len(data) > att.OUR_MTU:
            raise PeerError(f"the device sends {len(data)} bytes at once; {att.OUR_MTU} are the most")
        if att.is_answer(data):
            if self._waiting is not None and not self._waiting.done():
                self._waiting.set_result(data)
            return b""
        if data[0] in (att.NOTIFICATION, att.INDICATION):
            handle, value = att.pushed(data)
            if handle in self._pushed or len(self._pushed) < _MAX_PUSHED:
                self._pushed[handle] = value
                self._wake.set()
        return att.reply(data)

    def end(self, why: str) -> None:
        """The connection has ended."""
        self.lost = self.lost or why
        self._wake.set()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(ConnectionResetError(self.lost))

    def _check(self) -> None:
        if self.lost:
            raise ConnectionResetError(self.lost)

    async def aclose(self) -> None:
        """Ends it; the controller tells the device."""
        await self._host.disconnect(self)


class HciHost:
    """`open` resets the controller. Memory: its connections, and what is on its way to devices."""

    def __init__(self, transport: HciTransport) -> None:
        self._transport = transport
        self._stream = hci.HciStream()
        self._turn, self._connecting = asyncio.Lock(), asyncio.Lock()
        self._answers: dict[int, asyncio.Future[HciAnswer]] = {}
        self._connected: asyncio.Future[hci.LeConnected] | None = None
        self._connections: dict[int, LeConnection] = {}
        self._heard: Callable[[LeAdvertised], None] | None = None
        self._size, self._room = 27, 1  # bytes of a piece, and pieces that the controller takes
        self._unsent: dict[int, int] = {}  # connection -> pieces that the controller has
        self._has_room = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None
        self.lost = ""

    @staticmethod
    async def open(transport: HciTransport) -> HciHost:
        """Raises OSError and PeerError."""
        host = HciHost(transport)
        host._reading = asyncio.create_task(host._read(), name="bluetooth controller")
        try:
            await host._begin()
        except BaseException:
            await host.aclose()
            raise
        return host

    async def _begin(self) -> None:
        await self._do(hci.RESET)
        await self._do(hci.SET_EVENT_MASK, bytes.fromhex("ffffffffffff7f3f"))
        await self._do(hci.LE_SET_EVENT_MASK, bytes.fromhex("0f00000000000000"))
        own = bytearray(os.urandom(6))
        own[5] |= 0xC0  # a static one (volume 6 part B, 1.3.2.1): many a controller has no public one
        await self._do(hci.LE_SET_RANDOM_ADDRESS, bytes(own))
        size, room = _sizes("<HB", await self._do(hci.LE_READ_BUFFER_SIZE))
        if not size or not room:  # it shares those of the other Bluetooth
            size, room = _sizes("<HxH", await self._do(hci.READ_BUFFER_SIZE))
        if size < 27 or not room:
            raise PeerError(f"the controller takes {room} packets of {size} bytes")
        self._size, self._room = min(size, 1024), room

    async def _do(self, opcode: int, parameters: bytes = b"") -> bytes:
        """What a command gives. Raises PeerError when the controller refuses it, OSError."""
        async with self._turn:
            self._check()
            future: asyncio.Future[HciAnswer] = asyncio.get_running_loop().create_future()
            self._answers[opcode] = future
            try:
                self._transport.write(hci.command(opcode, parameters))
                async with asyncio.timeout(_ANSWER):
                    found = await future
            except TimeoutError as exc:
                raise TimeoutError(f"the controller does not answer to command {opcode:#06x}") from exc
            finally:
                del self._answers[opcode]
        if found.status:
            raise ConnectionRefusedError(f"command {opcode:#06x}: {hci.reason(found.status)}")
        return found.result

    async def connect(self, address: str, is_random: bool, timeout: float) -> LeConnection:
        """Raises OSError, TimeoutError included; a device that is not there is waited for `timeout` seconds."""
        async with self._connecting:  # a controller looks for one at a time
            self._check()
            future = self._connected = asyncio.get_running_loop().create_future()
            target = bytes((is_random,)) + hci.address_bytes(address)
            low, high = _INTERVAL
            parameters = struct.pack("<BHHHHHH", 1, low, high, 0, _SUPERVISION, 0, 0)
            try:
                await self._do(hci.LE_CREATE_CONNECTION, struct.pack("<HHB", 96, 48, 0) + target + parameters)
                found = await self._found(future, address, timeout)
            except asyncio.CancelledError:
                # a controller that goes on looking for this device looks for no other one, and connects it to nobody
                if await self._give_up(future):
                    self._unwanted(future.result().handle)
                raise
            finally:
                self._connected = None
        if found.status:
            raise ConnectionRefusedError(f"{address}: {hci.reason(found.status)}")
        connection = self._connections[found.handle] = LeConnection(self, found.handle, timeout)
        try:
            connection.mtu = att.mtu_of(await connection.ask(att.exchange_mtu()))
        except att.AttRefusal:
            pass  # it has the least one
        except BaseException:
            await connection.aclose()
            raise
        return connection

    async def _found(self, future: asyncio.Future[hci.LeConnected], address: str, timeout: float) -> hci.LeConnected:
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.shield(future)
        except TimeoutError as exc:
            if not await self._give_up(future):
                raise TimeoutError(f"{address} was not heard") from exc
            return future.result()

    async def _give_up(self, future: asyncio.Future[hci.LeConnected]) -> bool:
        """Whether there is a connection all the same: it was made while nobody waited any more."""
        with contextlib.suppress(OSError, PeerError):
            if not future.done():  # else there is nothing to cancel
                await self._do(hci.LE_CREATE_CONNECTION_CANCEL)
                async with asyncio.timeout(_CANCELLED):
                    await asyncio.shield(future)
        return future.done() and future.exception() is None and future.result().status == 0

    def _unwanted(self, handle: int) -> None:
        """A connection that nobody waits for: its device would be free for nobody else."""
        with contextlib.suppress(OSError):
            self._transport.write(hci.command(hci.DISCONNECT, struct.pack("<HB", handle, 0x13)))

    async def scan(self, seconds: float) -> list[LeAdvertised]:
        """Devices that are heard within this time, the newest of what each has said. Raises OSError and PeerError."""
        found: dict[str, LeAdvertised] = {}

        def heard(one: LeAdvertised) -> None:
            if one.address in found or len(found) < _MAX_FOUND:
                before = found.get(one.address)
                found[one.address] = one if before is None or one.data else before

        async with self._connecting:
            await self._do(hci.LE_SET_SCAN_PARAMETERS, struct.pack("<BHHBB", 1, 96, 48, 1, 0))
            self._heard = heard
            try:
                await self._do(hci.LE_SET_SCAN_ENABLE, b"\1\0")
                await asyncio.sleep(seconds)
                await self._do(hci.LE_SET_SCAN_ENABLE, b"\0\0")
            finally:
                self._heard = None
        return list(found.values())

    async def send(self, handle: int, channel: int, payload: bytes) -> None:
        """A packet for a device, as soon as the controller has room. Raises ConnectionError."""
        for piece in hci.l2cap(handle, channel, payload, self._size):
            while self._room <= 0:
                self._check()
                self._has_room.clear()
                await self._has_room.wait()
            self._check()
            if handle not in self._connections:
                raise ConnectionResetError("the connection has ended")
            self._room -= 1
            self._unsent[handle] = self._unsent.get(handle, 0) + 1
            self._transport.write(piece)

    def drop(self, connection: LeConnection, why: str) -> None:
        """A connection is of no use any more; the controller ends it by and by."""
        if self._connections.get(connection.handle) is connection and not connection.lost:
            connection.end(why)
            self._unwanted(connection.handle)

    async def disconnect(self, connection: LeConnection) -> None:
        """Returns when the controller has ended it."""
        self.drop(connection, "ended here")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ANSWER):
                while self._connections.get(connection.handle) is connection and not self.lost:
                    self._has_room.clear()
                    await self._has_room.wait()

    async def aclose(self) -> None:
        """Ends all connections, and the stream to the controller."""
        self._end("the controller is not used any more")
        if self._reading is not None:
            await cancel_and_wait(self._reading)
        await self._transport.aclose()

    def _check(self) -> None:
        if self.lost:
            raise ConnectionResetError(self.lost)

    async def _read(self) -> None:
        try:
            while data := await self._transport.read(_READ):
                for event in self._stream.receive_data(data):
                    self._take(event)
            self._end("the controller has gone")
        except (OSError, EOFError, PeerError) as exc:
            log.warning("bluetooth controller: %s", exc)
            self._end(f"the controller: {exc}")

    def _end(self, why: str) -> None:
        self.lost = self.lost or why
        for connection in self._connections.values():
            connection.end(self.lost)
        self._connections.clear()
        self._has_room.set()
        waiting: list[asyncio.Future[Any]] = [*self._answers.values()]
        if self._connected is not None:
            waiting.append(self._connected)
        for future in waiting:
            if not future.done():
                future.set_exception(ConnectionResetError(self.lost))
                future.exception()  # whoever waits has it; nobody may

    def _take(self, event: hci.HciEvent) -> None:
        match event:
            case HciAnswer():
                future = self._answers.get(event.opcode)
                if future is not None and not future.done():
                    future.set_result(event)
            case hci.LeConnected():
                if self._connected is not None and not self._connected.done():
                    self._connected.set_result(event)
                elif not event.status and event.handle not in self._connections:
                    self._unwanted(event.handle)
            case hci.LeDisconnected():
                self._stream.forget(event.handle)
                self._room += self._unsent.pop(event.handle, 0)
                if (connection := self._connections.pop(event.handle, None)) is not None:
                    connection.end(hci.reason(event.reason))
                self._has_room.set()
            case hci.AclSent():
                count = min(event.count, self._unsent.get(event.handle, 0))
                if count:
                    self._unsent[event.handle] -= count
                    self._room += count
                    self._has_room.set()
            case hci.LeAdvertised() if self._heard is not None:
                self._heard(event)
            case hci.HardwareError():
                raise PeerError(f"the controller has failed (hardware error {event.code})")
            case hci.L2capPacket():
                if (connection := self._connections.get(event.handle)) is not None:
                    self._packet(connection, event)

    def _packet(self, connection: LeConnection, packet: hci.L2capPacket) -> None:
        """What a device says. One that breaks the rules loses its connection, and no other one does."""
        answer, channel = b"", packet.channel
        try:
            if channel == att.CHANNEL:
                answer = connection.receive(packet.payload)
            elif channel == att.SIGNALS and len(packet.payload) >= 4 and not packet.payload[0] & 1:
                # the device wishes other parameters, or a channel: not understood (volume 3 part A, 4.1); 0x12 is rejected
                number = packet.payload[1]
                is_update = packet.payload[0] == 0x12
                answer = struct.pack("<BBHH", *((0x13, number, 2, 1) if is_update else (0x01, number, 2, 0)))
            elif channel == att.SECURITY and packet.payload[:1] == b"\x0b":
                answer = b"\x05\x05"  # it wishes to be paired: not supported
        except PeerError as exc:
            self.drop(connection, str(exc))
            return
        if answer and self._room > 0 and not connection.lost:  # without room the device asks again, or gives up
            self._room -= 1
            self._unsent[packet.handle] = self._unsent.get(packet.handle, 0) + 1
            for piece in hci.l2cap(packet.handle, channel, answer, self._size):
                self._transport.write(piece)


def _sizes(form: str, result: bytes) -> tuple[int, int]:
    if len(result) < struct.calcsize(form):
        raise PeerError("the controller does not say how much it takes")
    size, room = struct.unpack_from(form, result)
    return int(size), int(room)
