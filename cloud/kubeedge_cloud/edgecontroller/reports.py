"""What nodes report, taken over into the API: status of pods, Node objects, conditions, events.

/t/T/edge/N/reported/RESOURCE/NAMESPACE/NAME -> the API
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Any

from kubeedge.api import pod_certificates, schema, strict_json
from kubeedge.api.json_bounds import JsonBounds
from kubeedge.api.names import NodeName, Object
from kubeedge.api.resources import NODES, PODS
from kubeedge.api.status import StatusError
from kubeedge.errors import Conflict, Invalid, NotFound
from kubeedge.kit.bucket import Bucket
from kubeedge_cloud.controllers.queue import WorkQueue
from kubeedge_cloud.edgecontroller import core, grown_claims
from kubeedge_cloud.edgecontroller.csi_nodes import CsiNodes
from kubeedge_cloud.edgecontroller.kubelet_endpoint import with_endpoint
from kubeedge_cloud.edgecontroller.mirror_pods import MirrorPods
from kubeedge_cloud.edgecontroller.node_events import NodeEvents
from kubeedge_cloud.edgecontroller.nodes import CONDITIONS, NodeStatuses
from kubeedge_cloud.edgecontroller.pod_certificates import PodCertificateRequests
from kubeedge_cloud.edgecontroller.state import EdgeState, mirrored

log = logging.getLogger("kubeedge.edgecontroller")

_CERTIFICATES = pod_certificates.RESOURCE
#: writes through the API of what one node reports, by resource, a second in the long run and at once after a pause. What is reported meanwhile
#: is not written; the newest is. A node has one status, some conditions, which decide whether it is Ready, and 110 pods
_WRITES = {"nodes": (0.5, 10.0), "conditions": (1.0, 30.0), "pods": (10.0, 1000.0), _CERTIFICATES: (1.0, 64.0)}
#: seconds until what was too many is looked at again, at least; pods may be hundreds
_LATER = {"nodes": 0.1, "conditions": 0.1, "pods": 2.0, _CERTIFICATES: 1.0}
#: values of one report; a pod with 60 containers has about 2,000, and what is done to each of them delays everything else
_REPORT = JsonBounds(values=5_000)
_STATE = "state"  # the queue of all the other reports, those of the node itself
_EVENTS_AT_ONCE = 8
_LARGE = 4 * 1024  # bytes of a report; smaller ones are not counted
_LARGE_RATE, _LARGE_BURST = 32 * 1024.0, 1024 * 1024.0  # bytes a second in large reports of one node, and at once


class _Paces:
    """How often things happen for one node."""

    __slots__ = ("large", "writes")

    def __init__(self, now: float) -> None:
        self.large = Bucket(_LARGE_RATE, _LARGE_BURST, now)
        self.writes = {resource: Bucket(rate, burst, now) for resource, (rate, burst) in _WRITES.items()}


class ReportedState:
    """Keys of the queues are (node, rest), `rest` being RESOURCE/NAMESPACE/NAME. Events, large reports and writes have a rate limit a node."""

    def __init__(self, state: EdgeState, nodes: NodeStatuses, certificates: PodCertificateRequests) -> None:
        self._state = state
        self._certificates = certificates
        self._nodes = nodes
        self._mirrors = MirrorPods(state)
        self._drivers = CsiNodes(state)
        self._events = NodeEvents(state)
        self._paces: dict[NodeName, _Paces] = {}
        #: pods and events have queues of their own: a webhook of the cluster may hang on one kind of object, and holds up all of that kind
        self._queues: dict[str, WorkQueue[tuple[NodeName, str]]] = {
            kind: WorkQueue(f"reported {kind} of {state.tenant}", self._sync_up, workers=workers)
            for kind, workers in (("pods", nodes.workers), ("events", _EVENTS_AT_ONCE), (_STATE, nodes.workers))
        }

    @property
    def queues(self) -> Sequence[WorkQueue[tuple[NodeName, str]]]:
        """To be run, all of them."""
        return tuple(self._queues.values())

    def changed(self, node: NodeName, rest: str, value: bytes | None, *, arrives: bool) -> None:
        """A report, by the rest of its key; None: it was taken back. `arrives`: it was not there when this process began."""
        short = f"{node}/reported/{rest}"
        resource, _, tail = rest.partition("/")
        namespace, _, name = tail.partition("/")
        if value is not None:
            self._state.reported[short] = value
            if arrives and resource == "events":
                self._events.arrived(node, (namespace, name))
        else:
            self._state.reported.pop(short, None)
            if resource == "events":
                self._events.taken_back(node, (namespace, name))
        if resource == _CERTIFICATES:
            self._certificates.reported(node, rest, asks=value is not None)
        self.again(node, rest)

    def again(self, node: NodeName, rest: str) -> None:
        """Look at that report again, though it has not changed."""
        kind = rest.partition("/")[0]
        self._queues[kind if kind in self._queues else _STATE].add((node, rest))

    def forget(self, node: NodeName) -> None:
        """The node was removed: its rate limits start over if it comes back."""
        self._paces.pop(node, None)
        self._events.forget(node)
        self._certificates.forget(node)

    async def _sync_up(self, key: tuple[NodeName, str]) -> float | None:
        name, rest = key
        value = self._state.reported.get(f"{name}/reported/{rest}")
        if value is None and rest in CONDITIONS:
            value = b"{}"  # it is switched off
        if name not in self._state.records:
            return None
        resource, _, tail = rest.partition("/")
        namespace, _, object_name = tail.partition("/")
        if value is None:
            if resource == "pods":
                await self._mirrors.remove(name, namespace, object_name)
            return None
        if wait := self._behind(name, resource):
            return wait
        if len(value) > _LARGE and (wait := self._reading(name, len(value))):
            return wait
        try:
            report = _json(value)
            match resource:
                case "pods":
                    return await self._pod_reported(name, namespace, object_name, report)
                case "nodes" if object_name == name:
                    await self._node_reported(name, report)
                case "csinodes" if object_name == name and self._state.cluster:
                    self._wrote(name, "nodes")
                    await self._drivers.report(name, report)
                case "persistentvolumeclaims" if self._state.cluster:
                    if await grown_claims.report(self._state, name, namespace, object_name, report):
                        self._wrote(name, "nodes")
                case "conditions" if rest in CONDITIONS:
                    await self._condition_reported(name, CONDITIONS[rest], report)
                case pod_certificates.RESOURCE:
                    self._wrote(name, resource)
                    return await self._certificates.look(name, rest, report)
                case "events":
                    return await self._events.write(name, (namespace, object_name), report)
        except Invalid as exc:  # what one node says must not stop the others
            if self._state.cluster and isinstance(exc, StatusError) and resource != "events":
                raise  # a policy or webhook of the cluster refuses it, for now: it is tried again
            log.warning("tenant=%s node=%s reported %s: %s", self._state.tenant, name, rest, exc)
        return None

    def _reading(self, name: NodeName, size: int) -> float:
        """Seconds until the node's next large report may be read; 0.0: now, and it was counted."""
        now = asyncio.get_running_loop().time()
        bucket = self._paces_of(name).large
        if not (wait := bucket.charge(0, now)):
            bucket.charge(size, now)
        return wait

    def _paces_of(self, name: NodeName) -> _Paces:
        if (paces := self._paces.get(name)) is None:
            paces = self._paces[name] = _Paces(asyncio.get_running_loop().time())
        return paces

    def _behind(self, name: NodeName, resource: str) -> float:
        """Seconds until what was written for the node is paid for, about; 0.0: it is."""
        bucket = self._paces_of(name).writes.get(resource)
        wait = bucket.charge(0, asyncio.get_running_loop().time()) if bucket else 0.0
        return max(wait, _LATER[resource]) if wait else 0.0

    def _wrote(self, name: NodeName, resource: str) -> None:
        self._paces_of(name).writes[resource].charge(1, asyncio.get_running_loop().time())

    async def _pod_reported(self, node: NodeName, namespace: str, name: str, report: dict[str, Any]) -> float | None:
        uid, status, mirror = str(report.get("uid", "")), report.get("status"), report.get("mirror")
        if isinstance(mirror, dict) and isinstance(status, dict):
            _check("PodStatus", status)
            if mirrored(self._state.pods.get(namespace, name) or {}) != uid:
                self._wrote(node, "pods")
            found = await self._mirrors.of(node, namespace, name, uid, mirror)
            if isinstance(found, float):
                return found
            await self._write_reported(node, found, status)
            return None
        pod = self._state.pods.get(namespace, name)
        if pod is None or pod["metadata"].get("uid") != uid or pod.get("spec", {}).get("nodeName") != node:
            return None
        if report.get("gone"):
            if isinstance(status, dict) and pod["metadata"].get("finalizers"):
                # it stays, and no other report will say how it ended
                _check("PodStatus", status)
                await self._write_pod_status(node, pod, status)
            if pod["metadata"].get("deletionTimestamp"):
                with contextlib.suppress(NotFound, Conflict):
                    await self._state.client_of(node).delete(PODS, namespace, name, grace_period=0, uid=uid)
            return None
        if not isinstance(status, dict):
            return None
        _check("PodStatus", status)
        await self._write_reported(node, pod, status)
        return None

    async def _write_reported(self, node: NodeName, pod: Object, status: dict[str, Any]) -> None:
        if node not in self._state.sessions and self._state.is_lost(node):
            status = core.not_ready(status, self._state.now())
        await self._write_pod_status(node, pod, status)

    async def _write_pod_status(self, node: NodeName, pod: Object, status: dict[str, Any]) -> None:
        known = pod.get("status") or {}
        if known != core.with_others(known, status):
            self._wrote(node, "pods")
            await self._nodes.write_pod_status(pod, status)

    async def _node_reported(self, name: NodeName, report: dict[str, Any]) -> None:
        status = report.get("status")
        if not isinstance(status, dict):
            return
        status = core.node_report(status)
        _check("NodeStatus", status)
        status = with_endpoint(status, self._state.kubelet(self._state.records[name]))
        node = await self._nodes.ensure(name)
        labels = {
            k: v for k, v in core.node_labels(status).items() if (node["metadata"].get("labels") or {}).get(k) != v
        }
        if labels and not self._state.cluster:
            self._wrote(name, "nodes")
            client = self._state.client_of(name)
            node, labels = await client.merge_patch(NODES, "", name, {"metadata": {"labels": labels}}), {}
        current = node.get("status") or {}
        attached = name in self._state.sessions or self._state.grace_left(name) > 0
        merged = core.with_ready(core.with_report(current, status), attached, self._state.now())
        if merged != current or labels:
            self._wrote(name, "nodes")
            await self._nodes.write_status(node, merged, labels)

    async def _condition_reported(self, name: NodeName, kind: str, report: dict[str, Any]) -> None:
        if name not in self._state.sessions and self._state.is_lost(name):
            return  # unknown
        node = await self._nodes.ensure(name)
        current = node.get("status") or {}
        condition = core.reported_condition(kind, report)
        merged = core.with_reported(current, kind, condition, self._state.now())
        if merged != current:
            self._wrote(name, "conditions")
        node = await self._nodes.taint_pressure(name, node, merged)
        if merged == current:
            return
        await self._nodes.write_status(node, merged)
        if condition is not None:
            reason, warning = core.condition_event(condition)
            message = condition["message"]
            self._state.recorder.event(NODES, node, reason, message, component="edgecontroller", warning=warning)


def _check(kind: str, status: Object) -> None:
    """Raises Invalid: a malformed status would break its readers, beginning with us."""
    if errors := schema.check(kind, status)[0]:
        raise Invalid(f"{errors[0]}")


def _json(value: bytes) -> dict[str, Any]:
    """Raises Invalid for what no client of the API could read."""
    obj = strict_json.loads(value, bounds=_REPORT)
    return obj if isinstance(obj, dict) else {}
