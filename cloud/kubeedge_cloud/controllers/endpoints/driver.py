"""Keeps an Endpoints object for every Service with a selector."""

from __future__ import annotations

from kubeedge.api import meta
from kubeedge.api.names import Object
from kubeedge.api.resources import ENDPOINTS, SERVICES
from kubeedge.errors import Conflict, NotFound
from kubeedge_cloud.controllers.cluster import Cluster
from kubeedge_cloud.controllers.endpoints import core
from kubeedge_cloud.controllers.objects import Key, is_deleting, key_of, reference_to, spec_of, status_of, uid_of
from kubeedge_cloud.controllers.queue import WorkQueue


class EndpointsController:
    """Keys of its queue are Services."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.queue: WorkQueue[Key] = WorkQueue("endpoints", self.reconcile, workers=4)

    def listen(self) -> None:
        """A Service is looked at when it or a pod that it selects changes, and when its Endpoints are deleted."""
        self._cluster.services.on_change(lambda before, after: self.queue.add(key_of(after or before or {})))
        self._cluster.endpoints.on_change(self._endpoints_changed)
        self._cluster.pods.on_change(self._pod_changed)

    def _endpoints_changed(self, before: Object | None, after: Object | None) -> None:
        if after is None and before is not None:  # a user deleted it
            self.queue.add(key_of(before))

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

    async def reconcile(self, key: Key) -> float | None:
        """Writes the Endpoints of a Service that has a selector; those of other Services are left alone."""
        cluster = self._cluster
        service = cluster.services.get(*key)
        if service is None or not spec_of(service).get("selector") or is_deleting(service):
            return (
                None  # without a selector the Endpoints are the user's; those of a Service that is gone are collected
            )
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
        return None


def _seen_from_outside(pod: Object) -> tuple[object, ...]:
    status = status_of(pod)
    ready = next((c.get("status") for c in status.get("conditions") or () if c.get("type") == "Ready"), None)
    return meta.labels_of(pod), status.get("podIP"), status.get("phase"), ready, is_deleting(pod)
