"""Module "bootstrap": the one port that talks to unauthenticated clients. TLS and plain HTTP on one port, told apart by the first byte.

Lives here:      the listener, its limits, the peek at the first byte.
Lives elsewhere: what is answered (service.py).
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kubeedge.kit.acceptor import BACKLOG, Accepted, Acceptor, in_tasks, open_streams
from kubeedge.kit.connection_limiter import ConnectionLimits
from kubeedge.kit.http1 import Limits, serve_connection
from kubeedge.kit.streams import abort_writer, listening_socket
from kubeedge.kit.tasks import TaskSet
from kubeedge_cloud.authority.ca import Authority
from kubeedge_cloud.bootstrap.service import BootstrapService, NodeRegistry, TellContested, nobody_told
from kubeedge_cloud.bootstrap.tokens import TokenStore

__all__ = ["Bootstrap", "BootstrapSettings", "NodeRegistry"]

log = logging.getLogger("kubeedge.bootstrap")

#: a whole site may be behind one address: what is beyond its share waits for its turn
_CONNECTIONS = ConnectionLimits(silent=1024, queued=2048, unauthenticated=200, per_address=50)
_TLS_HANDSHAKE = b"\x16"  # the record type that a TLS conversation begins with (RFC 8446, section 5.1)
_LIMITS = Limits(header_bytes=8 * 1024, idle=10.0, head=10.0)
_WHOLE = 60.0  # seconds for everything on one connection: a body may not drip in for ever


@dataclass(frozen=True, slots=True, kw_only=True)
class BootstrapSettings:
    """Where the port listens, and what a node that joins is told of the other endpoints."""

    address: str = "0.0.0.0"
    port: int = 10002
    endpoints: Mapping[str, tuple[str, ...]]  # "hub", "relays", "bootstrap" -> host:port, as nodes reach them


class Bootstrap:
    """`port` is the real one once the module is ready; `clock` gives seconds since 1970."""

    name = "bootstrap"

    def __init__(
        self,
        settings: BootstrapSettings,
        authority: Authority,
        token_store: TokenStore,
        registry: NodeRegistry,
        tls: Callable[[], ssl.SSLContext],
        clock: Callable[[], float],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        tell: TellContested = nobody_told,
    ) -> None:
        self._settings = settings
        self._service = BootstrapService(authority, token_store, registry, clock, settings.endpoints, monotonic, tell)
        self._tls = tls
        self.port = settings.port  # the real one, once it is ready

    async def run(self, ready: asyncio.Event) -> None:
        """Accepts until it is cancelled; open connections end with it."""
        context = self._tls()

        async def serve(accepted: Accepted) -> None:
            await self._serve(accepted.socket, context)

        with listening_socket(self._settings.address, self._settings.port, backlog=BACKLOG) as listener:
            async with TaskSet("bootstrap connections") as tasks:
                self.port = listener.getsockname()[1]
                ready.set()
                await Acceptor(_CONNECTIONS, in_tasks(tasks, serve, "bootstrap connection")).run([listener])

    async def _serve(self, connection: socket.socket, context: ssl.SSLContext) -> None:
        """Everything that does not begin like TLS is taken for plain HTTP."""
        try:
            first = connection.recv(1, socket.MSG_PEEK)
        except OSError:
            first = b""
        if not first:
            connection.close()
            return
        secure = first == _TLS_HANDSHAKE
        try:
            reader, writer = await open_streams(connection, tls=context if secure else None, limit=64 * 1024)
        except (OSError, TimeoutError) as exc:
            log.debug("handshake failed: %s", exc)
            return
        handler = self._service.handle if secure else self._service.handle_plain
        try:
            async with asyncio.timeout(_WHOLE):
                await serve_connection(reader, writer, handler, limits=_LIMITS)
        except TimeoutError:
            abort_writer(writer)
