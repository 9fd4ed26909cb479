"""Keeps an Endpoints object for every Service with a selector, and EndpointSlices for every Service that has endpoints."""

from __future__ import annotations

from collections.abc import Sequence

from kubeedge.api import meta
from kubeedge.api.names import NamespacedName, Object
from kubeedge.api.resources import ENDPOINTS, ENDPOINTSLICES, SERVICES
from kubeedge.errors import Conflict, NotFound
from kubeedge_cloud.controllers.cluster import Cluster
from kubeedge_cloud.controllers.endpoints import core, slices
from kubeedge_cloud.controllers.objects import ips_of, is_deleting, key_of, reference_to, spec_of, status_of, uid_of
from kubeedge_cloud.controllers.queue import WorkQueue


class EndpointsController:
    """Keys of its queue are Services."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.queue: WorkQueue[NamespacedName] = WorkQueue("endpoints", self.reconcile, workers=4)

    def listen(self) -> None:
        """A Service is looked at when it or a pod that it selects changes, and when its Endpoints are deleted."""
        self._cluster.services.on_change(lambda before, after: self.queue.add(key_of(after or before or {})))
        self._cluster.endpoints.on_change(self._endpoints_changed)
        self._cluster.endpointslices.on_change(self._slice_changed)
        self._cluster.nodes.on_change(self._node_changed)
        self._cluster.pods.on_change(self._pod_changed)

    def _endpoints_changed(self, before: Object | None, after: Object | None) -> None:
        """Deleted by a user, or changed by whoever keeps those of a Service without a selector."""
        obj = after or before or {}
        service = self._cluster.services.get(*key_of(obj))
        if after is None or service is None or not spec_of(service).get("selector"):
            self.queue.add(key_of(obj))

    def _slice_changed(self, before: Object | None, after: Object | None) -> None:
        if after is None and before is not None and slices.is_ours(before):
            self.queue.add((meta.namespace_of(before), meta.labels_of(before).get(slices.SERVICE_NAME, "")))

    def _node_changed(self, before: Object | None, after: Object | None) -> None:
        """The zone of a node is that of the endpoints on it."""
        zones = [meta.labels_of(obj).get(slices.ZONE) if obj is not None else None for obj in (before, after)]
        if zones[0] != zones[1] and before is not None:
            for service in self._cluster.services:
                self.queue.add(key_of(service))

    def _pod_changed(self, before: Object | None, after: Object | None) -> None:
        if before is not None and after is not None and _seen_from_outside(before) == _seen_from_outside(after):
            return
        for pod in (before, after):
            if pod is None:
                continue
            labels = meta.labels_of(pod).items()
            for service in self._cluster.services.in_namespace(meta.namespace_of(pod)):
                selector = spec_of(service).get("selector")
                if selector and selector.items() <= labels:
                    self.queue.add(key_of(service))

    async def reconcile(self, key: NamespacedName) -> float | None:
        """Writes the Endpoints of a Service that has a selector; those of other Services are left alone."""
        cluster = self._cluster
        service = cluster.services.get(*key)
        if service is None or is_deleting(service):
            return None  # what it had is collected
        if not spec_of(service).get("selector"):  # the Endpoints are the user's
            return await self._write_slices(service, slices.mirrored(service, cluster.endpoints.get(*key) or {}))
        subsets = core.subsets(service, cluster.pods.in_namespace(key[0]))
        current = cluster.endpoints.get(*key)
        if current is None:
            obj: Object = {
                "apiVersion": "v1",
                "kind": "Endpoints",
                "metadata": {
                    "name": key[1],
                    "namespace": key[0],
                    "labels": dict(meta.labels_of(service)),
                    "ownerReferences": [reference_to(SERVICES, service)],
                },
                "subsets": subsets,
            }
            await cluster.client.create(ENDPOINTS, key[0], obj)
        elif (current.get("subsets") or []) != subsets:
            inner = {"uid": uid_of(current)}
            try:
                await cluster.patch(cluster.endpoints, current, {"metadata": inner, "subsets": subsets})
            except (NotFound, Conflict):
                return 0.05
        zones = {meta.name_of(n): zone for n in cluster.nodes if (zone := meta.labels_of(n).get(slices.ZONE))}
        return await self._write_slices(service, slices.slices(service, cluster.pods.in_namespace(key[0]), zones))

    async def _write_slices(self, service: Object, wanted: Sequence[Object]) -> float | None:
        cluster, namespace = self._cluster, meta.namespace_of(service)
        have = {
            meta.name_of(obj): obj
            for obj in cluster.endpointslices.in_namespace(namespace)
            if slices.is_ours(obj) and meta.labels_of(obj).get(slices.SERVICE_NAME) == meta.name_of(service)
        }
        try:
            for obj in wanted:
                current = have.pop(meta.name_of(obj), None)
                if current is None:
                    await cluster.client.create(ENDPOINTSLICES, namespace, obj)
                elif not slices.same(current, obj):
                    changes = {
                        "metadata": {"uid": uid_of(current)},
                        "endpoints": obj["endpoints"],
                        "ports": obj["ports"],
                    }
                    await cluster.patch(cluster.endpointslices, current, changes)
            for name, obj in have.items():
                await cluster.client.delete(ENDPOINTSLICES, namespace, name, uid=uid_of(obj))
        except (NotFound, Conflict):
            return 0.05
        return None


def _seen_from_outside(pod: Object) -> tuple[object, ...]:
    status = status_of(pod)
    ready = next((c.get("status") for c in status.get("conditions") or () if c.get("type") == "Ready"), None)
    return meta.labels_of(pod), ips_of(pod), status.get("phase"), ready, is_deleting(pod)
