"""What this node says of its pods and of itself: rows below /reported/, written only when they change.

Lives elsewhere: what a status is (status.py, node.py), events (events.py).
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kubeedge.api import keys
from kubeedge.api.names import Object
from kubeedge.api.pod import Pod
from kubeedge.appengine import logs, node, status
from kubeedge.appengine.deviceplugins.base import ResourceCount
from kubeedge.appengine.events import EventRecorder
from kubeedge.appengine.runtime.base import Runtime
from kubeedge.appengine.settings import AppEngineSettings
from kubeedge.appengine.worker import UNSUPPORTED, Worker
from kubeedge.errors import Unavailable
from kubeedge.kit import trees
from kubeedge.kit.disk_use import DiskUse
from kubeedge.store.model import Store

log = logging.getLogger("kubeedge.appengine")

_AGAIN = 5.0  # seconds until a status is tried again that could not be written


class Reports:
    """Writes statuses and events to the store. A status that equals the one written before is not written again. `wall`: time of day."""

    def __init__(self, store: Store, settings: AppEngineSettings, runtime: Runtime, wall: Callable[[], float]) -> None:
        self._store = store
        self._settings = settings
        self._runtime = runtime
        self._wall = wall
        self._host_ip = settings.host_ips
        self._images: Sequence[Mapping[str, Any]] = ()
        self.devices: Callable[[], Mapping[str, ResourceCount]] = dict  # extended resources of this node
        self._events = EventRecorder(store, settings.node, wall)

    async def report(self, worker: Worker) -> None:
        """The pod's status as it is now. Nothing for a pod that is not desired any more, or whose final phase was reported."""
        pod = worker.desired
        if pod is None or worker.observed.final:
            return
        now = self._wall()
        current = status.pod_status(
            pod, worker.observed, scheme=self._runtime.scheme, host_ip=self._host_ip, previous=worker.reported, now=now
        )
        about = f"{pod.name}_{pod.namespace}({pod.uid})"
        begun = [*status.back_offs(about, worker.reported, current)]
        await self._write_status(worker, current)
        for kind, message, container in begun:
            await self.event(worker, kind, "BackOff", message, container)

    def note_last_status(self, worker: Worker) -> None:
        """Keep the final status of a pod with finalizers: it outlives its containers in the API, which then still shows how they ended."""
        pod = worker.desired
        if pod is not None and pod.has_finalizers and worker.observed.containers:
            worker.last_status = status.pod_status(
                pod,
                worker.observed,
                scheme=self._runtime.scheme,
                host_ip=self._host_ip,
                previous=worker.reported,
                now=self._wall(),
                over=True,
            )

    async def report_invalid(self, worker: Worker) -> None:
        """Status and event of a pod that cannot run here: Failed when it is invalid or not admitted, waiting when this node does not support it."""
        reason = worker.invalid_reason
        say = status.waiting_status if reason == UNSUPPORTED else status.failed_status
        current = say(reason, worker.invalid, host_ip=self._host_ip, now=self._wall())
        known = worker.reported or {}
        if (known.get("reason"), known.get("message")) != (reason, worker.invalid):
            await self._write_status(worker, current)
            await self.event(worker, "Warning", reason, worker.invalid)

    async def _write_status(self, worker: Worker, current: dict[str, Any]) -> None:
        if current == worker.reported:
            return
        mirror = {"mirror": worker.mirror} if worker.mirror is not None else {}
        value = canonical({"uid": worker.uid, "status": current, **mirror})
        try:
            await self._put(keys.reported("pods", worker.namespace, worker.name), value)
        except Unavailable as exc:  # the disk is full, and what would free it must not wait for this
            log.warning("status of pod %s/%s is not kept yet: %s", worker.namespace, worker.name, exc)
            asyncio.get_running_loop().call_later(_AGAIN, worker.wake.set)
            return
        worker.reported = current

    async def forget(self, namespace: str, name: str, uid: str, last_status: Object | None = None) -> None:
        """It is reported while the pod is still desired (it is being deleted); after that there is nothing to report.

        `uid` "" is any.
        """
        key = keys.reported("pods", namespace, name)
        wanted = await self._store.get(keys.desired("pods", namespace, name))
        if uid and wanted is not None and (json_object(wanted.value).get("metadata") or {}).get("uid") == uid:
            kept = {"status": last_status} if last_status is not None else {}
            await self._put(key, canonical({"gone": True, "uid": uid, **kept}))
            return
        found = await self._store.get(key)
        if found is not None and uid in ("", json_object(found.value).get("uid")):
            await self._store.delete(key)

    def log_usage(self, pod: Pod) -> DiskUse:
        """What its logs take of the disk. Blocking."""
        return trees.used(logs.directory(self._settings.logs, pod.namespace, pod.name, pod.uid))

    async def report_node(self, images: Sequence[Mapping[str, Any]] | None = None) -> None:
        """The NodeStatus: capacity, addresses, versions, images; None: those of the last time."""
        self._images = self._images if images is None else images
        current = node.status(
            node=self._settings.node,
            address=self._settings.host_ips,
            runtime_version=self._runtime.version,
            max_pods=self._settings.max_pods,
            state=self._settings.state,
            reserve=self._settings.reserved,
            limits=self._settings.eviction,
            images=self._images,
            devices=self.devices(),
        )
        await self._put(keys.reported("nodes", "", self._settings.node), canonical({"status": current}))

    async def report_drivers(self, drivers: Sequence[Object], topology: Mapping[str, str]) -> None:
        """The CSINode: the drivers of volumes that are registered here, and where this node is by their account."""
        row = {"drivers": list(drivers), "topology": dict(topology)}
        await self._put(keys.reported("csinodes", "", self._settings.node), canonical(row))

    async def report_claim(self, namespace: str, name: str, claim: Object, capacity: str) -> None:
        """A PersistentVolumeClaim has grown to `capacity`, a quantity, since its filesystem has."""
        row = {"uid": (claim.get("metadata") or {}).get("uid"), "capacity": capacity}
        await self._put(keys.reported("persistentvolumeclaims", namespace, name), canonical(row))

    async def forget_claim(self, namespace: str, name: str) -> None:
        """No pod of this node mounts it any more."""
        key = keys.reported("persistentvolumeclaims", namespace, name)
        if await self._store.get(key) is not None:
            await self._store.delete(key)

    async def _put(self, key: str, value: bytes) -> None:
        """Flash wears out: a value that is there already is not written again."""
        kept = await self._store.get(key)
        if kept is None or kept.value != value:
            await self._store.put(key, value)

    async def event(self, worker: Worker, kind: str, reason: str, message: str, container: str = "") -> None:
        """An Event about the pod; `kind` is "Normal" or "Warning". Best effort."""
        if worker.namespace:
            await self._events.record(worker.about, kind, reason, message, container)


def json_object(value: bytes) -> dict[str, Any]:
    """The JSON object in `value`; {} when it is anything else."""
    try:
        obj = json.loads(value)
    except ValueError:
        return {}
    return obj if isinstance(obj, dict) else {}


def canonical(obj: dict[str, Any]) -> bytes:
    """The JSON of an object; equal objects have the same bytes."""
    return json.dumps(obj, sort_keys=True, separators=(",", ":")).encode()
