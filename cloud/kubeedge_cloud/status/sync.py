"""What `kubeedge sync status` shows in the cloud: how far each node is with its desired state, and the cloud with what the node reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kubeedge.api import keys
from kubeedge.api.names import DEFAULT_TENANT, NodeName, TenantId
from kubeedge.errors import NotFound
from kubeedge.store.model import Store
from kubeedge.sync import observe
from kubeedge.sync.progress import Progress
from kubeedge_cloud.cloudhub.module import AttachedNode
from kubeedge_cloud.status.nodes import NodeOverview
from kubeedge_cloud.tenants.manager import TenantManager


class SyncStatus:
    """`attached` gives the channels at this process; of other nodes only what is in the store is known."""

    def __init__(
        self, store: Store, tenants: TenantManager, nodes: NodeOverview, attached: Callable[[], Sequence[AttachedNode]]
    ) -> None:
        self._store = store
        self._tenants = tenants
        self._nodes = nodes
        self._attached = attached

    async def read(self, tenant: str, node: str) -> dict[str, Any]:
        """Of all nodes, or of those that are named ("": all). Counters are those of nodes that are attached to this process.

        Raises NotFound when there is no such node.
        """
        here = [s for s in self._attached() if (not tenant or s.tenant == tenant) and (not node or s.node == node)]
        nodes = [await self._shown(node) for node in here]
        if not nodes and node:
            nodes.append(await self._away(TenantId(tenant or DEFAULT_TENANT), NodeName(node)))
        elif not node:
            others = [n for n in await self._nodes.read(tenant) if n.here is None]
            nodes += [{**await self._away(n.tenant, n.node), "attached": n.attached} for n in others]
        return {"store": self._store.store_id, "revision": self._store.revision, "nodes": nodes}

    async def _shown(self, node: AttachedNode) -> dict[str, Any]:
        prefix = keys.edge_desired(node.tenant, node.node)
        return {
            "tenant": node.tenant,
            "node": node.node,
            "attached": True,
            "down": await observe.source(self._store, prefix, node.down),
            "up": observe.progress(node.up),
            "wire": {"bytesIn": node.counters.bytes_in, "bytesOut": node.counters.bytes_out},
        }

    async def _away(self, tenant: TenantId, node: NodeName) -> dict[str, Any]:
        if await self._tenants.lookup(tenant, node) is None:
            raise NotFound(f"there is no node {node} of tenant {tenant}")
        record = await self._store.get(keys.edge_sync_up(tenant, node))
        up = record.value.decode(errors="replace") if record else ""
        waiting = await observe.source(self._store, keys.edge_desired(tenant, node), Progress())
        # which revision the node has, it says when it attaches
        down = {name: waiting[name] for name in ("head", "keys")}
        return {"tenant": tenant, "node": node, "attached": False, "down": down, "up": {"durable": up}}
