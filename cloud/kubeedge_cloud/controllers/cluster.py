"""What the controllers of one tenant share: the client, the caches, the recorder of events, the clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from kubeedge.api import meta
from kubeedge.api.client import KubeClient
from kubeedge.api.names import Object
from kubeedge.api.resources import (
    CONFIGMAPS,
    DAEMONSETS,
    DEPLOYMENTS,
    ENDPOINTS,
    NAMESPACES,
    NODES,
    PODS,
    REPLICASETS,
    SECRETS,
    SERVICEACCOUNTS,
    SERVICES,
)
from kubeedge.errors import Conflict, NotFound
from kubeedge_cloud.controllers.informer import Informer
from kubeedge_cloud.controllers.objects import is_controlled_by, is_deleting, only_metadata, uid_of
from kubeedge_cloud.controllers.recorder import Recorder


class Cluster:
    def __init__(self, client: KubeClient, *, wall: Callable[[], float] = time.time) -> None:
        self.client = client
        self.wall = wall
        self.recorder = Recorder(client, wall=wall)
        self.pods = Informer(client, PODS)
        self.nodes = Informer(client, NODES)
        self.services = Informer(client, SERVICES)
        self.endpoints = Informer(client, ENDPOINTS)
        self.deployments = Informer(client, DEPLOYMENTS)
        self.replicasets = Informer(client, REPLICASETS)
        self.daemonsets = Informer(client, DAEMONSETS)
        self.namespaces = Informer(client, NAMESPACES)
        # Of these only the garbage collector wants to know whether they exist: their contents are not kept.
        self.configmaps = Informer(client, CONFIGMAPS, keep=only_metadata)
        self.secrets = Informer(client, SECRETS, keep=only_metadata)
        self.serviceaccounts = Informer(client, SERVICEACCOUNTS, keep=only_metadata)

    def informers(self) -> Iterator[Informer]:
        yield from (value for value in vars(self).values() if isinstance(value, Informer))

    def is_ending(self, namespace: str) -> bool:
        """Nothing can be made in it any more."""
        found = self.namespaces.get("", namespace)
        return found is not None and is_deleting(found)

    def owned(self, informer: Informer, owner: Object) -> list[Object]:
        return [obj for obj in informer.in_namespace(meta.namespace_of(owner)) if is_controlled_by(obj, owner)]

    async def patch(self, informer: Informer, obj: Object, patch: Object, *, subresource: str = "") -> Object:
        """The cache hears of the answer at once."""
        answer = await self.client.merge_patch(
            informer.resource, meta.namespace_of(obj), meta.name_of(obj), patch, subresource=subresource
        )
        informer.note(answer)
        return answer

    async def delete_pod(self, pod: Object, *, grace_period: int | None = None) -> bool:
        """False: it was gone already. A pod that may be running gets its time."""
        uid = uid_of(pod)
        options: dict[str, Any] = {} if grace_period is None else {"grace_period": grace_period}
        try:
            self.pods.doom(uid)
            await self.client.delete(PODS, meta.namespace_of(pod), meta.name_of(pod), uid=uid, **options)
        except (NotFound, Conflict):
            self.pods.expected_deletions.discard(uid)
            return False
        except BaseException:
            self.pods.expected_deletions.discard(uid)
            raise
        return True
