"""Performs what core.py plans for DaemonSets."""

from __future__ import annotations

import asyncio

from kubeedge.api import meta
from kubeedge.api.names import NamespacedName, Object
from kubeedge.api.resources import DAEMONSETS, PODS
from kubeedge.errors import KubeEdgeError
from kubeedge_cloud.controllers.cluster import Cluster
from kubeedge_cloud.controllers.daemonset import core
from kubeedge_cloud.controllers.objects import is_ready, key_of, merge_diff, pod_of, spec_of, status_of, uid_of
from kubeedge_cloud.controllers.ownership import claim, owners_of_pod
from kubeedge_cloud.controllers.queue import WorkQueue

_AT_ONCE = 16  # writes in flight for one DaemonSet
_COMPONENT = "daemonset-controller"


class DaemonSetController:
    """Keys of its queue are DaemonSets."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.queue: WorkQueue[NamespacedName] = WorkQueue("daemonsets", self.reconcile)

    def listen(self) -> None:
        """A DaemonSet is looked at when it, a pod of its own or a node changes."""
        self._cluster.daemonsets.on_change(lambda before, after: self.queue.add(key_of(after or before or {})))
        self._cluster.pods.on_change(self._pod_changed)
        self._cluster.nodes.on_change(self._node_changed)

    def _pod_changed(self, before: Object | None, after: Object | None) -> None:
        for key in owners_of_pod(self._cluster.daemonsets, "DaemonSet", before, after):
            self.queue.add(key)

    def _node_changed(self, before: Object | None, after: Object | None) -> None:
        if before is not None and after is not None:
            same_spec = spec_of(before) == spec_of(after) and meta.labels_of(before) == meta.labels_of(after)
            if same_spec and is_ready(before) == is_ready(after):
                return
        for daemonset in self._cluster.daemonsets:
            self.queue.add(key_of(daemonset))

    async def reconcile(self, key: NamespacedName) -> float | None:
        """Adopts pods that it selects, then deletes and creates as planned; returns when to look again, in seconds."""
        cluster = self._cluster
        daemonset = cluster.daemonsets.get(*key)
        if daemonset is None:
            return None
        pods = await claim(cluster, PODS, cluster.pods, DAEMONSETS, daemonset)
        plan = core.plan(daemonset, pods, cluster.nodes, cluster.pods.expected_deletions, cluster.wall())
        failure: KubeEdgeError | None = None
        for start in range(0, len(plan.delete), _AT_ONCE):
            await asyncio.gather(*(self._delete(daemonset, pod) for pod in plan.delete[start : start + _AT_ONCE]))
        create = () if cluster.is_ending(key[0]) else plan.create
        for start in range(0, len(create), _AT_ONCE):
            results = await asyncio.gather(
                *(self._create(daemonset, node) for node in create[start : start + _AT_ONCE])
            )
            failure = next((result for result in results if result is not None), None)
            if failure is not None:
                break
        if plan.create or plan.delete:
            pods = cluster.owned(cluster.pods, daemonset)
        wanted, later = core.status(daemonset, pods, cluster.nodes, cluster.pods.expected_deletions, cluster.wall())
        patch = merge_diff(status_of(daemonset), wanted)
        if patch:
            change = {"metadata": {"uid": uid_of(daemonset)}, "status": patch}
            await cluster.patch(cluster.daemonsets, daemonset, change, subresource="status")
        if failure is not None:
            raise failure
        return min((seconds for seconds in (later, plan.again_in) if seconds is not None), default=None)

    async def _create(self, daemonset: Object, node: str) -> KubeEdgeError | None:
        template = spec_of(daemonset).get("template") or {}
        labels = {core.REVISION: core.revision_of(daemonset)}
        pod = pod_of({**template, "spec": core.pod_spec(daemonset, node)}, daemonset, DAEMONSETS, labels)
        try:
            made = await self._cluster.client.create(PODS, meta.namespace_of(daemonset), pod)
        except KubeEdgeError as exc:
            self._say(daemonset, "FailedCreate", f"Error creating: {exc}", warning=True)
            return exc
        self._say(daemonset, "SuccessfulCreate", f"Created pod: {meta.name_of(made)}")
        return None

    async def _delete(self, daemonset: Object, pod: Object) -> None:
        if await self._cluster.delete_pod(pod):
            self._say(daemonset, "SuccessfulDelete", f"Deleted pod: {meta.name_of(pod)}")

    def _say(self, daemonset: Object, reason: str, message: str, *, warning: bool = False) -> None:
        self._cluster.recorder.event(DAEMONSETS, daemonset, reason, message, component=_COMPONENT, warning=warning)
