"""Watchers do not hold memory for what they have not read."""

from __future__ import annotations

import asyncio
import contextlib

from kubeedge.api.names import Revision
from kubeedge.errors import Gone
from kubeedge.store.memory import MemoryStore
from kubeedge.store.watch import QUEUED_BYTES, QUEUED_CHANGES
from tests.kit import virtual_time


def test_a_watcher_that_does_not_read_holds_little_and_misses_nothing() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        async with contextlib.aclosing(store.watch("k", after=Revision(1))) as watch:
            await store.put("k", b"first")
            await anext(watch)
            (watcher,) = store._watches._by_prefix["k"]
            for n in range(QUEUED_CHANGES * 2):
                await store.put("k", b"%d" % n)
                assert len(watcher.changes) <= QUEUED_CHANGES + 1
            assert watcher.behind and not watcher.changes
            batch = await anext(watch)
            assert [c.value for c in batch.changes] == [b"%d" % n for n in range(QUEUED_CHANGES * 2)]

    virtual_time.run(scenario())


def test_large_values_count_too() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        async with contextlib.aclosing(store.watch("k", after=Revision(1))) as watch:
            await store.put("k", b"first")
            await anext(watch)
            waiting = asyncio.ensure_future(anext(watch))
            for _ in range(5):
                await asyncio.sleep(0)  # synced then, and waiting
            (watcher,) = store._watches._by_prefix["k"]
            most = 0
            for _ in range(100):
                await store.put("k", bytes(10_000))
                most = max(most, sum(len(c.value) for c in watcher.changes))
            assert QUEUED_BYTES - 10_000 <= most <= QUEUED_BYTES
            assert len((await waiting).changes) == 100

    virtual_time.run(scenario())


def test_watches_that_end_leave_nothing_behind() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        for prefix in ("a", "a/b", "a"):
            async with contextlib.aclosing(store.watch(prefix, after=Revision(1), progress=True)) as watch:
                await anext(watch)
                assert len(store._watches) == 1
        assert len(store._watches) == 0 and not store._watches._lengths and not store._watches._want_progress

    virtual_time.run(scenario())


def test_a_watcher_that_fell_behind_a_compaction_is_told_so() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        async with contextlib.aclosing(store.watch("k", after=Revision(1))) as watch:
            await store.put("k", b"first")
            await anext(watch)
            for _ in range(QUEUED_CHANGES * 2):
                await store.put("k", b"")
            await store.compact(store.revision)
            try:
                await anext(watch)
            except Gone as exc:
                assert exc.compacted == store.revision
            else:
                raise AssertionError("history that is gone was delivered")

    virtual_time.run(scenario())
