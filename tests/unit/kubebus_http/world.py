"""A client proxy, a node's server proxy and services, in one process.

slow   web client ── TCP ── ClientProxy ══ socket pair in place of L4 ══ ServerProxy ── TCP ── service
fast   the same, with the fast path in front of both and real L4 (a data plane's connections to its own number)

Stories are told both ways.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

from kubeedge.api.names import NodeName, TenantId
from kubeedge.errors import NotFound
from kubeedge.kit.http1 import close_writer
from kubeedge.kit.tasks import TaskSet
from kubeedge.kubebus.http.access import PUBLIC, Policy
from kubeedge.kubebus.http.client_proxy import ClientProxy, everyone
from kubeedge.kubebus.http.fast import FastPathLimiter, settings
from kubeedge.kubebus.http.limits import ProxyLimits
from kubeedge.kubebus.http.listener import listening
from kubeedge.kubebus.http.server_proxy import ServerProxy
from kubeedge.kubebus.http.url import L4_PORT, Target
from kubeedge.kubebus.l3.plane import Plane
from kubeedge.kubebus.l4.driver import L4Endpoint

NUMBER = 7  # of the data plane in the fast way
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Service = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class World:
    """Node n1 of tenant t1; `services` is what its server proxy knows."""

    def __init__(
        self, client: ProxyLimits, server: ProxyLimits, allow: Callable[[TenantId], bool], *, fast: bool = False
    ) -> None:
        self.fast = fast
        self.client_fast_path: Any = None
        self.server_fast_path: Any = None
        self._limits = client
        self._server_limits = server
        self._allow = allow
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
        if self.fast:
            return await self._endpoint.connect(NUMBER, port)
        ours, theirs = socket.socketpair()
        far = await asyncio.open_connection(sock=theirs, limit=65536)
        far[1].transport._extra["peername"] = (self.caller, 40000)  # type: ignore[attr-defined]
        self.l4_ends.append(far[1])
        self.tasks.start((self.far_end or self.server_proxy.handle)(*far), "server proxy")
        return await asyncio.open_connection(sock=ours, limit=65536)

    async def serve(self, name: str, service: Service) -> None:
        """A TCP service; one call of `service` a connection."""

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # drained is then what the kernel has: a proxy may leave the rest unread for longer than closing waits
            writer.transport.set_write_buffer_limits(0)
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

    def _asked_for_node(self, proxy: Any, place: str) -> None:
        if place == "t1/n1" and self._allow(TenantId("t1")):
            assert proxy.learn_node("t1", "n1", 1, NUMBER, 60.0)
        else:
            proxy.deny(place)

    def _asked_for_service(self) -> None:
        for name in self.server_fast_path.lookups():
            target = self.services.get(name)
            if isinstance(target, Target) and name not in self.policies:
                assert self.server_fast_path.learn_service(name, [(target.host, target.port)], 60.0)
            else:
                self.server_fast_path.deny(name)

    def _start_fast_path(self, descriptor: int) -> Any:
        if not self.fast:
            return None
        self.client_fast_path = self._plane.web_proxy(listener=descriptor, **settings(self._limits))
        self.client_proxy.slots = FastPathLimiter(self.client_fast_path, self._limits, "tenant")
        return self.client_fast_path

    @property
    def client_in_progress(self) -> int:
        """Requests that the client proxy holds, whichever way they go."""
        return _in_progress(self.client_fast_path) if self.fast else self.client_proxy.in_progress

    @property
    def server_in_progress(self) -> int:
        return _in_progress(self.server_fast_path) if self.fast else self.server_proxy.in_progress

    @property
    def in_progress(self) -> int:
        return self.client_in_progress + self.server_in_progress

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[World]:
        if self.fast:
            self._plane = Plane(NUMBER)
            core = self._plane.l4(1)
            self._endpoint = L4Endpoint(core=core)
            await self._endpoint.listen(L4_PORT, self.server_proxy.handle)
            self.server_fast_path = self._plane.web_proxy(l4=core, **settings(self._server_limits))
            asyncio.get_running_loop().add_reader(self.server_fast_path.fileno(), self._asked_for_service)
            self.server_proxy.slots = FastPathLimiter(self.server_fast_path, self._server_limits, "web service")
        limits = dataclasses.replace(self._limits, connections=64)
        web_listener = listening(
            "127.0.0.1",
            0,
            self.client_proxy.handle,
            limits=limits,
            fast_path=self._start_fast_path,
            asked=self._asked_for_node,
        )
        try:
            with contextlib.ExitStack() as self._servers:
                async with self.tasks, web_listener as ((_, self.port), _):
                    yield self
        finally:
            await self.client_proxy.aclose()
            if self.fast:
                asyncio.get_running_loop().remove_reader(self.server_fast_path.fileno())
                await self._endpoint.close()
                self._plane.close()

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
            return await asyncio.wait_for(reader.read(), 60)


def _in_progress(proxy: Any) -> int:
    """Of the fast path, whose counters are those of the slow one too."""
    return sum(account["in_progress"] for account in proxy.accounts().values())


def scenario(
    tell: Callable[[World], Coroutine[Any, Any, None]],
    *,
    client: ProxyLimits | None = None,
    server: ProxyLimits | None = None,
    allow: Callable[[TenantId], bool] = everyone,
    fast: bool = False,
) -> None:
    """Run one scenario; whatever the proxies hold at its end is a failure."""

    async def run() -> None:
        world = World(client or ProxyLimits(), server or ProxyLimits(), allow, fast=fast)
        async with world.running():
            await asyncio.wait_for(tell(world), 60)
            await until(lambda: world.in_progress == 0)

    asyncio.run(run())


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def get(path: str, *headers: str, close: bool = True, method: str = "GET") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: shop.example:8080", *headers]
    if close:
        lines.append("Connection: close")
    return "\r\n".join((*lines, "", "")).encode()


async def read_head(reader: asyncio.StreamReader) -> bytes:
    return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
