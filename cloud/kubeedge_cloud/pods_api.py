"""The Kubernetes API for pods at the edge, on an L4 port of the relay: each of their nodes' own API passes requests on to it.

A connection comes from a node of the tenant, which L4 vouches for, and it opens nothing: the token in a request does. The embedded API verifies
it, and that it is of this tenant; to a cluster that is a user's own the bytes go as they are, without any credential of ours.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from kubeedge.api.names import TenantNumber
from kubeedge.api.status import Forbidden, Unauthorized
from kubeedge.apiserver.accounts import AccountIdentity
from kubeedge.apiserver.answers import status_response
from kubeedge.apiserver.authentication import bearer
from kubeedge.apiserver.server import ApiServer
from kubeedge.errors import KubeEdgeError
from kubeedge.kit.http1 import Request, Response, Upgrade, serve_connection
from kubeedge.kit.streams import ConnectionHandler, StreamPair, abort_writer, splice
from kubeedge_cloud.tenants.model import TenantRecord

_CONNECT = 10.0  # seconds

log = logging.getLogger("kubeedge.podsapi")


class ApiForPods:
    """`find` gives the tenant with a number, `connect` a connection to its own cluster; `server` None: there is no embedded API here."""

    def __init__(
        self,
        find: Callable[[TenantNumber], Awaitable[TenantRecord | None]],
        server: ApiServer | None,
        connect: Callable[[TenantRecord], Awaitable[StreamPair]],
    ) -> None:
        self._find = find
        self._server = server
        self._connect = connect

    def for_tenant(self, number: TenantNumber) -> ConnectionHandler:
        """A handler of L4 connections of the tenant's nodes."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            record = await self._find(number)
            if record is not None and record.cluster:
                await self._pass_on(record, (reader, writer))
            elif record is not None and self._server is not None:
                await serve_connection(reader, writer, self._handler(record, self._server))
            else:
                abort_writer(writer)

        return serve

    def _handler(self, record: TenantRecord, server: ApiServer) -> Callable[[Request], Awaitable[Response | Upgrade]]:
        async def handle(request: Request) -> Response | Upgrade:
            try:
                if not bearer(request):
                    raise Unauthorized("Unauthorized: a token is needed here")
                identity = server.who(request)
                if not isinstance(identity, AccountIdentity) or identity.tenant != record.name:
                    raise Forbidden("the token is of another tenant than this node")
            except KubeEdgeError as exc:
                return status_response(exc)
            return await server.handle(request)

        return handle

    async def _pass_on(self, record: TenantRecord, ours: StreamPair) -> None:
        try:
            async with asyncio.timeout(_CONNECT):
                theirs = await self._connect(record)
        except (KubeEdgeError, OSError, TimeoutError) as exc:
            log.warning("tenant=%s pods cannot reach their API: %s", record.name, exc or type(exc).__name__)
            abort_writer(ours[1])
            return
        try:
            await splice(ours, theirs)
        finally:
            for _, writer in (ours, theirs):
                abort_writer(writer)
