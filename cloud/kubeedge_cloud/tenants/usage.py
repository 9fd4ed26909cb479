"""What each tenant has stored, counted from the store's changes, and the quotas that follow from it.

Lives elsewhere: what a quota refuses (kubeedge.apiserver.quota), who asks (the registries of this process).

Each cloud process counts for itself: it reads a tenant's keys once, and then what changes. What it writes itself is held in reserve while
it is on its way, and counted at once. So only writes of several processes at the same moment can go beyond a limit, by those writes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager

from kubeedge.api import keys
from kubeedge.api.names import Revision, TenantId
from kubeedge.api.status import TooManyRequests
from kubeedge.apiserver.quota import Growth, Limits, Used, Wrote, check
from kubeedge.kit.bucket import Bucket
from kubeedge.kit.metrics import Family, family
from kubeedge.kit.reflector.driver import reflect
from kubeedge.store.model import Store
from kubeedge_cloud.tenants.each import for_each_tenant
from kubeedge_cloud.tenants.manager import TenantManager
from kubeedge_cloud.tenants.model import TenantRecord
from kubeedge_cloud.tenants.stored_sizes import StoredSizes

_PACE = 600.0  # seconds in which a tenant may write as many bytes as it may have


class TenantUsage:
    """One tenant's objects. `limits` is asked each time: the administrator may change them."""

    def __init__(self, limits: Callable[[], Limits], clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._pace: tuple[Limits, Bucket] | None = None
        self._sizes: dict[str, int] = {}
        self._size = 0
        self._held = Used()
        self._seen = Revision(0)  # what was counted from the store

    @property
    def used(self) -> Used:
        return Used(len(self._sizes), self._size)

    @property
    def limits(self) -> Limits:
        return self._limits()

    @contextmanager
    def reserve(self, growth: Growth) -> Iterator[Wrote]:
        used = Used(len(self._sizes) + self._held.objects, self._size + self._held.size)
        check(self._limits(), used, growth)
        if not growth.status:  # what nodes report has a pace of its own
            self._keep_pace(growth.written)
        self._hold(growth.objects, max(0, growth.size))
        try:
            yield self._wrote
        finally:
            self._hold(-growth.objects, -max(0, growth.size))

    def _keep_pace(self, written: int) -> None:
        """Raises TooManyRequests. As much as a tenant may have, it may write at once, and then again in _PACE seconds."""
        limits, now = self._limits(), self._clock()
        if self._pace is None or self._pace[0] != limits:
            self._pace = limits, Bucket(limits.size / _PACE, limits.size, now)
        bucket = self._pace[1]
        if wait := bucket.charge(0, now):
            raise TooManyRequests(
                f"the tenant has written {limits.size} bytes faster than in {_PACE:g} s, which fills the store's history: wait",
                retry_after=wait,
            )
        bucket.charge(written, now)

    def _wrote(self, key: str, size: int, revision: Revision) -> None:
        """Before the watch brings it; if that was faster, what it brought after this is the truth."""
        if revision > self._seen:
            self.put(key, size)

    def _hold(self, objects: int, size: int) -> None:
        self._held = Used(self._held.objects + objects, self._held.size + size)

    def put(self, key: str, size: int) -> None:
        self._size += size - self._sizes.get(key, 0)
        self._sizes[key] = size

    def deleted(self, key: str) -> None:
        self._size -= self._sizes.pop(key, 0)

    def seen(self, revision: Revision) -> None:
        self._seen = revision

    def begin_again(self, sizes: dict[str, int], revision: Revision) -> None:
        self._seen = revision
        self._sizes = sizes
        self._size = sum(sizes.values())


class Usage:
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
        async with aclosing(
            reflect(StoredSizes(self._store, keys.registry(record.name), self.of(record.name)))
        ) as steps:
            async for _ in steps:
                serving.set()

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
