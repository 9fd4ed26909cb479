"""Module "metrics": GET /metrics on a TCP address, for a Prometheus that is not this machine's administrator.

Nothing but numbers leaves here, and nothing is configured; who may reach the address is for the network to say. The same text is on
the process's unix socket.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from kubeedge.kit.http1 import Limits, Request, Response, start_tcp_server, text_response
from kubeedge.kit.metrics import CONTENT_TYPE

log = logging.getLogger("kubeedge.metrics")


def response(text: str) -> Response:
    return Response(200, [("content-type", CONTENT_TYPE)], text.encode())


class MetricsServer:
    name = "metrics"

    def __init__(self, address: str, port: int, text: Callable[[], str], *, limits: Limits | None = None) -> None:
        self._address, self._port, self._text = address, port, text
        self._limits = limits
        self.bound = 0  # the port, once it listens

    async def run(self, ready: asyncio.Event) -> None:
        server = await start_tcp_server(self._address, self._port, self.handle)
        try:
            self.bound = server.sockets[0].getsockname()[1]
            log.info("metrics at http://%s:%d/metrics", self._address, self.bound)
            ready.set()
            await server.serve_forever()
        finally:
            server.close()

    async def handle(self, request: Request) -> Response:
        if request.method == "GET" and request.path == "/metrics":
            return response(self._text())
        return text_response(404, "only GET /metrics is here\n")
