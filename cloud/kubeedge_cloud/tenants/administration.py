"""What an administrator does with tenants: makes them with all that belongs to them, sees and sets their quotas, removes nodes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from kubeedge.api.names import NodeName, TenantId
from kubeedge.errors import Conflict, NotFound, with_next
from kubeedge_cloud.tenants.manager import TenantManager
from kubeedge_cloud.tenants.module import StorageUsage

_FRESH = 24  # objects that a tenant has of itself: its namespaces, their accounts and certificates


class TenantAdministration:
    """`opened` is called for a tenant that was made or existed already: whatever else a tenant needs, its kubeconfig say. `closing` ends what it
    has outside of the store, its Nodes in a cluster of its own say; told to force, it leaves what it cannot end."""

    def __init__(
        self,
        tenants: TenantManager,
        usage: StorageUsage,
        opened: Callable[[TenantId], Awaitable[object]],
        closing: Callable[[TenantId, bool], Awaitable[object]],
    ) -> None:
        self._closing = closing
        self._tenants = tenants
        self._usage = usage
        self._opened = opened

    async def names(self) -> list[TenantId]:
        """All tenants of the store."""
        return await self._tenants.names()

    async def show(self, tenant: TenantId) -> dict[str, Any]:
        """The stored objects and bytes of a tenant, used and allowed, as this process counts them."""
        usage = self._usage.of(tenant)
        used, limits = usage.used, usage.limits
        record = await self._tenants.tenant(tenant)
        return {
            "name": tenant,
            "cluster": record.cluster if record else "",
            "objects": {"used": used.objects, "limit": limits.objects},
            "bytes": {"used": used.size, "limit": limits.size},
        }

    async def allow_storage(self, tenant: TenantId, objects: int, size: int) -> None:
        """Objects and bytes; 0: the default of the configuration. Raises NotFound."""
        await self._tenants.allow_storage(tenant, objects=objects, size=size)

    async def ensure(self, tenant: TenantId, cluster: str | None = None) -> None:
        """Find or make. `cluster`: whose API it uses, "" is the embedded one; None leaves it as it is. Raises Unavailable when no number is free."""
        await self._tenants.ensure(tenant)
        if cluster is not None:
            await self._tenants.use_cluster(tenant, cluster)
        await self._opened(tenant)

    async def remove(self, tenant: TenantId, *, force: bool) -> None:
        """With all that is stored of it, and with its nodes when it is forced. Raises Conflict while it has nodes or objects, NotFound."""
        nodes = await self._tenants.nodes(tenant)
        record = await self._tenants.tenant(tenant)
        objects = self._usage.of(tenant).used.objects if record is not None and not record.cluster else 0
        if (nodes or objects > _FRESH) and not force:
            raise with_next(
                Conflict(f"tenant {tenant} has {len(nodes)} nodes and {objects} objects"),
                f"`kubeedge tenant remove {tenant} --force` removes them with it",
            )
        for node in nodes:
            await self._tenants.remove_node(tenant, node.name)
        await self._closing(tenant, force)
        if not await self._tenants.remove_tenant(tenant):
            raise NotFound(f"no tenant {tenant}")

    async def remove_node(self, tenant: TenantId, node: NodeName) -> bool:
        """Whether there was such a node. Its certificate is not accepted any more."""
        return await self._tenants.remove_node(tenant, node)
