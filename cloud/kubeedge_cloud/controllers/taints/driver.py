"""Looks at the pods of nodes whose taints change, and at pods that are new on nodes with taints.

A pod's time begins when the taints of its node become what they are, as far as this process knows: after a restart it begins again,
as with Kubernetes' own controller.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from kubeedge.api import meta
from kubeedge.api.names import NamespacedName, Object
from kubeedge.api.resources import PODS
from kubeedge_cloud.controllers.cluster import Cluster
from kubeedge_cloud.controllers.objects import is_deleting, key_of, spec_of, uid_of
from kubeedge_cloud.controllers.queue import WorkQueue
from kubeedge_cloud.controllers.taints import core

log = logging.getLogger("kubeedge.controllers")


class TaintEviction:
    """Keys of its queue are pods."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._since: dict[str, tuple[str, float]] = {}  # uid of a pod that waits -> what makes it, since when
        self._pods_on: dict[str, dict[NamespacedName, None]] = {}  # by name of the node
        self.queue: WorkQueue[NamespacedName] = WorkQueue("pods on tainted nodes", self.reconcile)

    def listen(self) -> None:
        """A pod is looked at when it is bound or its tolerations change, and all pods of a node when its taints do."""
        self._cluster.nodes.on_change(self._node_changed)
        self._cluster.pods.on_change(self._pod_changed)

    def _node_changed(self, before: Object | None, after: Object | None) -> None:
        if _taints(before) != _taints(after):
            for key in self._pods_on.get(meta.name_of(after or before or {}), ()):
                self.queue.add(key)

    def _pod_changed(self, before: Object | None, after: Object | None) -> None:
        if before is not None and (after is None or _node_of(before) != _node_of(after)):
            pods = self._pods_on.get(_node_of(before), {})
            pods.pop(key_of(before), None)
            if not pods:
                self._pods_on.pop(_node_of(before), None)
            self._since.pop(uid_of(before), None)
        if after is None or not (node := _node_of(after)):
            return
        self._pods_on.setdefault(node, {})[key_of(after)] = None
        if before is not None and _node_of(before) == node and _tolerations(before) == _tolerations(after):
            return
        if _taints(self._cluster.nodes.get("", node)):
            self.queue.add(key_of(after))

    async def reconcile(self, key: NamespacedName) -> float | None:
        """Deletes a pod whose toleration has run out; returns the seconds that it has left, None when it may stay."""
        pod = self._cluster.pods.get(*key)
        if pod is None or is_deleting(pod):
            return None
        uid, taints = uid_of(pod), _taints(self._cluster.nodes.get("", _node_of(pod)))
        seconds = core.stay(_tolerations(pod), taints)
        if seconds is None:
            self._since.pop(uid, None)
            return None
        now = asyncio.get_running_loop().time()
        why, since = self._since.get(uid, ("", now))
        if why != repr(taints):
            since = now
            self._since[uid] = (repr(taints), now)
        if (left := since + seconds - now) > 0:
            return left
        log.info("evicting pod %s/%s: it does not tolerate the taints of node %s", *key, _node_of(pod))
        self._cluster.recorder.event(
            PODS,
            pod,
            "TaintManagerEviction",
            f"Marking for deletion Pod {key[0]}/{key[1]}",
            component="taint-eviction-controller",
        )
        await self._cluster.delete_pod(pod)
        return None


def _taints(node: Object | None) -> list[Mapping[str, Any]]:
    return list(core.executing(spec_of(node).get("taints") or ())) if node is not None else []


def _tolerations(pod: Object) -> list[Object]:
    return list(spec_of(pod).get("tolerations") or ())


def _node_of(pod: Object) -> str:
    return str(spec_of(pod).get("nodeName") or "")
