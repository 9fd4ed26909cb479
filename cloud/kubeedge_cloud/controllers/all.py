"""Module "controllers": the workload controllers of every tenant."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kubeedge.api.client import KubeClient
from kubeedge.api.names import TenantId
from kubeedge_cloud.controllers.workloads import TenantControllers
from kubeedge_cloud.tenants.each import for_each_tenant
from kubeedge_cloud.tenants.manager import TenantManager
from kubeedge_cloud.tenants.model import TenantRecord


class Controllers:
    name = "controllers"

    def __init__(self, client_for: Callable[[TenantId], KubeClient], tenants: TenantManager) -> None:
        self._client_for = client_for
        self._tenants = tenants

    async def run(self, ready: asyncio.Event) -> None:
        await for_each_tenant(self._tenants, self._serve, ready, what="controllers")

    async def _serve(self, record: TenantRecord, serving: asyncio.Event) -> None:
        await TenantControllers(self._client_for(record.name)).run(serving)
