"""DeviceController of one tenant, level-triggered: whatever changed, the Device is looked at as everything is now.

    Device + DeviceModel ──> /t/T/edge/N/desired/devices/NAMESPACE/NAME
    /t/T/edge/N/reported/devices/NAMESPACE/NAME, /t/T/nodes/N, /sessions/T/N ──> status of the Device
    /t/T/edge/N/reported/discoveries/_/NAME ──> a Device that nobody has approved yet (discoveries.py)

So model, device, node and mapper come in any order. Lives elsewhere: what the rows and the status say (core.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

from kubeedge.api import keys, meta, strict_json
from kubeedge.api.client import KubeClient
from kubeedge.api.devices import DEVICEMODELS, DEVICES
from kubeedge.api.json_bounds import JsonBounds
from kubeedge.api.names import NamespacedName, NodeName, Object, TenantId
from kubeedge.apiserver.offload import SMALL, Offload
from kubeedge.apiserver.quota import UNLIMITED
from kubeedge.errors import Conflict, Invalid, KubeEdgeError, NotFound
from kubeedge.store.model import Compare, CompareTarget, Delete, Op, Put, Store
from kubeedge.store.reflector import reflect
from kubeedge_cloud.controllers.informer.client import CachedClient
from kubeedge_cloud.controllers.objects import is_deleting, key_of, merge_diff
from kubeedge_cloud.controllers.queue import WorkQueue
from kubeedge_cloud.devicecontroller import core
from kubeedge_cloud.devicecontroller.copies import DeviceCopies
from kubeedge_cloud.devicecontroller.discoveries import Discoveries
from kubeedge_cloud.tenants.manager import TenantManager
from kubeedge_cloud.tenants.model import node_key

log = logging.getLogger("kubeedge.devicecontroller")

_REPORT = JsonBounds(values=5_000)  # of one device: 512 properties of four values each
_DISCOVERED = ["reported", "discoveries"]
_AT_ONCE = 64  # devices: their writes share the store's fsync
_ROOM = 30.0  # seconds until a device that waits for room is looked at again


class TenantDeviceController:
    """`fence` gives compares for its transactions; `grace`: seconds from the loss of a node's channel to NodeOffline; `limit`: bytes of what all
    nodes have of devices, asked each time."""

    def __init__(
        self,
        tenant: TenantId,
        store: Store,
        client: KubeClient,
        tenants: TenantManager,
        *,
        grace: float,
        fence: Callable[[], Sequence[Compare]] = tuple,
        limit: Callable[[], int] = lambda: UNLIMITED,
        offload: Offload | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._copies = DeviceCopies(limit)
        self._offload = offload or Offload()
        self._tenant, self._store, self._tenants = tenant, store, tenants
        self._client = CachedClient(client)
        self._fence, self._wall, self._grace = fence, wall, grace
        self._devices = self._client.informer(DEVICES)
        self._models = self._client.informer(DEVICEMODELS)
        self._rows: dict[NamespacedName, dict[NodeName, bytes]] = {}  # what nodes have to have
        self._reports: dict[NamespacedName, dict[NodeName, bytes]] = {}
        self.figures: dict[NamespacedName, core.DeviceFigures] = {}  # of each Device, for the metrics
        self._made: dict[NamespacedName, tuple[core.Origin, int]] = {}  # of what a row was made, and its hash
        self._nodes: set[NodeName] = set()
        self._lost_at: dict[NodeName, float] = {}  # by the loop's clock; a node that is not in it is attached
        self.queue: WorkQueue[NamespacedName] = WorkQueue(f"devices of {tenant}", self._reconcile, workers=_AT_ONCE)
        self._discoveries = Discoveries(tenant, self._client, self._devices, wall)
        self._lost: WorkQueue[NodeName] = WorkQueue(f"devices of lost nodes of {tenant}", self._node_lost)

    async def run(self, serving: asyncio.Event) -> None:
        """Fills the caches first, then serves until it is cancelled."""
        informers = self._client.informers()
        follow = (self._follow_nodes, self._follow_rows, self._follow_sessions)
        async with asyncio.TaskGroup() as group:
            for informer in informers:
                group.create_task(informer.run(), name=f"{informer.resource.plural} of {self._tenant}")
            for informer in informers:
                await informer.synced.wait()
            firsts = [asyncio.Event() for _ in follow]
            for function, first in zip(follow, firsts, strict=True):
                group.create_task(function(first), name=function.__name__)
            for first in firsts:
                await first.wait()
            self._devices.on_change(self._device_changed)
            self._models.on_change(self._model_changed)
            for key in self._rows.keys() | self._reports.keys():  # of Devices deleted while no process watched
                self.queue.add(key)
            group.create_task(self.queue.run())
            group.create_task(self._lost.run())
            group.create_task(self._discoveries.run())
            serving.set()

    # What has to be looked at

    def _device_changed(self, before: Object | None, after: Object | None) -> None:
        self.queue.add(key_of(after or before or {}))

    def _model_changed(self, before: Object | None, after: Object | None) -> None:
        model = after or before or {}
        if before is not None and after is not None and before.get("spec") == after.get("spec"):
            return
        for device in self._devices.in_namespace(meta.namespace_of(model)):
            if core.model_of(device) == meta.name_of(model):
                self.queue.add(key_of(device))

    def _node_changed(self, node: NodeName) -> None:
        for device in self._devices:
            if core.node_of(device) == node:
                self.queue.add(key_of(device))

    async def _node_lost(self, node: NodeName) -> float | None:
        if (left := self._grace_left(node)) > 0 and node in self._lost_at:
            return left
        self._node_changed(node)
        return None

    async def _follow_nodes(self, first: asyncio.Event) -> None:
        async with aclosing(self._tenants.follow_nodes(self._tenant)) as changes:
            async for records in changes:
                changed = self._nodes ^ records.keys()
                for gone in self._nodes - records.keys():
                    self._lost_at.pop(gone, None)
                self._nodes = set(records)
                for node in changed:
                    self._node_changed(node)
                first.set()

    async def _follow_rows(self, first: asyncio.Event) -> None:
        prefix = keys.edges(self._tenant)

        def is_device(key: str) -> bool:
            return key.split("/", 7)[5:7] in (["desired", "devices"], ["reported", "devices"], _DISCOVERED)

        async with aclosing(reflect(self._store, prefix, wanted=is_device)) as changes:
            async for values, changed in changes:
                for key in changed:
                    node, kind, _ = key.removeprefix(prefix).split("/", 2)
                    resource, namespace, name = keys.split(key)
                    if resource == _DISCOVERED[1]:
                        self._discoveries.changed(NodeName(node), name, values.get(key), is_old=not first.is_set())
                        continue
                    known = (self._rows if kind == "desired" else self._reports).setdefault((namespace, name), {})
                    if kind == "desired":
                        self._copies.count(key, values.get(key))
                    elif (figures := self.figures.get((namespace, name))) is not None:
                        figures.reports += 1
                    if key in values:
                        known[NodeName(node)] = values[key]
                    else:
                        known.pop(NodeName(node), None)
                    self.queue.add((namespace, name))
                first.set()

    async def _follow_sessions(self, first: asyncio.Event) -> None:
        prefix = f"{keys.SESSIONS}{self._tenant}/"
        loop = asyncio.get_running_loop()
        self._lost_at = dict.fromkeys(self._nodes, loop.time())
        attached: set[NodeName] = set()
        async with aclosing(reflect(self._store, prefix)) as changes:
            async for values, changed in changes:
                for key in changed:
                    node = NodeName(key.removeprefix(prefix))
                    if key in values:
                        attached.add(node)
                        was_away = self._grace_left(node) <= 0
                        self._lost_at.pop(node, None)
                        if was_away:
                            self._node_changed(node)
                    else:
                        attached.discard(node)
                        if node in self._nodes:  # of one that was removed nobody asks
                            self._lost_at[node] = loop.time()
                            self._lost.add(node)
                if not first.is_set():
                    for node in self._lost_at:
                        self._lost.add(node)
                first.set()

    def _grace_left(self, node: NodeName) -> float:
        lost = self._lost_at.get(node)
        return self._grace if lost is None else lost + self._grace - asyncio.get_running_loop().time()

    # One device

    async def _reconcile(self, key: NamespacedName) -> float | None:
        device, again = self._devices.get(*key), None
        if device is None:
            self.figures.pop(key, None)
            self._made.pop(key, None)
            await self._write(key, {})
        elif is_deleting(device):
            await self._end(key, device)
        else:
            again = await self._keep(key, device)
        for known in (self._rows, self._reports):
            if not known.get(key, True):
                del known[key]
        return again

    async def _keep(self, key: NamespacedName, device: Object) -> float | None:
        """Seconds until it is to be looked at again."""
        node = NodeName(core.node_of(device))
        model = self._models.get(key[0], core.model_of(device))
        known = node in self._nodes and core.is_approved(device)
        if known and core.FINALIZER not in (meta.metadata(device).get("finalizers") or ()):
            # before its node hears of it: no client may think that it is gone while the node has it
            device = await self._finalizers(device, present=True)
        wanted = {}
        have = self._rows.get(key, {}).get(node) if known else None
        if model is None:
            if have is not None:
                wanted[node] = have  # the model is gone: its devices go on as they were
        elif known:
            origin = core.origin(device, model)
            is_made = have is not None and self._made.get(key) == (origin, hash(have))
            wanted[node] = have if have is not None and is_made else await self._row(device, model)
            self._made[key] = origin, hash(wanted[node])
        fits = await self._write(key, wanted)
        facts = core.Facts(known, self._grace_left(node) > 0, self._report(key, node), fits)
        before, status = device.get("status") or {}, core.status(device, model, facts, self._wall())
        self.figures.setdefault(key, core.DeviceFigures()).take(status, facts.report)
        await self._say(key, device, merge_diff(before, status))
        return None if fits else _ROOM

    async def _say(self, key: NamespacedName, device: Object, patch: Object) -> None:
        """What has changed in the status."""
        if patch:
            body = {"metadata": {"uid": core.identity(device)["uid"]}, "status": patch}
            await self._client.merge_patch(DEVICES, key[0], key[1], body, subresource="status")

    async def _row(self, device: Object, model: Object) -> bytes:
        """A large model is work for each of its devices, in its tenant's share of the time."""
        return await self._offload.run(self._tenant, core.size(SMALL, device, model), partial(core.row, device, model))

    async def _end(self, key: NamespacedName, device: Object) -> None:
        """Until the node has said that it is gone; a node that was removed has nothing any more."""
        if core.FINALIZER not in (meta.metadata(device).get("finalizers") or ()):
            await self._write(key, {})
            return
        waiting = {}
        for node in self._rows.get(key, {}):
            report = self._report(key, node)
            gone = report is not None and core.is_of(report, device) and report.get("gone") is True
            if node in self._nodes and not gone:
                waiting[node] = core.ending(device)
        await self._write(key, waiting)
        if not waiting:
            with contextlib.suppress(NotFound):
                await self._finalizers(device, present=False)
        elif away := [node for node in sorted(waiting) if self._grace_left(node) <= 0]:
            status = core.ending_status(device, away[0], self._wall())
            await self._say(key, device, merge_diff(device.get("status") or {}, status))

    async def _finalizers(self, device: Object, *, present: bool) -> Object:
        inner = meta.metadata(device)
        kept = [name for name in inner.get("finalizers") or () if name != core.FINALIZER]
        body = {
            "metadata": {
                "uid": inner.get("uid"),
                "resourceVersion": inner.get("resourceVersion"),
                "finalizers": [*kept, core.FINALIZER] if present else kept,
            }
        }
        return await self._client.merge_patch(DEVICES, meta.namespace_of(device), meta.name_of(device), body)

    async def _write(self, key: NamespacedName, wanted: dict[NodeName, bytes]) -> bool:
        """The rows of the device on all nodes: those that are wanted, and no other. False: one does not fit into what all rows of the tenant may
        have; what the node has stays."""
        have, fits = self._rows.get(key, {}), True
        for node in have.keys() | wanted.keys():
            value = wanted.get(node)
            if have.get(node) == value:
                continue
            row = keys.edge_desired(self._tenant, node) + keys.desired("devices", *key).removeprefix(keys.DESIRED)
            if value is not None and not self._copies.admits(row, value):
                fits = False
                continue
            op: Op = Delete(row) if value is None else Put(row, value)
            exists = Compare(node_key(self._tenant, node), CompareTarget.VERSION, ">", 0)
            compares = self._fence() if value is None else (exists, *self._fence())
            self._copies.count(row, value)  # before: other devices are written at the same time
            try:
                if not (await self._store.txn(compares, [op])).succeeded:
                    raise Conflict(f"node {node} was removed, or another process leads")
            except KubeEdgeError:
                self._copies.count(row, have.get(node))
                raise
        return fits

    def _report(self, key: NamespacedName, node: NodeName) -> dict[str, Any] | None:
        value = self._reports.get(key, {}).get(node)
        if value is None:
            return None
        try:
            found = strict_json.loads(value, bounds=_REPORT)
        except Invalid as exc:  # what one node says must not stop the others
            log.warning("tenant=%s node=%s device=%s/%s: %s", self._tenant, node, *key, exc)
            return None
        return found if isinstance(found, dict) else None
