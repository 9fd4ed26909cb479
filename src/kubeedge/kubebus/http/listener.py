"""A TCP listener for a client proxy: counted connections, dead clients noticed, a certain end.

With a fast path the proxy in C accepts; what it does not do itself comes here, with the bytes that it has read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from kubeedge.errors import Unavailable
from kubeedge.kit.streams import abort_writer
from kubeedge.kit.tasks import TaskSet
from kubeedge.kubebus.http.forward import STREAM_BUFFER
from kubeedge.kubebus.http.limits import ProxyLimits

log = logging.getLogger("kubeedge.kubebus.http")

StreamHandler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
#: a proxy in C in front of this listening descriptor; None: there is none, and the descriptor is still ours
Front = Callable[[int], Any]

# A client that vanished without a word is noticed after about two minutes, though a stream to it has nothing to say.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 4))


class _Door:
    """Who may come in, and who is inside."""

    def __init__(self, handle: StreamHandler, limits: ProxyLimits, tasks: TaskSet) -> None:
        self._handle = handle
        self._limits = limits
        self._tasks = tasks
        self._clients: Counter[str] = Counter()

    def enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")
        client = str(peer[0]) if isinstance(peer, tuple) and peer else ""
        if len(self._tasks) >= self._limits.connections or self._clients[client] >= self._limits.per_client:
            log.warning(
                "connection refused: %d are open, %d of them from there", len(self._tasks), self._clients[client]
            )
            abort_writer(writer)
            return
        _keep_alive(writer)
        self._clients[client] += 1
        task = self._tasks.start(_run(self._handle, reader, writer), "web connection")
        task.add_done_callback(lambda _: self._leave(client))

    def _leave(self, client: str) -> None:
        self._clients[client] -= 1
        if not self._clients[client]:
            del self._clients[client]


@contextlib.asynccontextmanager
async def listening(
    address: str,
    port: int,
    handle: StreamHandler,
    *,
    limits: ProxyLimits,
    tls: ssl.SSLContext | None = None,
    front: Front | None = None,
) -> AsyncIterator[tuple[tuple[str, int], asyncio.Future[None]]]:
    """Serve while the block runs; yields where (port 0: the kernel's choice), and a future that fails with Unavailable when the fast path is
    gone. Connections are cancelled at the end."""
    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    async with TaskSet("web connections") as tasks:
        door = _Door(handle, limits, tasks)
        listener = await _bound(address, port)
        where = listener.getsockname()[:2]
        proxy = front(listener.fileno()) if front is not None and tls is None else None
        if proxy is None:
            extra: dict[str, Any] = {"ssl_handshake_timeout": 10.0, "ssl_shutdown_timeout": 1.0} if tls else {}
            server = await asyncio.start_server(
                door.enter, sock=listener, limit=STREAM_BUFFER, backlog=_BACKLOG, ssl=tls, **extra
            )
            try:
                yield where, gone
            finally:
                server.close()
            return
        listener.detach()
        async with _handed_over(proxy, door, tasks, gone):
            yield where, gone


_BACKLOG = 512


async def _bound(address: str, port: int) -> socket.socket:
    family, _, _, _, where = (
        await asyncio.get_running_loop().getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    )[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind(where)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


@contextlib.asynccontextmanager
async def _handed_over(proxy: Any, door: _Door, tasks: TaskSet, gone: asyncio.Future[None]) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    descriptor = proxy.fileno()

    def arrived() -> None:
        for fd, first in proxy.handed_over():
            tasks.start(_adopt(socket.socket(fileno=fd), first, door), "web connection that the fast path gave back")

    def closed() -> None:
        loop.remove_reader(descriptor)
        if not gone.done():
            gone.set_exception(Unavailable("the data plane of the fast path is gone"))

    loop.add_reader(descriptor, arrived)
    proxy.closed = closed
    try:
        yield
    finally:
        proxy.closed = None
        loop.remove_reader(descriptor)
        proxy.close()
        if not gone.done():
            gone.cancel()


async def _adopt(connection: socket.socket, first: bytes, door: _Door) -> None:
    """The streams of a connection from which `first` was read already."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(STREAM_BUFFER, loop=loop)
    reader.feed_data(first)
    protocol = asyncio.StreamReaderProtocol(reader, lambda r, w: door.enter(r, w), loop=loop)
    try:
        await loop.connect_accepted_socket(lambda: protocol, connection)
    except OSError as exc:
        log.debug("connection ended before it was served: %s", exc)
        connection.close()


async def _run(handle: StreamHandler, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await handle(reader, writer)


def _keep_alive(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):  # the client is gone already
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
