"""The cloud's module "publishing": the public client proxy.

Lives elsewhere: the proxy itself (kubeedge.kubebus.http), L4 towards the nodes of every tenant (kubeedge_cloud.bushub).
"""

from __future__ import annotations

import asyncio
import logging
import ssl

from kubeedge.kubebus.http.client_proxy import ClientProxy, Connect
from kubeedge.kubebus.http.forward import ProxyLimits
from kubeedge.kubebus.http.listener import listening

log = logging.getLogger("kubeedge.publishing")


class Publishing:
    """`connect(tenant, node, port)` opens an L4 connection to any tenant's node; port 0 lets the kernel choose."""

    name = "publishing"

    def __init__(
        self,
        *,
        address: str,
        port: int,
        connect: Connect,
        tls: ssl.SSLContext | None = None,
        trust_forwarded: bool = False,
        limits: ProxyLimits | None = None,
    ) -> None:
        self._where = (address, port)
        self._connect = connect
        self._tls = tls
        self._trust_forwarded = trust_forwarded
        self._limits = limits or ProxyLimits()
        self.address: tuple[str, int] | None = None  # once it listens

    async def run(self, ready: asyncio.Event) -> None:
        proxy = ClientProxy(self._connect, trust_forwarded=self._trust_forwarded, limits=self._limits)
        stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            async with listening(
                *self._where, proxy.handle, connections=self._limits.connections, tls=self._tls
            ) as self.address:
                log.info("published web services at %s port %d", *self.address)
                ready.set()
                await stopped
        finally:
            self.address = None
            await proxy.aclose()
