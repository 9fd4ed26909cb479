"""Controllers that devices share: each is opened once, and closed when nobody uses it any more."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import socket
import struct

from kubeedge._fastpath import libc
from kubeedge.errors import Invalid
from kubeedge.kit.streams import abort_writer
from kubeedge.mapper.ble.advertised import name_of, uuids_of
from kubeedge.mapper.ble.bluez import FoundDevice
from kubeedge.mapper.ble.host import HciHost, HciTransport
from kubeedge.mapper.broker import endpoint

_OPEN = 5.0  # seconds
_READ = 4096  # bytes of the buffer
_BLUETOOTH, _HCI, _USER_CHANNEL, _DOWN = (
    31,
    1,
    1,
    0x400448CA,
)  # of include/net/bluetooth: AF_, BTPROTO_, HCI_CHANNEL_USER, HCIDEVDOWN


class _TcpTransport:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def read(self, most: int) -> bytes:
        return await self._reader.read(most)

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    async def aclose(self) -> None:
        abort_writer(self._writer)


class _KernelTransport:
    """A controller of this machine, which the kernel leaves to this process alone (its HCI user channel): nobody else can use it meanwhile."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    @staticmethod
    def open(number: int) -> _KernelTransport:
        """Raises OSError: there is none of that number, it is not ours to take, or the kernel is about to set it up."""
        sock = None
        try:
            sock = socket.socket(_BLUETOOTH, socket.SOCK_RAW | socket.SOCK_NONBLOCK, _HCI)
            _take(sock, number)
        except OSError as exc:
            if sock is not None:
                sock.close()
            why = "this needs CAP_NET_ADMIN" if exc.errno == errno.EPERM else os.strerror(exc.errno or 0)
            raise OSError(exc.errno, f"hci{number} cannot be used: {why}") from exc
        return _KernelTransport(sock)

    async def read(self, most: int) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self._socket, most)

    def write(self, data: bytes) -> None:
        self._socket.send(data)  # a packet, whole or not at all

    async def aclose(self) -> None:
        self._socket.close()


def _take(sock: socket.socket, number: int) -> None:
    try:
        libc.bind(sock.fileno(), user_channel(number))
    except OSError as exc:
        if exc.errno != errno.EBUSY:
            raise
        fcntl.ioctl(sock, _DOWN, number)  # the kernel had it up, for nobody
        libc.bind(sock.fileno(), user_channel(number))


def user_channel(number: int) -> bytes:
    """The sockaddr_hci by which a socket has the controller of that number for itself."""
    return struct.pack("=HHH", _BLUETOOTH, number, _USER_CHANNEL)


class Controllers:
    """By what Devices call them."""

    def __init__(self) -> None:
        self._hosts: dict[str, HciHost] = {}
        self._users: dict[str, int] = {}
        self._turn = asyncio.Lock()

    async def take(self, name: str) -> HciHost:
        """A controller, which is given back by `give_back`. Raises OSError, PeerError, Invalid."""
        async with self._turn:
            host = self._hosts.get(name)
            if host is None or host.lost:
                if host is not None:
                    await host.aclose()
                host = self._hosts[name] = await HciHost.open(await transport_of(name))
                self._users[name] = 0
            self._users[name] += 1
            return host

    async def give_back(self, name: str, host: HciHost) -> None:
        """The last one ends it."""
        async with self._turn:
            if self._hosts.get(name) is not host:
                return
            self._users[name] -= 1
            if not self._users[name]:
                del self._hosts[name]
                await host.aclose()


async def heard(name: str, seconds: float) -> list[FoundDevice]:
    """Devices that a controller hears within this time. Raises OSError, PeerError, Invalid."""
    host = await HciHost.open(await transport_of(name))
    try:
        found = await host.scan(seconds)
    finally:
        await host.aclose()
    return [FoundDevice(one.address, one.is_random, name_of(one.data), one.rssi, uuids_of(one.data)) for one in found]


async def transport_of(name: str) -> HciTransport:
    """What carries a controller that Devices call tcp:HOST:PORT, or hci0. Raises OSError, Invalid."""
    if name.startswith("hci"):
        return _KernelTransport.open(int(name[3:]))
    kind, _, rest = name.partition(":")
    if kind != "tcp":
        raise Invalid(f"{name!r} is no controller")
    async with asyncio.timeout(_OPEN):
        return _TcpTransport(*await asyncio.open_connection(*endpoint(rest), limit=_READ))
