"""What the web listener serves: the table says for each request whether it is for a route or for a published service.

Lives elsewhere: the table (table), requests for routes (proxy), those for published services (kubeedge.kubebus.http.client_proxy), and the fast path,
which takes requests for published services of hosts that the table has for nobody (kubeedge.kubebus.http.fast).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kubeedge.gateway.model import WEB
from kubeedge.gateway.proxy import GatewayProxy, GatewayRoutes, facts_of
from kubeedge.kit.http1 import Request, Response, Upgrade, serve_connection
from kubeedge.kubebus.http.client_proxy import ClientProxy
from kubeedge.kubebus.http.limits import ProxyLimits


class WebFront:
    """`routed` answers what is for routes, `published` the rest."""

    def __init__(
        self, routes: GatewayRoutes, routed: GatewayProxy, published: ClientProxy, limits: ProxyLimits
    ) -> None:
        self._routes, self._routed, self._published, self._limits = routes, routed, published, limits

    async def handle(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rests: Callable[[bool], None]
    ) -> None:
        """Serve one client's connection to its end; `rests` hears when it begins and ends to wait for a request."""
        await serve_connection(reader, writer, self._answer, limits=self._limits.http, rests=rests)

    async def _answer(self, request: Request) -> Response | Upgrade:
        facts = facts_of(request, WEB)
        found = self._routes.table.select(facts)
        if found is None or found.published:
            return await self._published.answer(request)
        return await self._routed.answer(request, facts, found)
