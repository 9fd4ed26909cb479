"""The administrator's routes about scans for devices, below /v1/tenants/T.

PUT    /scans/N      {"networks", "radios", "finders", "units", "seconds"} asks the node; the answer has the scan's id
GET    /scans/N      what the node says about its last scan: "id", "state", "found", "errors"
"""

from __future__ import annotations

import ipaddress
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

from kubeedge.api import keys, meta, strict_json
from kubeedge.api.json_bounds import JsonBounds
from kubeedge.api.names import TenantId, node_name
from kubeedge.errors import Invalid, NotFound
from kubeedge.store.model import Compare, CompareTarget, Put, Store
from kubeedge_cloud.tenants.model import node_key

_BOUNDS = JsonBounds(values=1000)
_MAX_SECONDS = 300
_MAX_LIST = 16
_WAITING = 600  # seconds that a node which is away may take to begin
_ROW = "scans/_/scan"


class ScanRoutes:
    """`wall` gives seconds since 1970."""

    def __init__(self, store: Store, wall: Callable[[], float] = time.time) -> None:
        self._store = store
        self._wall = wall

    async def route(
        self, method: str, tenant: TenantId, parts: Sequence[str], body: dict[str, Any]
    ) -> dict[str, Any] | None:
        """The answer to a request; None when it is for none of these routes. Raises Invalid, NotFound."""
        match method, parts:
            case "PUT", [node]:
                return await self._ask(tenant, node, body)
            case "GET", [node]:
                found = await self._store.get(f"{keys.edge_reported(tenant, node_name(node))}{_ROW}")
                if found is None:
                    return {"id": "", "state": "none", "found": [], "errors": {}}
                value = strict_json.loads(found.value, bounds=_BOUNDS)
                return value if isinstance(value, dict) else {}
        return None

    async def _ask(self, tenant: TenantId, node: str, body: dict[str, Any]) -> dict[str, Any]:
        name = node_name(node)
        order = {key: _listed(body, key) for key in ("networks", "radios", "finders", "units")}
        for text in order["networks"]:
            try:
                ipaddress.ip_network(text)
            except ValueError as exc:
                raise Invalid(f"{str(text)[:64]!r} is no network", path="networks") from exc
        seconds = body.get("seconds", 20)
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= _MAX_SECONDS:
            raise Invalid(f"a number of seconds up to {_MAX_SECONDS} is required", path="seconds")
        scan = secrets.token_hex(8)
        until = int((self._wall() + _WAITING) * 1000)
        value = meta.canonical({"id": scan, **order, "seconds": seconds, "until": until})
        exists = Compare(node_key(tenant, name), CompareTarget.VERSION, ">", 0)
        if not (await self._store.txn([exists], [Put(keys.edge_desired(tenant, name) + _ROW, value)])).succeeded:
            raise NotFound(f"tenant {tenant} has no node {node}")
        return {"id": scan, "node": node}


def _listed(body: dict[str, Any], key: str) -> list[Any]:
    items = body.get(key) or []
    if not isinstance(items, list) or len(items) > _MAX_LIST or not all(isinstance(i, str | int) for i in items):
        raise Invalid(f"a list of at most {_MAX_LIST} is required", path=key)
    return items
