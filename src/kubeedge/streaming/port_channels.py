"""port-forward in channels of a WebSocket, as clients speak it that do not tunnel SPDY: v4.channel.k8s.io, the ports named by the request.

first byte of a message     2 n: data of the n-th port; 2 n + 1: why its connection ended, as text
first message of a channel  the number of the port, two bytes, little endian

A channel has no end of its own: when the pod has ended the connections of all ports, the WebSocket ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence

from kubeedge.errors import Invalid, KubeEdgeError, PeerError
from kubeedge.kit.held_bytes import HeldBytes
from kubeedge.kit.streams import close_writer
from kubeedge.kit.tasks import TaskSet, first_of
from kubeedge.streaming.byte_stream import HELD, SocketStream
from kubeedge.streaming.ports import Dial, not_forwarded, port_number
from kubeedge.streaming.websocket import WebSocket

log = logging.getLogger("kubeedge.streaming")

PORTS = 127  # of one request: a byte names a channel, and 255 is no channel
_CHUNK = 32 * 1024


def requested_ports(values: Sequence[str]) -> list[int]:
    """Of the parameters `port` of a query, each of them one port or several with commas between. Raises Invalid."""
    names = [name for value in values for name in value.split(",", PORTS + 1)]
    if not names:
        raise Invalid('query parameter "port" is required')
    if len(names) > PORTS:
        raise Invalid(f"more than {PORTS} ports in one request")
    for name in names:
        if not port_number(name):
            raise Invalid(f"{name!r:.40} is not a port")
    return [port_number(name) for name in names]


class ChannelForwarder:
    """One client. `dial` connects to a port of the pod."""

    def __init__(
        self, connection: SocketStream, ports: Sequence[int], dial: Dial, held: HeldBytes | None = None
    ) -> None:
        self._connection = connection
        self._socket = WebSocket(connection, held or HeldBytes(HELD))
        self._ports, self._dial = ports, dial
        loop = asyncio.get_running_loop()
        #: by its index in `ports`; None for one that could not be made
        self._connected: list[asyncio.Future[asyncio.StreamWriter | None]] = [loop.create_future() for _ in ports]

    async def run(self) -> None:
        """Forward until the client is gone, or the pod has ended every connection. Raises OSError."""
        for n, port in enumerate(self._ports):
            await self._say(2 * n, port.to_bytes(2, "little"))
            await self._say(2 * n + 1, port.to_bytes(2, "little"))
        async with TaskSet("connections of a port-forward") as tasks:
            made = [tasks.start(self._forward(n, port), f"port {port} of a pod") for n, port in enumerate(self._ports)]
            await first_of(self._receive(), asyncio.gather(*made), self._connection.lost())
        await self._socket.end()

    async def _say(self, channel: int, data: bytes) -> None:
        await self._socket.send(bytes([channel]) + data)

    async def _receive(self) -> None:
        """What is not taken by one port holds up the others of this client: there is one stream of messages, and no room to keep any."""
        try:
            while (message := await self._socket.receive()) is not None:
                n, is_error = divmod(message[0] if message else 1, 2)
                if not is_error and n < len(self._ports) and len(message) > 1:
                    await self._pass_on(n, message[1:])
        except (OSError, PeerError) as exc:
            log.info("a client of port-forward is gone: %s", exc)

    async def _pass_on(self, n: int, data: bytes) -> None:
        writer = await asyncio.shield(self._connected[n])
        if writer is None or writer.is_closing():
            return
        with contextlib.suppress(OSError):  # of this connection; the others go on
            writer.write(data)
            await writer.drain()

    async def _forward(self, n: int, port: int) -> None:
        with contextlib.suppress(OSError):  # the client is gone
            try:
                reader, writer = await self._dial(port)
            except (OSError, KubeEdgeError) as exc:
                self._connected[n].set_result(None)
                await self._say(2 * n + 1, not_forwarded(port, exc))
                return
            self._connected[n].set_result(writer)
            try:
                while data := await reader.read(_CHUNK):
                    await self._say(2 * n, data)
            finally:
                await close_writer(writer)
