"""The workload controllers of one tenant: Deployment, ReplicaSet, DaemonSet, scheduler, garbage collection, namespaces.

One cache a resource, shared; a work queue a controller; each look makes the world fit what is found. Decisions are in placement.py and
rollout.py.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

from kubeedge.api import meta, selectors
from kubeedge.api.client import KubeClient, Resource
from kubeedge.api.names import Object
from kubeedge.api.resources import (
    CONFIGMAPS,
    DAEMONSETS,
    DEPLOYMENTS,
    ENDPOINTS,
    EVENTS,
    NAMESPACES,
    NODES,
    PODS,
    REPLICASETS,
    SECRETS,
    SERVICES,
)
from kubeedge.errors import Conflict, NotFound
from kubeedge_cloud.controllers import placement, rollout
from kubeedge_cloud.controllers.informer import Informer
from kubeedge_cloud.controllers.objects import (
    TEMPLATE_HASH,
    Key,
    annotations_of,
    available_in,
    controller_of,
    count,
    deletion_rank,
    generation_of,
    is_active,
    is_controlled_by,
    is_deleting,
    is_finished,
    is_ready,
    key_of,
    oldest_first,
    pod_of,
    reference_to,
    spec_of,
    status_of,
    uid_of,
    with_condition,
)
from kubeedge_cloud.controllers.queue import WorkQueue

log = logging.getLogger("kubeedge.controllers")

REVISION = "deployment.kubernetes.io/revision"
_BURST = 50  # pods that one look makes or removes at most
_NAMESPACED = (DEPLOYMENTS, DAEMONSETS, REPLICASETS, PODS, SERVICES, ENDPOINTS, CONFIGMAPS, SECRETS, EVENTS)


class TenantControllers:
    def __init__(self, client: KubeClient, *, wall: Callable[[], float] = time.time) -> None:
        self._client = client
        self._wall = wall
        self.pods, self.nodes = Informer(client, PODS), Informer(client, NODES)
        self.deployments, self.replicasets = Informer(client, DEPLOYMENTS), Informer(client, REPLICASETS)
        self.daemonsets, self.services = Informer(client, DAEMONSETS), Informer(client, SERVICES)
        self.namespaces = Informer(client, NAMESPACES)
        self._informers = (
            self.pods, self.nodes, self.deployments, self.replicasets, self.daemonsets, self.services, self.namespaces,
        )  # fmt: skip
        self._deployment: WorkQueue[Key] = WorkQueue("deployment", self._sync_deployment)
        self._replicaset: WorkQueue[Key] = WorkQueue("replicaset", self._sync_replicaset)
        self._daemonset: WorkQueue[Key] = WorkQueue("daemonset", self._sync_daemonset)
        self._schedule: WorkQueue[Key] = WorkQueue("scheduler", self._sync_pod, workers=1)
        self._collect: WorkQueue[tuple[str, Key]] = WorkQueue("garbage collector", self._sync_orphan)
        self._endpoints: WorkQueue[Key] = WorkQueue("endpoints", self._sync_endpoints)
        self._namespace: WorkQueue[Key] = WorkQueue("namespaces", self._sync_namespace)
        self._assumed: dict[str, str] = {}  # uid of a pod that was bound a moment ago -> node

    async def run(self, serving: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            for informer in self._informers:
                group.create_task(informer.run(), name=f"{informer.resource.plural} cache")
            for informer in self._informers:
                await informer.synced.wait()
            self._listen()
            for queue in (
                self._deployment, self._replicaset, self._daemonset, self._schedule, self._collect, self._endpoints,
                self._namespace,
            ):  # fmt: skip
                group.create_task(queue.run())
            serving.set()

    # -- what may have changed -----------------------------------------------------------------------------------------

    def _listen(self) -> None:
        def deployment(before: Object | None, after: Object | None) -> None:
            self._deployment.add(key_of(after or before or {}))
            if after is None and before is not None:
                self._orphaned(before, (self.replicasets,))

        def replicaset(before: Object | None, after: Object | None) -> None:
            for obj in (before, after):
                self._owner_changed(obj, "Deployment", self._deployment)
            if after is not None:
                self._replicaset.add(key_of(after))
                self._collect_if_orphan(REPLICASETS, after)
            elif before is not None:
                self._orphaned(before, (self.pods,))

        def daemonset(before: Object | None, after: Object | None) -> None:
            self._daemonset.add(key_of(after or before or {}))
            if after is None and before is not None:
                self._orphaned(before, (self.pods,))

        def pod(before: Object | None, after: Object | None) -> None:
            for obj in (before, after):
                self._owner_changed(obj, "ReplicaSet", self._replicaset)
                self._owner_changed(obj, "DaemonSet", self._daemonset)
            if after is not None:
                if not spec_of(after).get("nodeName"):
                    self._schedule.add(key_of(after))
                self._collect_if_orphan(PODS, after)
            if after is None or is_finished(after) or is_deleting(after):
                self._assumed.pop(uid_of(after or before or {}), None)
                self._reschedule()
            for service in self.services.in_namespace(key_of(after or before or {})[0]):
                self._endpoints.add(key_of(service))

        def node(before: Object | None, after: Object | None) -> None:
            for ds in self.daemonsets:
                self._daemonset.add(key_of(ds))
            self._reschedule()

        def service(before: Object | None, after: Object | None) -> None:
            self._endpoints.add(key_of(after or before or {}))

        def namespace(before: Object | None, after: Object | None) -> None:
            if after is not None and is_deleting(after):
                self._namespace.add(key_of(after))

        self.deployments.on_change(deployment)
        self.replicasets.on_change(replicaset)
        self.daemonsets.on_change(daemonset)
        self.pods.on_change(pod)
        self.nodes.on_change(node)
        self.services.on_change(service)
        self.namespaces.on_change(namespace)

    def _owner_changed(self, obj: Object | None, kind: str, queue: WorkQueue[Key]) -> None:
        owner = controller_of(obj) if obj is not None else None
        if owner is not None and owner.get("kind") == kind:
            queue.add((meta.namespace_of(obj or {}), str(owner.get("name"))))

    def _reschedule(self) -> None:
        """Room may have come: whoever waits is looked at again."""
        for pod in self.pods:
            if not spec_of(pod).get("nodeName") and not is_deleting(pod):
                self._schedule.add(key_of(pod))

    # -- Deployment ----------------------------------------------------------------------------------------------------

    async def _sync_deployment(self, key: Key) -> float | None:
        deployment = self.deployments.get(*key)
        if deployment is None or is_deleting(deployment):
            return None
        owned = [rs for rs in self.replicasets.in_namespace(key[0]) if is_controlled_by(rs, deployment)]
        wanted_hash = rollout.template_hash(deployment)
        new = next((rs for rs in owned if meta.labels_of(rs).get(TEMPLATE_HASH) == wanted_hash), None)
        old = list(oldest_first(rs for rs in owned if rs is not new))
        revision = 1 + max((_revision(rs) for rs in old), default=0)
        scales = rollout.plan(deployment, new, old)
        if not spec_of(deployment).get("paused"):
            if new is None:
                new = await self._create_replicaset(deployment, wanted_hash, scales.new, revision)
            else:
                new = await self._refresh(new, max(revision, _revision(new)), scales.new)
            for rs, replicas in zip(old, scales.old, strict=True):
                if rollout.replicas_of(rs) != replicas:
                    await self._scale(rs, replicas)
            await self._prune(deployment, old)
        await self._deployment_status(deployment, new, old)
        return None

    async def _create_replicaset(self, deployment: Object, hash: str, replicas: int, revision: int) -> Object:
        template = spec_of(deployment).get("template") or {}
        labels = {**(meta.metadata(template).get("labels") or {}), TEMPLATE_HASH: hash}
        selector = dict(spec_of(deployment).get("selector") or {})
        selector["matchLabels"] = {**(selector.get("matchLabels") or {}), TEMPLATE_HASH: hash}
        namespace = meta.namespace_of(deployment)
        rs = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": f"{meta.name_of(deployment)}-{hash}",
                "namespace": namespace,
                "labels": labels,
                "annotations": {REVISION: str(revision)},
                "ownerReferences": [reference_to(DEPLOYMENTS, deployment)],
            },
            "spec": {
                "replicas": replicas,
                "minReadySeconds": count(spec_of(deployment).get("minReadySeconds")),
                "selector": selector,
                "template": {**template, "metadata": {**meta.metadata(template), "labels": labels}},
            },
        }
        created = await self._client.create(REPLICASETS, namespace, rs)
        self.replicasets.note(created)
        await self._event(
            deployment, DEPLOYMENTS, "Normal", "ScalingReplicaSet",
            f"Scaled up replica set {meta.name_of(created)} from 0 to {replicas}",
        )  # fmt: skip
        return created

    async def _refresh(self, rs: Object, revision: int, replicas: int) -> Object:
        patch: Object = {}
        if _revision(rs) != revision:
            patch["metadata"] = {"annotations": {REVISION: str(revision)}}
        if rollout.replicas_of(rs) != replicas:
            patch["spec"] = {"replicas": replicas}
        if not patch:
            return rs
        changed = await self._client.merge_patch(REPLICASETS, meta.namespace_of(rs), meta.name_of(rs), patch)
        self.replicasets.note(changed)
        return changed

    async def _scale(self, rs: Object, replicas: int) -> None:
        patch = {"spec": {"replicas": replicas}}
        self.replicasets.note(
            await self._client.merge_patch(REPLICASETS, meta.namespace_of(rs), meta.name_of(rs), patch)
        )

    async def _prune(self, deployment: Object, old: list[Object]) -> None:
        """Old ReplicaSets are kept for rollback, as many as revisionHistoryLimit says."""
        limit = spec_of(deployment).get("revisionHistoryLimit")
        keep = 10 if limit is None else count(limit)
        empty = [rs for rs in old if rollout.replicas_of(rs) == 0 and not count(status_of(rs).get("replicas"))]
        for rs in sorted(empty, key=_revision)[: max(0, len(empty) - keep)]:
            await self._delete(REPLICASETS, rs)

    async def _deployment_status(self, deployment: Object, new: Object | None, old: list[Object]) -> None:
        current = self.deployments.get(*key_of(deployment)) or deployment
        sets = [*old, *([new] if new is not None else [])]

        def total(field: str) -> int:
            return sum(count(status_of(rs).get(field)) for rs in sets)

        wanted = rollout.replicas_of(deployment)
        updated = count(status_of(new or {}).get("replicas"))
        available = total("availableReplicas")
        complete = updated == wanted == total("replicas") == available
        now = self._wall()
        conditions = status_of(current).get("conditions") or []
        enough = available >= wanted - 1 if wanted > 1 else available >= wanted
        conditions = with_condition(
            conditions,
            {
                "type": "Available",
                "status": "True" if enough else "False",
                "reason": "MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable",
                "message": f"Deployment {'has' if enough else 'does not have'} minimum availability.",
            },
            now,
        )
        name = meta.name_of(new) if new is not None else ""
        conditions = with_condition(
            conditions,
            {
                "type": "Progressing",
                "status": "True",
                "reason": "NewReplicaSetAvailable" if complete else "ReplicaSetUpdated",
                "message": f'ReplicaSet "{name}" {"has successfully progressed" if complete else "is progressing"}.',
            },
            now,
        )
        status: Object = {
            "observedGeneration": generation_of(deployment),
            "replicas": total("replicas"),
            "updatedReplicas": updated,
            "readyReplicas": total("readyReplicas"),
            "availableReplicas": available,
            "unavailableReplicas": max(0, wanted - available),
            "conditions": conditions,
        }
        await self._write_status(DEPLOYMENTS, self.deployments, current, status)
        if new is not None and annotations_of(current).get(REVISION) != str(_revision(new)):
            patch = {"metadata": {"annotations": {REVISION: str(_revision(new))}}}
            self.deployments.note(
                await self._client.merge_patch(DEPLOYMENTS, meta.namespace_of(current), meta.name_of(current), patch)
            )

    # -- ReplicaSet ----------------------------------------------------------------------------------------------------

    async def _sync_replicaset(self, key: Key) -> float | None:
        rs = self.replicasets.get(*key)
        if rs is None or is_deleting(rs):
            return None
        owned = [
            p for p in self.pods.in_namespace(key[0]) if is_controlled_by(p, rs) and uid_of(p) not in self.pods.doomed
        ]
        active = [p for p in owned if is_active(p)]
        missing = rollout.replicas_of(rs) - len(active)
        for _ in range(min(missing, _BURST)):
            pod = await self._client.create(PODS, key[0], pod_of(spec_of(rs).get("template") or {}, rs, REPLICASETS))
            self.pods.note(pod)
            active.append(pod)
        for pod in sorted(active, key=deletion_rank)[: max(0, min(-missing, _BURST))]:
            active.remove(pod)
            await self._delete(PODS, pod)
        if abs(missing) > _BURST:
            self._replicaset.add(key)
        min_ready = count(spec_of(rs).get("minReadySeconds"))
        waits = [available_in(p, min_ready, self._wall()) for p in active]
        status: Object = {
            "observedGeneration": generation_of(rs),
            "replicas": len(active),
            "fullyLabeledReplicas": len(active),
            "readyReplicas": sum(w is not None for w in waits),
            "availableReplicas": sum(w == 0 for w in waits),
        }
        await self._write_status(REPLICASETS, self.replicasets, self.replicasets.get(*key) or rs, status)
        later = [w for w in waits if w]
        return min(later) if later else None

    # -- DaemonSet -----------------------------------------------------------------------------------------------------

    async def _sync_daemonset(self, key: Key) -> float | None:
        ds = self.daemonsets.get(*key)
        if ds is None or is_deleting(ds):
            return None
        template = spec_of(ds).get("template") or {}
        hash = rollout.template_hash(ds)
        owned = [
            p for p in self.pods.in_namespace(key[0])
            if is_controlled_by(p, ds) and uid_of(p) not in self.pods.doomed and is_active(p)
        ]  # fmt: skip
        by_node: dict[str, list[Object]] = {}
        for pod in owned:
            by_node.setdefault(_node_of(pod), []).append(pod)
        sample: Object = {
            "metadata": {},
            "spec": {**(template.get("spec") or {}), "tolerations": _daemon_tolerations(template)},
        }
        fitting = [meta.name_of(n) for n in self.nodes if not placement.why_not(sample, n)]
        updated = {uid_of(p) for p in owned if meta.labels_of(p).get("controller-revision-hash") == hash}
        unavailable = sum(1 for name in fitting if not any(is_ready(p) for p in by_node.get(name, ())))
        budget = max(
            1, count(((spec_of(ds).get("updateStrategy") or {}).get("rollingUpdate") or {}).get("maxUnavailable") or 1)
        )
        on_delete = (spec_of(ds).get("updateStrategy") or {}).get("type") == "OnDelete"
        for name, pods in by_node.items():
            if name not in fitting:
                stale: Iterable[Object] = pods
            else:
                stale = list(oldest_first(pods))[1:]
                if (
                    not stale
                    and not on_delete
                    and uid_of(pods[0]) not in updated
                    and unavailable < budget + (not is_ready(pods[0]))
                ):
                    unavailable += is_ready(pods[0])
                    stale = pods
            for pod in stale:
                await self._delete(PODS, pod)
        for name in fitting:
            if not by_node.get(name):
                self.pods.note(await self._client.create(PODS, key[0], _daemon_pod(ds, template, name, hash)))
        ready = [p for p in owned if is_ready(p) and _node_of(p) in fitting]
        status: Object = {
            "observedGeneration": generation_of(ds),
            "desiredNumberScheduled": len(fitting),
            "currentNumberScheduled": sum(1 for name in fitting if by_node.get(name)),
            "numberMisscheduled": sum(1 for name in by_node if name and name not in fitting),
            "numberReady": len(ready),
            "numberAvailable": len(ready),
            "numberUnavailable": max(0, len(fitting) - len(ready)),
            "updatedNumberScheduled": sum(1 for p in owned if uid_of(p) in updated and _node_of(p) in fitting),
        }
        await self._write_status(DAEMONSETS, self.daemonsets, self.daemonsets.get(*key) or ds, status)
        return None

    # -- scheduler -----------------------------------------------------------------------------------------------------

    async def _sync_pod(self, key: Key) -> float | None:
        pod = self.pods.get(*key)
        if pod is None or spec_of(pod).get("nodeName") or is_deleting(pod) or uid_of(pod) in self._assumed:
            return None
        everything = [
            {**p, "spec": {**spec_of(p), "nodeName": self._assumed[uid_of(p)]}} if uid_of(p) in self._assumed else p
            for p in self.pods
        ]
        found = placement.place(pod, list(self.nodes), everything)
        if found.node:
            self._assumed[uid_of(pod)] = found.node
            try:
                bound = await self._client.merge_patch(PODS, key[0], key[1], {"spec": {"nodeName": found.node}})
            except BaseException:
                self._assumed.pop(uid_of(pod), None)
                raise
            self.pods.note(bound)
            self._assumed.pop(uid_of(pod), None)
            await self._event(
                pod, PODS, "Normal", "Scheduled", f"Successfully assigned {key[0]}/{key[1]} to {found.node}"
            )
            return None
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": found.message}
        before = status_of(pod).get("conditions") or []
        if not any(c.get("message") == found.message for c in before):
            status = {
                **status_of(pod),
                "phase": "Pending",
                "conditions": with_condition(before, condition, self._wall()),
            }
            await self._write_status(PODS, self.pods, pod, status)
            await self._event(pod, PODS, "Warning", "FailedScheduling", found.message)
        return None

    # -- what nobody owns any more -------------------------------------------------------------------------------------

    def _orphaned(self, owner: Object, caches: Iterable[Informer]) -> None:
        for cache in caches:
            for obj in cache.in_namespace(meta.namespace_of(owner)):
                if is_controlled_by(obj, owner):
                    self._collect.add((cache.resource.plural, key_of(obj)))

    def _collect_if_orphan(self, resource: Resource, obj: Object) -> None:
        owner = controller_of(obj)
        caches = {"ReplicaSet": self.replicasets, "Deployment": self.deployments, "DaemonSet": self.daemonsets}
        cache = caches.get(str((owner or {}).get("kind")))
        if owner is None or cache is None or is_deleting(obj):
            return
        found = cache.get(meta.namespace_of(obj), str(owner.get("name")))
        if found is None or uid_of(found) != owner.get("uid"):
            # the owner may be newer than our cache: ask again in a moment, and then the API
            self._collect.add_after((resource.plural, key_of(obj)), 1.0)

    async def _sync_orphan(self, key: tuple[str, Key]) -> float | None:
        plural, (namespace, name) = key
        resource, cache = (PODS, self.pods) if plural == "pods" else (REPLICASETS, self.replicasets)
        obj = cache.get(namespace, name)
        owner = controller_of(obj) if obj is not None else None
        if obj is None or owner is None or is_deleting(obj):
            return None
        owners = {"ReplicaSet": REPLICASETS, "Deployment": DEPLOYMENTS, "DaemonSet": DAEMONSETS}
        try:
            found = await self._client.get(owners[str(owner.get("kind"))], namespace, str(owner.get("name")))
            if uid_of(found) == owner.get("uid"):
                return None
        except NotFound:
            pass
        await self._delete(resource, obj)
        return None

    async def _sync_namespace(self, key: Key) -> float | None:
        """Empty a namespace that is being deleted; when nothing is left, it goes."""
        namespace = self.namespaces.get(*key)
        if namespace is None or not is_deleting(namespace):
            return None
        name = key[1]
        left = 0
        for resource in _NAMESPACED:
            for obj in (await self._client.list(resource, name)).items:
                left += 1
                if not is_deleting(obj):
                    await self._ignore(self._client.delete(resource, name, meta.name_of(obj), uid=uid_of(obj)))
        if left:
            return 0.5
        await self._ignore(
            self._client.update(NAMESPACES, "", {**namespace, "spec": {"finalizers": []}}, subresource="finalize")
        )
        return None

    # -- Endpoints -----------------------------------------------------------------------------------------------------

    async def _sync_endpoints(self, key: Key) -> float | None:
        service = self.services.get(*key)
        if service is None:
            await self._ignore(self._client.delete(ENDPOINTS, key[0], key[1]))
            return None
        selector = spec_of(service).get("selector")
        if not selector:
            return None
        matcher = selectors.of_selector({"matchLabels": selector})
        addresses: dict[bool, list[Object]] = {True: [], False: []}
        for pod in self.pods.in_namespace(key[0]):
            ip = status_of(pod).get("podIP")
            if ip and is_active(pod) and matcher.matches(meta.labels_of(pod)):
                target = {"kind": "Pod", "namespace": key[0], "name": meta.name_of(pod), "uid": uid_of(pod)}
                addresses[is_ready(pod)].append({"ip": ip, "nodeName": _node_of(pod), "targetRef": target})
        ports = [
            {"name": p.get("name"), "port": _port(p), "protocol": p.get("protocol") or "TCP"}
            for p in spec_of(service).get("ports") or ()
        ]
        subset: Object = {"ports": [{k: v for k, v in p.items() if v is not None} for p in ports]}
        for ready, name in ((True, "addresses"), (False, "notReadyAddresses")):
            if addresses[ready]:
                subset[name] = sorted(addresses[ready], key=lambda a: str(a["ip"]))
        subsets = [subset] if len(subset) > 1 else []
        try:
            current = await self._client.get(ENDPOINTS, *key)
            if (current.get("subsets") or []) != subsets:
                await self._client.update(ENDPOINTS, key[0], {**current, "subsets": subsets})
        except NotFound:
            body = {
                "apiVersion": "v1",
                "kind": "Endpoints",
                "metadata": {"name": key[1], "namespace": key[0]},
                "subsets": subsets,
            }
            await self._client.create(ENDPOINTS, key[0], body)
        return None

    # -- small parts ---------------------------------------------------------------------------------------------------

    async def _write_status(self, resource: Resource, cache: Informer, obj: Object, status: Object) -> None:
        merged = {**status_of(obj), **status}
        if merged == status_of(obj):
            return
        namespace, name = meta.namespace_of(obj), meta.name_of(obj)
        cache.note(await self._client.merge_patch(resource, namespace, name, {"status": status}, subresource="status"))

    async def _delete(self, resource: Resource, obj: Object) -> None:
        cache = self.pods if resource is PODS else self.replicasets
        cache.doom(uid_of(obj))
        try:
            await self._client.delete(resource, meta.namespace_of(obj), meta.name_of(obj), uid=uid_of(obj))
        except (NotFound, Conflict):
            return

    async def _event(self, obj: Object, resource: Resource, kind: str, reason: str, message: str) -> None:
        now = meta.timestamp(self._wall())
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{meta.name_of(obj)}.", "namespace": meta.namespace_of(obj)},
            "involvedObject": {
                "apiVersion": resource.api_version,
                "kind": resource.kind,
                "namespace": meta.namespace_of(obj),
                "name": meta.name_of(obj),
                "uid": uid_of(obj),
            },
            "type": kind,
            "reason": reason,
            "message": message[:1024],
            "source": {"component": "default-scheduler" if resource is PODS else "deployment-controller"},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        await self._ignore(self._client.create(EVENTS, meta.namespace_of(obj), event))

    async def _ignore(self, call: Any) -> None:
        """What is gone, or was there, is what was wanted."""
        try:
            await call
        except (NotFound, Conflict):
            return


def _revision(rs: Object) -> int:
    text = str(annotations_of(rs).get(REVISION) or "0")
    return int(text) if text.isdigit() else 0


def _node_of(pod: Object) -> str:
    """Where a pod is, or where its DaemonSet pinned it to."""
    if name := spec_of(pod).get("nodeName"):
        return str(name)
    return str(annotations_of(pod).get("kubeedge.io/daemon-node") or "")


def _daemon_tolerations(template: Object) -> list[Object]:
    """A DaemonSet's pods stay on nodes that are away (Kubernetes adds the same)."""
    own = list((template.get("spec") or {}).get("tolerations") or [])
    return own + [
        {"key": key, "operator": "Exists", "effect": effect}
        for key, effect in (
            ("node.kubernetes.io/not-ready", "NoExecute"),
            ("node.kubernetes.io/not-ready", "NoSchedule"),
            ("node.kubernetes.io/unreachable", "NoExecute"),
            ("node.kubernetes.io/unreachable", "NoSchedule"),
            ("node.kubernetes.io/unschedulable", "NoSchedule"),
        )
    ]


def _daemon_pod(ds: Object, template: Object, node: str, hash: str) -> Object:
    pod = pod_of(template, ds, DAEMONSETS, {"controller-revision-hash": hash})
    pod["metadata"].setdefault("annotations", {})
    pod["metadata"]["annotations"] = {**pod["metadata"]["annotations"], "kubeedge.io/daemon-node": node}
    pod["spec"]["tolerations"] = _daemon_tolerations(template)
    pod["spec"]["affinity"] = {
        **(pod["spec"].get("affinity") or {}),
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}]
            }
        },
    }
    return pod


def _port(port: Object) -> Any:
    target = port.get("targetPort")
    return target if isinstance(target, int) else port.get("port")
