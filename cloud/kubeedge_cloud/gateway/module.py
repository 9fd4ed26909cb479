"""Module "gateway": the routes of all tenants, for the web listener; a TenantGateways for each tenant."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

from kubeedge.api.client import KubeClient, Resource
from kubeedge.api.gateway import GATEWAYS, HTTPROUTES
from kubeedge.api.names import TenantId
from kubeedge.apiserver.offload import Offload
from kubeedge.errors import KubeEdgeError
from kubeedge.gateway.model import CompiledRoutes, ListenPoint, PodEndpoint, RouteBackend, tcp_claim
from kubeedge.gateway.points import StreamTable
from kubeedge.gateway.shown_certificates import ShownCertificates
from kubeedge.gateway.table import HostTable, RouteTable
from kubeedge.store.model import Store
from kubeedge_cloud.gateway.claims import HostClaims
from kubeedge_cloud.gateway.driver import TenantGateways
from kubeedge_cloud.gateway.ports import GatewayPorts
from kubeedge_cloud.processes.membership import Alone, Membership, led
from kubeedge_cloud.tenants.each import for_each_tenant
from kubeedge_cloud.tenants.manager import TenantManager
from kubeedge_cloud.tenants.model import TenantRecord

_LOOK = 30.0  # seconds between two looks whether a cluster has the CustomResourceDefinitions


class Gateways:
    """`ports` of the web listener, `addresses` and `reserved` names of the cloud, `default`: the tenant for hosts that nobody has, "": none.
    `cluster_client`: the API of a tenant's own cluster; None: Gateways there are not ours. `make_tls`: contexts with the cloud's certificate,
    for names without one."""

    name = "gateway"

    def __init__(
        self,
        store: Store,
        client_for: Callable[[TenantId], KubeClient],
        tenants: TenantManager,
        *,
        ports: GatewayPorts,
        addresses: Sequence[str],
        reserved: Collection[str],
        default: str,
        offload: Offload | None = None,
        member: Membership | None = None,
        cluster_client: Callable[[TenantRecord], KubeClient] | None = None,
        make_tls: Callable[[], ssl.SSLContext] | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._client_for, self._tenants = client_for, tenants
        self._ports, self._addresses = ports, addresses
        self._offload = offload or Offload()
        self._member = member or Alone()
        self._wall = wall
        self._claims = HostClaims(store, reserved=reserved, default=default, changed=self._claims_changed, wall=wall)
        self._running: dict[TenantId, TenantGateways] = {}
        self._routes: dict[TenantId, CompiledRoutes] = {}
        self._tables: dict[TenantId, RouteTable] = {}
        self._shown = ShownCertificates(make_tls)
        self._cluster_client = cluster_client
        self._failed: dict[ListenPoint, str] = {}
        self._names: set[TenantId] = set()
        self.on_hosts: Callable[[list[str]], None] = lambda hosts: None  # is told of each change
        self.on_points: Callable[[Mapping[ListenPoint, str]], None] = lambda points: None
        self.table = HostTable({}, {}, self._names)
        self.streams = StreamTable({}, {})
        self.points: Mapping[ListenPoint, str] = {}  # that tenants want, and may have

    async def run(self, ready: asyncio.Event) -> None:
        """Serves tenants as they come and go."""
        known = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._claims.run(known), name="host names")
            await known.wait()
            await for_each_tenant(self._tenants, self._serve, ready, what="gateway")

    def endpoints(self, tenant: TenantId, backend: RouteBackend) -> list[PodEndpoint]:
        """The ready pods behind a backend, the one whose turn it is first."""
        found = self._running.get(tenant)
        return found.pods.in_turn(backend.namespace, backend.service, backend.port_name) if found else []

    def choose_certificate(self, connection: Any, server_name: str | None, context: ssl.SSLContext) -> None:
        """What the TLS context of the web listener has as `sni_callback`."""
        self._shown.choose(connection, server_name, context)

    def tls_context(self, at: ListenPoint) -> ssl.SSLContext:
        """With the certificates of the Gateways there; for other names it has the cloud's."""
        return self._shown.context(at)

    def opened(self, at: ListenPoint, why: str) -> None:
        """A port is open, or `why` it is not: those who want it say so."""
        if self._failed.get(at, "") == why:
            return
        self._failed[at] = why
        if not why:
            del self._failed[at]
        for tenant, routes in self._routes.items():
            if at in routes.points and tenant in self._running:
                self._running[tenant].look()

    async def _serve(self, record: TenantRecord, serving: asyncio.Event) -> None:
        self._names.add(record.name)
        try:
            if not record.cluster:
                await self._run(record.name, self._client_for(record.name), serving)
                return
            serving.set()  # the others must not wait for a cluster that may never have Gateways
            if self._cluster_client is None:
                await asyncio.Event().wait()
            else:
                client = self._cluster_client(record)
                await self._run(record.name, client, serving, await _served(client))
        finally:
            self._names.discard(record.name)

    async def _run(
        self,
        tenant: TenantId,
        client: KubeClient,
        serving: asyncio.Event,
        resources: Collection[Resource] | None = None,
    ) -> None:
        work = f"gateway/{tenant}"
        found = TenantGateways(
            tenant,
            client,
            self._claims,
            self._tenants,
            ports=self._ports,
            addresses=self._addresses,
            publish=self._publish,
            fence=partial(self._member.fence, work),
            offload=self._offload,
            store=self._store,
            failed=lambda: self._failed,
            resources=resources,
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
        self._tables[routes.tenant] = RouteTable(routes.entries, routes.listeners)
        self._settle()

    def _claims_changed(self) -> None:
        for found in self._running.values():
            found.hosts_changed()
        self._settle()

    def _settle(self) -> None:
        before = self.table.names
        self.table = HostTable(self._claims.owners, self._tables, self._names)
        self.streams = StreamTable(self._claims.owners, self._routes)
        certificates: dict[tuple[ListenPoint, str], ssl.SSLContext] = {}
        points: dict[ListenPoint, str] = {}
        for tenant, routes in self._routes.items():
            for ref in routes.certificates:
                if self._claims.owners.get(ref.at.address or ref.hostname) == tenant and tenant in self._running:
                    context = self._running[tenant].context(ref.namespace, ref.secret)
                    if context is not None:
                        certificates.setdefault((ref.at, ref.hostname), context)
            for at, family in routes.points.items():
                claim = at.address or (tcp_claim(at.port) if family == "TCP" else "")
                if not claim or self._claims.owners.get(claim) == tenant:
                    points[at] = family
        self._shown.replace(certificates, points)
        self._failed = {at: why for at, why in self._failed.items() if at in points}
        if self.table.names != before:
            self.on_hosts(self.table.names)
        if points != self.points:
            self.points = points
            self.on_points(points)


async def _served(client: KubeClient) -> Collection[Resource]:
    """Waits until the API serves Gateways and HTTPRoutes, and gives all that it serves."""
    while True:
        try:
            found = await client.resources()
            if {GATEWAYS, HTTPROUTES} <= set(found):
                return found
        except (KubeEdgeError, OSError):
            pass  # it comes back
        await asyncio.sleep(_LOOK)
