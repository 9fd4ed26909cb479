"""The cloud's module "publishing": the public client proxy, and services of the cloud for the nodes.

Lives elsewhere: the proxies themselves (kubeedge.kubebus.http), L4 towards the nodes of every tenant (kubeedge_cloud.bushub).
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from kubeedge.api.names import NodeName, TenantId
from kubeedge.config import forms
from kubeedge.kit.metrics import Family, Sample, family
from kubeedge.kit.tasks import TaskSet
from kubeedge.kubebus.http import fast
from kubeedge.kubebus.http.client_proxy import ClientProxy, Connect
from kubeedge.kubebus.http.limits import ProxyLimits
from kubeedge.kubebus.http.listener import listening
from kubeedge.kubebus.http.server_proxy import ServerProxy
from kubeedge.kubebus.http.url import ServiceName, ServiceUrl, Target

log = logging.getLogger("kubeedge.publishing")

#: (number of the tenant, of the node); None: there is no such node
Numbers = Callable[[TenantId, NodeName], Awaitable[tuple[int, int] | None]]
TenantNumber = Callable[[TenantId], Awaitable[int | None]]


class Publishing:
    """`connect(tenant, node, port)` opens an L4 connection to any tenant's node; port 0 lets the kernel choose. `front(descriptor, settings)`
    makes the fast path, with `numbers` for where it goes."""

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
        front: Callable[[int, dict[str, Any]], Any] | None = None,
        numbers: Numbers | None = None,
    ) -> None:
        self._where = (address, port)
        self._connect = connect
        self._tls = tls
        self._trust_forwarded = trust_forwarded
        self._limits = limits or ProxyLimits()
        # what a trusted proxy says of its clients is read by the slow path alone
        self._front = front if numbers is not None and not trust_forwarded else None
        self._numbers = numbers
        self._proxy: Any = None
        self._slow: ClientProxy | None = None
        self._learned: dict[str, float] = {}  # until when, by the node's part of the URL
        self.address: tuple[str, int] | None = None  # once it listens

    async def run(self, ready: asyncio.Event) -> None:
        async with TaskSet("learning of nodes") as tasks:
            proxy = self._slow = ClientProxy(
                self._connect,
                trust_forwarded=self._trust_forwarded,
                limits=self._limits,
                served=lambda url: self._served(url, tasks),
            )
            try:
                async with listening(
                    *self._where, proxy.handle, limits=self._limits, tls=self._tls, front=self._put_in_front
                ) as (self.address, gone):
                    log.info(
                        "published web services at %s port %d%s", *self.address, "" if self._proxy is None else ", fast"
                    )
                    ready.set()
                    await gone
            finally:
                self.address = self._proxy = self._slow = None
                self._learned.clear()
                await proxy.aclose()

    # -- the fast path -------------------------------------------------------------------------------------------------

    def _put_in_front(self, descriptor: int) -> Any:
        if self._front is None or self._slow is None:
            return None
        self._proxy = self._front(descriptor, fast.settings(self._limits))
        if self._proxy is not None:
            self._slow.slots = fast.FastSlots(self._proxy, self._limits, "tenant")
        return self._proxy

    def _served(self, url: ServiceUrl, tasks: TaskSet) -> None:
        if self._proxy is None:
            return
        node, now = f"{url.tenant}/{url.node}", asyncio.get_running_loop().time()
        if self._learned.get(node, 0.0) > now:
            return
        if len(self._learned) > _MOST_LEARNED:
            self._learned.clear()
        self._learned[node] = now + fast.NODE_SECONDS
        tasks.start(self._learn(url), "learning of a node")

    async def _learn(self, url: ServiceUrl) -> None:
        assert self._numbers is not None
        numbers = await self._numbers(url.tenant, url.node)
        if numbers is not None and self._proxy is not None:
            self._proxy.learn_node(url.tenant, url.node, *numbers, fast.NODE_SECONDS)

    # -- for people ----------------------------------------------------------------------------------------------------

    def metrics(self) -> list[Family]:
        """Of the requests of each tenant, whichever way they went."""
        answered: Counter[tuple[str, int]] = Counter(self._slow.answered if self._slow else {})
        accounts = self._proxy.accounts() if self._proxy is not None else {}
        for tenant, counters in accounts.items():
            for status, count in enumerate(counters["status"]):
                if count:
                    answered[tenant, status] += count
        slow = self._slow.in_progress if self._slow else 0
        in_progress = sum(c["in_progress"] for c in accounts.values()) if accounts else slow
        samples = [
            Sample("kubeedge_publishing_requests_total", {"tenant": tenant, "code": f"{status}xx"}, count)
            for (tenant, status), count in sorted(answered.items())
        ]
        counted = self._proxy.counters() if self._proxy is not None else {}
        return [
            Family("kubeedge_publishing_requests_total", "counter", "answers to web clients", samples),
            family("kubeedge_publishing_in_progress", "gauge", "requests at this moment", in_progress),
            family(
                "kubeedge_publishing_fast_requests_total", "counter", "by the fast path", counted.get("requests", 0)
            ),
            family(
                "kubeedge_publishing_fast_handed_over_total",
                "counter",
                "connections that it gave to the slow one",
                counted.get("handed_over", 0),
            ),
        ]


_MOST_LEARNED = 4096


class CloudServices:
    """Services of the cloud for the nodes: what `publishing.services` of the configuration names, on L4 port 80 of every tenant."""

    def __init__(self, services: Sequence[str], tenant_number: TenantNumber) -> None:
        self._services = [forms.cloud_service(text) for text in services]
        self._tenant_number = tenant_number

    def for_tenant(self, number: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        """A handler of L4 connections."""

        async def resolve(service: ServiceName) -> Target | None:
            for tenant, name, (host, port) in self._services:
                if name == service and (not tenant or await self._tenant_number(TenantId(tenant)) == number):
                    return Target(host, port)
            return None

        # L4 lets nobody in but nodes of the tenant
        return ServerProxy(resolve, limits=ProxyLimits()).handle
