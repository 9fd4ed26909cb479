"""Devices that a scan has found on a node: each becomes a Device with `kubeedge.io/approved: "false"`, of which its node hears nothing.

A Device that exists stays as it is, approved or not, and one that was approved by another name, or made by hand, is not found again. What the cloud has not heard of at once (all of its processes were away) is made if the report is
not older than some minutes: a Device that somebody has deleted does not come back with each start.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from kubeedge.api import meta, strict_json
from kubeedge.api.devices import DEVICES
from kubeedge.api.json_bounds import JsonBounds
from kubeedge.api.names import NodeName, Object, TenantId
from kubeedge.errors import Conflict, Invalid, NotFound, Refused
from kubeedge_cloud.controllers.informer.client import CachedClient
from kubeedge_cloud.controllers.informer.driver import Informer
from kubeedge_cloud.controllers.queue import WorkQueue
from kubeedge_cloud.devicecontroller import core

log = logging.getLogger("kubeedge.devicecontroller")

NAMESPACE = "default"
FOUND = "kubeedge.io/found"  # annotation: what the device said of itself, as JSON
MAX_WAITING = 512  # Devices of a tenant that wait for approval; what is found beyond them is left out
MAX_ROW = 64 * 1024  # bytes of what a node says about one: MAX_WAITING of them are the tenant's to keep
_FRESH = 600.0  # seconds
_AT_ONCE = 128  # Devices that one is compared with before others have their turn
_COUNTED = 5.0  # seconds for which a count of those that wait is good
_BOUNDS = JsonBounds(values=100)
_UNSAID = {"slaveID": 1}  # what a mapper takes where configData does not say it; behind a gateway each unit is a device
_WHERE = ("host", "url", "macAddress")  # fields of configData that say which device it is
_MAX_NAME = 253


class Discoveries:
    """Of one tenant. `found` is the cache of its Devices."""

    def __init__(self, tenant: TenantId, client: CachedClient, found: Informer, wall: Callable[[], float]) -> None:
        self._tenant = tenant
        self._client = client
        self._devices = found
        self._wall = wall
        self._rows: dict[tuple[NodeName, str], bytes] = {}  # that no Device was made of yet
        self._waiting, self._counted = 0, float("-inf")  # how many wait for approval, and when they were counted
        self._queue: WorkQueue[tuple[NodeName, str]] = WorkQueue(f"discoveries of {tenant}", self._make, workers=2)

    def changed(self, node: NodeName, name: str, value: bytes | None, *, is_old: bool) -> None:
        """A node's row is new, or gone. `is_old`: it was there when this process began to look."""
        if value is None:
            self._rows.pop((node, name), None)
        elif not is_old or self._is_fresh(value):
            self._rows[node, name] = value
            self._queue.add((node, name))

    async def run(self) -> None:
        """Until it is cancelled."""
        await self._queue.run()

    async def _make(self, key: tuple[NodeName, str]) -> float | None:
        value = self._rows.get(key)
        if value is None:
            return None
        try:
            device = unapproved(*key, value)
        except Invalid as exc:
            log.warning("tenant=%s node=%s found=%s: %s", self._tenant, *key, exc)
            del self._rows[key]
            return None
        if self._devices.get(NAMESPACE, meta.name_of(device)) is None:
            if not self._is_full() and not await self._is_known(device):
                self._waiting += 1
                try:
                    await self._client.create(DEVICES, NAMESPACE, device)
                except (Conflict, Invalid, NotFound, Refused) as exc:  # another try would have the same answer
                    self._waiting -= 1
                    log.warning("tenant=%s node=%s found=%s: %s", self._tenant, *key, exc)
        self._rows.pop(key, None)
        return None

    async def _is_known(self, found: Object) -> bool:
        """Somebody has approved it already, under another name. A node may find things without end, and its tenant have very many Devices: other
        tenants have their turn in between."""
        for number, one in enumerate(list(self._devices)):
            if core.is_approved(one) and _is_same(one, found):
                return True
            if number % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)
        return False

    def _is_full(self) -> bool:
        """Counted, and told, now and then: a node may find devices without end, and a tenant may have very many."""
        now = self._wall()
        if not 0 <= now - self._counted < _COUNTED:
            self._counted, self._waiting = now, sum(not core.is_approved(one) for one in self._devices)
            if self._waiting >= MAX_WAITING:
                log.warning(
                    "tenant=%s: %d Devices wait for approval: what is found is left out", self._tenant, self._waiting
                )
        return self._waiting >= MAX_WAITING

    def _is_fresh(self, value: bytes) -> bool:
        try:
            time = _object(value).get("time")
        except Invalid:
            return False
        now = int(self._wall() * 1000)  # whole numbers: what a node says may be too large for any other
        return isinstance(time, int) and abs(now - time) < _FRESH * 1000


def _is_same(device: Object, other: Object) -> bool:
    """A Device is the one that was found: of that node and protocol, and no field that both configurations have, or that stands for itself, differs."""
    (node, name, has), (at, protocol, says) = _place(device), _place(other)
    if node != at or name != protocol or not any(key in has and key in says for key in _WHERE):
        return False
    return all(has.get(key, _UNSAID.get(key, value)) == value for key, value in says.items())


def _place(device: Object) -> tuple[str, str, dict[str, Any]]:
    spec = device.get("spec") or {}
    protocol = spec.get("protocol") or {}
    config = protocol.get("configData")
    name = str(protocol.get("protocolName")).lower()
    return str(spec.get("nodeName")), name, config if isinstance(config, dict) else {}


def unapproved(node: NodeName, name: str, value: bytes) -> Object:
    """The Device of what a node has found. Raises Invalid for a row that is none."""
    if len(value) > MAX_ROW:
        raise Invalid(f"a discovery of {len(value)} bytes, more than {MAX_ROW}")
    row = _object(value)
    protocol, config = row.get("protocol"), row.get("config")
    if not isinstance(protocol, str) or not 0 < len(protocol) < 64 or not isinstance(config, dict):
        raise Invalid("a discovery has no protocol or no config")
    info = row.get("info") if isinstance(row.get("info"), dict) else {}
    said = {"finder": str(row.get("finder") or "")[:64], **{str(k)[:64]: str(v)[:512] for k, v in (info or {}).items()}}
    return {
        "apiVersion": DEVICES.api_version,
        "kind": DEVICES.kind,
        "metadata": {
            "name": f"{node}-{name}"[:_MAX_NAME],
            "namespace": NAMESPACE,
            "annotations": {core.APPROVED: "false", FOUND: meta.canonical(said).decode()},
        },
        "spec": {
            "deviceModelRef": {"name": protocol.lower()},
            "nodeName": str(node),
            "protocol": {"protocolName": protocol, "configData": config},
        },
    }


def _object(value: bytes) -> dict[str, Any]:
    found = strict_json.loads(value, bounds=_BOUNDS)
    if not isinstance(found, dict):
        raise Invalid("a discovery is no JSON object")
    return found
