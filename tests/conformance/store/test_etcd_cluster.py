"""Three real members: they are killed and paused one after the other, and what was acknowledged stays."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubeedge.api.names import Revision
from kubeedge.errors import Gone, Invalid, Unavailable
from kubeedge.store.model import Change
from kubeedge_cloud.etcd.members import rpc
from kubeedge_cloud.etcd.store import EtcdStore, open_etcd
from kubeedge_cloud.stores import SharedStore
from tests.kit.etcd import EtcdCluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with EtcdCluster(tmp_path_factory.mktemp("etcd3"), members=3) as found:
        yield found


async def persistently(store: EtcdStore, key: str, value: bytes) -> bool:
    """A write by somebody who asks again; False when it was never acknowledged."""
    for _ in range(600):
        try:
            await store.put(key, value)
            return True
        except Unavailable:
            await asyncio.sleep(0.1)
    return False


def test_members_may_die_one_after_the_other_and_nothing_acknowledged_is_lost(cluster: EtcdCluster) -> None:
    async def scenario() -> None:
        store = await open_etcd(cluster.settings(namespace="/die", timeout=2.0))
        acknowledged: list[str] = []
        seen: list[Change] = []
        stop = asyncio.Event()

        async def write(writer: int) -> None:
            n = 0
            while not stop.is_set():
                key = f"{writer}/{n:05}"
                if await persistently(store, key, b""):
                    acknowledged.append(key)
                n += 1

        async def follow() -> None:
            last = 0
            async for batch in store.watch("", after=Revision(store.revision)):
                for change in batch.changes:
                    assert change.revision > last, (
                        "each revision is one put: a watch went back in time, or said it twice"
                    )
                    last = int(change.revision)
                    seen.append(change)

        try:
            async with asyncio.timeout(300):
                following = asyncio.create_task(follow())
                await asyncio.sleep(0.1)
                writers = [asyncio.create_task(write(n)) for n in range(4)]
                for member in range(3):
                    await asyncio.sleep(0.5)
                    cluster.kill(member)
                    await asyncio.sleep(1.0)
                    cluster.start(member, wait=False)
                    await asyncio.to_thread(cluster.wait, member)
                stop.set()
                await asyncio.gather(*writers)
                there = await store.range("", "z")
                assert len(acknowledged) > 50 and set(acknowledged) <= {kv.key for kv in there.kvs}
                newest = max(kv.mod_revision for kv in there.kvs)
                while not (seen and seen[-1].revision >= newest):
                    assert not following.done(), following.exception()
                    await asyncio.sleep(0.05)
                # a write that was sent again may have been done twice, also later than now; what was done was heard of, and once
                heard = Counter(change.key for change in seen if change.revision <= newest)
                assert heard == {kv.key: kv.version for kv in there.kvs}
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
        finally:
            await store.close()

    asyncio.run(scenario())


def test_20418_a_member_that_was_paused_answers_nothing_stale(cluster: EtcdCluster) -> None:
    async def scenario() -> None:
        alone = [
            await open_etcd(cluster.settings(endpoints=[e], namespace="/pause", timeout=3.0)) for e in cluster.endpoints
        ]
        try:
            async with asyncio.timeout(240):
                await alone[0].put("k", b"old")
                for member in range(3):
                    cluster.pause(member)
                    try:
                        other = alone[(member + 1) % 3]
                        value = b"new%d" % member
                        assert await persistently(other, "k", value)
                    finally:
                        cluster.resume(member)
                    for _ in range(600):
                        with contextlib.suppress(Unavailable):
                            found = await alone[member].get("k")
                            assert found and found.value == value
                            break
                        await asyncio.sleep(0.05)
                    else:
                        raise AssertionError("the member did not come back")
        finally:
            for store in alone:
                await store.close()

    asyncio.run(scenario())


def test_history_that_was_compacted_while_we_were_away_is_gone_for_every_watch(cluster: EtcdCluster) -> None:
    async def scenario() -> None:
        here = await open_etcd(cluster.settings(namespace="/away"))
        there = await open_etcd(cluster.settings(namespace="/away"))
        try:
            async with asyncio.timeout(120):
                start = await here.put("k", b"1")
                last = start
                for n in range(5):
                    last = await there.put("k", b"%d" % n)
                await there.compact(Revision(last))
                for store in (here, there):  # one of them has not compacted itself
                    with pytest.raises(Gone):
                        async with contextlib.aclosing(store.watch("k", after=Revision(start - 1))) as watch:
                            store._feed._from = Revision(last + 1)  # as if it had forgotten
                            await anext(watch)
                    assert store.compacted == last  # so that sync does not ask for a delta again
                    store._feed._from = store._feed.revision
        finally:
            await here.close()
            await there.close()

    asyncio.run(scenario())


def test_a_peer_without_identity_and_a_wrong_path_are_refused(cluster: EtcdCluster, tmp_path: Path) -> None:
    async def scenario() -> None:
        with pytest.raises(Unavailable):
            await open_etcd(cluster.settings(cert=None, key=None, timeout=2.0))
        with pytest.raises(Invalid, match=r"etcd credentials: .*none\.crt"):
            await open_etcd(cluster.settings(ca=tmp_path / "none.crt"))
        with pytest.raises(Unavailable):
            await open_etcd(cluster.settings(endpoints=["127.0.0.1:1"], timeout=1.0))

    asyncio.run(scenario())


def test_one_silent_member_costs_neither_a_lease_nor_the_sight_of_changes(cluster: EtcdCluster) -> None:
    async def scenario() -> None:
        store = await open_etcd(cluster.settings(namespace="/silent", timeout=30.0))
        members = store._members
        try:
            lease = await store.lease_grant(60)
            status: list[Any] = []
            for member in range(3):
                members._current = member
                status.append(await members.call(rpc.MaintenanceStub, "Status", rpc.StatusRequest(), repeatable=True))
            follower = next(n for n, s in enumerate(status) if s.leader != s.header.member_id)
            watching = await open_etcd(cluster.settings(namespace="/silent", timeout=30.0, endpoints=[
                cluster.endpoints[follower], *(e for n, e in enumerate(cluster.endpoints) if n != follower)
            ]))  # fmt: skip
            try:
                await watching.put("before", b"")
                cluster.pause(follower)
                try:
                    async with asyncio.timeout(6):  # the timeout of a call is 30 s, and a dead stream is found after 8
                        await watching.lease_keepalive(lease)
                        members._current = (follower + 1) % 3
                        revision = await store.put("after", b"")
                        await watching._feed.reached(revision)
                finally:
                    cluster.resume(follower)
            finally:
                await watching.close()
        finally:
            await store.close()

    asyncio.run(scenario())


def test_an_etcd_that_is_restored_from_a_backup_is_noticed_and_a_process_that_starts_over_sees_what_is_there(
    tmp_path: Path,
) -> None:
    """Its watch would wait for a revision of the future, and say nothing for as long as that takes."""
    directory = tmp_path / "etcd"

    async def scenario(one: EtcdCluster) -> None:
        store = await open_etcd(one.settings(namespace="/restored"))
        assert isinstance(store, SharedStore), "the cloud process asks it for what SQLite does not have"
        ended = asyncio.Event()
        store.on_rewound = ended.set
        try:
            async with asyncio.timeout(240):
                await store.put("k", b"1")
                one.kill(0)
                shutil.copytree(directory / "m0", tmp_path / "backup")
                one.start(0)
                for n in range(20):
                    await persistently(store, "k", b"%d" % n)
                assert not ended.is_set(), "a member that was away is no restored one"
                one.kill(0)
                shutil.rmtree(directory / "m0")
                shutil.copytree(tmp_path / "backup", directory / "m0")
                one.start(0)
                while not ended.is_set():
                    with pytest.raises(Unavailable):  # until it answers, and from then on
                        await store.get("k")
                with pytest.raises(Unavailable, match="restored from a backup"):
                    await store.put("k", b"x")
                assert "went back from revision" in store.rewound
                fresh = await open_etcd(one.settings(namespace="/restored"))
                try:
                    async with contextlib.aclosing(fresh.watch("k", after=fresh.revision)) as watch:
                        heard = asyncio.ensure_future(anext(watch))
                        await fresh.put("k", b"after")
                        assert (await heard).changes[0].value == b"after"
                finally:
                    await fresh.close()
        finally:
            await store.close()

    with EtcdCluster(directory) as one:
        asyncio.run(scenario(one))
