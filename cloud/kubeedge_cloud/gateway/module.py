"""Module "gateway": the routes of all tenants, for the web listener; a TenantGateways for each tenant."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

from kubeedge.api.client import KubeClient
from kubeedge.api.names import TenantId
from kubeedge.apiserver.offload import Offload
from kubeedge.store.model import Store
from kubeedge_cloud.gateway.backends import PodEndpoint
from kubeedge_cloud.gateway.claims import HostClaims
from kubeedge_cloud.gateway.driver import TenantGateways
from kubeedge_cloud.gateway.model import CompiledRoutes, RouteBackend, WebPorts
from kubeedge_cloud.gateway.table import HostTable, RouteTable, patterns
from kubeedge_cloud.processes.membership import Alone, Membership, led
from kubeedge_cloud.tenants.each import for_each_tenant
from kubeedge_cloud.tenants.manager import TenantManager
from kubeedge_cloud.tenants.model import TenantRecord


class Gateways:
    """`ports` of the web listener, `addresses` and `reserved` names of the cloud, `default`: the tenant for hosts that nobody has, "": none."""

    name = "gateway"

    def __init__(
        self,
        store: Store,
        client_for: Callable[[TenantId], KubeClient],
        tenants: TenantManager,
        *,
        ports: WebPorts,
        addresses: Sequence[str],
        reserved: Collection[str],
        default: str,
        offload: Offload | None = None,
        member: Membership | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._client_for, self._tenants = client_for, tenants
        self._ports, self._addresses = ports, addresses
        self._offload = offload or Offload()
        self._member = member or Alone()
        self._wall = wall
        self._claims = HostClaims(store, reserved=reserved, default=default, changed=self._claims_changed, wall=wall)
        self._running: dict[TenantId, TenantGateways] = {}
        self._routes: dict[TenantId, CompiledRoutes] = {}
        self._tables: dict[TenantId, RouteTable] = {}
        self._certificates: dict[str, ssl.SSLContext] = {}  # by host name or "*."
        self._names: set[TenantId] = set()
        self.on_hosts: Callable[[list[str]], None] = lambda hosts: None  # is told of each change
        self.table = HostTable({}, {})

    async def run(self, ready: asyncio.Event) -> None:
        """Serves tenants as they come and go."""
        known = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._claims.run(known), name="host names")
            await known.wait()
            await for_each_tenant(self._tenants, self._serve, ready, what="gateway")

    def is_tenant(self, name: str) -> bool:
        """Published services of that tenant may be at /NAME/."""
        return name in self._names

    def endpoints(self, tenant: TenantId, backend: RouteBackend) -> list[PodEndpoint]:
        """The ready pods behind a backend, the one whose turn it is first."""
        found = self._running.get(tenant)
        return found.pods.in_turn(backend.namespace, backend.service, backend.port_name) if found else []

    def choose_certificate(self, connection: Any, server_name: str | None, context: ssl.SSLContext) -> None:
        """What the TLS context of the web listener has as `sni_callback`."""
        if server_name is None:
            return
        for pattern in patterns(server_name.lower()):
            if (found := self._certificates.get(pattern)) is not None:
                connection.context = found
                return

    async def _serve(self, record: TenantRecord, serving: asyncio.Event) -> None:
        self._names.add(record.name)
        try:
            if record.cluster:  # of its own, whose Gateways are its own
                serving.set()
                await asyncio.Event().wait()
            await self._run(record.name, serving)
        finally:
            self._names.discard(record.name)

    async def _run(self, tenant: TenantId, serving: asyncio.Event) -> None:
        work = f"gateway/{tenant}"
        found = TenantGateways(
            tenant,
            self._client_for(tenant),
            self._claims,
            self._tenants,
            ports=self._ports,
            addresses=self._addresses,
            publish=self._publish,
            fence=partial(self._member.fence, work),
            offload=self._offload,
            wall=self._wall,
        )
        self._running[tenant] = found
        followed = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(found.run(followed), name=f"gateways of {tenant}")
                await followed.wait()
                await led(self._member, work, found.lead, serving)
        finally:
            del self._running[tenant]
            self._routes.pop(tenant, None)
            self._tables.pop(tenant, None)
            self._settle()

    # -- the table -----------------------------------------------------------------------------------------------------

    def _publish(self, routes: CompiledRoutes) -> None:
        self._routes[routes.tenant] = routes
        self._tables[routes.tenant] = RouteTable(routes.entries)
        self._settle()

    def _claims_changed(self) -> None:
        for found in self._running.values():
            found.hosts_changed()
        self._settle()

    def _settle(self) -> None:
        before = self.table.names
        self.table = HostTable(self._claims.owners, self._tables)
        certificates: dict[str, ssl.SSLContext] = {}
        for tenant, routes in self._routes.items():
            for ref in routes.certificates:
                if self._claims.owners.get(ref.hostname) == tenant and tenant in self._running:
                    context = self._running[tenant].context(ref.namespace, ref.secret)
                    if context is not None:
                        certificates.setdefault(ref.hostname, context)
        self._certificates = certificates
        if self.table.names != before:
            self.on_hosts(self.table.names)
