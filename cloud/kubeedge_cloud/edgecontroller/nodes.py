"""The Node objects of a tenant, and whether their nodes are Ready: they have reported their status, and are attached or away for less than the
grace period."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from kubeedge.api import keys, meta
from kubeedge.api.names import NodeName, Object
from kubeedge.api.resources import NODES, PODS
from kubeedge.api.status import AlreadyExists
from kubeedge.errors import Conflict, NotFound
from kubeedge_cloud.controllers.queue import WorkQueue
from kubeedge_cloud.edgecontroller import core
from kubeedge_cloud.edgecontroller.heartbeats import NodeHeartbeats
from kubeedge_cloud.edgecontroller.state import EdgeState

log = logging.getLogger("kubeedge.edgecontroller")

#: reports of a node about its links and its runtime -> the conditions that they become
CONDITIONS = {
    f"conditions/{keys.CLUSTER_SCOPE}/{name}": kind
    for name, kind in (core.REPORTED_CONDITIONS | {name: kind for name, (kind, _) in core.PRESSURES.items()}).items()
}


class NodeStatuses:
    """`report_again` is told which report (node, rest of its key) has to be looked at again."""

    #: nodes that are looked at at once
    workers = 8

    def __init__(self, state: EdgeState, report_again: Callable[[NodeName, str], None]) -> None:
        self._state = state
        self._report_again = report_again
        self._heartbeats = NodeHeartbeats(state)
        self.queue: WorkQueue[NodeName] = WorkQueue(
            f"readiness of {state.tenant}", self._sync_ready, workers=self.workers
        )

    async def ensure(self, name: NodeName) -> Object:
        """The Node object, created when it is missing. The node must have a record."""
        try:
            node = await self._state.client.get(NODES, "", name)
        except NotFound:
            pass
        else:
            return await self._with_ipv6(name, node)
        try:
            record = self._state.records[name]
            new = core.new_node(name, record.pod_cidrs, registration=record.registration)
            return await self._state.client.create(NODES, "", new)
        except AlreadyExists:
            return await self._state.client.get(NODES, "", name)

    async def _with_ipv6(self, name: NodeName, node: Object) -> Object:
        """With addresses of IPv6 for its pods, which the cloud did not have when it joined."""
        record, spec = self._state.records.get(name), node.get("spec") or {}
        if record is None or not record.ipv6 or spec.get("podCIDRs") != [record.pod_cidr]:
            return node
        return await self._state.client.merge_patch(NODES, "", name, {"spec": {"podCIDRs": record.pod_cidrs}})

    async def remove(self, name: NodeName) -> None:
        """Deletes the Node object, and its Lease; it is no error when there is none."""
        await self._heartbeats.remove(name)
        await self._delete(name)

    async def _delete(self, name: NodeName) -> None:
        with contextlib.suppress(NotFound, Conflict):
            await self._state.client.delete(NODES, "", name)

    async def write_status(
        self, node: Object, status: dict[str, Any], labels: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Replaces the status of the Node; `node` is what was read before. `labels`: of the Node, where one request writes both (cluster_nodes.py)."""
        await self._state.client.update(NODES, "", {**node, "status": status}, subresource="status")

    async def taint_pressure(self, name: NodeName, node: Object, status: Mapping[str, Any]) -> Object:
        """Taints it for the conditions of pressure in a status that is about to be written, and takes back what counts no longer. The
        node as it is then."""
        return await self._taint(
            name, node, core.with_pressure_taints(node.get("spec", {}).get("taints") or (), status)
        )

    async def _taint(self, name: NodeName, node: Object, taints: Sequence[Mapping[str, Any]]) -> Object:
        if list(node.get("spec", {}).get("taints") or ()) == taints:
            return node
        return await self._state.client.merge_patch(NODES, "", name, {"spec": {"taints": taints or None}})

    async def _sync_ready(self, name: NodeName) -> float | None:
        if name not in self._state.records:
            return None
        attached = name in self._state.sessions
        if not attached and (left := self._state.grace_left(name)) > 0:
            return max(left, 0.001)  # what rounding leaves of it must not be less than a clock can move
        node = await self.ensure(name)
        node = await self._taint(name, node, core.with_taint(node.get("spec", {}).get("taints") or (), attached))
        current = node.get("status") or {}
        merged = core.with_ready(current, attached, self._state.now())
        if merged != current:
            await self.write_status(node, merged)
            log.info("tenant=%s node=%s ready=%s", self._state.tenant, name, attached and core.is_reported(merged))
        if attached or merged != current:
            await self._heartbeats.note(node, attached=attached)
        await self._pods_of(name, attached)
        for rest in CONDITIONS if attached else ():  # also for one that was taken back while the node was away
            self._report_again(name, rest)
        return None

    async def _pods_of(self, name: NodeName, attached: bool) -> None:
        """Pods of a node that is away are not ready; once it is back, its reports count again."""
        for pod in self._state.bound_to(name):
            rest = f"pods/{meta.namespace_of(pod)}/{meta.name_of(pod)}"
            if attached:
                self._report_again(name, rest)
            elif (status := core.not_ready(pod.get("status") or {}, self._state.now())) != (pod.get("status") or {}):
                await self.write_pod_status(pod, status)

    async def write_pod_status(self, pod: Object, status: dict[str, Any]) -> None:
        """The status of that very pod (by uid), beside what others say there; nothing is written when it is the same or the pod is gone."""
        namespace, name = meta.namespace_of(pod), meta.name_of(pod)
        try:
            current = await self._state.client.get(PODS, namespace, name)
            status = core.with_others(current.get("status") or {}, status)
            if current["metadata"].get("uid") == pod["metadata"].get("uid") and current.get("status") != status:
                await self._state.client.update(PODS, namespace, {**current, "status": status}, subresource="status")
        except NotFound:
            return
