"""Requests of those who are not the API server, one by one: who is it, may they, and then the node's own answer.

Only what a request says of its content goes on to the node: neither the token nor anything else of the client.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable

from kubeedge.api.names import NodeName
from kubeedge.api.status import StatusError
from kubeedge.apiserver.logs import ANSWER
from kubeedge.apiserver.streams import OwnedStream
from kubeedge.errors import KubeEdgeError
from kubeedge.kit.http1 import (
    ClientResponse,
    Connection,
    Request,
    Response,
    Upgrade,
    close_writer,
    serve_connection,
    text_response,
)
from kubeedge.kit.streams import StreamPair, splice
from kubeedge.streaming.refusal import refused
from kubeedge_cloud.kubelets.core import Caller, bearer, right_for
from kubeedge_cloud.kubelets.reviews import Reviews

log = logging.getLogger("kubeedge.kubelets")

_CONNECT = 10.0  # seconds for a connection to the node
_PASSED = ("accept", "accept-encoding", "content-type", "upgrade", "x-stream-protocol-version")
_RETURNED = (
    *_PASSED,
    "connection",
    "content-encoding",
    "content-length",
    "sec-websocket-accept",
    "sec-websocket-protocol",
)
_METHODS = ("GET", "POST")  # of the kubelet API


class AuthorizingProxy:
    """One client at the port of one node. `known`: the user of its certificate. `welcome`: whether a user whose request was allowed may
    have one more connection; asked once. `connect`: a connection to the node, or KubeEdgeError or OSError."""

    def __init__(
        self,
        reviews: Reviews,
        node: NodeName,
        address: str,
        known: Caller | None,
        connect: Callable[[], Awaitable[StreamPair]],
        welcome: Callable[[Caller], bool],
    ) -> None:
        self._reviews = reviews
        self._node = node
        self._address = address
        self._known = known
        self._connect = connect
        self._welcome = welcome

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """For as many requests as come; each is judged anew."""
        await serve_connection(reader, writer, self._answer)

    async def _answer(self, request: Request) -> Response | Upgrade:
        try:
            refusal = await self._refusal(request)
        except StatusError as exc:
            log.warning("request of %s for node=%s was not judged: %s", self._address, self._node, exc)
            code = exc.code if exc.code == 429 else 503
            return refused(code, f"the cluster could not say whether this is allowed: {exc}")
        return refusal or await self._forward(request)

    async def _refusal(self, request: Request) -> Response | None:
        """The answer that rejects a request; None: it is allowed."""
        right = right_for(request.method, request.path)
        if right is None or request.method not in _METHODS:
            return text_response(405, "Method not allowed\n")
        user = self._known
        if token := bearer(request.header("authorization")):
            user = await self._reviews.user_of(token, self._address)
        if user is None:
            return text_response(401, "Unauthorized\n", [("www-authenticate", "Bearer")])
        if not await self._reviews.may(user, self._node, right, self._address):
            what = f"user={user.name}, verb={right.verb}, resource=nodes, subresource={right.subresource}"
            log.info("forbidden at node=%s: %s", self._node, what)
            return refused(403, f"Forbidden ({what})")
        if not self._welcome(user):
            return text_response(429, "this user has too many connections\n", [("connection", "close")])
        return None

    async def _forward(self, request: Request) -> Response | Upgrade:
        headers = [
            (name, value) for name, value in request.headers if name in _PASSED or name.startswith("sec-websocket-")
        ]
        if request.header("upgrade"):
            headers.append(("connection", "Upgrade"))
        try:
            async with asyncio.timeout(_CONNECT):
                streams = await self._connect()
        except (OSError, KubeEdgeError) as exc:
            return unreachable(self._node, exc)
        connection = Connection(*streams)
        try:
            async with asyncio.timeout(ANSWER):
                answer = await connection.request(request.method, request.target, [("host", self._node), *headers])
        except (OSError, EOFError, KubeEdgeError) as exc:
            connection.writer.close()
            return unreachable(self._node, exc)
        except BaseException:
            connection.writer.close()
            raise
        returned = [pair for pair in answer.headers if pair[0] in _RETURNED]
        if answer.status == 101:
            return Upgrade(returned, _joined(connection))
        returned = [pair for pair in returned if pair[0] != "connection"]
        return Response(answer.status, returned, OwnedStream(_body(answer), connection.writer.close))


def unreachable(node: NodeName, exc: BaseException) -> Response:
    """An API server shows it to the user."""
    reason = str(exc) or type(exc).__name__
    return refused(503, f"node {node} cannot be reached: {reason}", [("connection", "close")])


async def _body(answer: ClientResponse) -> AsyncGenerator[bytes, None]:
    async with contextlib.aclosing(answer.stream()) as chunks:
        async for data in chunks:
            yield data


def _joined(node: Connection) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter, bytes], Awaitable[None]]:
    async def takeover(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes) -> None:
        try:
            node.writer.write(first)
            writer.write(node.trailing())
            await splice((reader, writer), (node.reader, node.writer))
        finally:
            await close_writer(node.writer)

    return takeover
