"""What a tenant may store: refused as a ResourceQuota refuses, counted from the store's changes."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kubeedge.api.names import TenantId
from kubeedge.api.resources import CONFIGMAPS, NODES, PODS
from kubeedge.api.status import Forbidden, TooManyRequests
from kubeedge.apiserver.quota import TenantLimits
from kubeedge.apiserver.registry import Registry
from kubeedge.store.memory import MemoryStore
from kubeedge.store.model import Store
from kubeedge.store.sqlite import open_sqlite
from kubeedge_cloud.etcd.store import open_etcd
from kubeedge_cloud.tenants.manager import TenantManager
from kubeedge_cloud.tenants.module import StorageUsage
from tests.kit.etcd import EtcdCluster

A, B = TenantId("a"), TenantId("b")
LIMITS = TenantLimits(objects=20, size=40_000)


class Site:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.tenants = TenantManager(store)
        self.now = 0.0
        self.usage = StorageUsage(store, self.tenants, LIMITS, clock=lambda: self.now)
        self.api = {tenant: Registry(store, tenant, quota=self.usage.of(tenant)) for tenant in (A, B)}

    async def counted(self, tenant: TenantId, condition: Callable[[Any], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition(self.usage.of(tenant)):
                await asyncio.sleep(0.001)

    async def make(self, tenant: TenantId, name: str, size: int = 1) -> None:
        self.now += 600  # what is written here is not too fast
        before = self.usage.of(tenant).used.objects
        await self.api[tenant].create(CONFIGMAPS, "default", {"metadata": {"name": name}, "data": {"a": "x" * size}})
        await self.counted(tenant, lambda usage: usage.used.objects == before + 1)


Scenario = Callable[[Callable[[Site], Coroutine[Any, Any, None]]], None]
_serial = itertools.count(1)


@asynccontextmanager
async def opened(store: Store) -> AsyncIterator[Site]:
    site = Site(store)
    for tenant in (A, B):
        await site.tenants.ensure_tenant(tenant)
    ready = asyncio.Event()
    task = asyncio.create_task(site.usage.run(ready))
    try:
        await asyncio.wait_for(ready.wait(), 60)
        for tenant in (A, B):
            await site.api[tenant].bootstrap()
            await site.counted(tenant, lambda usage: usage.used.objects == 4)
        yield site
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.close()


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with EtcdCluster(tmp_path_factory.mktemp("etcd")) as cluster:
        yield cluster


@pytest.fixture(params=["memory", "sqlite", "etcd"])
def scenario(request: pytest.FixtureRequest, tmp_path: Path) -> Scenario:
    cluster: EtcdCluster | None = request.getfixturevalue("etcd") if request.param == "etcd" else None

    async def store() -> Store:
        if cluster is not None:
            return await open_etcd(cluster.settings(namespace=f"/usage{next(_serial)}"))
        return MemoryStore() if request.param == "memory" else await open_sqlite(tmp_path / "store.db")

    def run(test: Callable[[Site], Coroutine[Any, Any, None]]) -> None:
        async def inside() -> None:
            async with opened(await store()) as site:
                await test(site)

        asyncio.run(inside())

    return run


def test_the_number_of_a_tenants_objects_is_bounded_and_others_have_their_own(scenario: Scenario) -> None:
    async def test(site: Site) -> None:
        for n in range(16):
            await site.make(A, f"c{n}")
        with pytest.raises(
            Forbidden,
            match='configmaps "more" is forbidden: exceeded quota: tenant, requested: objects=1, used: objects=20, limited: objects=20',
        ):
            await site.api[A].create(CONFIGMAPS, "default", {"metadata": {"name": "more"}})
        await site.make(B, "c")
        await site.api[A].delete(CONFIGMAPS, "default", "c3")
        await site.counted(A, lambda usage: usage.used.objects == 19)
        await site.make(A, "more")

    scenario(test)


def test_bytes_are_bounded_for_what_is_new_and_for_what_grows(scenario: Scenario) -> None:
    async def test(site: Site) -> None:
        await site.make(A, "large", 30_000)
        api = site.api[A]
        with pytest.raises(
            Forbidden, match="exceeded quota: tenant, requested: bytes=.*, used: bytes=3.*, limited: bytes=40000"
        ):
            await api.create(CONFIGMAPS, "default", {"metadata": {"name": "c"}, "data": {"a": "x" * 20_000}})
        with pytest.raises(Forbidden, match="exceeded quota"):
            await api.merge_patch(CONFIGMAPS, "default", "large", {"data": {"b": "x" * 20_000}})
        site.now += 600
        await api.merge_patch(CONFIGMAPS, "default", "large", {"data": {"a": "x" * 30_000, "b": "y"}})
        await api.merge_patch(CONFIGMAPS, "default", "large", {"data": {"a": None}})
        await site.counted(A, lambda usage: usage.used.size < 10_000)
        await site.make(A, "c", 20_000)

    scenario(test)


def test_what_runs_goes_on_at_the_limit(scenario: Scenario) -> None:
    async def test(site: Site) -> None:
        api = site.api[A]
        await api.create(NODES, "", {"metadata": {"name": "n"}, "status": {}})
        pod = {"metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}}
        await api.create(PODS, "default", pod)
        await site.counted(A, lambda usage: usage.used.objects == 6)
        await site.make(A, "large", 40_000 - site.usage.of(A).used.size - 400)
        for resource, namespace, name in ((NODES, "", "n"), (PODS, "default", "p")):
            obj = await api.get(resource, namespace, name)
            status = {**obj["status"], "conditions": [{"type": "Ready", "status": "True", "message": "x" * 600}]}
            await api.update(resource, namespace, {**obj, "status": status}, subresource="status")
        with pytest.raises(Forbidden):
            await api.update(
                NODES, "", {**await api.get(NODES, "", "n"), "status": {"x": "y" * 20_000}}, subresource="status"
            )
        await api.delete(PODS, "default", "p", grace_period=30)
        await api.delete(CONFIGMAPS, "default", "large")

    scenario(test)


def test_a_hundred_writes_at_once_find_one_room(scenario: Scenario) -> None:
    async def test(site: Site) -> None:
        async def one(n: int) -> bool:
            obj = {"metadata": {"name": f"c{n}"}, "data": {"a": "x" * 9000}}
            try:
                await site.api[A].create(CONFIGMAPS, "default", obj)
            except Forbidden:
                return False
            return True

        made = await asyncio.gather(*(one(n) for n in range(100)))
        assert 1 <= sum(made) <= 4

    scenario(test)


def test_a_tenant_may_get_a_quota_of_its_own_and_a_new_process_counts_what_is_there(scenario: Scenario) -> None:
    async def test(site: Site) -> None:
        await site.make(A, "large", 30_000)
        await site.tenants.allow_storage(A, objects=0, size=100_000)
        await site.counted(A, lambda usage: usage.limits == TenantLimits(20, 100_000))
        await site.make(A, "more", 50_000)
        assert site.usage.of(B).limits == LIMITS
        other = StorageUsage(site.store, site.tenants, LIMITS)
        ready = asyncio.Event()
        task = asyncio.create_task(other.run(ready))
        await asyncio.wait_for(ready.wait(), 60)
        task.cancel()
        assert other.of(A).used == site.usage.of(A).used and other.of(A).used.size > 80_000
        assert {sample.labels["tenant"] for family in other.families() for sample in family.samples} == {"a", "b"}

    scenario(test)


def test_one_object_that_is_rewritten_without_end_does_not_fill_the_history(scenario: Scenario) -> None:
    async def test(site: Site) -> None:
        await site.make(A, "c", 10_000)
        writes = 0
        with pytest.raises(TooManyRequests, match="faster than in 600 s"):
            while writes < 100:
                await site.api[A].merge_patch(CONFIGMAPS, "default", "c", {"data": {"a": f"{writes % 10}" * 10_000}})
                writes += 1
        assert 2 <= writes <= 4
        await site.make(B, "c", 10_000)
        site.now += 300
        await site.api[A].merge_patch(CONFIGMAPS, "default", "c", {"data": {"a": "x" * 10_000}})
        await site.api[A].delete(CONFIGMAPS, "default", "c")

    scenario(test)
