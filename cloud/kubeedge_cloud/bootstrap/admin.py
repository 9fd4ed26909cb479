"""The administrator's routes on the cloud's unix socket: tenants and tokens. Who may open the socket is the file's mode.

GET    /v1/tenants                      POST /v1/tenants {"name"}
GET    /v1/tenants/T/tokens             POST /v1/tenants/T/tokens {"node", "ttl", "replace"}
DELETE /v1/tenants/T/tokens/ID
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Protocol

from kubeedge.api.names import TenantId, node_name, tenant_id
from kubeedge.errors import Invalid, NotFound
from kubeedge.kit.http1 import Request, Response, json_response
from kubeedge_cloud.bootstrap.tokens import DEFAULT_TTL, TokenStore

_MAX_BODY = 16 * 1024


class Tenants(Protocol):
    async def names(self) -> list[TenantId]: ...

    async def ensure(self, tenant: TenantId) -> None: ...


class Admin:
    def __init__(self, tenants: Tenants, tokens: TokenStore, clock: Callable[[], float]) -> None:
        self._tenants = tenants
        self._tokens = tokens
        self._clock = clock

    async def handle(self, request: Request) -> Response | None:
        """None: not one of these routes."""
        parts = request.path.strip("/").split("/")
        if parts[:2] != ["v1", "tenants"]:
            return None
        match request.method, parts[2:]:
            case "GET", []:
                return json_response(200, {"tenants": [str(t) for t in await self._tenants.names()]})
            case "POST", []:
                name = tenant_id(str((await _body(request)).get("name", "")))
                await self._tenants.ensure(name)
                return json_response(200, {"name": name})
            case "GET", [tenant, "tokens"]:
                return json_response(200, {"tokens": await self._list(await self._known(tenant))})
            case "POST", [tenant, "tokens"]:
                return await self._create(await self._known(tenant), await _body(request))
            case "DELETE", [tenant, "tokens", token_id]:
                await self._tokens.revoke(await self._known(tenant), token_id)
                return json_response(200, {})
        return None

    async def _known(self, text: str) -> TenantId:
        tenant = tenant_id(text)
        if tenant not in await self._tenants.names():
            raise NotFound(f"no tenant {tenant}; make it with `kubeedge tenant create {tenant}`")
        return tenant

    async def _create(self, tenant: TenantId, body: dict[str, Any]) -> Response:
        node, ttl, replace = body.get("node", ""), body.get("ttl", DEFAULT_TTL), body.get("replace", False)
        if not isinstance(node, str) or isinstance(ttl, bool) or not isinstance(ttl, int | float):
            raise Invalid("node must be text and ttl a number of seconds")
        if node:
            node_name(node)
        token = await self._tokens.create(tenant, node, float(ttl), replace=replace is True)
        expires = self._clock() + float(ttl)
        return json_response(200, {"token": str(token), "id": token.id, "expires": expires})

    async def _list(self, tenant: TenantId) -> list[dict[str, Any]]:
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
            }
            for t in await self._tokens.list(tenant)
        ]


async def _body(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.read(_MAX_BODY) or b"{}")
    except (ValueError, RecursionError) as exc:
        raise Invalid("the body is not JSON") from exc
    if not isinstance(body, dict):
        raise Invalid("the body is not a JSON object")
    return body
