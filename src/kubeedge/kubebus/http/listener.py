"""A TCP listener for a client proxy: counted connections, dead clients noticed, a certain end.

A connection counts from the moment it is accepted, so that those that never finish their TLS handshake are bounded, too. With a fast path the
proxy in C accepts and counts; what it does not do itself comes here, with the bytes that it has read.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from kubeedge.errors import Unavailable
from kubeedge.kit.tasks import TaskSet
from kubeedge.kubebus.http.forward import STREAM_BUFFER
from kubeedge.kubebus.http.limits import ProxyLimits

log = logging.getLogger("kubeedge.kubebus.http")

StreamHandler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
#: a proxy in C in front of this listening descriptor, which is then its own; None: there is none, and the descriptor is still ours
Front = Callable[[int], Any]
Asked = Callable[[Any, str], None]
Refused = Callable[[int], None]  # with the status

# A client that vanished without a word is noticed after about two minutes, though a stream to it has nothing to say.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 4))
_BACKLOG = 512
_HANDSHAKE = 10.0  # seconds for TLS
_TOLD = 64  # refused clients at once that are told why; the others are cut off
_TELLING = 1.0  # seconds
_REASONS = {429: "Too Many Requests", 503: "Service Unavailable"}


@contextlib.asynccontextmanager
async def listening(
    address: str,
    port: int,
    handle: StreamHandler,
    *,
    limits: ProxyLimits,
    tls: ssl.SSLContext | None = None,
    front: Front | None = None,
    asked: Asked = lambda proxy, place: proxy.deny(place),
    refused: Refused = lambda status: None,
) -> AsyncIterator[tuple[tuple[str, int], asyncio.Future[None]]]:
    """Serve while the block runs; yields where (port 0: the kernel's choice), and a future that fails with Unavailable when the fast path is
    gone. `asked(proxy, "tenant/node")`: the fast path wants to know a place. Connections are cancelled at the end."""
    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    with contextlib.ExitStack() as sockets:
        listeners = await _bound(address, port, sockets)
        where = listeners[0].getsockname()[:2]
        async with TaskSet("web connections") as tasks, TaskSet("web listeners") as accepting:
            door = _Door(handle, limits, tls, tasks, refused)
            may = front is not None and tls is None and len(listeners) == 1
            proxy = front(listeners[0].fileno()) if front is not None and may else None
            if proxy is not None:
                listeners[0].detach()
                async with _handed_over(proxy, door, asked, gone):
                    yield where, gone
                return
            for listener in listeners:
                accepting.start(door.accept(listener), "web listener")
            yield where, gone


@contextlib.asynccontextmanager
async def _handed_over(proxy: Any, door: _Door, asked: Asked, gone: asyncio.Future[None]) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    descriptor = proxy.fileno()

    def arrived() -> None:
        for place in proxy.asked():
            asked(proxy, place)
        for fd, first in proxy.handed_over():
            door.enter(socket.socket(fileno=fd), first)

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


async def _bound(address: str, port: int, sockets: contextlib.ExitStack) -> list[socket.socket]:
    """One socket for each address of a name ("localhost" has two)."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    listeners: list[socket.socket] = []
    for family, _, _, _, where in dict.fromkeys(found):
        listener = sockets.enter_context(socket.socket(family, socket.SOCK_STREAM))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setblocking(False)
        try:
            listener.bind(where)
        except OSError as exc:
            raise OSError(exc.errno, f"cannot listen at {address} port {port}: {exc.strerror}") from exc
        listener.listen(_BACKLOG)
        listeners.append(listener)
    return listeners


class _Door:
    """Who may come in, and who is inside."""

    def __init__(
        self,
        handle: StreamHandler,
        limits: ProxyLimits,
        tls: ssl.SSLContext | None,
        tasks: TaskSet,
        refused: Refused,
    ) -> None:
        self._handle = handle
        self._limits = limits
        self._tls: dict[str, Any] = {}
        if tls is not None:
            self._tls = {"ssl": tls, "ssl_handshake_timeout": _HANDSHAKE, "ssl_shutdown_timeout": 1.0}
        self._tasks = tasks
        self._refused = refused
        self._clients: Counter[str] = Counter()
        self._inside = 0
        self._told = 0

    async def accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError as exc:  # no descriptors left, say: the connections that are there must not pay for it
                log.warning("cannot accept a web connection: %s", exc)
                await asyncio.sleep(0.5)
                continue
            self.enter(connection)
            await asyncio.sleep(0)  # a crowd at the door must not stop those inside

    def enter(self, connection: socket.socket, first: bytes = b"") -> None:
        """`first` was read from it already. The connection is ours from here."""
        connection.setblocking(False)
        try:
            client = _client(str(connection.getpeername()[0]))
        except OSError:  # it is gone already
            connection.close()
            return
        if self._inside >= self._limits.connections:
            self._refuse(connection, 503, f"{self._inside} connections are open already; try again later")
        elif self._clients[client] >= self._limits.per_client:
            self._refuse(connection, 429, f"{self._limits.per_client} connections from your address are open already")
        else:
            self._inside += 1
            self._clients[client] += 1
            task = self._tasks.start(self._serve(connection, first), "web connection")
            task.add_done_callback(lambda _: self._leave(client))

    def _leave(self, client: str) -> None:
        self._inside -= 1
        self._clients[client] -= 1
        if not self._clients[client]:
            del self._clients[client]

    async def _serve(self, connection: socket.socket, first: bytes) -> None:
        loop = asyncio.get_running_loop()
        _keep_alive(connection)
        reader = asyncio.StreamReader(STREAM_BUFFER, loop=loop)
        reader.feed_data(first)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        try:
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection, **self._tls)
        except OSError as exc:  # TLS that went wrong is one, too
            log.debug("connection ended before it was served: %s", exc)
            connection.close()
            return
        except BaseException:
            connection.close()
            raise
        await self._handle(reader, asyncio.StreamWriter(transport, protocol, reader, loop))

    def _refuse(self, connection: socket.socket, status: int, why: str) -> None:
        self._refused(status)
        log.debug("connection refused: %s", why)
        if self._tls or self._told >= _TOLD:  # a handshake would cost what we have not got
            connection.close()
            return
        self._told += 1
        self._tasks.start(self._tell(connection, status, why), "refused web connection")

    async def _tell(self, connection: socket.socket, status: int, why: str) -> None:
        """Answer the request that is to come. What was not read when a socket is closed would reset the answer."""
        loop = asyncio.get_running_loop()
        body = b'{"error":"%s"}' % why.encode()
        head = (
            f"HTTP/1.1 {status} {_REASONS[status]}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        )
        try:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_TELLING):
                    await loop.sock_sendall(
                        connection, f"{head}retry-after: 1\r\nconnection: close\r\n\r\n".encode() + body
                    )
                    connection.shutdown(socket.SHUT_WR)
                    while await loop.sock_recv(connection, 4096):
                        pass
        finally:
            self._told -= 1
            connection.close()


def _client(address: str) -> str:
    """What counts as one client: an IPv4 address, the network of an IPv6 address, in which a client has as many as it likes."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.IPv6Network((parsed, 64), strict=False))
    return address


def _keep_alive(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the client is gone already
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
