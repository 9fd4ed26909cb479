"""Performs what core.py plans for Deployments."""

from __future__ import annotations

from collections.abc import Sequence

from kubeedge.api import meta
from kubeedge.api.names import NamespacedName, Object
from kubeedge.api.resources import DEPLOYMENTS, REPLICASETS
from kubeedge.api.status import AlreadyExists
from kubeedge.errors import Conflict, NotFound
from kubeedge_cloud.controllers.cluster import Cluster
from kubeedge_cloud.controllers.deployment import core, status
from kubeedge_cloud.controllers.deployment.replicasets import replicas_of, template_of
from kubeedge_cloud.controllers.objects import controller_of, count, key_of, merge_diff, status_of, uid_of
from kubeedge_cloud.controllers.ownership import claim, selecting
from kubeedge_cloud.controllers.queue import WorkQueue

_COMPONENT = "deployment-controller"


class DeploymentController:
    """Keys of its queue are Deployments."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.queue: WorkQueue[NamespacedName] = WorkQueue("deployments", self.reconcile)

    def listen(self) -> None:
        """A Deployment is looked at when it or a ReplicaSet of its own changes, and when one of its pods is gone."""
        self._cluster.deployments.on_change(lambda before, after: self.queue.add(key_of(after or before or {})))
        self._cluster.replicasets.on_change(self._replicaset_changed)
        self._cluster.pods.on_change(self._pod_changed)

    def _replicaset_changed(self, before: Object | None, after: Object | None) -> None:
        for replicaset in (before, after):
            if replicaset is None:
                continue
            owner = controller_of(replicaset)
            if owner is not None:
                if owner.get("kind") == "Deployment":
                    self.queue.add((meta.namespace_of(replicaset), str(owner.get("name"))))
            else:
                for deployment in selecting(self._cluster.deployments, replicaset):
                    self.queue.add(key_of(deployment))

    def _pod_changed(self, before: Object | None, after: Object | None) -> None:
        """Recreate waits for the end of old pods; everything else is told by the ReplicaSet's status."""
        if before is None or after is not None:
            return
        owner = controller_of(before)
        if owner is None or owner.get("kind") != "ReplicaSet":
            return
        replicaset = self._cluster.replicasets.get(meta.namespace_of(before), str(owner.get("name")))
        above = controller_of(replicaset) if replicaset is not None else None
        if above is not None:
            self.queue.add((meta.namespace_of(before), str(above.get("name"))))

    async def reconcile(self, key: NamespacedName) -> float | None:
        """Adopts ReplicaSets that it selects and performs one step; their changes bring the next one."""
        deployment = self._cluster.deployments.get(*key)
        if deployment is None:
            return None
        cluster = self._cluster
        await claim(cluster, REPLICASETS, cluster.replicasets, DEPLOYMENTS, deployment)
        replicasets = cluster.owned(cluster.replicasets, deployment)
        owners = {uid_of(rs) for rs in replicasets}
        pods = [pod for pod in cluster.pods.in_namespace(key[0]) if (controller_of(pod) or {}).get("uid") in owners]
        plan = core.plan(deployment, replicasets, pods)
        if plan.create is not None:
            await self._create(deployment, plan.create)
        for change in plan.changes:
            await self._change(deployment, change)
        for replicaset in plan.delete:
            await self._delete(replicaset)
        if plan.revision:
            patch = {"metadata": {"uid": uid_of(deployment), "annotations": {core.REVISION: plan.revision}}}
            deployment = await cluster.patch(cluster.deployments, deployment, patch)
        return await self._write_status(deployment)

    async def _create(self, deployment: Object, wanted: Object) -> None:
        cluster = self._cluster
        try:
            made = await cluster.client.create(REPLICASETS, meta.namespace_of(deployment), wanted)
        except AlreadyExists:
            # The name is taken by what is not ours, or is ours and our cache is behind: look, and try another name.
            found = await cluster.client.get(REPLICASETS, meta.namespace_of(deployment), meta.name_of(wanted))
            if (controller_of(found) or {}).get("uid") == uid_of(deployment) and template_of(found) == template_of(
                deployment
            ):
                await cluster.replicasets.refresh(meta.namespace_of(found), meta.name_of(found))
                return
            collisions = count(status_of(deployment).get("collisionCount")) + 1
            patch = {"metadata": {"uid": uid_of(deployment)}, "status": {"collisionCount": collisions}}
            await cluster.patch(cluster.deployments, deployment, patch, subresource="status")
            raise
        size = replicas_of(made)
        if size:
            self._say(deployment, f"Scaled up replica set {meta.name_of(made)} to {size}")

    async def _change(self, deployment: Object, change: core.ReplicaSetChange) -> None:
        rs = change.replicaset
        inner = meta.metadata(rs)
        patch: Object = {"metadata": {"uid": inner.get("uid"), "resourceVersion": inner.get("resourceVersion")}}
        if change.annotations:
            patch["metadata"]["annotations"] = dict(change.annotations)
        before = replicas_of(rs)
        if change.replicas is not None and change.replicas != before:
            patch["spec"] = {"replicas": change.replicas}
        await self._cluster.patch(self._cluster.replicasets, rs, patch)
        if "spec" in patch and change.replicas is not None:
            way = "up" if change.replicas > before else "down"
            self._say(deployment, f"Scaled {way} replica set {meta.name_of(rs)} to {change.replicas}")

    async def _delete(self, replicaset: Object) -> None:
        try:
            await self._cluster.client.delete(
                REPLICASETS, meta.namespace_of(replicaset), meta.name_of(replicaset), uid=uid_of(replicaset)
            )
        except (NotFound, Conflict):
            return

    async def _write_status(self, deployment: Object) -> float | None:
        cluster = self._cluster
        replicasets: Sequence[Object] = cluster.owned(cluster.replicasets, deployment)
        wanted, later = status.of(deployment, replicasets, cluster.wall())
        patch = merge_diff(status_of(deployment), wanted)
        if patch:
            await cluster.patch(
                cluster.deployments,
                deployment,
                {"metadata": {"uid": uid_of(deployment)}, "status": patch},
                subresource="status",
            )
        return later

    def _say(self, deployment: Object, message: str) -> None:
        self._cluster.recorder.event(DEPLOYMENTS, deployment, "ScalingReplicaSet", message, component=_COMPONENT)
