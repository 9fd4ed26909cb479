"""Controllers that devices share: each is opened once, and closed when nobody uses it any more."""

from __future__ import annotations

import asyncio

from kubeedge.errors import Invalid
from kubeedge.kit.streams import abort_writer
from kubeedge.mapper.ble.host import HciHost, HciTransport
from kubeedge.mapper.broker import endpoint

_OPEN = 5.0  # seconds
_READ = 4096  # bytes of the buffer


class _TcpTransport:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def read(self, most: int) -> bytes:
        return await self._reader.read(most)

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    async def aclose(self) -> None:
        abort_writer(self._writer)


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


async def transport_of(name: str) -> HciTransport:
    """What carries a controller that Devices call tcp:HOST:PORT. Raises OSError, Invalid."""
    kind, _, rest = name.partition(":")
    if kind != "tcp":
        raise Invalid(f"{name!r} is no controller")
    async with asyncio.timeout(_OPEN):
        return _TcpTransport(*await asyncio.open_connection(*endpoint(rest), limit=_READ))
