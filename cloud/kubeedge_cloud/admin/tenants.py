"""The administrator's routes about tenants and bootstrap tokens.

GET    /v1/tenants                      POST /v1/tenants {"name", "cluster"}
GET    /v1/tenants/T                    PUT  /v1/tenants/T/quota {"objects", "mib"}
DELETE /v1/tenants/T?force=true
GET    /v1/tenants/T/tokens             POST /v1/tenants/T/tokens {"node", "ttl", "replace", "joinKey"}
DELETE /v1/tenants/T/tokens/ID
GET    /v1/tenants/T/boards             PUT /v1/tenants/T/boards/SERIAL {"node", "key", "network"}
DELETE /v1/tenants/T/boards?prefix=P&state=S
DELETE /v1/tenants/T/boards/SERIAL
DELETE /v1/tenants/T/nodes/N
       /v1/tenants/T/kubeconfigs/...    (kubeconfigs.py)
       /v1/tenants/T/devices/...        (devices.py)
       /v1/tenants/T/scans/...          (scans.py)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from kubeedge.api.names import NodeName, TenantId, node_name, tenant_id
from kubeedge.control.requests import request_object
from kubeedge.errors import Invalid, NotFound, with_next
from kubeedge.kit.http1 import Request
from kubeedge_cloud.bootstrap.boards import as_json
from kubeedge_cloud.bootstrap.tokens import DEFAULT_TTL, MAX_TTL, TokenStore

_MAX_BODY = 16 * 1024  # bytes


class Tenants(Protocol):
    """What the routes need of tenants (kubeedge_cloud.tenants.administration implements it)."""

    async def names(self) -> list[TenantId]:
        """The names of all tenants in the store."""
        ...

    async def ensure(self, tenant: TenantId, cluster: str | None = None) -> None:
        """Find or create a tenant; `cluster` is where its API is. Raises Unavailable when no tenant number is free."""
        ...

    async def show(self, tenant: TenantId) -> dict[str, Any]:
        """The tenant's quota and what it uses of it, as JSON."""
        ...

    async def allow_storage(self, tenant: TenantId, objects: int, size: int) -> None:
        """Sets the tenant's own quota: a number of objects, and `size` in bytes. 0: as the configuration says."""
        ...

    async def remove(self, tenant: TenantId, *, force: bool) -> None:
        """Remove a tenant; with its nodes and objects only when forced. Raises Conflict."""
        ...

    async def remove_node(self, tenant: TenantId, node: NodeName) -> bool:
        """Whether there was such a node. Its certificate is not accepted any more."""
        ...


class TenantSubroutes(Protocol):
    """Routes below /v1/tenants/T; `parts` is what follows their name."""

    async def route(
        self, method: str, tenant: TenantId, parts: Sequence[str], body: dict[str, Any]
    ) -> dict[str, Any] | None:
        """The answer to a request; None when it is for none of these routes."""
        ...


