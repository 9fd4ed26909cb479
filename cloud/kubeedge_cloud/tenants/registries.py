"""The Kubernetes objects of each tenant: one Registry a tenant, for the life of the process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from kubeedge.api.names import NodeName, TenantId
from kubeedge.api.resources import Resources
from kubeedge.apiserver import devices, gateways, rules
from kubeedge.apiserver.accounts import AccountKey
from kubeedge.apiserver.builtin import BUILT_IN
from kubeedge.apiserver.cluster_ips import SERVICE_RANGE
from kubeedge.apiserver.offload import Offload
from kubeedge.apiserver.registry import Registry
from kubeedge.kit.ip import IpNetwork
from kubeedge.store.model import Store
from kubeedge_cloud.processes.fencing import FencedStore
from kubeedge_cloud.processes.membership import Alone, Membership
from kubeedge_cloud.tenants import model
from kubeedge_cloud.tenants.module import StorageUsage


class Registries:
    """All of them share the worker threads for large requests and the fences of this process.

    `account_key`: with which a tenant's service account tokens are signed; None: there are none. `services`: the networks of a tenant's cluster IPs, one or one of each family."""

    def __init__(
        self,
        store: Store,
        usage: StorageUsage,
        membership: Membership,
        *,
        account_key: Callable[[TenantId], AccountKey] | None = None,
        services: Callable[[TenantId], Sequence[IpNetwork]] = lambda tenant: (SERVICE_RANGE,),
    ) -> None:
        self._services = services
        self._account_key = account_key
        self._store = store
        self._usage = usage
        self._membership = membership
        self.offload = Offload()
        self._registries: dict[TenantId, Registry] = {}

    def of(self, tenant: TenantId) -> Registry:
        """Finds or makes it; whether there is such a tenant is the caller's to know."""
        if tenant not in self._registries:
            self._registries[tenant] = self._make(self._store, tenant)
        return self._registries[tenant]

    def close(self, tenant: TenantId) -> None:
        """Requests from outside find nothing any more: the tenant has a cluster of its own. What is stored stays."""
        self._registries.pop(tenant, None)

    def known(self, tenant: TenantId) -> Registry | None:
        """For requests from outside; None: this process has not opened that tenant, and a certificate that names it opens nothing."""
        return self._registries.get(tenant)

    def fenced(self, work: str) -> Callable[[TenantId], Registry]:
        """The API for the leader of `work`: what is written after another process has taken over fails (processes.fencing)."""
        if isinstance(self._membership, Alone):
            return self.of

        def make(tenant: TenantId) -> Registry:
            store = FencedStore(self._store, partial(self._membership.fence, f"{work}/{tenant}"))
            return self._make(store, tenant, self.of(tenant).served)

        return make

    def _make(self, store: Store, tenant: TenantId, served: Resources | None = None) -> Registry:
        quota = self._usage.of(tenant)
        served = served or Resources((*BUILT_IN, *devices.ROWS, *gateways.ROWS, *rules.ROWS))
        key = self._account_key(tenant) if self._account_key is not None else None
        return Registry(
            store,
            tenant,
            foreground=True,
            offload=self.offload,
            quota=quota,
            served=served,
            account_key=key,
            joins=partial(self._join_of, tenant),
            services=self._services(tenant),
        )

    async def _join_of(self, tenant: TenantId, node: NodeName) -> str | None:
        kv = await self._store.get(model.node_key(tenant, node))
        return model.decode_node(tenant, kv.value).join if kv is not None else None
