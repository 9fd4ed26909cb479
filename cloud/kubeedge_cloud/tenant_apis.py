"""The Kubernetes API of each tenant: the embedded one, or that of a cluster of its own.

Lives elsewhere: the embedded APIs (tenants.registries), clients of clusters (clusters), who does which work (processes).
"""

from __future__ import annotations

import asyncio
from functools import partial

from kubeedge.api.client import KubeClient
from kubeedge.api.names import TenantId, TenantNumber
from kubeedge.store.model import Store
from kubeedge_cloud.clusters.apis import Clusters
from kubeedge_cloud.clusters.client import RemoteClient
from kubeedge_cloud.clusters.fencing import FencedClient, Leads, leads
from kubeedge_cloud.kubeconfigs.admin import AdminKubeconfigs
from kubeedge_cloud.processes.membership import Alone, Membership
from kubeedge_cloud.tenants.manager import TenantManager
from kubeedge_cloud.tenants.model import TenantRecord
from kubeedge_cloud.tenants.registries import Registries


class TenantApis:
    """Finds the API of a tenant by its record in the store."""

    def __init__(
        self,
        store: Store,
        tenants: TenantManager,
        registries: Registries,
        kubeconfigs: AdminKubeconfigs,
        membership: Membership,
    ) -> None:
        self._store = store
        self._tenants = tenants
        self._registries = registries
        self._kubeconfigs = kubeconfigs
        self._membership = membership
        self.clusters = Clusters()

    async def open_tenant(self, tenant: TenantId) -> None:
        """From here on its API answers, and its administrator has a kubeconfig; of a cluster that exists the user has one already."""
        record = await self._tenants.tenant(tenant)
        if record is not None and record.cluster:
            self._registries.close(tenant)
            return
        self.clusters.forget(tenant)  # it may have had one
        self._registries.of(tenant)
        await self._kubeconfigs.keep(tenant)

    def close_tenant(self, tenant: TenantId) -> None:
        """Stop serving the API of a tenant, and forget its administrator's kubeconfig."""
        self.clusters.forget(tenant)
        self._registries.close(tenant)
        self._kubeconfigs.forget(tenant)

    async def tenant_of(self, number: TenantNumber) -> TenantRecord | None:
        """The tenant with that number, of those that exist now."""
        return next((record for record in await self._tenants.tenants() if record.number == number), None)

    async def connect_cluster(self, record: TenantRecord) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the tenant's cluster on which nothing is ours."""
        return await self.clusters.of(record.name, record.cluster).transport.without_credentials()

    def edge_cluster(self, record: TenantRecord, work: str = "edgecontroller") -> RemoteClient | FencedClient:
        """The tenant's cluster, for the leader of `work`."""
        client = self.clusters.of(record.name, record.cluster)
        if isinstance(self._membership, Alone):
            return client
        return FencedClient(client, self.leads(record.name, work))

    def leads(self, tenant: TenantId, work: str) -> Leads:
        """Asks whether this process is still the leader of the tenant's `work`."""
        return leads(self._store, partial(self._membership.fence, f"{work}/{tenant}"))

    async def cluster_of(self, tenant: TenantId) -> KubeClient | None:
        """The API of a tenant's cluster; None when it has the embedded API."""
        record = await self._tenants.tenant(tenant)
        return self.clusters.of(tenant, record.cluster) if record is not None and record.cluster else None

    async def api_of(self, tenant: TenantId) -> KubeClient:
        """The embedded one, or the tenant's cluster."""
        return await self.cluster_of(tenant) or self._registries.of(tenant)
