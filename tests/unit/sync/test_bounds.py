"""A source that says more than its sink takes: what fits is there and goes on, the rest is refused in words, and comes when there is room."""

from __future__ import annotations

import asyncio
import random

import pytest

from kubeedge.api import keys
from kubeedge.errors import PeerError
from kubeedge.store.memory import MemoryStore
from kubeedge.store.model import MAX_KEY, Delete, Put
from kubeedge.sync import observe
from kubeedge.sync.bounds import REMEMBERED, Bounds, Usage
from kubeedge.sync.codec import Item, KeysRefused, decode, encode
from kubeedge.sync.progress import Progress
from kubeedge.sync.sink import run_sink
from kubeedge.sync.source import run_source
from tests.kit import virtual_time
from tests.unit.sync.world import LSR, SINK, SOURCE, Sync, contents

FEW = Bounds(keys=8, size=4000)


async def settle(sync: Sync) -> None:
    """Virtual time: whatever was on its way has arrived."""
    await asyncio.sleep(1)


async def put(store: MemoryStore, **values: bytes) -> None:
    await store.txn((), [Put(SOURCE + name.replace("_", "/"), value) for name, value in values.items()])


@pytest.mark.parametrize("rich", [False, True], ids=["sync", "sync2"])
def test_what_fits_is_kept_and_goes_on_and_both_ends_know_of_the_rest(rich: bool) -> None:
    async def scenario() -> None:
        source, sink = MemoryStore(), MemoryStore()
        sync = Sync(source, sink, rich=rich, bounds=FEW)
        await put(source, pods_default_a=b"1", nodes_n=b"1")
        await settle(sync)
        for n in range(30):
            await put(source, **{f"junk_x_{n:02}": b"junk"})
        await settle(sync)
        await put(source, pods_default_a=b"2", pods_default_b=b"1")
        await settle(sync)
        assert not sync.sink.done() and not sync.source.done()
        there = await contents(sink, SINK)
        assert there == {
            "nodes/n": b"1",
            "pods/default/a": b"2",
            "pods/default/b": b"1",  # of the reserve
            **{f"junk/x/{n:02}": b"junk" for n in range(6)},
        }
        assert sync.at_source.refused == sync.at_sink.refused == KeysRefused(24, FEW.keys, FEW.size)
        shown = await observe.source(source, SOURCE, sync.at_source)
        assert shown["refused"] == 24 and "at most 8 keys and 4000 bytes" in shown["refusal"]
        gauge = observe.families({"up": [sync.at_sink, Progress()]})[0]
        assert (gauge.name, gauge.samples[0].value) == ("kubeedge_sync_refused_keys", 24.0)
        await sync.stop()

    virtual_time.run(scenario())


@pytest.mark.parametrize("rich", [False, True], ids=["sync", "sync2"])
def test_when_keys_are_deleted_what_was_refused_comes(rich: bool) -> None:
    async def scenario() -> None:
        source, sink = MemoryStore(), MemoryStore()
        sync = Sync(source, sink, rich=rich, bounds=FEW)
        for n in range(11):
            await put(source, **{f"junk_x_{n:02}": b"junk"})
        await settle(sync)
        assert (sync.at_source.refused or KeysRefused(0, 0, 0)).count == 3
        await source.delete(f"{SOURCE}junk/x/00")
        await settle(sync)
        assert not sync.sink.done(), "one place is not enough for three"
        await source.txn((), [Delete(f"{SOURCE}junk/x/{n:02}") for n in (1, 10)])  # 10 was never there
        await settle(sync)
        with pytest.raises(PeerError, match="room for what was refused") as end:
            await sync.sink
        assert end.value.close_code == 1012
        await sync.stop()
        again = Sync(source, sink, rich=rich, bounds=FEW)
        await settle(again)
        assert await contents(sink, SINK) == await contents(source, SOURCE)
        assert again.at_source.refused is None and not again.sink.done()
        await again.stop()

    virtual_time.run(scenario())


