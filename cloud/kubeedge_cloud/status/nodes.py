"""All nodes as the administrator sees them, whether attached or not, and to whichever process: `kubeedge node list`, `status`, `sync status`."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kubeedge.api import keys, meta
from kubeedge.api.client import KubeClient
from kubeedge.api.names import NodeName, Object, TenantId
from kubeedge.api.resources import NODES
from kubeedge.errors import Refused, Unavailable
from kubeedge.store.model import Store
from kubeedge.store.reflector import read_all
from kubeedge.sync import observe as sync_observe
from kubeedge_cloud.cloudhub.module import AttachedNode
from kubeedge_cloud.tenants.manager import TenantManager


@dataclass(frozen=True, slots=True)
class NodeState:
    """What is known of one node, from its record, its session key and its Node object."""

    tenant: TenantId
    node: NodeName
    overlay: str
    address: str  # from where its channel comes; "": it is away
    since: float  # attached since then, seconds since 1970; 0.0: it is away
    here: AttachedNode | None  # when its channel is at this process
    last_seen: float  # of a node that is away, to within the grace period; 0.0: never, or not known
    version: str

    @property
    def attached(self) -> bool:
        """Whether the node is attached to any cloud process."""
        return bool(self.since)


class NodeOverview:
    """`client_of`: the API of a tenant; `attached`: the nodes that are attached to this process."""

    def __init__(
        self,
        store: Store,
        tenants: TenantManager,
        client_of: Callable[[TenantId], Awaitable[KubeClient]],
        attached: Callable[[], Sequence[AttachedNode]],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._wall = wall
        self._store = store
        self._tenants = tenants
        self._client_of = client_of
        self._attached = attached

    async def read(self, only: str = "") -> list[NodeState]:
        """The state of the nodes of all tenants, or of the one named `only`."""
        here = {(s.tenant, s.node): s for s in self._attached()}
        found: list[NodeState] = []
        for tenant in await self._tenants.names():
            if only and tenant != only:
                continue
            prefix = f"{keys.SESSIONS}{tenant}/"
            sessions = {
                key.removeprefix(prefix): json.loads(v) for key, v in (await read_all(self._store, prefix)).items()
            }
            objects = await self._objects(tenant)
            for record in await self._tenants.nodes(tenant):
                session, obj = sessions.get(record.name), objects.get(record.name, {})
                version = str(((obj.get("status") or {}).get("nodeInfo") or {}).get("kubeletVersion", ""))
                # without a version it has never been here
                away_since = _away_since(obj, self._wall()) if version and not session else 0.0
                found.append(
                    NodeState(
                        tenant,
                        record.name,
                        record.address.split("/")[0],
                        str(session["address"]) if session else "",
                        float(session["since"]) if session else 0.0,
                        here.get((tenant, record.name)),
                        away_since,
                        version,
                    )
                )
        return found

    async def _objects(self, tenant: TenantId) -> dict[str, Object]:
        """Node objects by name; none while the tenant's cluster is away, or says nothing to us."""
        try:
            found = await (await self._client_of(tenant)).list(NODES, "")
        except (Unavailable, Refused):
            return {}
        return {meta.name_of(obj): obj for obj in found.items}

    async def list(self, now: float, tenant: str = "") -> list[dict[str, Any]]:
        """Rows of `kubeedge node list`; `tenant` "" is all. `lag` counts keys not sent yet, None for channels at other processes."""
        return [
            {
                "tenant": n.tenant,
                "node": n.node,
                "attached": n.attached,
                "seconds": round(now - n.since, 1) if n.attached else None,
                "lastSeen": now if n.attached else n.last_seen,
                "address": n.address,
                "overlay": n.overlay,
                "version": n.version,
                "lag": (await self._behind(n.here)) if n.here else None,
            }
            for n in await self.read(tenant)
        ]

    async def _behind(self, attachment: AttachedNode) -> Any:
        """Keys that the node has not got yet."""
        prefix = keys.edge_desired(attachment.tenant, attachment.node)
        return (await sync_observe.source(self._store, prefix, attachment.down)).get("queue")


def _away_since(node: Object, now: float) -> float:
    """A Node is Ready for a while after its agent has left: so long ago that is at most."""
    for condition in (node.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "Ready" and condition.get("status") != "True":
            return meta.parse_timestamp(condition.get("lastTransitionTime")) or 0.0
    return now
