"""A cloud with one tenant in this process: its Gateways, its web listener, a node with pods that are real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

from kubeedge.api import gateway as kinds
from kubeedge.api.names import NodeName, Object, TenantId
from kubeedge.api.resources import ENDPOINTSLICES, SERVICES, Resources
from kubeedge.apiserver.builtin import BUILT_IN
from kubeedge.apiserver.gateways import ROWS
from kubeedge.apiserver.registry import Registry
from kubeedge.errors import NotFound
from kubeedge.kit.http1 import Connection, Request, Response, serve_connection
from kubeedge.kit.tasks import cancel_and_wait
from kubeedge.kubebus.http.limits import ProxyLimits
from kubeedge.kubebus.pod_streams import PODS_PORT, PodStreams
from kubeedge.store.memory import MemoryStore
from kubeedge_cloud.gateway.module import Gateways
from kubeedge_cloud.gateway.ports import GatewayPorts
from kubeedge_cloud.publishing.module import Publishing
from kubeedge_cloud.tenants import TenantManager
from tests.unit.gateway.objects import PORTS, TLS_PORTS

TENANT = TenantId("default")
HOST = "shop.example"
OTHER_ROUTES = {"TLSRoute": kinds.TLSROUTES, "TCPRoute": kinds.TCPROUTES}


class Site:
    """A cloud with one tenant; its node n1 has a pod "web", and "slow", which never answers."""

    def __init__(
        self,
        tls: ssl.SSLContext | None = None,
        limits: ProxyLimits | None = None,
        ports: GatewayPorts | None = None,
        make_tls: Callable[[], ssl.SSLContext] | None = None,
        address: str = "127.0.0.1",
    ) -> None:
        store = MemoryStore()
        self.tenants = TenantManager(store)
        self.api = Registry(store, TENANT, served=Resources((*BUILT_IN, *ROWS)))
        self.gateways = Gateways(
            store, lambda tenant: self.api, self.tenants,
            ports=ports or (TLS_PORTS if tls else PORTS), addresses=["cloud.example"], reserved=["cloud.example"],
            default=TENANT, make_tls=make_tls,
        )  # fmt: skip
        limits = limits or ProxyLimits(connect=60, answer=60)
        self.web = Publishing(
            address=address, port=0, connect=self._connect, tls=tls, limits=limits, gateways=self.gateways
        )
        self.servers: list[asyncio.Server] = []
        self.seen: list[Request] = []
        self.ports: dict[str, int] = {}
        self.pods = PodStreams(lambda address: address == "127.0.0.1", nodes=255, most=8)
        self.node = 0

    async def _connect(self, tenant: TenantId, node: NodeName, port: int) -> Any:
        if (tenant, node) != (TENANT, "n1") or port != PODS_PORT:
            raise NotFound(f"there is no node {node} of tenant {tenant}")
        return await asyncio.open_connection("127.0.0.1", self.node)

    async def answer(self, name: str, request: Request) -> Response:
        self.seen.append(request)
        if name == "slow":
            await asyncio.Event().wait()
        body = json.dumps(
            {
                "pod": name,
                "method": request.method,
                "target": request.target,
                "headers": request.headers,
                "body": (await request.read(1 << 20)).decode(),
            }
        )
        return Response(200, [("set-cookie", "a=1; Path=/"), ("x-pod", name)], body.encode())

    async def apply(self, *objects: Object) -> None:
        for obj in objects:
            spec = obj["spec"]
            kind = (
                kinds.GATEWAYCLASSES if "controllerName" in spec
                else kinds.GATEWAYS if "listeners" in spec
                else OTHER_ROUTES.get(obj.get("kind", ""), kinds.HTTPROUTES)
            )  # fmt: skip
            bare = {**obj, "metadata": {"name": obj["metadata"]["name"]}}
            await self.api.create(kind, "default" if kind.namespaced else "", bare)

    async def service(self, name: str, port: int, node: str = "n1") -> None:
        ports = [{"name": "http", "port": 80}]
        await self.api.create(SERVICES, "default", {"metadata": {"name": name}, "spec": {"ports": ports}})
        slice_ = {
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
            "endpoints": [{"addresses": ["127.0.0.1"], "nodeName": node, "conditions": {"ready": True}}],
        }
        await self.api.create(ENDPOINTSLICES, "default", slice_)

    async def pod(self, name: str, handle: Callable[..., Awaitable[None]], tls: ssl.SSLContext | None = None) -> None:
        """One more pod behind a Service of its own."""
        server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
        self.servers.append(server)
        await self.service(name, int(server.sockets[0].getsockname()[1]))

    async def serves(self, host: str = HOST) -> None:
        """Until the host has its routes."""
        async with asyncio.timeout(90):
            while not any(host in (entry.hostname, host) for entry in self._entries(host)):
                await asyncio.sleep(0.01)

    def _entries(self, host: str) -> list[Any]:
        table, owner = self.gateways.table, self.gateways.table.owner(host)
        routes = self.gateways._routes.get(owner or table.default or TENANT)
        return [e for e in routes.entries if e.hostname == host] if routes else []

    async def ask(
        self, target: str = "/", host: str = HOST, method: str = "GET", body: bytes = b"", **headers: str
    ) -> tuple[int, dict[str, str], Any]:
        """(status, headers, body) of one request; JSON is decoded."""
        assert self.web.address is not None
        return await self.ask_at(self.web.address, target, host, method, body, **headers)

    async def ask_at(
        self, where: tuple[str, int], target: str = "/", host: str = HOST, method: str = "GET", body: bytes = b"",
        tls: ssl.SSLContext | None = None, **headers: str,
    ) -> tuple[int, dict[str, str], Any]:  # fmt: skip
        """The same at another port, with TLS for that host or without."""
        opened = await asyncio.open_connection(*where, ssl=tls, server_hostname=host if tls else None)
        connection = Connection(*opened)
        fields = [("host", host), *((name.replace("_", "-"), value) for name, value in headers.items())]
        try:
            answer = await connection.request(method, target, fields, body)
            text = await answer.read(1 << 20)
        finally:
            connection.abort()
        return answer.status, dict(answer.headers), json.loads(text) if text else None


@contextlib.asynccontextmanager
async def running(site: Site) -> AsyncIterator[Site]:
    async with contextlib.AsyncExitStack() as stack:

        async def listen(handle: Callable[..., Awaitable[None]]) -> int:
            server = await asyncio.start_server(handle, "127.0.0.1", 0)
            stack.callback(server.close)
            return int(server.sockets[0].getsockname()[1])

        def pod(name: str) -> Callable[..., Awaitable[None]]:
            return lambda reader, writer: serve_connection(reader, writer, lambda r: site.answer(name, r))

        await site.tenants.ensure_tenant(TENANT)
        site.node = await listen(site.pods.handle)
        for name in ("web", "other", "slow"):
            await site.service(name, await listen(pod(name)))
        await site.service("dead", 1)
        await site.service("far", 80, node="n2")
        for module in (site.gateways, site.web):
            ready = asyncio.Event()
            task = asyncio.create_task(module.run(ready))
            stack.push_async_callback(cancel_and_wait, task)
            await asyncio.wait_for(ready.wait(), 60)
        yield site
        for server in site.servers:
            server.close()


def story(tell: Callable[[Site], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        async def scenario() -> None:
            async with running(Site()) as site:
                await tell(site)

        asyncio.run(scenario())

    run.__name__ = tell.__name__
    return run
