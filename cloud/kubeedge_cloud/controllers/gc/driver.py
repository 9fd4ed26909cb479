"""Deletes what core.py finds without an owner, empties namespaces that are being deleted, and ends pods of nodes that
do not exist any more. Before anything is deleted, the API itself is asked: a cache may be behind."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging

from kubeedge.api import meta
from kubeedge.api.client import Resource
from kubeedge.api.names import Object
from kubeedge.api.resources import EVENTS, LEASES, NAMESPACES, NODES, PODS
from kubeedge.errors import Conflict, NotFound
from kubeedge_cloud.controllers.cluster import Cluster
from kubeedge_cloud.controllers.gc.core import FOREGROUND, ORPHAN, Graph, Owned, owned
from kubeedge_cloud.controllers.informer.driver import Informer
from kubeedge_cloud.controllers.objects import is_deleting, only_metadata, spec_of, uid_of
from kubeedge_cloud.controllers.queue import WorkQueue

log = logging.getLogger("kubeedge.controllers")

NODE_QUARANTINE = 40.0  # seconds before pods of a deleted node go: it may be made again (the time is Kubernetes')
_DISCOVERY = 30.0  # seconds between two looks at what is served (the time is Kubernetes')
_UNCOLLECTED = frozenset((EVENTS, LEASES))  # they own nothing, and end by themselves
_LOOK_AGAIN = 5.0  # seconds, at a namespace whose last pods are still stopping


class GarbageCollector:
    """Three queues: objects by uid, namespaces and nodes by name. `quarantine` is how long a node must be gone, in seconds."""

    def __init__(self, cluster: Cluster, *, quarantine: float = NODE_QUARANTINE) -> None:
        self._cluster = cluster
        self._quarantine = quarantine
        self._graph = Graph()
        self._informers: dict[Resource, Informer] = {i.resource: i for i in cluster.informers()}
        self.objects: WorkQueue[str] = WorkQueue("garbage", self.reconcile)
        self.namespaces: WorkQueue[str] = WorkQueue("namespaces", self.empty_namespace, workers=2)
        self.nodes: WorkQueue[str] = WorkQueue("pods of deleted nodes", self.end_pods_of, workers=1)

    def listen(self) -> None:
        """Every kind goes into the graph; namespaces, nodes and pods fill queues of their own as well."""
        for informer in self._informers.values():
            informer.on_change(functools.partial(self._changed, informer.resource))
        self._cluster.namespaces.on_change(self._namespace_changed)
        self._cluster.nodes.on_change(self._node_changed)
        self._cluster.pods.on_change(self._pod_changed)

    async def follow_resources(self) -> None:
        """Custom resources come and go; their objects own and are owned as all others."""
        client = self._cluster.client
        running: dict[Resource, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as group:
            while True:
                served = set(await client.resources()) - _UNCOLLECTED
                for resource in served - self._informers.keys():
                    informer = self._informers[resource] = client.informer(resource, keep=only_metadata)
                    informer.on_change(functools.partial(self._changed, resource))
                    running[resource] = group.create_task(_watch(informer), name=f"watch of {resource.plural}")
                for resource in running.keys() - served:
                    running.pop(resource).cancel()
                    client.drop(resource)
                    for obj in self._informers.pop(resource):
                        self._changed(resource, obj, None)
                await asyncio.sleep(_DISCOVERY)

    def _changed(self, resource: Resource, before: Object | None, after: Object | None) -> None:
        if after is not None:
            look = self._graph.set(owned(resource, after))
        else:
            look = self._graph.remove(uid_of(before or {}))
        for uid in look:
            self.objects.add(uid)

    # Owners

    async def reconcile(self, uid: str) -> float | None:
        """Orphans or deletes the dependents of an object that is being deleted; deletes one whose owners are all gone."""
        entry = self._graph.get(uid)
        if entry is None:
            return None
        if entry.orphans_dependents:
            await self._orphan_dependents(entry)
            return None
        if entry.waits_for_dependents:
            await self._delete_dependents(entry)
            return None
        if entry.deleting or not entry.owners:
            return None
        dangling = [ref for ref in entry.owners if not await self._exists(entry, ref)]
        if not dangling:
            return None
        if len(dangling) < len(entry.owners):
            gone = {ref.get("uid") for ref in dangling}
            kept = [ref for ref in entry.owners if ref.get("uid") not in gone]
            await self._patch(entry, {"ownerReferences": kept})
        else:
            log.debug("deleting %s %s/%s: its owner is gone", entry.resource.plural, entry.namespace, entry.name)
            await self._delete(entry)
        return None

    async def _exists(self, entry: Owned, reference: Object) -> bool:
        uid = str(reference.get("uid"))
        if self._graph.get(uid) is not None:
            return True
        kind = str(reference.get("apiVersion")), str(reference.get("kind"))
        resource = next((r for r in self._informers if (r.api_version, r.kind) == kind), None)
        if resource is None:
            return True  # not a kind that we watch: absence cannot be proven
        namespace = entry.namespace if resource.namespaced else ""
        try:
            found = await self._cluster.client.get(resource, namespace, str(reference.get("name")))
        except NotFound:
            return False
        return uid_of(found) == uid

    async def _delete_dependents(self, owner: Owned) -> None:
        blocking = False
        for dependent in self._graph.dependents(owner.uid):
            blocking = blocking or dependent.blocks(owner.uid)
            if dependent.deleting:
                continue
            if self._graph.dependents(dependent.uid):
                await self._patch(dependent, {"finalizers": [*dependent.finalizers, FOREGROUND]})
            await self._delete(dependent)
        if not blocking:
            await self._patch(owner, {"finalizers": [f for f in owner.finalizers if f != FOREGROUND] or None})

    async def _orphan_dependents(self, owner: Owned) -> None:
        """By what the API has: the cache may not know the newest dependents yet."""
        while await self._release_dependents(owner):
            pass
        await self._patch(owner, {"finalizers": [f for f in owner.finalizers if f != ORPHAN] or None})

    async def _release_dependents(self, owner: Owned) -> int:
        """Remove an owner from its dependents; returns how many there were."""
        found = 0
        for resource in await self._cluster.client.resources():
            if owner.namespace and not resource.namespaced:
                continue
            for obj in await self._cluster.client.reduced_list(resource, owner.namespace, only_metadata):
                entry = owned(resource, obj)
                kept = [ref for ref in entry.owners if ref.get("uid") != owner.uid]
                if len(kept) < len(entry.owners):
                    found += 1
                    await self._patch(entry, {"ownerReferences": kept or None})
        return found

    async def _patch(self, entry: Owned, metadata: Object) -> None:
        patch = {"metadata": {"uid": entry.uid, **metadata}}
        try:
            await self._cluster.client.merge_patch(entry.resource, entry.namespace, entry.name, patch)
        except (NotFound, Conflict):
            return

    async def _delete(self, entry: Owned) -> None:
        if entry.resource == PODS:
            pod = self._cluster.pods.get(entry.namespace, entry.name)
            if pod is not None and uid_of(pod) == entry.uid:
                await self._cluster.delete_pod(pod)
            return
        try:
            await self._cluster.client.delete(entry.resource, entry.namespace, entry.name, uid=entry.uid)
        except (NotFound, Conflict):
            return

    # Namespaces

    def _namespace_changed(self, before: Object | None, after: Object | None) -> None:
        if after is not None and is_deleting(after):
            self.namespaces.add(meta.name_of(after))

    async def empty_namespace(self, name: str) -> float | None:
        """Deletes all that is in a namespace being deleted; returns when to look again, in seconds, until it is empty."""
        namespace = self._cluster.namespaces.get("", name)
        if namespace is None or not is_deleting(namespace):
            return None
        client = self._cluster.client
        left = 0
        for resource in await client.resources():
            if not resource.namespaced:
                continue
            for obj in await client.reduced_list(resource, name, _with_node):
                if is_deleting(obj):
                    left += 1
                    continue
                try:
                    await client.delete(resource, name, meta.name_of(obj), uid=uid_of(obj))
                    left += bool(spec_of(obj).get("nodeName") or meta.metadata(obj).get("finalizers"))
                except (NotFound, Conflict):
                    left += 1
        if left:
            return _LOOK_AGAIN
        try:
            await client.update(NAMESPACES, "", {**namespace, "spec": {"finalizers": []}}, subresource="finalize")
            await client.delete(NAMESPACES, "", name, uid=uid_of(namespace))
        except NotFound:
            return None
        return _LOOK_AGAIN

    # Nodes

    def _node_changed(self, before: Object | None, after: Object | None) -> None:
        if after is None and before is not None:
            self.nodes.add_after(meta.name_of(before), self._quarantine)

    def _pod_changed(self, before: Object | None, after: Object | None) -> None:
        if after is None:
            if before is not None and self._cluster.is_ending(meta.namespace_of(before)):
                self.namespaces.add(meta.namespace_of(before))
            return
        node = str(spec_of(after).get("nodeName") or "")
        if node and self._cluster.nodes.get("", node) is None:
            self.nodes.add_after(node, self._quarantine)

    async def end_pods_of(self, node: str) -> float | None:
        """Deletes the pods of a node without grace period, once the API has said that there is no such node."""
        if self._cluster.nodes.get("", node) is not None:
            return None
        try:
            await self._cluster.client.get(NODES, "", node)
        except NotFound:
            for pod in self._cluster.pods:
                if spec_of(pod).get("nodeName") == node:
                    log.info("deleting pod %s/%s: node %s does not exist", *_object_key(pod), node)
                    await self._cluster.delete_pod(pod, grace_period=0)
        return None


async def _watch(informer: Informer) -> None:
    with contextlib.suppress(NotFound):  # it is not served any more
        await informer.run()


def _object_key(pod: Object) -> tuple[str, str]:
    return meta.namespace_of(pod), meta.name_of(pod)


def _with_node(obj: Object) -> Object:
    """What says whether it is gone at once when it is deleted."""
    return {**only_metadata(obj), "spec": {"nodeName": spec_of(obj).get("nodeName")}}
