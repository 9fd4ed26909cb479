"""History in etcd is bounded by the bytes of each tenant, on a real member; and a tenant that writes too fast waits for that."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from kubeedge.api import keys
from kubeedge.api.names import Revision, TenantId
from kubeedge.api.resources import CONFIGMAPS
from kubeedge.api.status import TooManyRequests
from kubeedge.apiserver.quota import TenantLimits
from kubeedge.apiserver.registry import Registry
from kubeedge.errors import Gone
from kubeedge.store.model import Change, ChangeKind
from kubeedge_cloud.etcd.history import TenantHistory
from kubeedge_cloud.etcd.members import rpc
from kubeedge_cloud.etcd.store import EtcdStore, open_etcd
from kubeedge_cloud.tenants.usage import TenantUsage
from tests.kit.etcd import EtcdCluster

NOISY, QUIET = TenantId("noisy"), TenantId("quiet")
LIMIT = 1 << 20
VALUE = bytes(64 * 1024)


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with EtcdCluster(tmp_path_factory.mktemp("etcd")) as found:
        yield found


def put(tenant: str, revision: int, size: int) -> tuple[list[Change], Revision]:
    key = f"/t/{tenant}/x"
    return [Change(ChangeKind.PUT, key, bytes(size - len(key)), Revision(revision))], Revision(revision)


def test_what_is_compacted_is_what_the_largest_has_too_much() -> None:
    history = TenantHistory(800)
    for n in range(1, 9):
        assert not history.wrote(*put("a", n, 100))
    assert history.wrote(*put("b", 9, 900)) and history.target() == 9, "one value that is too large"
    history.compacted(Revision(9))
    assert history.size("/t/a") == history.size("/t/b") == 0 and history.target() == 0
    for n in range(10, 20):
        history.wrote(*put("a", n, 100))
    history.wrote(*put("b", 20, 100))
    assert history.target() == 11 and not history.over_twice("/t/a")
    for n in range(21, 28):
        history.wrote(*put("a", n, 100))
    assert history.over_twice("/t/a") and not history.over_twice("/t/b")
    history.compacted(history.target())
    assert history.size("/t/a") == 800 and history.size("/t/b") == 100 and history.target() == 0


def test_a_write_counts_before_the_feed_tells_of_it_and_once() -> None:
    history = TenantHistory(800)
    for n in range(1, 20):
        history.acknowledged("/t/a", 100, Revision(n))
        assert history.over_twice("/t/a") == (n > 16) and not history.over_twice("/t/b")
    for n in range(1, 17):
        history.wrote(*put("a", n, 100))
        assert history.over_twice("/t/a"), "1,900 bytes, whoever told of them"
    history.compacted(Revision(17))
    assert history.size("/t/a") == 0 and not history.over_twice("/t/a")
    for n in range(20, 34):
        history.acknowledged("/t/a", 100, Revision(n))
    assert not history.over_twice("/t/a"), "two of before, 14 now"
    history.acknowledged("/t/a", 100, Revision(34))
    assert history.over_twice("/t/a")


async def size_in_use(store: EtcdStore) -> int:
    found = await store._members.call(rpc.MaintenanceStub, "Status", rpc.StatusRequest(), repeatable=True)
    return int(getattr(found, "dbSizeInUse", 0) or found.dbSize)


def test_a_tenant_that_rewrites_one_value_does_not_fill_etcd(member: EtcdCluster) -> None:
    """32 MiB of a value of 64 KiB: without this they were all there until 20,000 revisions later."""

    async def scenario() -> None:
        store = await open_etcd(
            member.settings(namespace="/bytes", keep_revisions=1_000_000, history_bytes=LIMIT, compact_soon=0.2)
        )
        try:
            first = store.revision
            quiet, most, waited = await store.put(f"{keys.registry(QUIET)}k", b"v"), 0, 0
            for _ in range(512):
                while wait := store.pressure(NOISY):
                    assert not store.pressure(QUIET)
                    waited += 1
                    await asyncio.sleep(wait / 4)
                await store.put(f"{keys.registry(NOISY)}k", VALUE)
                most = max(most, store._bytes.size(keys.owner(keys.registry(NOISY))))
            assert waited and most <= 2 * LIMIT + 2 * len(VALUE), "one write beyond, however late the feed is"
            async with asyncio.timeout(10):
                while store._bytes.size(keys.owner(keys.registry(NOISY))) > LIMIT:
                    await asyncio.sleep(0.05)
            assert store.compacted > quiet
            kept = await store.get(f"{keys.registry(QUIET)}k")
            assert kept is not None and kept.value == b"v", "what is live stays"
            with pytest.raises(Gone):
                async for _ in store.watch(keys.registry(NOISY), after=first):
                    pass
            in_use = await size_in_use(store)
            print(f"{waited} waits, {most} bytes of history at most, etcd has {in_use} bytes")
        finally:
            await store.close()

    asyncio.run(scenario())


def test_the_api_of_that_tenant_says_too_many_requests_until_there_is_room(member: EtcdCluster) -> None:
    async def scenario() -> None:
        store = await open_etcd(
            member.settings(namespace="/api", keep_revisions=1_000_000, history_bytes=LIMIT, compact_soon=1.0)
        )
        loop = asyncio.get_running_loop()

        def registry(tenant: TenantId) -> Registry:
            usage = TenantUsage(lambda: TenantLimits(1000, 1 << 30), loop.time, lambda: store.pressure(tenant))
            return Registry(store, tenant, quota=usage)

        noisy, quiet = registry(NOISY), registry(QUIET)
        large = {"metadata": {"name": "large"}, "data": {"x": "y" * 512 * 1024}}
        try:
            with pytest.raises(TooManyRequests, match="compacted"):
                for n in range(100):
                    await noisy.create(CONFIGMAPS, "default", {**large, "metadata": {"name": f"c{n}"}})
            await quiet.create(CONFIGMAPS, "default", {"metadata": {"name": "small"}, "data": {"x": "y"}})
            async with asyncio.timeout(20):
                while store.pressure(NOISY):
                    await asyncio.sleep(0.05)
            await noisy.create(CONFIGMAPS, "default", {**large, "metadata": {"name": "after"}})
        finally:
            await store.close()

    asyncio.run(scenario())
