"""The API server as a module of the process: a TLS listener around ApiServer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable
from typing import Protocol

from kubeedge.api.status import StatusError, TooManyRequests
from kubeedge.apiserver.answers import status_response
from kubeedge.errors import Refused
from kubeedge.kit.acceptor import BACKLOG, Accepted, Acceptor, in_tasks, open_streams
from kubeedge.kit.connection_limiter import ConnectionLimits, Refusal
from kubeedge.kit.http1 import Limits, Request, RequestHandler, Response, Upgrade, abort_writer, serve_connection
from kubeedge.kit.streams import listening_socket
from kubeedge.kit.tasks import TaskSet
from kubeedge.pki.identity import CloudIdentity, Identity, NodeIdentity, UserIdentity, of_peer

#: Each connection may hold one request body of 3 MiB for a moment. A kubectl uses one or two, a controller one for each of its watches.
CONNECTIONS = ConnectionLimits(silent=2048, queued=2048, unauthenticated=256, authenticated=1000, per_identity=500)
_TOLD = 64  # refused clients at once that hear why
_TELLING = 5.0  # seconds
_OF_A_NODE = 4  # connections with one node's certificate

log = logging.getLogger("kubeedge.apiserver")


class Served(Protocol):
    """What answers requests: ApiServer, or what stands before one."""

    def who(self, request: Request, /) -> UserIdentity:
        """Who sent the request. Raises Unauthorized or Forbidden."""
        ...

    async def handle(self, request: Request, /) -> Response | Upgrade:
        """The answer to one request; errors are answers, too, and nothing is raised."""
        ...


class ApiServerModule:
    """`context` must ask for client certificates and decides which are trusted; ApiServer authorizes requests. None: no TLS."""

    name = "apiserver"

    def __init__(
        self,
        server: Served,
        context: ssl.SSLContext | None,
        *,
        address: str = "0.0.0.0",
        port: int = 6443,
        limits: Limits | None = None,
        connections: ConnectionLimits = CONNECTIONS,
        opened: Callable[[int], None] = lambda port: None,
        freebind: bool = False,
    ) -> None:
        self._freebind = freebind  # the address may come and go
        self._server = server
        self._context = context
        self._address = address
        self._port = port
        self._limits = limits or Limits()
        self._connections = connections
        self._opened = opened  # called with the port, before the module is ready
        self._refusing = 0
        self.acceptor: Acceptor  # once it runs
        self.bound_port = 0  # the real one, when port 0 was asked for

    async def run(self, ready: asyncio.Event) -> None:
        """`bound_port` is the real port once it is ready; connections, watches among them, end with the module."""
        with listening_socket(self._address, self._port, backlog=BACKLOG, freebind=self._freebind) as listener:
            # Watches never end by themselves: a stopped module must not go on answering them.
            async with TaskSet("connections of the API") as tasks:
                self.bound_port = listener.getsockname()[1]
                log.info("listening on address=%s port=%d", self._address, self.bound_port)
                self._opened(self.bound_port)
                ready.set()
                self.acceptor = Acceptor(self._connections, in_tasks(tasks, self._serve, "connection of the API"))
                await self.acceptor.run([listener])

    async def _serve(self, accepted: Accepted) -> None:
        try:
            reader, writer = await open_streams(accepted.socket, tls=self._context)
        except OSError as exc:
            log.debug("connection of %s ended before it was served: %s", accepted.address, exc)
            return
        refusal = self._admit(accepted, writer)
        try:
            if refusal is not None:
                await self._refuse(reader, writer, refusal)
            else:
                await serve_connection(reader, writer, self._handler(accepted), limits=self._limits)
        except asyncio.CancelledError:
            abort_writer(writer)  # it gave way, or the module ends
            raise

    def _admit(self, accepted: Accepted, writer: asyncio.StreamWriter) -> Refusal | None:
        """A connection with a certificate counts against its identity instead of its address."""
        tls = writer.get_extra_info("ssl_object")
        certificate = tls.getpeercert() if tls is not None else None
        try:
            who = of_peer(certificate)
        except Refused:
            return None
        return _authenticated(accepted, who)

    def _handler(self, accepted: Accepted) -> RequestHandler:
        """Those that come with a token are known from their first request on."""

        async def handle(request: Request) -> Response | Upgrade:
            with contextlib.suppress(StatusError):
                if _authenticated(accepted, self._server.who(request)) is not None:
                    return too_many_connections()
            return await self._server.handle(request)

        return handle

    async def _refuse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, refusal: Refusal) -> None:
        """In the words of the API, to a few at once; the others are cut off."""
        if self._refusing >= _TOLD:
            abort_writer(writer)
            return

        async def handle(request: Request) -> Response | Upgrade:
            return too_many_connections(refusal)

        self._refusing += 1
        try:
            async with asyncio.timeout(_TELLING):
                await serve_connection(reader, writer, handler=handle, limits=self._limits)
        except TimeoutError:
            abort_writer(writer)
        finally:
            self._refusing -= 1


def too_many_connections(refusal: Refusal = Refusal.IDENTITY) -> Response:
    """A 429 Status that closes the connection, so that the client does not try again on it."""
    answer = status_response(TooManyRequests(f"{refusal.value}: close some of them"))
    return Response(answer.status, [*answer.headers, ("connection", "close")], answer.body)


def _authenticated(accepted: Accepted, who: Identity) -> Refusal | None:
    """A node is not a user of this API: it gets a refusal and none of its tenant's connections."""
    match who:
        case UserIdentity():
            return accepted.authenticated(who.tenant, who.uri)
        case NodeIdentity():
            return accepted.authenticated(f"{who.tenant}/nodes", who.uri, most=_OF_A_NODE)
        case CloudIdentity():
            return accepted.authenticated("", who.uri)
