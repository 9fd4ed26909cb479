"""Pods that go on at the edge while their node is away: in a cluster that is a user's own they are given the tolerations for it.

The cluster's lifecycle controller taints a node that is away, and evicts what does not tolerate that. What is labelled (tolerations.py) gets
the tolerations as soon as it is bound to a node of ours; they stay when the label goes.
"""

from __future__ import annotations

import asyncio

from kubeedge.api import meta
from kubeedge.api.names import NamespacedName, NodeName, Object
from kubeedge.api.resources import PODS
from kubeedge.api.status import Forbidden
from kubeedge_cloud.controllers.objects import is_deleting, key_of
from kubeedge_cloud.controllers.queue import WorkQueue
from kubeedge_cloud.edgecontroller import tolerations
from kubeedge_cloud.edgecontroller.state import EdgeState

_AGAIN = 300.0  # seconds until a right that we lack is looked for again


class Autonomy:
    """Keys of the queue are pods."""

    def __init__(self, state: EdgeState) -> None:
        self._state = state
        self._refused: dict[NamespacedName, float] = {}  # when a pod may be tried again, in seconds of the loop
        self.queue: WorkQueue[NamespacedName] = WorkQueue(f"tolerations of pods of {state.tenant}", self._tolerate)

    def pod_changed(self, pod: Object) -> None:
        """A pod came, or is another."""
        if self._wanted(pod) is not None:
            self.queue.add(key_of(pod))

    def node_changed(self, name: NodeName) -> None:
        """A Node of ours came, or is another."""
        for pod in self._state.pods_of(name):
            self.pod_changed(pod)

    def _wanted(self, pod: Object) -> list[Object] | None:
        spec = pod.get("spec") or {}
        name = NodeName(str(spec.get("nodeName") or ""))
        if name not in self._state.records or is_deleting(pod) or self._state.is_foreign(name):
            return None
        if not tolerations.stays(pod, self._state.nodes.get("", name)):
            return None
        return tolerations.without_end(spec.get("tolerations") or ())

    async def _tolerate(self, key: NamespacedName) -> float | None:
        pod, now = self._state.pods.get(*key), asyncio.get_running_loop().time()
        if pod is None or (wanted := self._wanted(pod)) is None:
            self._refused.pop(key, None)
            return None
        if (left := self._refused.get(key, now) - now) > 0:
            return left
        inner = {
            field: meta.metadata(pod)[field] for field in ("uid", "resourceVersion")
        }  # a list is replaced as a whole
        patch = {"metadata": inner, "spec": {"tolerations": wanted}}
        try:
            await self._state.client.merge_patch(PODS, meta.namespace_of(pod), meta.name_of(pod), patch)
        except Forbidden:
            message = (
                f"the pod is labelled {tolerations.LABEL}={tolerations.AUTONOMY}, but the cloud's account may not patch pods: it will be "
                "evicted while its node is away"
            )
            self._state.recorder.event(
                PODS, pod, "TolerationsNotSet", message, component="edgecontroller", warning=True
            )
            self._refused[key] = now + _AGAIN
            return _AGAIN
        return None
