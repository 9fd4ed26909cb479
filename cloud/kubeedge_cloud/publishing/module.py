"""Module "publishing" of the cloud: the public client proxy.

Lives elsewhere: the proxies themselves (kubeedge.kubebus.http), L4 towards the nodes of every tenant (kubeedge_cloud.bushub),
                 services of the cloud for the nodes (services).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from kubeedge.api.names import NodeName, NodeNumber, TenantId, TenantNumber, node_name, tenant_id
from kubeedge.errors import KubeEdgeError, Unavailable
from kubeedge.gateway.front import WebFront
from kubeedge.gateway.openports import OpenPorts
from kubeedge.gateway.pods import PodConnector, over_l4
from kubeedge.gateway.proxy import GatewayProxy
from kubeedge.gateway.streams import StreamProxy
from kubeedge.kit.metrics import Family
from kubeedge.kit.tasks import TaskSet
from kubeedge.kubebus.http import fast
from kubeedge.kubebus.http.accounts import Accounts
from kubeedge.kubebus.http.client_proxy import ClientProxy, ConnectUpstream
from kubeedge.kubebus.http.limits import ProxyLimits, RequestLimiter
from kubeedge.kubebus.http.listener import StreamHandler, listening
from kubeedge_cloud.gateway.module import Gateways
from kubeedge_cloud.publishing import observe

log = logging.getLogger("kubeedge.publishing")

#: (number of the tenant, of the node); None: there is no such node
Numbers = Callable[[TenantId, NodeName], Awaitable[tuple[TenantNumber, NodeNumber] | None]]


class Publishing:
    """`connect(tenant, node, port)` opens an L4 connection to any tenant's node; port 0 lets the kernel choose. `fast_path(descriptor, settings)`
    makes the fast path, with `numbers` for where it goes. `gateways` has the table, which says which requests are for routes and which for published services."""

    name = "publishing"

    def __init__(
        self,
        *,
        address: str,
        port: int,
        connect: ConnectUpstream,
        tls: ssl.SSLContext | None = None,
        trust_forwarded: bool = False,
        limits: ProxyLimits | None = None,
        fast_path: Callable[[int, dict[str, Any]], Any] | None = None,
        numbers: Numbers | None = None,
        gateways: Gateways | None = None,
    ) -> None:
        self._where = (address, port)
        self._connect = connect
        self._tls = tls
        self._trust_forwarded = trust_forwarded
        self._limits = limits or ProxyLimits()
        if trust_forwarded:  # the clients are a few proxies
            self._limits = dataclasses.replace(self._limits, per_client=self._limits.connections)
        self._accounts = Accounts()
        self._rejected: Counter[int] = Counter()  # connections, by status
        # what a trusted proxy says of its clients is read by the slow path alone
        self._fast_path = fast_path if numbers is not None and not trust_forwarded else None
        self._numbers = numbers
        self._gateways = gateways
        if tls is not None and gateways is not None:
            tls.sni_callback = gateways.choose_certificate
        self._proxy: Any = None
        self._slow: ClientProxy | None = None
        self.address: tuple[str, int] | None = None  # once it listens

    async def run(self, ready: asyncio.Event) -> None:
        """Serves the public ports until it is cancelled."""
        async with TaskSet("where nodes are") as tasks:

            def asked(fast_path: Any, upstream: str) -> None:
                tasks.start(self._answer(fast_path, upstream), "where a node is")

            routed = self._routed()
            ports = self._ports(routed) if routed is not None else contextlib.nullcontext()
            proxy = self._slow = ClientProxy(
                self._connect,
                trust_forwarded=self._trust_forwarded,
                limits=self._limits,
                accounts=self._accounts,
            )
            try:
                async with (
                    listening(
                        *self._where,
                        self._handler(proxy, routed),
                        limits=self._limits,
                        tls=self._tls,
                        fast_path=self._start_fast_path,
                        asked=asked,
                        refused=self._reject,
                    ) as (self.address, gone),
                    ports,
                ):
                    how = ", fast" if self._proxy is not None else ", with TLS" if self._tls is not None else ""
                    log.info("published web services at %s port %d%s", *self.address, how)
                    ready.set()
                    await gone
            finally:
                self.address = self._proxy = self._slow = None
                await proxy.aclose()
                if routed is not None:
                    await routed.aclose()

    def _handler(self, proxy: ClientProxy, routed: GatewayProxy | None) -> StreamHandler:
        if self._gateways is None or routed is None:
            return proxy.handle
        return WebFront(self._gateways, routed, proxy, self._limits).handle

    def _routed(self) -> GatewayProxy | None:
        if self._gateways is None:
            return None
        self._gateways.on_hosts = self._hosts_changed
        return GatewayProxy(
            self._gateways,
            PodConnector(over_l4(self._connect), self._limits.connect),
            slots=self._slots,
            accounts=self._accounts,
            limits=self._limits,
            trust_forwarded=self._trust_forwarded,
        )

    def _ports(self, routed: GatewayProxy) -> contextlib.AbstractAsyncContextManager[None]:
        """The ports of Gateways besides this one."""
        assert self._gateways is not None
        pods = PodConnector(over_l4(self._connect), self._limits.connect)
        streams = StreamProxy(self._gateways.endpoints, pods, slots=self._slots, accounts=self._accounts)
        ports = OpenPorts(self._where[0], self._gateways, routed, streams, self._limits)
        self._gateways.on_points = ports.settle
        ports.settle(self._gateways.points)
        return ports.running()

    def _slots(self) -> RequestLimiter:
        if self._slow is None:
            raise Unavailable("the web listener is closing")
        return self._slow.slots

    # -- the fast path -------------------------------------------------------------------------------------------------

    def _start_fast_path(self, descriptor: int) -> Any:
        if self._fast_path is None or self._slow is None:
            return None
        self._proxy = self._fast_path(descriptor, fast.settings(self._limits))
        if self._proxy is not None:
            self._slow.slots = fast.FastPathLimiter(self._proxy, self._limits, "tenant")
            if self._gateways is not None:
                self._hosts_changed(self._gateways.table.names)
        return self._proxy

    def _hosts_changed(self, hosts: list[str]) -> None:
        """Requests for these are not for the fast path."""
        if self._proxy is not None:
            self._proxy.set_hosts(hosts)

    async def _answer(self, proxy: Any, upstream: str) -> None:
        """Where "tenant/node" is. What is not known, or what goes wrong here, is the slow path's to explain."""
        known = False
        with contextlib.suppress(KubeEdgeError):
            tenant, _, node = upstream.partition("/")
            if self._numbers and (numbers := await self._numbers(tenant_id(tenant), node_name(node))) is not None:
                known = proxy.learn_node(tenant, node, *numbers, fast.NODE_SECONDS)
        if not known:
            proxy.deny(upstream)

    def forget(self) -> None:
        """A node was removed, or another machine has its number: where nodes are is asked again."""
        if self._proxy is not None:
            self._proxy.forget()

    # -- for operators -------------------------------------------------------------------------------------------------

    def metrics(self) -> list[Family]:
        """The metrics of the requests of each tenant, whichever way they went."""
        accounts, counters = {}, {}
        if self._proxy is not None:
            accounts, counters = self._proxy.accounts(), self._proxy.counters()
        in_progress = self._slow.slots.by_name() if self._slow is not None else {}
        return observe.families(self._accounts.with_fast(accounts), in_progress, self._rejected, counters)

    def _reject(self, status: int) -> None:
        self._rejected[status] += 1
