"""The Kubernetes API for pods of this node: the cloud's while it can be reached, otherwise reads of what the node has.

    pod ── TLS, token ──> 10550 of the node's own address ──┬── KubeBus ──> the API, which verifies the token     (gateway.py)
                                                            └── offline ──> RegistryView, with the rights of the account (accounts.py)

A resourceVersion is of the one or of the other. A watch that goes on from a version which this side has not given is answered with 410, and its
client lists again; watches that were answered offline end after a minute.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Literal

from kubeedge.api import service_accounts
from kubeedge.api.names import TenantId
from kubeedge.api.status import Expired, ServerUnavailable, Unauthorized
from kubeedge.apiserver.accounts import AccountIdentity
from kubeedge.apiserver.answers import status_response
from kubeedge.apiserver.authentication import bearer
from kubeedge.apiserver.logs import NodeStream
from kubeedge.apiserver.registry import Registry
from kubeedge.apiserver.server import ApiServer
from kubeedge.apiserver.streams import OwnedStream
from kubeedge.errors import KubeEdgeError
from kubeedge.kit.http1 import Request, Response, Upgrade
from kubeedge.metaserver.accounts import NodeAccounts
from kubeedge.metaserver.gateway import Gateway

_OFFLINE_WATCH = 60.0  # seconds
_LISTED = 4096  # clients and paths that are remembered
_UNREAD = 4 * 1024 * 1024  # bytes of answers that wait for their clients

Side = Literal["cloud", "node"]


class PodsApi:
    """Answers requests of pods. `gateway` None: the node has no KubeBus."""

    def __init__(
        self,
        tenant: TenantId,
        registry: Registry,
        accounts: NodeAccounts,
        gateway: Gateway | None,
        node_stream: NodeStream,
    ) -> None:
        self._accounts = accounts
        self._gateway = gateway
        self._identities: dict[str, AccountIdentity] = {}  # of requests that are being answered here, by token
        self._listed: dict[bytes, Side] = {}  # who has given the versions that a client may have
        self._server = ApiServer({tenant: registry}.get, node_stream, authenticate=self.who, unread=_UNREAD)

    async def handle(self, request: Request) -> Response | Upgrade:
        """Never raises but for a broken connection."""
        try:
            token = bearer(request)
            if not token:
                raise Unauthorized("Unauthorized: pods show the token of their service account here")
            streams = await self._gateway.connection() if self._gateway is not None else None
            if streams is None or self._gateway is None:
                return await self._answer_here(request, token)
            try:
                self._check_version(request, token, "cloud")
            except Expired:
                streams[1].transport.abort()
                raise
            answer = await self._gateway.forward(request, streams)
            self._note(request, token, "cloud", answer)
            return answer
        except KubeEdgeError as exc:
            return status_response(exc)

    async def _answer_here(self, request: Request, token: str) -> Response | Upgrade:
        identity = await self._accounts.identity(token)
        if request.method not in ("GET", "HEAD") and not request.path.startswith(
            "/apis/auth"
        ):  # reviews change nothing
            raise ServerUnavailable("the cloud cannot be reached: this node answers reads alone meanwhile")
        self._check_version(request, token, "node")
        self._identities[token] = identity
        try:
            answer = await self._server.handle(request)
        finally:
            self._identities.pop(token, None)
        if isinstance(answer, Response):
            self._note(request, token, "node", answer)
            if _is_watch(request) and not isinstance(answer.body, bytes):
                return Response(answer.status, answer.headers, _until(answer.body, _OFFLINE_WATCH))
        return answer

    def who(self, request: Request) -> AccountIdentity:
        """Known while a request is answered here; connections count by address, so by pod. Raises Unauthorized."""
        identity = self._identities.get(bearer(request))
        if identity is None:
            raise Unauthorized("Unauthorized: not a token of a pod of this node")
        return identity

    def _check_version(self, request: Request, token: str, side: Side) -> None:
        """Raises Expired for a watch that goes on from what the other side has said."""
        version = (request.query.get("resourceVersion") or [""])[-1]
        if _is_watch(request) and version not in ("", "0") and self._listed.get(_listing_key(request, token)) != side:
            raise Expired(f"the resource version {version[:32]} is not of this server, which answers now: list again")

    def _note(self, request: Request, token: str, side: Side, answer: Response) -> None:
        if request.method != "GET" or answer.status != 200:
            return
        key = _listing_key(request, token)
        self._listed.pop(key, None)
        while len(self._listed) >= _LISTED:
            del self._listed[next(iter(self._listed))]
        self._listed[key] = side


def _is_watch(request: Request) -> bool:
    return (request.query.get("watch") or [""])[-1].lower() in ("1", "true", "t")


def _listing_key(request: Request, token: str) -> bytes:
    """A client and a collection: of the token only who it belongs to, for there will be another."""
    try:
        claims = service_accounts.parts(token).claims
        whose = f"{claims.get('sub')} {service_accounts.bound(claims, 'pod')}"
    except KubeEdgeError:
        whose = token
    return hashlib.sha256(f"{whose}\0{request.path.rstrip('/')}".encode()).digest()


def _until(body: AsyncIterator[bytes], seconds: float) -> OwnedStream:
    """The body, or its beginning."""

    async def pieces() -> AsyncGenerator[bytes, None]:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        try:
            while True:
                async with asyncio.timeout_at(end):
                    piece = await anext(body)
                yield piece
        except (TimeoutError, StopAsyncIteration):
            return
        finally:
            if isinstance(body, OwnedStream):
                await body.aclose()

    return OwnedStream(pieces(), lambda: None)
