"""Module "usage": counts what each tenant has stored from the store's changes, for the quotas of the API.

Lives elsewhere: the count of one tenant (usage.py), who asks (registries.py).

Each cloud process counts for itself: it reads a tenant's keys once, and then what changes. What it writes itself is held in reserve while
it is on its way, and counted at once. So only writes of several processes at the same moment can go beyond a limit, by those writes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import cast

from kubeedge.api import keys
from kubeedge.api.names import Revision, TenantId
from kubeedge.apiserver.quota import Limits
from kubeedge.errors import Gone
from kubeedge.kit.metrics import Family, family
from kubeedge.store.model import ChangeKind, Store, WatchBatch
from kubeedge_cloud.tenants.each import for_each_tenant
from kubeedge_cloud.tenants.manager import TenantManager
from kubeedge_cloud.tenants.model import TenantRecord
from kubeedge_cloud.tenants.usage import TenantUsage

_PAGE = 50  # keys read at once; each may have 1.5 MiB


class StorageUsage:
    """Module "usage": it is ready when what the tenants of the beginning have is known."""

    name = "usage"

    def __init__(
        self, store: Store, tenants: TenantManager, default: Limits, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._store = store
        self._tenants = tenants
        self._default = default
        self._records: dict[TenantId, TenantRecord] = {}
        self._usage: dict[TenantId, TenantUsage] = {}

    def of(self, tenant: TenantId) -> TenantUsage:
        if tenant not in self._usage:
            self._usage[tenant] = TenantUsage(lambda: self._limits_of(tenant), self._clock)
        return self._usage[tenant]

    def _limits_of(self, tenant: TenantId) -> Limits:
        record = self._records.get(tenant)
        if record is None:
            return self._default
        return Limits(record.objects or self._default.objects, record.size or self._default.size)

    async def run(self, ready: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_records(), name="limits of the tenants")
            tasks.create_task(for_each_tenant(self._tenants, self._serve, ready, what="usage"), name="usage")

    async def _follow_records(self) -> None:
        async with aclosing(self._tenants.follow_tenants()) as changes:
            async for records in changes:
                self._records = {record.name: record for record in records}

    async def _serve(self, record: TenantRecord, serving: asyncio.Event) -> None:
        usage, prefix = self.of(record.name), keys.registry(record.name)
        while True:
            try:
                revision = await self._count(usage, prefix)
                serving.set()
                watch = cast(AsyncGenerator[WatchBatch, None], self._store.watch(prefix, after=revision, progress=True))
                async with aclosing(watch) as batches:
                    async for batch in batches:
                        for change in batch.changes:
                            if change.kind is ChangeKind.PUT:
                                usage.put(change.key, len(change.key) + len(change.value))
                            else:
                                usage.deleted(change.key)
                        usage.seen(batch.revision)
                return  # the store was closed
            except Gone:
                await asyncio.sleep(0)

    async def _count(self, usage: TenantUsage, prefix: str) -> Revision:
        sizes: dict[str, int] = {}
        start, end, revision = prefix, keys.prefix_end(prefix), None
        while True:
            found = await self._store.range(start, end, revision=revision, limit=_PAGE)
            revision = found.revision if revision is None else revision
            sizes.update((kv.key, len(kv.key) + len(kv.value)) for kv in found.kvs)
            if not found.more:
                usage.begin_again(sizes, revision)
                return revision
            start = found.kvs[-1].key + "\0"

    def families(self) -> list[Family]:
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
