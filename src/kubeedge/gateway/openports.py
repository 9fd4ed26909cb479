"""The ports that Gateways have besides the web listener: opened when a Gateway wants them, closed when none does.

What is spoken at a port is HTTP, TCP, or TLS; in the last case the name in the handshake says whether it ends here, and who gets what is in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Protocol

from kubeedge.api.names import TenantId
from kubeedge.errors import Invalid
from kubeedge.gateway.handshakes import server_name
from kubeedge.gateway.model import ListenPoint, StreamEntry
from kubeedge.gateway.points import StreamTable
from kubeedge.gateway.proxy import GatewayProxy
from kubeedge.gateway.streams import StreamProxy
from kubeedge.kit import dataclasses
from kubeedge.kit.tasks import TaskSet
from kubeedge.kubebus.http.limits import ProxyLimits
from kubeedge.kubebus.http.listener import ChosenService, listening

log = logging.getLogger("kubeedge.gateway")

_RETRY = 2.0  # seconds before a port is tried again


class GatewayPoints(Protocol):
    """What is asked of the module."""

    streams: StreamTable

    def tls_context(self, at: ListenPoint) -> ssl.SSLContext:
        """With the certificates of the Gateways there."""
        ...

    def opened(self, at: ListenPoint, why: str) -> None:
        """`why` a point could not be opened; "": it is open."""
        ...


class OpenPorts:
    """`address`: where ports of the cloud's addresses are opened."""

    def __init__(
        self, address: str, gateways: GatewayPoints, proxy: GatewayProxy, streams: StreamProxy, limits: ProxyLimits
    ) -> None:
        self._address, self._gateways, self._proxy, self._streams = address, gateways, proxy, streams
        self._limits = limits
        # of one Gateway alone, whose tenant may not have as many requests at once anyway
        self._own = dataclasses.replace(limits, connections=min(limits.connections, 2 * limits.concurrent))
        self._open: dict[ListenPoint, tuple[str, asyncio.Task[None]]] = {}
        self._tasks: TaskSet | None = None
        self._wanted: Mapping[ListenPoint, str] = {}

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Ports are open while the block runs."""
        async with TaskSet("ports of Gateways") as self._tasks:
            self.settle(self._wanted)
            try:
                yield
            finally:
                self._tasks, self._open = None, {}

    def settle(self, wanted: Mapping[ListenPoint, str]) -> None:
        """Open what is wanted, close what is not; what is spoken there is the value."""
        self._wanted = wanted
        if self._tasks is None:
            return
        for at, (family, task) in list(self._open.items()):
            if wanted.get(at) != family:
                task.cancel()
                del self._open[at]
        for at, family in wanted.items():
            if at not in self._open:
                self._open[at] = family, self._tasks.start(self._keep(at, family), f"port {at.port} of Gateways")

    async def _keep(self, at: ListenPoint, family: str) -> None:
        """Listens there for as long as it is wanted. A port that is somebody else's may become free."""
        while True:
            try:
                async with self._listening(at, family) as (where, _):
                    log.info("port of Gateways at %s port %d: %s", *where, family)
                    self._gateways.opened(at, "")
                    await asyncio.Event().wait()
            except OSError as exc:
                self._gateways.opened(at, exc.strerror or str(exc))
            await asyncio.sleep(_RETRY)

    def _listening(
        self, at: ListenPoint, family: str
    ) -> contextlib.AbstractAsyncContextManager[tuple[tuple[str, int], asyncio.Future[None]]]:
        address = at.address or self._address
        limits = self._own if at.address or family == "TCP" else self._limits
        handle = partial(self._proxy.handle, at)
        choose = {"TLS": self._by_name, "TCP": self._by_port}.get(family)
        return listening(address, at.port, handle, limits=limits, choose=partial(choose, at) if choose else None)

    async def _by_name(self, at: ListenPoint, connection: socket.socket) -> ChosenService | None:
        try:
            name = await server_name(connection)
        except Invalid as exc:
            log.debug("port %d: %s", at.port, exc)
            return None
        if (found := self._gateways.streams.stream(at, name)) is not None:
            tls = self._gateways.tls_context(at) if found[1].terminate else None
            return partial(self._carry, *found), tls
        if self._gateways.streams.speaks_http(at, name):
            return partial(self._proxy.handle, at), self._gateways.tls_context(at)
        return None

    async def _by_port(self, at: ListenPoint, connection: socket.socket) -> ChosenService | None:
        found = self._gateways.streams.stream(at, None)
        return None if found is None else (partial(self._carry, *found), None)

    async def _carry(
        self,
        tenant: TenantId,
        entry: StreamEntry,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        rests: Callable[[bool], None],
    ) -> None:
        rests(False)  # it gives way to nobody
        await self._streams.serve(tenant, entry, reader, writer)
