"""Keeps in each namespace what clients take for granted."""

from __future__ import annotations

from functools import partial

from kubeedge.api import meta
from kubeedge.api.names import NamespacedName, Object
from kubeedge.errors import Conflict, NotFound, Refused
from kubeedge_cloud.controllers.basics import core
from kubeedge_cloud.controllers.cluster import Cluster
from kubeedge_cloud.controllers.objects import is_deleting, key_of
from kubeedge_cloud.controllers.queue import WorkQueue

_FULL = 30.0  # seconds until a tenant that is at its quota is tried again


class BasicsController:
    """Keys of its queue are Namespaces."""

    def __init__(self, cluster: Cluster, server: core.Server) -> None:
        self._cluster = cluster
        self._server = server
        self.queue: WorkQueue[NamespacedName] = WorkQueue("basics", self.reconcile, workers=2)

    def listen(self) -> None:
        """A namespace is looked at when it changes, and when one of its basic objects does."""
        cluster = self._cluster
        cluster.namespaces.on_change(lambda before, after: self.queue.add(key_of(after or before or {})))
        for informer, name in (
            (cluster.serviceaccounts, core.ACCOUNT),
            (cluster.configmaps, core.ROOT),
            (cluster.services, core.API),
            (cluster.endpoints, core.API),
        ):
            informer.on_change(partial(self._changed, name))

    def _changed(self, name: str, before: Object | None, after: Object | None) -> None:
        obj = after or before or {}
        if meta.name_of(obj) == name:
            self.queue.add(("", meta.namespace_of(obj)))

    async def reconcile(self, key: NamespacedName) -> float | None:
        """Creates what is missing and mends what was changed; again later at the quota, or when a write met another one."""
        namespace = self._cluster.namespaces.get(*key)
        if namespace is None or is_deleting(namespace):
            return None
        client = self._cluster.client
        for resource, obj in core.wanted(key[1], self._server):
            name = meta.name_of(obj)
            try:
                current = await client.get(resource, key[1], name)
                if (patch := core.mended(resource, current, obj)) is not None:
                    await client.merge_patch(resource, key[1], name, patch)
            except NotFound:
                try:
                    await client.create(resource, key[1], obj)
                except (Conflict, NotFound):
                    return 0.05  # another process was faster, or the namespace is being deleted
                except Refused:
                    return _FULL
        return None
