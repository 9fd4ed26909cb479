"""The server proxy: requests that come over L4, to web services of this node (the paper's Figure 5).

The first path element names the service; the service sees the path without it. Every exchange has its own connection to the
service: it is on this machine, where opening one costs nothing, and a service that restarts leaves no stale one behind.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from kubeedge.errors import Invalid
from kubeedge.kit.http1 import Connection, Request, Response, Upgrade, serve_connection
from kubeedge.kubebus.http import headers as h
from kubeedge.kubebus.http.forward import (
    STREAM_BUFFER,
    ProxyLimits,
    Slots,
    error_response,
    exchange,
    has_body,
    relay,
    status_of,
)
from kubeedge.kubebus.http.url import ServiceName, Target, parse_l4

log = logging.getLogger("kubeedge.kubebus.http")


#: None: there is no such service. Raises Unavailable when there is one and nobody serves it at this moment.
Resolve = Callable[[ServiceName], Awaitable[Target | None]]


class ServerProxy:
    def __init__(self, resolve: Resolve, *, limits: ProxyLimits | None = None) -> None:
        self._resolve = resolve
        self._limits = limits or ProxyLimits(concurrent=64)  # of one service; an edge node has little memory
        self._slots = Slots(self._limits.concurrent, "web service")

    @property
    def in_progress(self) -> int:
        """Requests and upgraded connections at this moment."""
        return self._slots.in_progress()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one L4 connection to its end."""
        await serve_connection(reader, writer, self._serve, limits=self._limits.http)

    async def _serve(self, request: Request) -> Response | Upgrade:
        if request.method == "CONNECT":
            return error_response(405, "CONNECT is not for a published web service")
        try:
            service, rest = parse_l4(request.target)
        except Invalid as exc:
            return error_response(404, f"no web service here: {exc}")
        try:
            give_back = self._slots.take(service)
        except Exception as exc:
            return _failed(service, "", exc)
        where = ""
        try:
            target = await self._resolve(service)
            if target is None:
                give_back()
                return error_response(404, f"this node has no web service {service}", service=service)
            where = str(target)
            return await self._forward(request, target, rest, give_back)
        except Exception as exc:
            give_back()
            return _failed(service, where, exc)
        except BaseException:
            give_back()
            raise

    async def _forward(
        self, request: Request, target: Target, rest: str, give_back: Callable[[], None]
    ) -> Response | Upgrade:
        outgoing = h.request_headers(request.headers, has_body=has_body(request))
        if not any(name == "connection" for name, _ in outgoing):
            outgoing.append(("connection", "close"))
        async with asyncio.timeout(self._limits.connect):
            reader, writer = await asyncio.open_connection(target.host, target.port, limit=STREAM_BUFFER)
        connection = Connection(reader, writer, limits=self._limits.http)
        try:
            answer = await exchange(request, connection, rest, outgoing, patience=self._limits.answer)
        except BaseException:
            connection.abort()
            raise

        async def finish() -> None:
            give_back()
            await connection.close()

        return relay(request, answer, connection, h.end_to_end(answer.headers), finish)


def _failed(service: ServiceName, where: str, error: Exception) -> Response:
    status = status_of(error)
    at = f" at {where}" if where else ""
    match error:
        case TimeoutError():
            reason = f"web service {service}{at} did not answer in time"
        case ConnectionRefusedError():
            reason = f"web service {service}{at} refuses connections: is it running?"
        case _ if status == 502 and where:
            reason = f"web service {service}{at} failed: {error or type(error).__name__}"
        case _:
            reason = str(error)
    log.info("request failed service=%s target=%s status=%s reason=%s", service, where or "-", status, reason)
    return error_response(status, reason, service=service)
