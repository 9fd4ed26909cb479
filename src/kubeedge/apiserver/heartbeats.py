"""The Leases of nodes, which are not renewed here: whether a node is attached is known at once, by its session.

Lives elsewhere: the Leases that are stored, which say when a node was attached last (kubeedge_cloud.edgecontroller.heartbeats); those of clusters
of users, which are renewed (kubeedge_cloud.edgecontroller.leases).

A kubelet writes its Lease every 10 s. Written here, those of a thousand nodes would be a hundred writes a second to the cloud's disk, for
what is known without. So a Lease that is read was renewed at that moment, while its node is attached. Its resourceVersion stays, and a watch tells
nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kubeedge.api import keys, meta
from kubeedge.api.client import Resource
from kubeedge.api.names import Object, TenantId
from kubeedge.api.resources import LEASES
from kubeedge.store.model import Store

NAMESPACE = "kube-node-lease"


class Heartbeats:
    """The heartbeats of one tenant's nodes. `wall` returns seconds since 1970."""

    def __init__(self, store: Store, tenant: TenantId, *, wall: Callable[[], float]) -> None:
        self._store = store
        self._sessions = f"{keys.SESSIONS}{tenant}/"
        self._wall = wall

    async def renew(self, resource: Resource, objects: Sequence[Object]) -> None:
        """Write the current time into those Leases that belong to attached nodes, in place; other resources are left alone."""
        if resource != LEASES:
            return
        leases = [obj for obj in objects if meta.namespace_of(obj) == NAMESPACE]
        attached = await self._attached([meta.name_of(lease) for lease in leases])
        stamp = meta.micro_timestamp(self._wall())
        for lease in leases:
            spec = lease.get("spec")
            name = meta.name_of(lease)
            if name in attached and isinstance(spec, dict) and spec.get("holderIdentity") == name:
                lease["spec"] = {**spec, "renewTime": stamp}

    async def _attached(self, names: Sequence[str]) -> set[str]:
        if not names:
            return set()
        if len(names) == 1:
            key = self._sessions + names[0]
            return set(names) if await self._store.get(key) is not None else set()
        found = await self._store.range(self._sessions, keys.prefix_end(self._sessions), keys_only=True)
        return {kv.key.removeprefix(self._sessions) for kv in found.kvs}
