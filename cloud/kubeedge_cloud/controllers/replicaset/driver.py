"""Makes and deletes the pods of ReplicaSets. What has to be done is decided in core.py."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from kubeedge.api import meta
from kubeedge.api.names import NamespacedName, Object
from kubeedge.api.resources import PODS, REPLICASETS
from kubeedge.errors import Conflict, Invalid, KubeEdgeError, NotFound, Refused
from kubeedge_cloud.controllers.cluster import Cluster
from kubeedge_cloud.controllers.objects import key_of, merge_diff, pod_of, spec_of, status_of, uid_of
from kubeedge_cloud.controllers.ownership import claim, owners_of_pod
from kubeedge_cloud.controllers.queue import WorkQueue
from kubeedge_cloud.controllers.replicaset import core

_AT_ONCE = 16  # writes in flight for one ReplicaSet: they share the store's fsync
_COMPONENT = "replicaset-controller"


class ReplicaSetController:
    """Keys of its queue are ReplicaSets."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.queue: WorkQueue[NamespacedName] = WorkQueue("replicasets", self.reconcile)

    def listen(self) -> None:
        """A ReplicaSet is looked at when it or a pod of its own changes."""
        self._cluster.replicasets.on_change(lambda before, after: self.queue.add(key_of(after or before or {})))
        self._cluster.pods.on_change(self._pod_changed)

    def _pod_changed(self, before: Object | None, after: Object | None) -> None:
        for key in owners_of_pod(self._cluster.replicasets, "ReplicaSet", before, after):
            self.queue.add(key)

    async def reconcile(self, key: NamespacedName) -> float | None:
        """Adopts pods that it selects, then deletes and creates as planned; returns when to look again, in seconds."""
        replicaset = self._cluster.replicasets.get(*key)
        if replicaset is None:
            return None
        cluster = self._cluster
        pods = await claim(cluster, PODS, cluster.pods, REPLICASETS, replicaset)
        plan = core.plan(replicaset, pods, cluster.pods.expected_deletions, cluster.wall())
        failure: KubeEdgeError | None = None
        if plan.delete:
            await self._delete(replicaset, plan.delete)
        if plan.create and not cluster.is_ending(key[0]):
            failure = await self._create(replicaset, plan.create)
        if plan.delete or plan.create:
            pods = cluster.owned(cluster.pods, replicaset)
        later = await self._write_status(replicaset, pods, str(failure or ""))
        if failure is not None:
            raise failure
        return min((seconds for seconds in (later, plan.again_in) if seconds is not None), default=None)

    async def _create(self, replicaset: Object, number: int) -> KubeEdgeError | None:
        """In waves that double, as Kubernetes does it: what fails for one fails for all."""
        done, wave = 0, 1
        pod = pod_of(spec_of(replicaset).get("template") or {}, replicaset, REPLICASETS)
        while done < number:
            size = min(wave, number - done, _AT_ONCE)
            results = await asyncio.gather(
                *(self._cluster.client.create(PODS, meta.namespace_of(replicaset), pod) for _ in range(size)),
                return_exceptions=True,
            )
            for result in results:
                if isinstance(result, BaseException):
                    continue
                self._say(replicaset, "SuccessfulCreate", f"Created pod: {meta.name_of(result)}")
            for result in results:
                if isinstance(result, Invalid | Refused | Conflict | NotFound):
                    self._say(replicaset, "FailedCreate", f"Error creating: {result}", warning=True)
                if isinstance(result, KubeEdgeError):
                    return result
                if isinstance(result, BaseException):
                    raise result
            done += size
            wave *= 2
        return None

    async def _delete(self, replicaset: Object, pods: Sequence[Object]) -> None:
        for start in range(0, len(pods), _AT_ONCE):
            await asyncio.gather(*(self._delete_one(replicaset, pod) for pod in pods[start : start + _AT_ONCE]))

    async def _delete_one(self, replicaset: Object, pod: Object) -> None:
        if await self._cluster.delete_pod(pod):
            self._say(replicaset, "SuccessfulDelete", f"Deleted pod: {meta.name_of(pod)}")

    async def _write_status(self, replicaset: Object, pods: Sequence[Object], failure: str) -> float | None:
        wanted, later = core.status(
            replicaset, pods, self._cluster.pods.expected_deletions, self._cluster.wall(), failure
        )
        patch = merge_diff(status_of(replicaset), wanted)
        if patch:
            await self._cluster.patch(
                self._cluster.replicasets,
                replicaset,
                {"metadata": {"uid": uid_of(replicaset)}, "status": patch},
                subresource="status",
            )
        return later

    def _say(self, replicaset: Object, reason: str, message: str, *, warning: bool = False) -> None:
        self._cluster.recorder.event(REPLICASETS, replicaset, reason, message, component=_COMPONENT, warning=warning)
