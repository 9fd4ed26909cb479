"""The administrator's routes about kubeconfigs, below /v1/tenants/T.

GET    /kubeconfigs              POST /kubeconfigs {"user", "ttl"} -> {"id", "kubeconfig", ...}
DELETE /kubeconfigs/ID           POST /kubeconfigs/admin/replace   -> {"id", "file"}
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from kubeedge.api.names import TenantId
from kubeedge.errors import Invalid
from kubeedge_cloud.kubeconfigs.core import DEFAULT_TTL, MAX_TTL
from kubeedge_cloud.kubeconfigs.files import ADMIN, KubeconfigFiles
from kubeedge_cloud.kubeconfigs.records import KubeconfigRecords


class KubeconfigRoutes:
    """`replace` puts another kubeconfig into the administrator's file and returns its id; `clock`: seconds since 1970."""

    def __init__(
        self,
        records: KubeconfigRecords,
        files: KubeconfigFiles,
        replace: Callable[[TenantId], Awaitable[str]],
        clock: Callable[[], float],
    ) -> None:
        self._records = records
        self._files = files
        self._replace = replace
        self._clock = clock

    async def route(
        self, method: str, tenant: TenantId, parts: Sequence[str], body: dict[str, Any]
    ) -> dict[str, Any] | None:
        """The answer to a request; None when it is for none of these routes."""
        match method, parts:
            case "GET", []:
                return {"kubeconfigs": await self._list(tenant)}
            case "POST", []:
                return await self._create(tenant, body)
            case "DELETE", [id]:
                record = await self._records.revoke(tenant, id)
                return {"id": record.id, "user": record.user}
            case "POST", ["admin", "replace"]:
                return {"id": await self._replace(tenant), "file": str(self._files.path(tenant))}
        return None

    async def _list(self, tenant: TenantId) -> list[dict[str, Any]]:
        now = self._clock()
        records = sorted(await self._records.list(tenant), key=lambda r: (r.created, r.id))
        return [
            {
                "id": r.id,
                "user": r.user,
                "state": r.state(now),
                "created": r.created,
                "expires": r.expires,
                "file": f"{self._files.path(tenant)} on {r.file}" if r.file else "",
            }
            for r in records
        ]

    async def _create(self, tenant: TenantId, body: dict[str, Any]) -> dict[str, Any]:
        user, ttl = body.get("user", ADMIN), body.get("ttl", DEFAULT_TTL)
        if not isinstance(user, str):
            raise Invalid("text is required", path="user")
        if isinstance(ttl, bool) or not isinstance(ttl, int | float):
            raise Invalid("a number of seconds is required", path="ttl")
        record, text = await self._files.new(tenant, user, float(min(ttl, 2 * MAX_TTL)))
        return {"id": record.id, "user": record.user, "expires": record.expires, "kubeconfig": text}