def test_a_patch_of_a_value_that_was_refused_does_not_end_the_session() -> None:
    async def scenario() -> None:
        source, sink = MemoryStore(), MemoryStore()
        sync = Sync(source, sink, rich=True, bounds=FEW)
        await put(source, pods_default_a=b"1")
        await settle(sync)
        await put(source, big_x_a=bytes(3900) + b"1")
        await put(source, big_x_b=bytes(3900) + b"1")
        await settle(sync)
        await put(source, big_x_b=bytes(3900) + b"2")
        await put(source, pods_default_a=b"2")
        await settle(sync)
        assert not sync.sink.done()
        assert set(await contents(sink, SINK)) == {"pods/default/a", "big/x/a"}
        assert (await contents(sink, SINK))["pods/default/a"] == b"2"
        await sync.stop()

    virtual_time.run(scenario())


@pytest.mark.parametrize("rich", [False, True], ids=["sync", "sync2"])
def test_a_key_that_is_too_long_behind_the_longer_prefix_holds_nothing_up(rich: bool) -> None:
    """The store of the source holds it, the sink's cannot."""
    long = "x/y/" + "k" * (MAX_KEY - len("/reported/x/y/"))

    async def scenario() -> None:
        source, sink, progress = MemoryStore(), MemoryStore(), Progress()
        there: asyncio.Queue[bytes] = asyncio.Queue()
        back: asyncio.Queue[bytes] = asyncio.Queue()
        prefix = "/t/default/edge/e1/reported/"
        await source.put(f"/reported/{long}", b"1")
        await source.put("/reported/pods/a", b"1")
        tasks = [
            asyncio.create_task(run_source(source, "/reported/", there.put, back.get, progress)),
            asyncio.create_task(
                run_sink(sink, prefix, LSR, back.put, there.get, Progress(), rich=rich, bounds=Bounds(), tells=True)
            ),
        ]
        await asyncio.sleep(1)
        await source.put(f"/reported/{long}", b"2" * 1000)
        await source.put("/reported/pods/a", b"2")
        await asyncio.sleep(1)
        assert not any(task.done() for task in tasks)
        assert await contents(sink, prefix) == {"pods/a": b"2"} and progress.refused is not None
        assert progress.refused.count == 1
        await source.delete(f"/reported/{long}")
        await asyncio.sleep(1)
        assert progress.refused.count == 0 and not any(task.done() for task in tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    virtual_time.run(scenario())


@pytest.mark.parametrize("rich", [False, True], ids=["sync", "sync2"])
@pytest.mark.parametrize(
    "odd",
    ["messages", "pods/a", "pods//a", "pods/a/", "pods/a/b/c", "/pods/a", "Pods/a/b", "pods/a/b\nc", "pods/a/\x1b[2J"],
)
def test_a_key_that_is_no_row_reaches_no_reader(rich: bool, odd: str) -> None:
    """Every reader would have to expect it, and one that does not fails at each of its starts."""

    async def scenario() -> None:
        source, sink, progress = MemoryStore(), MemoryStore(), Progress()
        there: asyncio.Queue[bytes] = asyncio.Queue()
        back: asyncio.Queue[bytes] = asyncio.Queue()
        await source.put(f"/reported/{odd}", b"1")
        await source.put("/reported/pods/default/a", b"1")
        tasks = [
            asyncio.create_task(run_source(source, "/reported/", there.put, back.get, progress)),
            asyncio.create_task(
                run_sink(
                    sink, SINK, LSR, back.put, there.get, Progress(),
                    rich=rich, bounds=Bounds(), tells=True, is_key=keys.is_row,
                )
            ),
        ]  # fmt: skip
        await asyncio.sleep(1)
        assert await contents(sink, SINK) == {"pods/default/a": b"1"}
        assert progress.refused is not None and progress.refused.count == 1
        await source.delete(f"/reported/{odd}")
        await asyncio.sleep(1)
        assert progress.refused.count == 0 and not any(task.done() for task in tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    virtual_time.run(scenario())


@pytest.mark.parametrize("rich", [False, True], ids=["sync", "sync2"])
def test_who_changes_more_than_it_may_is_held_up_and_nothing_is_lost(rich: bool) -> None:
    """Bounds of 100 keys in 10 s: one key may change 20 times a second for a while, ten may not."""
    bounds = Bounds(keys=100, size=100_000, seconds=10.0)

    async def scenario() -> None:
        source, sink = MemoryStore(), MemoryStore()
        bucket = bounds.paces(1).of("", asyncio.get_running_loop().time())
        sync = Sync(source, sink, rich=rich, bounds=bounds, pace=bucket)
        await settle(sync)

        async def change(names: int, seconds: int) -> int:
            """How many changes the sink took, until it had all."""
            before = sync.at_sink.changes
            for n in range(seconds * 20):
                await source.txn((), [Put(f"{SOURCE}pods/d/{name}", b"%d" % n) for name in range(names)])
                await asyncio.sleep(0.05)
            assert await lag() <= 10.0, "of old batches no more than a window comes before the newest"
            return sync.at_sink.changes - before

        async def lag() -> float:
            begun = asyncio.get_running_loop().time()
            while await contents(sink, SINK) != await contents(source, SOURCE):
                await asyncio.sleep(0.05)
            return asyncio.get_running_loop().time() - begun

        assert await change(1, 5) == 100 and sync.at_sink.throttled == 0.0, (
            "what all may be written once is written at once"
        )
        took = await change(10, 60)
        assert 600 <= took <= 760, "what was saved, 10 a second, one batch on credit; and not 200 a second"
        assert 55 < sync.at_sink.throttled < 70
        shown = await observe.sink(sink, SINK, LSR, sync.at_sink)
        assert shown["throttledSeconds"] == round(sync.at_sink.throttled, 1)
        found = {f.name: f for f in observe.families({"up": [sync.at_sink]})}
        throttled = found["kubeedge_sync_throttled_seconds_total"]
        assert throttled.samples[0].value == sync.at_sink.throttled
        assert found["kubeedge_sync_held_seconds_total"].samples[0].value == sync.at_sink.throttled, "its old name"
        assert not sync.sink.done() and not sync.source.done()
        await asyncio.sleep(20)
        before = sync.at_sink.throttled
        assert await change(2, 2) == 80 and sync.at_sink.throttled == before, "after a pause it is as at first"
        await sync.stop()

    virtual_time.run(scenario())


def test_one_key_that_changes_all_the_time_is_committed_now_and_then() -> None:
    """A hundred changes a second of one small key: of all that may be written they are next to nothing, and each was a commit."""
    bounds = Bounds(commits=100, seconds=10.0)

    async def scenario() -> None:
        source, sink = MemoryStore(), MemoryStore()
        bucket = bounds.paces(1).of("", asyncio.get_running_loop().time())
        sync = Sync(source, sink, rich=True, bounds=bounds, pace=bucket)
        await settle(sync)
        first = sink.revision
        for n in range(6000):
            await source.put(f"{SOURCE}nodes/_/edge1", b"%d" % n)
            await asyncio.sleep(0.01)
        commits = sink.revision - first
        print(f"{commits} commits for 6,000 changes in 60 s")
        assert 600 <= commits <= 100 + 600 + 20, "a hundred at once, and ten a second"
        begun = asyncio.get_running_loop().time()
        while await contents(sink, SINK) != await contents(source, SOURCE):
            await asyncio.sleep(0.05)
        assert asyncio.get_running_loop().time() - begun < 5.0
        await sync.stop()

    virtual_time.run(scenario())


def test_large_values_count_by_their_bytes_and_deletions_as_keys() -> None:
    usage = Usage(Bounds(keys=10, size=1000))
    assert usage.admits(Item("a", b""), None) and usage.spent() == pytest.approx(0.1)
    assert usage.admits(Item("a", bytes(499)), b"") and usage.spent() == pytest.approx(0.5)
    assert usage.admits(Item("a", None), bytes(499)) and usage.spent() == pytest.approx(0.1)
    assert not usage.admits(Item("b", bytes(5000)), None) and usage.spent() == 0.0, "what is refused is not written"


def test_a_new_session_pays_for_the_one_before() -> None:
    """Who comes again and again with one batch gets no more than who stays."""
    bounds = Bounds(keys=10, size=1_000_000, seconds=10.0)

    async def scenario() -> None:
        source, sink = MemoryStore(), MemoryStore()
        loop = asyncio.get_running_loop()
        begun, written = loop.time(), 0
        bucket = bounds.paces(1).of("", begun)
        for n in range(200):
            await source.txn((), [Put(f"{SOURCE}pods/d/{name}", b"%d" % n) for name in range(5)])
            sync = Sync(source, sink, rich=True, bounds=bounds, pace=bucket)
            await asyncio.sleep(0.5)
            written += sync.at_sink.changes
            await sync.stop()
        assert 0.8 <= written / (10 + loop.time() - begun) <= 1.1, written
        sync = Sync(source, sink, rich=True, bounds=bounds, pace=bucket)
        await asyncio.sleep(10)
        assert await contents(sink, SINK) == await contents(source, SOURCE)
        await sync.stop()

    virtual_time.run(scenario())


def test_what_is_there_may_grow_into_the_reserve_and_no_further() -> None:
    usage = Usage(Bounds(keys=10, size=1000))
    assert usage.admits(Item("a", bytes(999)), None)
    assert usage.admits(Item("b", b""), None) is not True or usage.size == 1000
    assert not usage.admits(Item("c", bytes(100)), None), "a new key has no reserve"
    assert usage.admits(Item("a", bytes(1200)), bytes(999)), "what is there has"
    assert not usage.admits(Item("a", bytes(1300)), bytes(1200)), "and it ends"
    assert usage.admits(Item("a", bytes(10)), bytes(1200)), "shrinking is always right"
    assert "a" not in usage.refused


def test_refused_keys_are_remembered_in_bounded_memory() -> None:
    usage = Usage(Bounds(keys=0, size=0))
    for n in range(REMEMBERED + 100):
        assert not usage.admits(Item(f"k{n}", b""), None)
    assert len(usage.refused) == REMEMBERED


@pytest.mark.parametrize("seed", range(25))
def test_whatever_comes_and_goes_the_bounds_hold_and_in_the_end_all_that_fits_is_there(seed: int) -> None:
    async def scenario() -> None:
        rng = random.Random(seed)
        source, sink = MemoryStore(), MemoryStore()
        bounds = Bounds(keys=12, size=6000, seconds=20.0)
        pace = bounds.paces(1).of("", 0.0) if seed % 3 else None
        held = 0.0
        sync = Sync(source, sink, rich=bool(seed % 2), bounds=bounds, pace=pace)
        names = [f"{kind}/d/{n}" for kind in ("pods", "junk") for n in range(16)]
        for step in range(120):
            key = SOURCE + rng.choice(names)
            full = (step // 40) % 2 == 0  # it grows, shrinks, grows
            if rng.random() < (0.8 if full else 0.2):
                await source.put(key, rng.randbytes(rng.choice((1, 50, 600, 900))))
            else:
                await source.delete(key)
            if rng.random() < 0.3:
                await asyncio.sleep(1)
            if sync.sink.done() or rng.random() < 0.05:
                await sync.stop()
                held += sync.at_sink.throttled
                sync = Sync(source, sink, rich=bool(seed % 2), bounds=bounds, pace=pace)
            there = await contents(sink, SINK)
            assert len(there) <= 15 and sum(map(len, there.values())) <= 7500
        for key in names[4:]:
            await source.delete(SOURCE + key)
        for _ in range(3):
            await asyncio.sleep(60)
            if sync.sink.done():
                await sync.stop()
                sync = Sync(source, sink, rich=bool(seed % 2), bounds=bounds, pace=pace)
        await asyncio.sleep(60)
        assert bool(held) == bool(pace), "the scenarios are fast enough to be held up"
        assert await contents(sink, SINK) == await contents(source, SOURCE), f"seed {seed}"
        assert sync.at_sink.revision == source.revision or sync.at_sink.refused is None
        assert await sink.get(LSR)
        await sync.stop()

    virtual_time.run(scenario())


def test_the_refusal_survives_its_bytes_and_nothing_longer_is_one() -> None:
    told = KeysRefused(24, 5000, 1 << 24)
    assert decode(encode(told)) == told
    for wrong in (b"\x0b", b"\x0b\x01\x01", encode(told) + b"\x00", b"\x0b" + b"\xff" * 9 + b"\x7f\x01\x01"):
        with pytest.raises(PeerError):
            decode(wrong)
