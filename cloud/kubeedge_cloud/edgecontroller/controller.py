"""Module "edgecontroller": for every tenant two directions, both level-triggered.

    down   API objects ── desired(node) ── compare with the store ── write the differences ──> /t/T/edge/N/desired/
    up     /t/T/edge/N/reported/ ──> status of pods, Node objects, events, writes of the node (writes.py)
           /sessions/T/N          ──> Ready

Whatever happened while the process was away, the next look finds the same differences.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any

from kubeedge import faults
from kubeedge.api import edge_writes, keys, meta, schema, strict_json
from kubeedge.api.client import KubeClient
from kubeedge.api.json_bounds import Bounds
from kubeedge.api.names import NodeName, Object, TenantId
from kubeedge.api.resources import CONFIGMAPS, EVENTS, NODES, PODS, SECRETS, SERVICES
from kubeedge.api.status import AlreadyExists
from kubeedge.errors import Conflict, Invalid, NotFound, Refused
from kubeedge.kit.bucket import Bucket
from kubeedge.store.model import Compare, CompareTarget, Delete, Op, Put, Store
from kubeedge.store.reflector import reflect
from kubeedge_cloud.controllers.informer.client import CachedClient
from kubeedge_cloud.controllers.objects import is_ready
from kubeedge_cloud.controllers.queue import WorkQueue
from kubeedge_cloud.controllers.recorder import Recorder
from kubeedge_cloud.edgecontroller import projection as core
from kubeedge_cloud.edgecontroller.writes import WriteMerger
from kubeedge_cloud.processes.membership import Alone, Membership, led
from kubeedge_cloud.tenants.each import for_each_tenant
from kubeedge_cloud.tenants.manager import TenantManager
from kubeedge_cloud.tenants.model import NodeRecord, TenantRecord, node_key

log = logging.getLogger("kubeedge.edgecontroller")

_DATA = {"configmaps": CONFIGMAPS, "secrets": SECRETS}
_OPS = 1000  # in one transaction
_AT_ONCE = 64  # nodes that are looked at: what one change means for all of them is few commits then
_KUBEBUS = f"conditions/{keys.CLUSTER_SCOPE}/kubebus"
_WRITES = f"{edge_writes.RESOURCE}/"
#: events and writes of one node, a second in the long run and at once after a pause. Each becomes an object or a record here, though the
#: node may have taken its key away at once to make room for the next. An agent keeps 100 events, and 256 writes at most wait at an edge
_EVENT_RATE, _EVENT_BURST = 1.0, 300.0
_EVENT_LATER = 30.0  # seconds until one that was too many is looked at again: its node may have thousands
#: values of one report; a pod with 60 containers has about 2,000, and what is done to each of them holds up everybody
_REPORT = Bounds(values=5_000)
_LARGE = 4 * 1024  # bytes of a report; smaller ones are not counted
_LARGE_RATE, _LARGE_BURST = 32 * 1024.0, 1024 * 1024.0  # bytes a second in large reports of one node, and at once
_WRITE_RATE, _WRITE_BURST = 5.0, 300.0
_WRITE_LATER = 2.0  # seconds: each look costs as much as there are writes whose answers the node has not taken
_WRITES_LOOKED_AT = 512  # the first ones; twice as many as may wait at an edge


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeControllerSettings:
    node_grace: float = 10.0  # seconds from the loss of a node's channel to NotReady


class TenantEdgeController:
    def __init__(
        self,
        tenant: TenantId,
        store: Store,
        client: KubeClient,
        tenants: TenantManager,
        settings: EdgeControllerSettings,
        *,
        fence: Callable[[], Sequence[Compare]] = tuple,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._tenant = tenant
        self._fence = fence
        self._store = store
        self._client = cached = CachedClient(client)
        self._tenants = tenants
        self._settings = settings
        self._wall = wall
        self._recorder = Recorder(cached, wall=wall)
        self._pods = cached.informer(PODS)
        self._services = cached.informer(SERVICES)
        self._nodes = cached.informer(NODES)
        self._data = {name: cached.informer(resource) for name, resource in _DATA.items()}
        self._pods_on: dict[NodeName, dict[tuple[str, str], None]] = {}  # an index: many nodes have few pods each
        self._records: dict[NodeName, NodeRecord] = {}
        self._reported: dict[str, bytes] = {}  # "N/reported/..." -> value
        self._sessions: set[NodeName] = set()
        self._lost_at: dict[NodeName, float] = {}
        self._started = 0.0  # a node that was Ready then and is not attached yet has the grace period to come back
        self._references: dict[NodeName, frozenset[tuple[str, str, str]]] = {}
        self._down: WorkQueue[NodeName] = WorkQueue(f"desired state of {tenant}", self._sync_down, workers=_AT_ONCE)
        self._up: WorkQueue[tuple[NodeName, str]] = WorkQueue(f"reported state of {tenant}", self._sync_up)
        self._edge_writes: dict[
            NodeName, dict[str, bytes]
        ] = {}  # that nodes wait to have answered: "writes/_/SEQ" -> value
        self._answers: dict[NodeName, dict[str, bytes]] = {}  # that are not in the store yet
        self._merger = WriteMerger(
            tenant, store, cached, pods=lambda: self._pods, refresh=self._refresh, wall=self._wall
        )
        self._writes: WorkQueue[NodeName] = WorkQueue(f"writes of nodes of {tenant}", self._merge_writes)
        self._events_of: dict[NodeName, Bucket] = {}
        self._large_of: dict[NodeName, Bucket] = {}
        self._writes_of: dict[NodeName, Bucket] = {}
        self._readiness: WorkQueue[NodeName] = WorkQueue(f"readiness of {tenant}", self._sync_ready)

    async def run(self, serving: asyncio.Event) -> None:
        self._started = asyncio.get_running_loop().time()
        informers = (self._pods, self._services, self._nodes, *self._data.values())
        async with asyncio.TaskGroup() as group:
            for informer in informers:
                group.create_task(informer.run(), name=f"{informer.resource.plural} of {self._tenant}")
            for informer in informers:
                await informer.synced.wait()
            self._listen()
            follow = (self._follow_records, self._follow_reports, self._follow_sessions)
            firsts = [asyncio.Event() for _ in follow]
            for function, first in zip(follow, firsts, strict=True):
                group.create_task(function(first), name=function.__name__)
            for first in firsts:
                await first.wait()
            for queue in (self._down, self._up, self._readiness, self._writes):
                group.create_task(queue.run())
            group.create_task(self._recorder.run(), name="events of nodes")
            serving.set()

    # -- what may have changed -----------------------------------------------------------------------------------------

    def _listen(self) -> None:
        def pod_changed(before: Object | None, after: Object | None) -> None:
            for obj, present in ((before, False), (after, True)):
                if obj is not None and (on := obj.get("spec", {}).get("nodeName")):
                    object_key = (meta.namespace_of(obj), meta.name_of(obj))
                    if present:
                        self._pods_on.setdefault(NodeName(on), {})[object_key] = None
                    elif object_keys := self._pods_on.get(NodeName(on)):
                        object_keys.pop(object_key, None)
                        if not object_keys:
                            del self._pods_on[NodeName(on)]
            # What a node reports about a pod changes nothing that it should have.
            told = before is not None and after is not None and core.pod(before) == core.pod(after)
            for obj in () if told else (before, after):
                name = (obj or {}).get("spec", {}).get("nodeName")
                if name in self._records:
                    self._down.add(NodeName(name))
            marked = (
                after is not None and before is not None and _is_being_deleted(after) and not _is_being_deleted(before)
            )
            if after is not None and (before is None or marked):  # its node may have said already that it is gone
                name = NodeName(str(after.get("spec", {}).get("nodeName", "")))
                key = f"pods/{meta.namespace_of(after)}/{meta.name_of(after)}"
                if f"{name}/reported/{key}" in self._reported:
                    self._up.add((name, key))

        def service_changed(before: Object | None, after: Object | None) -> None:
            if any(obj is not None and core.web_service(obj) is not None for obj in (before, after)):
                for name in self._records:
                    self._down.add(name)

        def data_changed(resource: str, before: Object | None, after: Object | None) -> None:
            obj = after or before or {}
            object_key = (resource, meta.namespace_of(obj), meta.name_of(obj))
            for name, references in self._references.items():
                if object_key in references:
                    self._down.add(name)

        def node_changed(before: Object | None, after: Object | None) -> None:
            name = NodeName(meta.name_of(after or before or {}))
            if name in self._records:
                self._down.add(name)
                if (
                    after is None
                ):  # the machine is still a node: it registers again, with everything that it has said of itself
                    self._readiness.add(name)
                    self._up.add((name, f"nodes/{keys.CLUSTER_SCOPE}/{name}"))
                    self._up.add((name, _KUBEBUS))

        self._pods.on_change(pod_changed)
        self._services.on_change(service_changed)
        self._nodes.on_change(node_changed)
        for resource, informer in self._data.items():
            informer.on_change(partial(data_changed, resource))

    async def _follow_records(self, first: asyncio.Event) -> None:
        async with aclosing(self._tenants.follow_nodes(self._tenant)) as changes:
            async for records in changes:
                new = records.keys() - self._records.keys()
                gone = self._records.keys() - records.keys()
                self._records = dict(records)
                for name in new:
                    self._down.add(name)
                    if name in self._edge_writes:
                        self._writes.add(name)
                    self._readiness.add(name)
                if not first.is_set():  # and those that were removed while nobody looked
                    gone = {NodeName(meta.name_of(n)) for n in self._nodes if core.is_managed(n)} - records.keys()
                for name in gone:
                    self._lost_at.pop(name, None)
                    self._references.pop(name, None)
                    self._events_of.pop(name, None)
                    self._large_of.pop(name, None)
                    self._writes_of.pop(name, None)
                    await self._remove_node(name)
                first.set()

    async def _follow_reports(self, first: asyncio.Event) -> None:
        prefix = keys.edges(self._tenant)

        def is_report(key: str) -> bool:
            return _parts(key.removeprefix(prefix))[1] == "reported"

        async with aclosing(reflect(self._store, prefix, wanted=is_report)) as changes:
            async for values, changed in changes:
                for key in changed:
                    node, _, rest = _parts(key.removeprefix(prefix))
                    if rest.startswith(_WRITES):
                        self._write_reported(NodeName(node), rest, values.get(key))
                        continue
                    short = f"{node}/reported/{rest}"
                    if key in values:
                        self._reported[short] = values[key]
                    else:
                        self._reported.pop(short, None)
                    self._up.add((NodeName(node), rest))
                first.set()

    async def _follow_sessions(self, first: asyncio.Event) -> None:
        prefix = f"{keys.SESSIONS}{self._tenant}/"
        loop = asyncio.get_running_loop()
        async with aclosing(reflect(self._store, prefix)) as changes:
            async for (
                values,
                changed,
            ) in changes:  # thousands of nodes come back at once: look at those that changed alone
                for key in changed:
                    name = NodeName(key.removeprefix(prefix))
                    if (key in values) == (name in self._sessions):
                        continue
                    if key in values:
                        self._sessions.add(name)
                        self._lost_at.pop(name, None)
                    else:
                        self._sessions.discard(name)
                        self._lost_at[name] = loop.time()
                    self._readiness.add(name)
                first.set()

    # -- down ----------------------------------------------------------------------------------------------------------

    async def _sync_down(self, name: NodeName) -> None:
        if name not in self._records:
            return
        prefix = keys.edge_desired(self._tenant, name)
        have = {
            kv.key.removeprefix(prefix): kv.value
            for kv in (await self._store.range(prefix, keys.prefix_end(prefix))).kvs
        }
        # from here to the transaction nothing waits: answers to writes go down with what the writes have changed
        pods = self._pods_of_node(name)
        references = frozenset(
            (resource, meta.namespace_of(pod), object_name)
            for pod in pods
            for resource, object_name in core.references(pod)
        ) | {secret for service in self._services if (secret := core.token_secret(service)) is not None}
        self._references[name] = references
        objects = {
            (resource, namespace, object_name): obj
            for resource, namespace, object_name in references
            if (obj := self._data[resource].get(namespace, object_name)) is not None
        }
        wanted = core.desired(self._nodes.get("", name), pods, objects, self._services)
        wanted |= self._answered(name, have)
        ops: list[Op] = [Put(prefix + key, value) for key, value in wanted.items() if have.get(key) != value]
        ops += [Delete(prefix + key) for key in have.keys() - wanted.keys()]
        exists = Compare(node_key(self._tenant, name), CompareTarget.VERSION, ">", 0)
        for start in range(0, len(ops), _OPS):
            faults.at("edgecontroller.desired.before_commit")
            done = await self._store.txn((exists, *self._fence()), ops[start : start + _OPS])
            if not done.succeeded:
                return  # removed meanwhile: nothing of it shall come back; or another process leads, and knows better

    # -- writes of the node --------------------------------------------------------------------------------------------

    def _write_reported(self, name: NodeName, rest: str, value: bytes | None) -> None:
        waiting = self._edge_writes.setdefault(name, {})
        if value is not None:
            waiting[rest] = value
            self._writes.add(name)
            return
        waiting.pop(rest, None)  # the node has taken the answer
        self._answers.get(name, {}).pop(rest, None)
        if not waiting:
            del self._edge_writes[name]
            self._answers.pop(name, None)
        self._down.add(name)

    async def _merge_writes(self, name: NodeName) -> float | None:
        """In the order in which they were made. The answers go down with what the merge has changed, in one transaction."""
        if name not in self._records:
            return None
        wait = 0.0
        prefix = keys.edge_desired(self._tenant, name)
        there = await self._store.range(prefix + _WRITES, keys.prefix_end(prefix + _WRITES))
        have = {kv.key.removeprefix(prefix): kv.value for kv in there.kvs}
        for rest, value in sorted(self._edge_writes.get(name, {}).items())[:_WRITES_LOOKED_AT]:
            if rest in have and _answers(have[rest], value):
                continue
            if rest not in self._answers.get(name, {}):
                if wait := self._wait(self._writes_of, name, _WRITE_RATE, _WRITE_BURST):
                    break
                answer = await self._merger.merge(name, value)
                if self._edge_writes.get(name, {}).get(rest) == value:
                    self._answers.setdefault(name, {})[rest] = answer
        self._down.add(name)
        return max(wait, _WRITE_LATER) if wait else None

    def _answered(self, name: NodeName, have: dict[str, bytes]) -> dict[str, bytes]:
        """Answers that the node has not taken yet."""
        waiting = self._edge_writes.get(name, {})
        fresh = self._answers.get(name, {})
        return {
            rest: answer
            for rest, value in waiting.items()
            if (answer := fresh.get(rest) or have.get(rest)) is not None and _answers(answer, value)
        }

    async def _refresh(self, resource: str, namespace: str, name: str) -> None:
        """The caches know of a merge before its answer goes down."""
        informer = {"pods": self._pods, "nodes": self._nodes, **self._data}[resource]
        await informer.refresh(namespace, name)

    # -- up ------------------------------------------------------------------------------------------------------------

    async def _sync_up(self, key: tuple[NodeName, str]) -> float | None:
        name, rest = key
        value = self._reported.get(f"{name}/reported/{rest}")
        if value is None and rest == _KUBEBUS:
            value = b"{}"  # it is switched off
        if value is None or name not in self._records:
            return None
        resource, _, tail = rest.partition("/")
        namespace, _, object_name = tail.partition("/")
        if len(value) > _LARGE and (wait := self._reading(name, len(value))):
            return wait
        try:
            report = _json(value)
            match resource:
                case "pods":
                    await self._pod_reported(name, namespace, object_name, report)
                case "nodes" if object_name == name:
                    await self._node_reported(name, report)
                case "conditions" if object_name == "kubebus":
                    await self._kubebus_reported(name, report)
                case "events":
                    return await self._event_reported(name, namespace, object_name, report)
        except Invalid as exc:  # what one node says must not stop the others
            log.warning("tenant=%s node=%s reported %s: %s", self._tenant, name, rest, exc)
        return None

    def _reading(self, name: NodeName, size: int) -> float:
        """Seconds until the node's next large report may be read; 0.0: now, and it was counted."""
        now = asyncio.get_running_loop().time()
        bucket = self._large_of.setdefault(name, Bucket(_LARGE_RATE, _LARGE_BURST, now))
        if not (wait := bucket.charge(0, now)):
            bucket.charge(size, now)
        return wait

    def _wait(self, buckets: dict[NodeName, Bucket], name: NodeName, rate: float, burst: float) -> float:
        """Seconds until the node's next one may be looked at; 0.0: now."""
        now = asyncio.get_running_loop().time()
        return buckets.setdefault(name, Bucket(rate, burst, now)).take(now)

    async def _pod_reported(self, node: NodeName, namespace: str, name: str, report: dict[str, Any]) -> None:
        pod = self._pods.get(namespace, name)
        uid = str(report.get("uid", ""))
        if pod is None or pod["metadata"].get("uid") != uid or pod.get("spec", {}).get("nodeName") != node:
            return
        status = report.get("status")
        if report.get("gone"):
            if isinstance(status, dict) and pod["metadata"].get("finalizers"):
                # it stays, and nobody else will say how it ended
                _check("PodStatus", status)
                if pod.get("status") != status:
                    await self._write_status(pod, status)
            if pod["metadata"].get("deletionTimestamp"):
                await self._ignore_missing(self._client.delete(PODS, namespace, name, grace_period=0, uid=uid))
            return
        if not isinstance(status, dict):
            return
        _check("PodStatus", status)
        if node not in self._sessions and self._is_lost(node):
            status = core.not_ready(status, self._now())
        if pod.get("status") != status:
            await self._write_status(pod, status)

    async def _write_status(self, pod: Object, status: dict[str, Any]) -> None:
        namespace, name = meta.namespace_of(pod), meta.name_of(pod)
        try:
            current = await self._client.get(PODS, namespace, name)
            if current["metadata"].get("uid") == pod["metadata"].get("uid") and current.get("status") != status:
                await self._client.update(PODS, namespace, {**current, "status": status}, subresource="status")
        except NotFound:
            return

    async def _node_reported(self, name: NodeName, report: dict[str, Any]) -> None:
        status = report.get("status")
        if not isinstance(status, dict):
            return
        status = core.node_report(status)
        _check("NodeStatus", status)
        node = await self._ensure_node(name)
        labels = {
            k: v for k, v in core.node_labels(status).items() if (node["metadata"].get("labels") or {}).get(k) != v
        }
        if labels:
            node = await self._client.merge_patch(NODES, "", name, {"metadata": {"labels": labels}})
        current = node.get("status") or {}
        attached = name in self._sessions or self._grace_left(name) > 0
        merged = core.with_ready({**current, **status}, attached, self._now())
        if merged != current:
            await self._client.update(NODES, "", {**node, "status": merged}, subresource="status")

    async def _kubebus_reported(self, name: NodeName, report: dict[str, Any]) -> None:
        if name not in self._sessions and self._is_lost(name):
            return  # nobody knows
        node = await self._ensure_node(name)
        current = node.get("status") or {}
        condition = core.kubebus_condition(report)
        merged = core.with_kubebus(current, condition, self._now())
        if merged == current:
            return
        await self._client.update(NODES, "", {**node, "status": merged}, subresource="status")
        if condition is not None:
            up = condition["status"] == "True"
            self._recorder.event(
                NODES,
                node,
                "KubeBusReady" if up else "KubeBusNotReady",
                condition["message"],
                component="edgecontroller",
                warning=not up,
            )

    async def _event_reported(self, node: NodeName, namespace: str, name: str, report: dict[str, Any]) -> float | None:
        event = core.event(report, node, namespace, name, self._wall())
        if event is None:
            return None
        involved = event["involvedObject"]
        if involved.get("kind") == "Pod":
            pod = self._pods.get(namespace, str(involved.get("name", "")))
            if pod is not None and pod.get("spec", {}).get("nodeName") != node:
                return None  # it speaks about what is not its own
        if wait := self._wait(self._events_of, node, _EVENT_RATE, _EVENT_BURST):
            return max(wait, _EVENT_LATER)
        with contextlib.suppress(
            Conflict, NotFound, Refused
        ):  # it is there already, its namespace is gone, the quota is full
            await self._client.create(EVENTS, namespace, event)
        return None

    # -- readiness -----------------------------------------------------------------------------------------------------

    async def _sync_ready(self, name: NodeName) -> float | None:
        if name not in self._records:
            return None
        attached = name in self._sessions
        if not attached and (left := self._grace_left(name)) > 0:
            return max(left, 0.001)  # what rounding leaves of it must not be less than a clock can move
        node = await self._ensure_node(name)
        taints = core.with_taint(node.get("spec", {}).get("taints") or (), attached)
        if list(node.get("spec", {}).get("taints") or ()) != taints:
            node = await self._client.merge_patch(NODES, "", name, {"spec": {"taints": taints or None}})
        current = node.get("status") or {}
        merged = core.with_ready(current, attached, self._now())
        if merged != current:
            await self._client.update(NODES, "", {**node, "status": merged}, subresource="status")
            log.info("tenant=%s node=%s ready=%s", self._tenant, name, attached)
        await self._pods_of(name, attached)
        if attached and f"{name}/reported/{_KUBEBUS}" in self._reported:
            self._up.add((name, _KUBEBUS))
        return None

    async def _pods_of(self, name: NodeName, attached: bool) -> None:
        """Pods of a node that is away are not ready, as far as anybody knows; when it is back, its word counts again."""
        for pod in self._pods_of_node(name):
            rest = f"pods/{meta.namespace_of(pod)}/{meta.name_of(pod)}"
            if attached:
                self._up.add((name, rest))
            elif (status := core.not_ready(pod.get("status") or {}, self._now())) != (pod.get("status") or {}):
                await self._write_status(pod, status)

    def _pods_of_node(self, name: NodeName) -> list[Object]:
        found = (self._pods.get(*object_key) for object_key in self._pods_on.get(name, ()))
        return [pod for pod in found if pod is not None]

    def _grace_left(self, name: NodeName) -> float:
        lost_at = self._lost_at.get(name)
        if lost_at is None:  # not seen attached by this process: it may be on its way back, or has never been here
            if not is_ready(self._nodes.get("", name) or {}):
                return 0.0
            lost_at = self._started
        return lost_at + self._settings.node_grace - asyncio.get_running_loop().time()

    def _is_lost(self, name: NodeName) -> bool:
        return self._grace_left(name) <= 0

    # -- nodes ---------------------------------------------------------------------------------------------------------

    async def _ensure_node(self, name: NodeName) -> Object:
        try:
            return await self._client.get(NODES, "", name)
        except NotFound:
            pass
        try:
            return await self._client.create(NODES, "", core.new_node(name, self._records[name].pod_cidr))
        except AlreadyExists:
            return await self._client.get(NODES, "", name)

    async def _remove_node(self, name: NodeName) -> None:
        await self._ignore_missing(self._client.delete(NODES, "", name))

    async def _ignore_missing(self, call: Any) -> None:
        try:
            await call
        except (NotFound, Conflict):
            return

    def _now(self) -> str:
        return meta.timestamp(self._wall())


