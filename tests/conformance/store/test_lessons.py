"""What went wrong in etcd once (its robustness tests list it, by issue number), asked of every store."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from kubeedge.api.names import Revision
from kubeedge.errors import Gone, Invalid
from kubeedge.store.model import ChangeKind, Compare, CompareTarget, Delete, Get, Put, Store, WatchBatch
from tests.conformance.store.conftest import StoreFactory
from tests.conformance.store.test_store import batches, flat, play

PUT, DELETE = ChangeKind.PUT, ChangeKind.DELETE
Scenario = Callable[[Store], Awaitable[None]]


async def collect(store: Store, prefix: str, after: int, until: int) -> list[WatchBatch]:
    """What a watch with progress says up to a revision."""
    got: list[WatchBatch] = []
    async with contextlib.aclosing(store.watch(prefix, after=Revision(after), progress=True)) as watch:
        async for batch in watch:
            got.append(batch)
            if batch.revision >= until:
                return got
    raise AssertionError("the watch ended")


def in_order(got: list[WatchBatch]) -> None:
    last = 0
    for batch in got:
        for change in batch.changes:
            assert last < change.revision or last == change.revision == batch.changes[0].revision, "back in time"
        if batch.changes:
            assert batch.changes[0].revision > last
            last = batch.changes[-1].revision
        assert batch.revision >= last


def test_15271_a_watch_never_goes_back_in_time_when_it_is_resumed(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        for n in range(40):
            await store.put(f"k{n % 3}", b"%d" % n)
        seen: list[int] = []
        position = 1
        while position < 41:  # a client that is cut off after every batch or two
            for batch in await batches(store, "k", position, 1):
                seen += [int(c.revision) for c in batch.changes]
                position = int(batch.revision)
        assert seen == list(range(2, 42))

    play(new_store, scenario)


def test_17247_a_transaction_delivers_each_change_once(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        watching = asyncio.create_task(batches(store, "k", 1, 6))
        await asyncio.sleep(0.01)
        await store.txn((), [Put("k1", b"a"), Get("k1"), Put("k2", b"a")])
        await store.txn(
            [Compare("k1", CompareTarget.VALUE, "=", b"no")],
            [Put("k1", b"x")],
            [Put("k3", b"b"), Get("k"), Delete("k1")],
        )
        await store.txn((), [Delete("k1"), Put("k4", b"c"), Put("k5", b"c")])
        assert flat(await watching) == [
            (PUT, "k1", b"a", 2), (PUT, "k2", b"a", 2), (PUT, "k3", b"b", 3), (DELETE, "k1", b"", 3),
            (PUT, "k4", b"c", 4), (PUT, "k5", b"c", 4),
        ]  # fmt: skip

    play(new_store, scenario)


def test_17529_a_starved_watcher_loses_nothing(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        async with contextlib.AsyncExitStack() as stack:
            watches = []
            for _ in range(20):
                watch = store.watch("k", after=store.revision)
                await stack.enter_async_context(contextlib.aclosing(watch))
                watches.append(watch)
            begun = [asyncio.ensure_future(anext(w)) for w in watches]  # type: ignore[call-overload]
            await asyncio.sleep(0.01)
            value = bytes(20_000)
            for start in range(0, 120, 40):
                await asyncio.gather(*(store.put(f"k{n}", value) for n in range(start, start + 40)))
            for watch, first in zip(watches, begun, strict=True):
                keys = [c.key for c in (await first).changes]
                while len(keys) < 120:
                    keys += [c.key for c in (await anext(watch)).changes]  # type: ignore[call-overload]
                assert sorted(keys) == sorted(f"k{n}" for n in range(120))

    play(new_store, scenario)


def test_18089_a_delete_at_the_compacted_revision_is_delivered_or_gone(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        await store.put("k", b"1")  # 2
        await store.delete("k")  # 3
        await store.put("other", b"")  # 4
        await store.compact(Revision(3))
        with pytest.raises(Gone):
            await batches(store, "k", 2, 1)
        await store.put("k", b"2")  # 5
        assert flat(await batches(store, "k", 3, 1)) == [(PUT, "k", b"2", 5)]

    play(new_store, scenario)


def test_19179_a_delete_right_after_the_compacted_revision_is_not_missed(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        await store.put("k", b"1")  # 2
        await store.put("x", b"1")  # 3
        await store.delete("k")  # 4
        await store.compact(Revision(3))
        assert flat(await batches(store, "k", 3, 1)) == [(DELETE, "k", b"", 4)]

    play(new_store, scenario)


def test_20221_a_watch_of_the_future_hears_nothing_old(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        await store.put("k", b"1")  # 2
        watching = asyncio.create_task(collect(store, "k", 4, 5))
        await asyncio.sleep(0.05)
        for n in range(3, 6):
            await store.put("k", b"%d" % n)
        got = await watching
        assert flat(got) == [(PUT, "k", b"5", 5)]

    play(new_store, scenario)


def test_15220_progress_never_overtakes_a_change(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        watching = asyncio.create_task(collect(store, "k", 1, 401))
        for n in range(400):
            await store.put("k" if n % 7 == 0 else "other", b"%d" % n)
        got = await watching
        in_order(got)
        told = 1
        for batch in got:
            assert all(c.revision > told for c in batch.changes), "a change came after the progress that covers it"
            told = int(batch.revision)
        assert sum(len(b.changes) for b in got) == len(range(0, 400, 7))

    play(new_store, scenario)


def test_18667_a_transaction_reads_one_state_though_history_is_compacted(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        for n in range(20):
            await store.txn((), [Put("a", b"%d" % n), Put("b", b"%d" % n)])

        async def compactions() -> None:
            for revision in range(5, 20, 3):
                await store.compact(Revision(revision))

        async def reads() -> None:
            for _ in range(30):
                a, b = (await store.txn((), [Get("a"), Get("b")])).responses
                assert a.kvs[0].value == b.kvs[0].value  # type: ignore[union-attr]

        await asyncio.gather(
            compactions(), reads(), *(store.txn((), [Put("a", b"x"), Put("b", b"x")]) for _ in range(5))
        )

    play(new_store, scenario)


def test_17780_the_revision_does_not_go_back_with_compaction(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        for n in range(5):
            await store.put("k", b"%d" % n)
        await store.delete("k")  # 7
        await store.compact(Revision(7))
        assert (await store.range("k")).revision == 7
        with pytest.raises(Invalid):
            await store.range("k", revision=Revision(8))
        assert await store.put("k", b"") == 8

    play(new_store, scenario)


def test_18055_two_looks_at_everything_at_once_are_two_looks(new_store: StoreFactory) -> None:
    async def scenario(store: Store) -> None:
        await store.txn((), [Put(f"k{n:03}", bytes(1000)) for n in range(300)])
        both = await asyncio.gather(store.range("k", "l"), store.range("k", "l"), store.put("k999", b""))
        for found in both[:2]:
            assert len(found.kvs) == found.count and found.count in (300, 301)  # type: ignore[union-attr]

    play(new_store, scenario)
