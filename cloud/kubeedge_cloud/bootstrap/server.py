"""Module "bootstrap": the one port that talks to strangers. TLS and plain HTTP on one port, told apart by the first byte.

Lives here:      the listener, limits of connections, the peek at the first byte.
Lives elsewhere: what is answered (service.py).
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kubeedge.kit.http1 import Limits, serve_connection
from kubeedge.kit.streams import listening_socket
from kubeedge.pki.ca import Authority
from kubeedge_cloud.bootstrap.core import network_of
from kubeedge_cloud.bootstrap.service import NodeRegistry, Service
from kubeedge_cloud.bootstrap.tokens import TokenStore

__all__ = ["Bootstrap", "BootstrapSettings", "NodeRegistry"]

log = logging.getLogger("kubeedge.bootstrap")

_MAX_STRANGERS = 200  # connections at once
_MAX_FROM_ONE = 50  # of them from one address; a whole site may be behind it
_FIRST_BYTE = 10.0  # seconds
_TLS_HANDSHAKE = b"\x16"  # the record type that a TLS conversation begins with (RFC 8446, section 5.1)
_LIMITS = Limits(header_bytes=8 * 1024, idle=10.0, head=10.0)
_WHOLE = 60.0  # seconds for everything on one connection: a body may not drip in for ever


@dataclass(frozen=True, slots=True, kw_only=True)
class BootstrapSettings:
    address: str = "0.0.0.0"
    port: int = 10002
    endpoints: Mapping[str, tuple[str, ...]]  # "hub", "relays", "bootstrap" -> host:port, as nodes reach them


class Bootstrap:
    name = "bootstrap"

    def __init__(
        self,
        settings: BootstrapSettings,
        authority: Authority,
        token_store: TokenStore,
        registry: NodeRegistry,
        tls: Callable[[], ssl.SSLContext],
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._service = Service(authority, token_store, registry, clock, settings.endpoints)
        self._tls = tls
        self._connections: set[asyncio.Task[None]] = set()
        self._sources: Counter[str] = Counter()
        self.port = settings.port  # the real one, once it is ready

    async def run(self, ready: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        context = self._tls()
        with listening_socket(self._settings.address, self._settings.port) as listener:
            self.port = listener.getsockname()[1]
            ready.set()
            try:
                while True:
                    try:
                        connection, peer = await loop.sock_accept(listener)
                    except OSError as exc:  # no more file descriptors, or the client is gone already
                        log.warning("accept: %s", exc)
                        await asyncio.sleep(0.5)
                        continue
                    self._admit(connection, network_of(peer[0]), context)
            finally:
                connections = set(self._connections)
                for task in connections:
                    task.cancel()
                await asyncio.gather(*connections, return_exceptions=True)

    def _admit(self, connection: socket.socket, source: str, context: ssl.SSLContext) -> None:
        if len(self._connections) >= _MAX_STRANGERS or self._sources[source] >= _MAX_FROM_ONE:
            connection.close()
            return
        self._sources[source] += 1
        task = asyncio.create_task(self._serve(connection, context), name="bootstrap connection")
        self._connections.add(task)
        task.add_done_callback(lambda done: self._gone(done, source))

    def _gone(self, task: asyncio.Task[None], source: str) -> None:
        self._connections.discard(task)
        self._sources[source] -= 1
        if not self._sources[source]:
            del self._sources[source]
        if not task.cancelled() and (error := task.exception()):
            log.error("bootstrap connection failed: %s", error, exc_info=error)

    async def _serve(self, connection: socket.socket, context: ssl.SSLContext) -> None:
        """Everything that does not begin like TLS is taken for plain HTTP."""
        loop = asyncio.get_running_loop()
        connection.setblocking(False)
        try:
            async with asyncio.timeout(_FIRST_BYTE):
                await _readable(connection)
            first = connection.recv(1, socket.MSG_PEEK)
        except (OSError, TimeoutError):
            first = b""
        except BaseException:
            connection.close()
            raise
        if not first:
            connection.close()
            return
        secure = first == _TLS_HANDSHAKE
        reader = asyncio.StreamReader(64 * 1024)
        protocol = asyncio.StreamReaderProtocol(reader)
        extra: dict[str, Any] = {"ssl": context, "ssl_handshake_timeout": 10.0, "ssl_shutdown_timeout": 1.0}
        try:
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection, **(extra if secure else {}))
        except (OSError, TimeoutError) as exc:
            log.debug("handshake failed: %s", exc)
            return
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        handler = self._service.handle if secure else self._service.handle_plain
        try:
            async with asyncio.timeout(_WHOLE):
                await serve_connection(reader, writer, handler, limits=_LIMITS)
        except TimeoutError:
            writer.transport.abort()


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(connection, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(connection)
