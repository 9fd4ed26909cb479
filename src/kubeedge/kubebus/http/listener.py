"""A TCP listener for a client proxy: counted connections, dead clients noticed, a certain end.

A connection counts from the moment it is accepted, so that those that never finish their TLS handshake are bounded, too. With a fast path the
proxy in C accepts and counts; what it does not do itself comes here, with the bytes that it has read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeAlias

from kubeedge.errors import Unavailable
from kubeedge.kit.acceptor import BACKLOG, Accepted, Acceptor, in_tasks, open_streams
from kubeedge.kit.connection_limiter import ConnectionLimits, Refusal
from kubeedge.kit.tasks import TaskSet
from kubeedge.kit.tcp import hostname
from kubeedge.kubebus.http.forward import STREAM_BUFFER
from kubeedge.kubebus.http.limits import ProxyLimits

log = logging.getLogger("kubeedge.kubebus.http")

#: the third is to be told when the connection begins and ends to wait for a request
StreamHandler = Callable[[asyncio.StreamReader, asyncio.StreamWriter, Callable[[bool], None]], Awaitable[None]]
#: a proxy in C in front of this listening descriptor, which is then its own; None: there is none, and the descriptor is still ours
ClientFastPath = Callable[[int], Any]
Asked = Callable[[Any, str], None]
#: how a connection that was just accepted is served, by what it sends first: with TLS or without; None: not at all. Takes nothing from it
ChooseService = Callable[[socket.socket], Awaitable["ChosenService | None"]]
ChosenService: TypeAlias = tuple[StreamHandler, ssl.SSLContext | None]
CountRejection = Callable[[int], None]  # with the status

# A client that disappears without a FIN is noticed after about two minutes, though a stream to it has nothing to say.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 4))
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
    fast_path: ClientFastPath | None = None,
    asked: Asked = lambda proxy, upstream: proxy.deny(upstream),
    refused: CountRejection = lambda status: None,
    choose: ChooseService | None = None,
) -> AsyncIterator[tuple[tuple[str, int], asyncio.Future[None]]]:
    """Serve while the block runs; yields where (port 0: the kernel's choice), and a future that fails with Unavailable when the fast path is
    gone. `asked(proxy, "tenant/node")`: the fast path wants to know an upstream. `choose`: instead of `handle` and `tls` for all of them.
    Connections are cancelled at the end."""
    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    with contextlib.ExitStack() as sockets:
        listeners = await _bound(address, port, sockets)
        where = listeners[0].getsockname()[:2]
        async with TaskSet("web connections") as tasks, TaskSet("web listeners") as accepting:
            clients = _Clients(handle, limits, tls, tasks, refused, choose)
            may = fast_path is not None and tls is None and len(listeners) == 1
            proxy = fast_path(listeners[0].fileno()) if fast_path is not None and may else None
            if proxy is not None:
                listeners[0].detach()
                async with _handed_over(proxy, clients, asked, gone):
                    yield where, gone
                return
            accepting.start(clients.acceptor.run(listeners), "web listener")
            yield where, gone


@contextlib.asynccontextmanager
async def _handed_over(proxy: Any, clients: _Clients, asked: Asked, gone: asyncio.Future[None]) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    descriptor = proxy.fileno()

    def arrived() -> None:
        for upstream in proxy.lookups():
            asked(proxy, upstream)
        for fd, first in proxy.handed_over():
            clients.enter(socket.socket(fileno=fd), first)

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
    """A socket for each address of a name ("localhost" has two)."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(hostname(address), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
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
        listener.listen(BACKLOG)
        listeners.append(listener)
    return listeners


class _Clients:
    """Serves the connections that the limiter lets in, and tells some of the others why not."""

    def __init__(
        self,
        handle: StreamHandler,
        limits: ProxyLimits,
        tls: ssl.SSLContext | None,
        tasks: TaskSet,
        refused: CountRejection,
        choose: ChooseService | None = None,
    ) -> None:
        self._handle = handle
        self._choose = choose
        self._limits = limits
        self._tls = tls
        self._tasks = tasks
        self._refused = refused
        self._told = 0
        # Clients of a web service never say who they are, and a request in progress is not cut off for another: those beyond the limit get an
        # error. A connection without a request gives way to the clients of networks that have fewer
        connections = ConnectionLimits(
            silent=0, queued=0, displace=False, unauthenticated=limits.connections, per_address=limits.per_client
        )
        self.acceptor = Acceptor(connections, in_tasks(tasks, self._begin, "web connection"), refused=self._reject)
        self._read = b""  # from the connection that is just coming, by the fast path

    def enter(self, connection: socket.socket, first: bytes) -> None:
        """`first` was read from it already. The connection is ours from here."""
        self._read = first
        self.acceptor.enter(connection)  # no queue here: it begins now, or is refused
        self._read = b""

    def _begin(self, accepted: Accepted) -> Coroutine[Any, Any, None]:
        return self._serve(accepted, self._read)

    async def _serve(self, accepted: Accepted, first: bytes) -> None:
        _keep_alive(accepted.socket)
        accepted.rests(True)
        handle, tls = self._handle, self._tls
        try:
            if self._choose is not None:
                handle, tls = await self._chosen(accepted.socket)
            reader, writer = await open_streams(accepted.socket, tls=tls, first=first, limit=STREAM_BUFFER)
        except OSError as exc:
            log.debug("connection ended before it was served: %s", exc)
            return
        await handle(reader, writer, accepted.rests)

    async def _chosen(self, connection: socket.socket) -> ChosenService:
        """Raises OSError; the connection is closed then."""
        assert self._choose is not None
        try:
            if (found := await self._choose(connection)) is None:
                raise ConnectionAbortedError("nobody serves it")
        except BaseException:
            connection.close()
            raise
        return found

    def _reject(self, connection: socket.socket, reason: Refusal) -> None:
        if reason is Refusal.ADDRESS:
            many = self._limits.per_client
            self._refuse(connection, 429, f"{many} connections from your address are open already")
        else:
            many = self._limits.connections
            self._refuse(connection, 503, f"{many} connections are open already; try again later")

    def _refuse(self, connection: socket.socket, status: int, why: str) -> None:
        self._refused(status)
        log.debug("connection refused: %s", why)
        if self._tls or self._choose or self._told >= _TOLD:  # a handshake would cost what we have not got
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


def _keep_alive(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the client is gone already
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
