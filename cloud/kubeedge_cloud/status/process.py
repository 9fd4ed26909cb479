"""What `kubeedge status` shows of a cloud process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from kubeedge import __version__
from kubeedge.api import meta
from kubeedge.beehive.supervisor import ModuleState
from kubeedge.store.model import Store
from kubeedge_cloud.bushub.module import BusHub
from kubeedge_cloud.bushub.observe import node_links
from kubeedge_cloud.cloudhub.module import AttachedNode
from kubeedge_cloud.status.nodes import NodeOverview
from kubeedge_cloud.tenants.manager import TenantManager


class ProcessStatus:
    """`attached`: the nodes that are attached here, `modules`: the state of each module, `hosts`: where nodes reach this process."""

    def __init__(
        self,
        store: Store,
        tenants: TenantManager,
        nodes: NodeOverview,
        bus: BusHub,
        *,
        attached: Callable[[], Sequence[AttachedNode]],
        modules: Callable[[], Iterable[ModuleState]],
        hosts: Sequence[str],
    ) -> None:
        self._store = store
        self._tenants = tenants
        self._nodes = nodes
        self._bus = bus
        self._attached = attached
        self._modules = modules
        self._hosts = hosts

    async def read(self, now: float) -> dict[str, Any]:
        """The status of this process, as JSON. `now` is in seconds since 1970."""
        return {
            "version": __version__,
            "advertise": list(self._hosts),
            "tenants": [str(t) for t in await self._tenants.names()],
            "revision": self._store.revision,
            "nodes": [_shown(s, now) for s in self._attached()],
            "away": [
                {
                    "tenant": n.tenant,
                    "node": n.node,
                    "lastSeen": meta.timestamp(n.last_seen) if n.last_seen else "never",
                }
                for n in await self._nodes.read()
                if not n.attached
            ],
            "links": node_links(self._bus),
            "modules": [
                {"name": s.name, "state": s.state, "restarts": s.restarts, "lastError": s.last_error}
                for s in self._modules()
            ],
        }


def _shown(node: AttachedNode, now: float) -> dict[str, Any]:
    return {
        "tenant": node.tenant,
        "node": node.node,
        "address": node.address,
        "seconds": round(now - node.since, 1),
        "bytesIn": node.counters.bytes_in,
        "bytesOut": node.counters.bytes_out,
    }
