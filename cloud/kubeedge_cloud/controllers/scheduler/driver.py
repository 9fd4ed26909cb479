"""Binds pods to nodes. The decision and its bookkeeping happen without an await between them; the writes overlap."""

from __future__ import annotations

import dataclasses
import logging

from kubeedge.api import meta
from kubeedge.api.names import NamespacedName, Object
from kubeedge.api.resources import PODS
from kubeedge.errors import Conflict, Invalid, NotFound
from kubeedge_cloud.controllers.cluster import Cluster
from kubeedge_cloud.controllers.objects import (
    condition_of,
    is_deleting,
    is_finished,
    is_ready,
    key_of,
    spec_of,
    status_of,
    uid_of,
)
from kubeedge_cloud.controllers.queue import WorkQueue
from kubeedge_cloud.controllers.scheduler import core

log = logging.getLogger("kubeedge.controllers")

NAME = "default-scheduler"


class Scheduler:
    """Keys of its queue are pods without a node."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._nodes = core.SchedulerCache()
        self._waiting: dict[NamespacedName, None] = {}  # pods for which there is no node now
        self._assumed: dict[str, str] = {}  # uid -> node, while the binding is being written
        self.queue: WorkQueue[NamespacedName] = WorkQueue("scheduler", self.reconcile, workers=16)

    def listen(self) -> None:
        """A pod is looked at when it arrives, and those that found no node when room may have come up."""
        self._cluster.nodes.on_change(self._node_changed)
        self._cluster.pods.on_change(self._pod_changed)

    def _node_changed(self, before: Object | None, after: Object | None) -> None:
        if after is None:
            if before is not None:
                self._nodes.remove_node(meta.name_of(before))
            return
        self._nodes.set_node(after)
        if before is None or _offer(before) != _offer(after):
            self._try_again()

    def _pod_changed(self, before: Object | None, after: Object | None) -> None:
        if after is None:
            assert before is not None
            self._assumed.pop(uid_of(before), None)
            self._waiting.pop(key_of(before), None)
            self._nodes.remove_pod(uid_of(before))
            if spec_of(before).get("nodeName"):
                self._try_again()
            return
        if spec_of(after).get("nodeName"):
            self._assumed.pop(uid_of(after), None)
            self._waiting.pop(key_of(after), None)
            self._nodes.set_pod(after)
            if is_finished(after) and before is not None and not is_finished(before):
                self._try_again()
        elif before is None or spec_of(before) != spec_of(after) or meta.labels_of(before) != meta.labels_of(after):
            if _is_ours(after):
                self.queue.add(key_of(after))

    def _try_again(self) -> None:
        for key in self._waiting:
            self.queue.add(key)
        self._waiting.clear()

    async def reconcile(self, key: NamespacedName) -> float | None:
        """Decides, assumes the decision and writes the binding; a pod that fits nowhere waits for a change."""
        pod = self._cluster.pods.get(*key)
        if pod is None or not _is_ours(pod) or uid_of(pod) in self._assumed:
            return None
        result = self._nodes.schedule(pod)
        if isinstance(result, core.Unschedulable):
            self._waiting[key] = None
            await self._say_why(pod, result.message)
            return None
        uid = uid_of(pod)
        self._assumed[uid] = result.node
        self._nodes.add(dataclasses.replace(core.info_of(pod), node=result.node))
        try:
            await self._bind(pod, result.node)
        except (NotFound, Conflict, Invalid) as exc:
            # gone, or bound by another scheduler: the cache will catch up
            self._take_back(uid)
            log.debug("pod %s/%s not bound: %s", *key, exc)
            return 0.1 if not isinstance(exc, NotFound) else None
        except BaseException:
            self._take_back(uid)
            raise
        return None

    def _take_back(self, uid: str) -> None:
        if self._assumed.pop(uid, None) is not None:
            self._nodes.remove_pod(uid)

    async def _bind(self, pod: Object, node: str) -> None:
        """The uid makes sure that it is this pod and not the next one of the name."""
        patch = {"metadata": {"uid": uid_of(pod)}, "spec": {"nodeName": node}}
        await self._cluster.patch(self._cluster.pods, pod, patch)
        text = f"Successfully assigned {meta.namespace_of(pod)}/{meta.name_of(pod)} to {node}"
        self._cluster.recorder.event(PODS, pod, "Scheduled", text, component=NAME)

    async def _say_why(self, pod: Object, message: str) -> None:
        before = condition_of(pod, "PodScheduled") or {}
        if before.get("reason") == "Unschedulable" and before.get("message") == message:
            return
        stamp = meta.timestamp(self._cluster.wall())
        same = before.get("status") == "False"
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
            "lastTransitionTime": before.get("lastTransitionTime", stamp) if same else stamp,
        }
        others = [c for c in status_of(pod).get("conditions") or () if c.get("type") != "PodScheduled"]
        inner = {"uid": uid_of(pod), "resourceVersion": meta.metadata(pod).get("resourceVersion")}
        try:
            await self._cluster.patch(
                self._cluster.pods,
                pod,
                {"metadata": inner, "status": {"conditions": [*others, condition]}},
                subresource="status",
            )
        except (NotFound, Conflict):
            return
        self._cluster.recorder.event(PODS, pod, "FailedScheduling", message, component=NAME, warning=True)


def _is_ours(pod: Object) -> bool:
    spec = spec_of(pod)
    return (
        not spec.get("nodeName")
        and not is_deleting(pod)
        and not is_finished(pod)
        and spec.get("schedulerName", NAME) == NAME
        and not spec.get("schedulingGates")
    )


def _offer(node: Object) -> tuple[object, ...]:
    """What a waiting pod may wait for."""
    return (
        meta.labels_of(node),
        spec_of(node).get("taints"),
        spec_of(node).get("unschedulable"),
        status_of(node).get("allocatable"),
        is_ready(node),
    )
