"""The administrator's routes about a tenant's overlay network.

GET  /v1/links                          links to this process, and to other relays
GET  /v1/routes?tenant=T                networks behind nodes
GET  /v1/routers?tenant=T               networks that are allowed behind nodes
POST /v1/routers?tenant=T {"node", "subnets"}
POST /v1/ping?tenant=T {"node", "count", "interval"}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kubeedge.api.names import DEFAULT_TENANT, TenantId, node_name, tenant_id
from kubeedge.control.requests import ping_request, request_object
from kubeedge.errors import Invalid
from kubeedge.kit.http1 import Request
from kubeedge_cloud.bushub.module import BusHub
from kubeedge_cloud.bushub.observe import relay_state
from kubeedge_cloud.tenants.manager import TenantManager


class NetworkRoutes:
    """GET only; every answer is the state of this process, as JSON."""

    def __init__(self, bus: BusHub, tenants: TenantManager) -> None:
        self._bus = bus
        self._tenants = tenants

    async def answer(self, request: Request) -> Mapping[str, Any] | None:
        """The answer to a request; None when it is for none of these routes. Raises any KubeEdgeError."""
        match request.method, request.path:
            case "GET", "/v1/links":
                return relay_state(self._bus)
            case "GET", "/v1/routes":
                return {"routes": await self._bus.routes(_tenant(request))}
            case "GET", "/v1/routers":
                return {"routers": await self._tenants.all_subnets(_tenant(request))}
            case "POST", "/v1/routers":
                return await self._allow(_tenant(request), await request_object(request))
            case "POST", "/v1/ping":
                return await self._ping(_tenant(request), await request_object(request))
        return None

    async def _allow(self, tenant: TenantId, body: dict[str, Any]) -> dict[str, Any]:
        """Replaces the networks that may be behind a node; its links are made again and say what is behind it."""
        node, subnets = node_name(str(body.get("node", ""))), body.get("subnets")
        if not isinstance(subnets, list):
            raise Invalid("a list of networks is required", path="subnets")
        allowed = await self._tenants.allow_subnets(tenant, node, [str(s) for s in subnets])
        return {"node": node, "subnets": list(allowed)}

    async def _ping(self, tenant: TenantId, body: dict[str, Any]) -> dict[str, Any]:
        count, interval = ping_request(body)
        return await self._bus.ping(tenant, node_name(str(body.get("node", ""))), count=count, interval=interval)


def _tenant(request: Request) -> TenantId:
    return tenant_id((request.query.get("tenant") or [DEFAULT_TENANT])[-1])