class EdgeController:
    name = "edgecontroller"

    def __init__(
        self,
        store: Store,
        client_for: Callable[[TenantId], KubeClient],
        tenants: TenantManager,
        settings: EdgeControllerSettings,
        *,
        member: Membership | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._member = member or Alone()
        self._store = store
        self._client_for = client_for
        self._tenants = tenants
        self._settings = settings
        self._wall = wall

    async def run(self, ready: asyncio.Event) -> None:
        await for_each_tenant(self._tenants, self._serve, ready, what="edgecontroller")

    async def _serve(self, record: TenantRecord, serving: asyncio.Event) -> None:
        work = f"edgecontroller/{record.name}"

        def run(serving: asyncio.Event) -> Awaitable[None]:
            return TenantEdgeController(
                record.name,
                self._store,
                self._client_for(record.name),
                self._tenants,
                self._settings,
                fence=partial(self._member.fence, work),
                wall=self._wall,
            ).run(serving)

        await led(self._member, work, run, serving)


def _is_being_deleted(obj: Object) -> bool:
    return bool(meta.metadata(obj).get("deletionTimestamp"))


def _answers(answer: bytes, write: bytes) -> bool:
    try:
        return edge_writes.decode_result(answer)[0] in (edge_writes.decode(write).id, "")
    except Invalid:
        return True  # what is no write has one answer


def _parts(key: str) -> tuple[str, str, str]:
    """ "edge1/reported/pods/default/a" -> ("edge1", "reported", "pods/default/a")"""
    node, _, rest = key.partition("/")
    kind, _, tail = rest.partition("/")
    return node, kind, tail


def _check(kind: str, status: Object) -> None:
    """Raises Invalid: what has another form would break whoever reads it, us first."""
    if errors := schema.check(kind, status)[0]:
        raise Invalid(f"{errors[0]}")


def _json(value: bytes) -> dict[str, Any]:
    """Raises Invalid for what no client of the API could read."""
    obj = strict_json.loads(value, bounds=_REPORT)
    return obj if isinstance(obj, dict) else {}
