"""Module "usage": counts what each tenant has stored from the store's changes, for the quotas of the API.

Lives elsewhere: the count of one tenant (usage.py), who asks (registries.py).

Each cloud process counts for itself: it reads a tenant's keys once, and then what changes. What it writes itself is held in reserve while
it is on its way, and counted at once. So only writes of several processes at the same moment can go beyond a limit, by those writes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing

from kubeedge.api import keys
from kubeedge.api.names import TenantId
from kubeedge.apiserver.quota import TenantLimits
from kubeedge.kit.metrics import Family, family
from kubeedge.kit.reflector.driver import reflect
from kubeedge.store.model import Store
from kubeedge_cloud.tenants.each import for_each_tenant
from kubeedge_cloud.tenants.manager import TenantManager
from kubeedge_cloud.tenants.model import TenantRecord
from kubeedge_cloud.tenants.stored_sizes import StoredSizes
from kubeedge_cloud.tenants.usage import TenantUsage


class StorageUsage:
    """Module "usage": it is ready when what the tenants of the beginning have is known. `pressure`: seconds for which the store's history has no
    room for more of a tenant."""

    name = "usage"

    def __init__(
        self,
        store: Store,
        tenants: TenantManager,
        default: TenantLimits,
        *,
        clock: Callable[[], float] = time.monotonic,
        pressure: Callable[[TenantId], float] = lambda _: 0.0,
    ) -> None:
        self._clock = clock
        self._pressure = pressure
        self._store = store
        self._tenants = tenants
        self._default = default
        self._records: dict[TenantId, TenantRecord] = {}
        self._usage: dict[TenantId, TenantUsage] = {}

    def of(self, tenant: TenantId) -> TenantUsage:
        """The count of that tenant, created empty by the first call; filled while the module runs."""
        if tenant not in self._usage:
            self._usage[tenant] = TenantUsage(
                lambda: self._limits_of(tenant), self._clock, lambda: self._pressure(tenant)
            )
        return self._usage[tenant]

    def _limits_of(self, tenant: TenantId) -> TenantLimits:
        record = self._records.get(tenant)
        if record is None:
            return self._default
        return TenantLimits(record.objects or self._default.objects, record.size or self._default.size)

    async def run(self, ready: asyncio.Event) -> None:
        """Ready once what the tenants have stored is counted."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_records(), name="limits of the tenants")
            tasks.create_task(for_each_tenant(self._tenants, self._serve, ready, what="usage"), name="usage")

    async def _follow_records(self) -> None:
        async with aclosing(self._tenants.follow_tenants()) as changes:
            async for records in changes:
                self._records = {record.name: record for record in records}

    async def _serve(self, record: TenantRecord, serving: asyncio.Event) -> None:
        sizes = StoredSizes(self._store, keys.registry(record.name), self.of(record.name))
        async with aclosing(reflect(sizes)) as steps:
            async for _ in steps:
                serving.set()

    def families(self) -> list[Family]:
        """Metrics with a label for each tenant, of at most 300 tenants."""
        rows = [(tenant, usage) for tenant, usage in self._usage.items()][:300]
        return [
            family(
                "kubeedge_tenant_objects",
                "gauge",
                "objects that a tenant has stored",
                [({"tenant": str(tenant)}, float(usage.used.objects)) for tenant, usage in rows],
            ),
            family(
                "kubeedge_tenant_bytes",
                "gauge",
                "bytes of a tenant's objects",
                [({"tenant": str(tenant)}, float(usage.used.size)) for tenant, usage in rows],
            ),
        ]
