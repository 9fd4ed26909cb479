"""Module "metrics": GET /metrics on a TCP address, for a Prometheus that is not this machine's administrator; /healthz and /readyz for probes.

Nothing but numbers leaves here, and nothing is configured; access to the address is left to the network. The same text is on
the process's unix socket.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from kubeedge.kit.acceptor import Accepted, Acceptor, in_tasks, open_streams
from kubeedge.kit.connection_limiter import ConnectionLimits
from kubeedge.kit.http1 import Limits, Request, Response, serve_connection, text_response
from kubeedge.kit.metrics import CONTENT_TYPE
from kubeedge.kit.streams import listening_socket
from kubeedge.kit.tasks import TaskSet

#: a Prometheus uses one connection; the least of the memory of an agent
_CONNECTIONS = ConnectionLimits(silent=32, queued=32, unauthenticated=16)

log = logging.getLogger("kubeedge.metrics")


def response(text: str) -> Response:
    """An exposition as an answer to GET /metrics."""
    return Response(200, [("content-type", CONTENT_TYPE)], text.encode())


class MetricsServer:
    """`text` makes the exposition; port 0 lets the kernel choose, and `bound` is what it chose. `waiting`: what is not ready yet."""

    name = "metrics"

    def __init__(
        self,
        address: str,
        port: int,
        text: Callable[[], str],
        *,
        waiting: Callable[[], Sequence[str]] = tuple,
        limits: Limits | None = None,
    ) -> None:
        self._address, self._port, self._text, self._waiting = address, port, text, waiting
        self._limits = limits or Limits()
        self.bound = 0  # the port, once it listens

    async def run(self, ready: asyncio.Event) -> None:
        """Serve until cancelled. Raises OSError when the address cannot be bound."""
        with listening_socket(self._address, self._port) as listener:
            async with TaskSet("metrics connections") as tasks:
                self.bound = listener.getsockname()[1]
                log.info("metrics at http://%s:%d/metrics", self._address, self.bound)
                ready.set()
                await Acceptor(_CONNECTIONS, in_tasks(tasks, self._serve, "metrics connection")).run([listener])

    async def _serve(self, accepted: Accepted) -> None:
        try:
            reader, writer = await open_streams(accepted.socket)
        except OSError:
            return
        await serve_connection(reader, writer, self.handle, limits=self._limits)

    async def handle(self, request: Request) -> Response:
        """GET /metrics; /healthz while this process answers; /readyz when nothing is waited for, else 503; 404 for everything else."""
        if request.method == "GET":
            match request.path:
                case "/metrics":
                    return response(self._text())
                case "/healthz":
                    return text_response(200, "ok\n")
                case "/readyz":
                    waiting = self._waiting()
                    return (
                        text_response(503, f"not ready: {', '.join(waiting)}\n")
                        if waiting
                        else text_response(200, "ok\n")
                    )
        return text_response(404, "only GET /metrics is here\n")
