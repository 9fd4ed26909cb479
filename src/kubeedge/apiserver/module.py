"""The API server as a module of the process: a TLS listener around ApiServer."""

from __future__ import annotations

import asyncio
import logging
import ssl

from kubeedge.apiserver.server import ApiServer
from kubeedge.kit.http1 import Limits, start_tcp_server

log = logging.getLogger(__name__)


class ApiServerModule:
    """`context` must ask for client certificates; who it trusts is decided there, who may do what in ApiServer."""

    name = "apiserver"

    def __init__(
        self,
        server: ApiServer,
        context: ssl.SSLContext,
        *,
        address: str = "0.0.0.0",
        port: int = 6443,
        limits: Limits | None = None,
    ) -> None:
        self._server = server
        self._context = context
        self._address = address
        self._port = port
        self._limits = limits or Limits()
        self.bound_port = 0  # the real one, when port 0 was asked for

    async def run(self, ready: asyncio.Event) -> None:
        listener = await start_tcp_server(
            self._address, self._port, self._server.handle, ssl=self._context, limits=self._limits
        )
        async with listener:
            self.bound_port = listener.sockets[0].getsockname()[1]
            log.info("listening on address=%s port=%d", self._address, self.bound_port)
            ready.set()
            await listener.serve_forever()
