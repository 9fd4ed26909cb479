"""A client proxy, a node's server proxy and services, in one process: TCP on loopback, socket pairs in place of L4.

web client ── TCP ── ClientProxy ══ socket pair ══ ServerProxy ── TCP ── service
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

from kubeedge.api.names import NodeName, TenantId
from kubeedge.errors import NotFound
from kubeedge.kit.http1 import close_writer
from kubeedge.kit.tasks import TaskSet
from kubeedge.kubebus.http.access import PUBLIC, Policy
from kubeedge.kubebus.http.client_proxy import ClientProxy, everyone
from kubeedge.kubebus.http.forward import ProxyLimits
from kubeedge.kubebus.http.listener import listening
from kubeedge.kubebus.http.server_proxy import ServerProxy
from kubeedge.kubebus.http.url import L4_PORT, Target

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Service = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class World:
    """Node n1 of tenant t1; `services` is what its server proxy knows."""

    def __init__(self, client: ProxyLimits, server: ProxyLimits, allow: Callable[[TenantId], bool]) -> None:
        self.services: dict[str, Target | Exception] = {}
        self.policies: dict[str, Policy | Exception] = {}  # of those that are not public
        self.caller = 0  # L4 number of whoever connects: 0 is the cloud
        self.l4_opened = 0
        self.l4_ends: list[asyncio.StreamWriter] = []
        self.l4_fault: Exception | None = None
        self.far_end: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]] | None = None
        self.port = 0
        self.tasks = TaskSet("world")
        self.client_proxy = ClientProxy(self._connect, allow=allow, limits=client)
        self.server_proxy = ServerProxy(self._resolve, policy=self._policy, nodes=255, limits=server)

    async def _resolve(self, service: str) -> Target | None:
        found = self.services.get(service)
        if isinstance(found, Exception):
            raise found
        return found

    def _policy(self, service: str) -> Policy:
        found = self.policies.get(service, PUBLIC)
        if isinstance(found, Exception):
            raise found
        return found

    async def _connect(self, tenant: TenantId, node: NodeName, port: int) -> Streams:
        if self.l4_fault:
            raise self.l4_fault
        if (tenant, node, port) != ("t1", "n1", L4_PORT):
            raise NotFound("the words of L4, which differ from case to case")
        self.l4_opened += 1
        ours, theirs = socket.socketpair()
        far = await asyncio.open_connection(sock=theirs, limit=65536)
        far[1].transport._extra["peername"] = (self.caller, 40000)  # type: ignore[attr-defined]
        self.l4_ends.append(far[1])
        self.tasks.start((self.far_end or self.server_proxy.handle)(*far), "server proxy")
        return await asyncio.open_connection(sock=ours, limit=65536)

    async def serve(self, name: str, service: Service) -> None:
        """A TCP service; one call of `service` a connection."""

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await service(reader, writer)
            except ConnectionError:
                pass
            finally:
                await close_writer(writer)

        server = await asyncio.start_server(
            lambda r, w: self.tasks.start(connected(r, w), f"service {name}") and None, "127.0.0.1", 0
        )
        self._servers.callback(server.close)
        self.services[name] = Target("127.0.0.1", server.sockets[0].getsockname()[1])

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[World]:
        try:
            with contextlib.ExitStack() as self._servers:
                async with (
                    self.tasks,
                    listening("127.0.0.1", 0, self.client_proxy.handle, connections=64) as (_, self.port),
                ):
                    yield self
        finally:
            await self.client_proxy.aclose()

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[Streams]:
        streams = await asyncio.open_connection("127.0.0.1", self.port, limit=65536)
        try:
            yield streams
        finally:
            streams[1].transport.abort()
            await close_writer(streams[1])

    async def ask(self, wire: bytes) -> bytes:
        """Everything that comes back, to the end of the connection."""
        async with self.client() as (reader, writer):
            writer.write(wire)
            return await asyncio.wait_for(reader.read(), 10)


def story(
    tell: Callable[[World], Coroutine[Any, Any, None]],
    *,
    client: ProxyLimits | None = None,
    server: ProxyLimits | None = None,
    allow: Callable[[TenantId], bool] = everyone,
) -> None:
    """Run one story; whatever the proxies hold at its end is a failure."""

    async def run() -> None:
        async with World(client or ProxyLimits(), server or ProxyLimits(), allow).running() as world:
            await asyncio.wait_for(tell(world), 60)
            await until(lambda: world.client_proxy.in_progress == 0 == world.server_proxy.in_progress)

    asyncio.run(run())


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def get(path: str, *headers: str, close: bool = True, method: str = "GET") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: shop.example:8080", *headers]
    if close:
        lines.append("Connection: close")
    return "\r\n".join((*lines, "", "")).encode()


async def read_head(reader: asyncio.StreamReader) -> bytes:
    return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
