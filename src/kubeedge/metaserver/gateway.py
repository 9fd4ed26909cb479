"""Requests of pods on their way to the Kubernetes API: over KubeBus to the cloud, with nothing but the token that the client sent.

The cloud's relay serves them on L4 port 6443; who may do what is decided there. Hop-by-hop headers stay here (RFC 9110 section 7.6.1).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

from kubeedge.api.names import L4Port
from kubeedge.api.service_accounts import API_PORT
from kubeedge.api.status import ServerUnavailable
from kubeedge.apiserver.streams import OwnedStream
from kubeedge.errors import Invalid, KubeEdgeError, PeerError, Unavailable
from kubeedge.kit.http1 import Request, Response
from kubeedge.kit.http1_client import ClientResponse, Connection
from kubeedge.kit.streams import StreamPair

HOST = "kubernetes.default.svc"
_CONNECT = 2.0  # seconds; a pod's client has a time-out of its own
_ANSWER = 60.0  # seconds to the head of an answer
_AWAY = 5.0  # seconds for which a cloud that did not answer is not tried again
_HOP_BY_HOP = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
_NOT_SENT = _HOP_BY_HOP | {"host", "expect"}


class Gateway:
    """`connect` makes a connection to API_PORT of the relay. Raises Unavailable (LinkNotUp is one)."""

    def __init__(self, connect: Callable[[L4Port, float], Awaitable[StreamPair]]) -> None:
        self._connect = connect
        self._away_until = 0.0

    async def connection(self) -> StreamPair | None:
        """A byte stream to the cloud; None when it cannot be reached."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._away_until:
            return None
        try:
            async with asyncio.timeout(_CONNECT):
                return await self._connect(API_PORT, _CONNECT)
        except (KubeEdgeError, OSError, TimeoutError):
            self._away_until = loop.time() + _AWAY
            return None

    async def forward(self, request: Request, streams: StreamPair) -> Response:
        """The cloud's answer. Raises ServerUnavailable when the connection breaks before it has begun."""
        connection = Connection(*streams)
        try:
            async with asyncio.timeout(_ANSWER):
                answer = await _ask(connection, request)
        except (OSError, TimeoutError, PeerError, Invalid, Unavailable) as exc:
            connection.abort()
            raise ServerUnavailable("the connection to the cloud's API broke off: try again") from exc
        except BaseException:
            connection.abort()
            raise
        headers = [(name, value) for name, value in answer.headers if name not in _HOP_BY_HOP]
        return Response(answer.status, headers, OwnedStream(_body(answer), connection.abort))


async def _ask(connection: Connection, request: Request) -> ClientResponse:
    headers = [("host", HOST), *((name, value) for name, value in request.headers if name not in _NOT_SENT)]
    has_body = any(name in ("content-length", "transfer-encoding") for name, _ in request.headers)
    body = request.stream() if has_body else b""
    return await connection.request(request.method, request.target, headers, body)


async def _body(answer: ClientResponse) -> AsyncGenerator[bytes, None]:
    async for chunk in answer.stream():
        yield chunk
