"""What the controllers of one tenant share: the client, the caches, the recorder of events, the clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from kubeedge.api import meta
from kubeedge.api.client import KubeClient
from kubeedge.api.names import Object
from kubeedge.api.resources import (
    CONFIGMAPS,
    DAEMONSETS,
    DEPLOYMENTS,
    ENDPOINTS,
    ENDPOINTSLICES,
    NAMESPACES,
    NODES,
    PODS,
    REPLICASETS,
    SECRETS,
    SERVICEACCOUNTS,
    SERVICES,
)
from kubeedge.errors import Conflict, NotFound
from kubeedge_cloud.controllers.informer.client import CachedClient
from kubeedge_cloud.controllers.informer.driver import Informer
from kubeedge_cloud.controllers.objects import is_controlled_by, is_deleting, only_metadata, uid_of
from kubeedge_cloud.controllers.recorder import Recorder


class Cluster:
    """The API and the caches of a cluster, for its controllers; informers() have to run."""

    def __init__(self, client: KubeClient, *, wall: Callable[[], float] = time.time) -> None:
        self.client = cached = CachedClient(client)
        self.wall = wall
        self.recorder = Recorder(cached, wall=wall)
        self.pods = cached.informer(PODS)
        self.nodes = cached.informer(NODES)
        self.services = cached.informer(SERVICES)
        self.endpoints = cached.informer(ENDPOINTS)
        self.endpointslices = cached.informer(ENDPOINTSLICES)
        self.deployments = cached.informer(DEPLOYMENTS)
        self.replicasets = cached.informer(REPLICASETS)
        self.daemonsets = cached.informer(DAEMONSETS)
        self.namespaces = cached.informer(NAMESPACES)
        # Of these only the garbage collector wants to know whether they exist: their contents are not kept.
        self.configmaps = cached.informer(CONFIGMAPS, keep=only_metadata)
        self.secrets = cached.informer(SECRETS, keep=only_metadata)
        self.serviceaccounts = cached.informer(SERVICEACCOUNTS, keep=only_metadata)

    def informers(self) -> Sequence[Informer]:
        """Every cache; `synced` says that it is filled."""
        return self.client.informers()

    def is_ending(self, namespace: str) -> bool:
        """Nothing can be made in it any more."""
        found = self.namespaces.get("", namespace)
        return found is not None and is_deleting(found)

    def owned(self, informer: Informer, owner: Object) -> list[Object]:
        """The cached objects whose controller is `owner`."""
        return [obj for obj in informer.in_namespace(meta.namespace_of(owner)) if is_controlled_by(obj, owner)]

    async def patch(self, informer: Informer, obj: Object, patch: Object, *, subresource: str = "") -> Object:
        """A merge patch of a cached object; the cache has the answer when this returns."""
        return await self.client.merge_patch(
            informer.resource, meta.namespace_of(obj), meta.name_of(obj), patch, subresource=subresource
        )

    async def delete_pod(self, pod: Object, *, grace_period: int | None = None) -> bool:
        """False: it was gone already. A pod that may be running gets its time."""
        namespace, name = meta.namespace_of(pod), meta.name_of(pod)
        try:
            await self.client.delete(PODS, namespace, name, grace_period=grace_period, uid=uid_of(pod))
        except (NotFound, Conflict):
            return False
        return True
