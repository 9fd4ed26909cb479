"""The API server as a module of the process: a TLS listener around ApiServer."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable

from kubeedge.apiserver.server import ApiServer
from kubeedge.kit.http1 import Limits, abort_writer, serve_connection

#: connections at once; each may hold one request body of 3 MiB for a moment, and a kubectl uses one or two
MAX_CONNECTIONS = 1000

log = logging.getLogger(__name__)


class ApiServerModule:
    """`context` must ask for client certificates; whom it trusts is decided there, who may do what in ApiServer. None: no TLS."""

    name = "apiserver"

    def __init__(
        self,
        server: ApiServer,
        context: ssl.SSLContext | None,
        *,
        address: str = "0.0.0.0",
        port: int = 6443,
        limits: Limits | None = None,
        connections: int = MAX_CONNECTIONS,
        opened: Callable[[int], None] = lambda port: None,
    ) -> None:
        self._server = server
        self._context = context
        self._address = address
        self._port = port
        self._limits = limits or Limits()
        self._most = connections
        self._opened = opened  # called with the port, before anybody is told that the module is ready
        self._connections: set[asyncio.Task[None]] = set()
        self.bound_port = 0  # the real one, when port 0 was asked for

    async def run(self, ready: asyncio.Event) -> None:
        listener = await asyncio.start_server(
            self._connected,
            self._address,
            self._port,
            ssl=self._context,
            ssl_handshake_timeout=10.0 if self._context else None,
            ssl_shutdown_timeout=1.0 if self._context else None,
            limit=256 * 1024,
        )
        try:
            self.bound_port = listener.sockets[0].getsockname()[1]
            log.info("listening on address=%s port=%d", self._address, self.bound_port)
            self._opened(self.bound_port)
            ready.set()
            await listener.serve_forever()
        finally:
            listener.close()
            # Watches never end by themselves: without this, a stopped module would go on answering them.
            for task in list(self._connections):
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= self._most:
            log.warning("refused a connection: %d are open", len(self._connections))
            abort_writer(writer)
            return
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await serve_connection(reader, writer, self._server.handle, limits=self._limits)
        except asyncio.CancelledError:
            # asyncio's streams would report the end of this task as an error; it is ours, on the way out
            abort_writer(writer)
        finally:
            self._connections.discard(task)