class TenantRoutes:
    """The routes of the administration API below /tenants. `clock` returns seconds since 1970."""

    def __init__(
        self,
        tenants: Tenants,
        tokens: TokenStore,
        clock: Callable[[], float],
        kubeconfigs: TenantSubroutes | None = None,
        devices: TenantSubroutes | None = None,
        scans: TenantSubroutes | None = None,
    ) -> None:
        self._devices = devices
        self._scans = scans
        self._kubeconfigs = kubeconfigs
        self._tenants = tenants
        self._tokens = tokens
        self._clock = clock

    async def answer(self, request: Request) -> Mapping[str, Any] | None:
        """The answer to a request; None when it is for none of these routes. Raises any KubeEdgeError."""
        parts = request.path.strip("/").split("/")
        return await self._route(request, parts[2:]) if parts[:2] == ["v1", "tenants"] else None

    async def _route(self, request: Request, parts: list[str]) -> Mapping[str, Any] | None:
        match request.method, parts:
            case "GET", []:
                return {"tenants": sorted(str(t) for t in await self._tenants.names())}
            case "POST", []:
                body = await _body(request)
                name, cluster = body.get("name"), body.get("cluster")
                if not isinstance(name, str):
                    raise Invalid("text is required", path="name")
                if cluster is not None and not _is_cluster(cluster):
                    raise Invalid("the path of a kubeconfig, in-cluster or nothing is required", path="cluster")
                await self._tenants.ensure(tenant_id(name), cluster)
                return {"name": name}
            case "GET", [tenant]:
                return await self._tenants.show(await self._known(tenant))
            case "DELETE", [tenant]:
                known = await self._known(tenant)
                await self._tenants.remove(known, force=request.query.get("force") == ["true"])
                return {"name": known}
            case "PUT", [tenant, "quota"]:
                known, body = await self._known(tenant), await _body(request)
                await self._tenants.allow_storage(known, _count(body, "objects"), _count(body, "mib") * 1024 * 1024)
                return {"name": known}
            case "GET", [tenant, "tokens"]:
                return {"tokens": await self._list_tokens(await self._known(tenant))}
            case "POST", [tenant, "tokens"]:
                return await self._create_token(await self._known(tenant), await _body(request))
            case "DELETE", [tenant, "tokens", token_id]:
                await self._tokens.revoke(await self._known(tenant), token_id)
                return {}
            case "GET", [tenant, "boards"]:
                return {"boards": as_json(await self._tokens.boards.list(await self._known(tenant)))}
            case "PUT", [tenant, "boards", serial]:
                known, body = await self._known(tenant), await _body(request)
                node, key, network = (_text(body, name) for name in ("node", "key", "network"))
                approved = await self._tokens.boards.approve(known, serial, node, key=key, network=network)
                return as_json([approved])[0]
            case "DELETE", [tenant, "boards"]:
                prefix, state = (request.query.get(name, [""])[0] for name in ("prefix", "state"))
                return {"forgotten": await self._tokens.boards.forget_all(await self._known(tenant), prefix, state)}
            case "DELETE", [tenant, "boards", serial]:
                await self._tokens.boards.forget(await self._known(tenant), serial)
                return {}
            case method, [tenant, "kubeconfigs", *rest] if self._kubeconfigs is not None:
                return await self._kubeconfigs.route(method, await self._known(tenant), rest, await _body(request))
            case method, [tenant, "devices", *rest] if self._devices is not None:
                return await self._devices.route(method, await self._known(tenant), rest, await _body(request))
            case method, [tenant, "scans", *rest] if self._scans is not None:
                return await self._scans.route(method, await self._known(tenant), rest, await _body(request))
            case "DELETE", [tenant, "nodes", node]:
                if not await self._tenants.remove_node(await self._known(tenant), node_name(node)):
                    raise NotFound(f"tenant {tenant} has no node {node}")
                return {"tenant": tenant, "node": node}
        return None

    async def _known(self, text: str) -> TenantId:
        tenant = tenant_id(text)
        if tenant not in await self._tenants.names():
            raise with_next(NotFound(f"no tenant {tenant}"), f"make it with `kubeedge tenant create {tenant}`")
        return tenant

    async def _create_token(self, tenant: TenantId, body: dict[str, Any]) -> Mapping[str, Any]:
        node, ttl, replace = body.get("node", ""), body.get("ttl", DEFAULT_TTL), body.get("replace", False)
        if not isinstance(node, str):
            raise Invalid("text is required", path="node")
        if isinstance(ttl, bool) or not isinstance(ttl, int | float):
            raise Invalid("a number of seconds is required", path="ttl")
        join_key = body.get("joinKey", False)
        for path, value in (("replace", replace), ("joinKey", join_key)):
            if not isinstance(value, bool):
                raise Invalid("true or false is required", path=path)
        if node:
            node_name(node)
        if join_key and (node or replace):
            raise Invalid("a join key is for no node in particular", path="joinKey")
        ttl = float(min(ttl, 2 * MAX_TTL))  # before a number of a thousand digits becomes a float
        expires = self._clock() + ttl
        token = await self._tokens.create(tenant, node, ttl, replace=replace, join_key=join_key)
        return {"token": str(token), "id": token.id, "node": node, "expires": expires}

    async def _list_tokens(self, tenant: TenantId) -> list[dict[str, Any]]:
        now = self._clock()
        return [
            {
                "id": t.id,
                "node": t.node,
                "state": t.state(now),
                "created": t.created,
                "expires": t.expires,
                "usedBy": t.used_by,
                "replace": t.replace,
                "joinKey": t.join_key,
            }
            for t in sorted(await self._tokens.list(tenant), key=lambda t: (t.created, t.id))
        ]


def _is_cluster(value: Any) -> bool:
    return isinstance(value, str) and (value in ("", "in-cluster") or value.startswith("/"))


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name, "")
    if not isinstance(value, str):
        raise Invalid("text is required", path=name)
    return value


def _count(body: dict[str, Any], name: str) -> int:
    value = body.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        raise Invalid("a number of 0 or more is required", path=name)
    return value


async def _body(request: Request) -> dict[str, Any]:
    return await request_object(request, limit=_MAX_BODY)
