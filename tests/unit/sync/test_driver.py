"""Both roles over real stores, and what crosses the wire."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kubeedge.api.names import Revision
from kubeedge.errors import PeerError
from kubeedge.store.memory import MemoryStore
from kubeedge.store.model import Put, Store
from kubeedge.store.sqlite import open_sqlite
from kubeedge.sync.codec import Batch, decode, encode
from kubeedge.sync.core import WINDOW_BATCHES
from kubeedge.sync.progress import Progress
from kubeedge.sync.source import run_source
from tests.unit.sync.world import LSR, SINK, SOURCE, Sync, fill, play, same, until


def test_after_an_outage_only_what_changed_crosses_the_wire() -> None:
    async def scenario() -> None:
        source, sink = MemoryStore(), MemoryStore()
        await fill(source, 10_000)
        first = Sync(source, sink)
        await until(same(source, sink))
        await until(lambda: settled(first))
        await first.stop()
        assert first.at_sink.snapshots == 1
        for n in range(0, 10_000, 1000):
            await source.put(f"{SOURCE}pods/default/p{n:05}", b"changed")
        await source.put("/elsewhere", b"")
        second = Sync(source, sink)
        await until(same(source, sink))
        await until(lambda: settled(second))
        assert (second.at_sink.snapshots, second.at_sink.changes) == (0, 10)
        assert (
            second.messages_up == 1 + second.at_sink.batches + 1
        )  # FETCH, acknowledgements, one of them for the progress
        assert second.bytes_down < 500 and second.bytes_up < 100
        await second.stop()

    async def settled(sync: Sync) -> bool:
        return sync.at_source.revision == sync.at_sink.revision > 0

    play(scenario)


def test_a_snapshot_that_says_nothing_new_writes_only_the_lsr() -> None:
    async def scenario() -> None:
        source, sink = MemoryStore(), MemoryStore()
        await fill(source, 50)
        await sink.txn((), [Put(f"{SINK}pods/default/p{n:05}", b"%05d" % n * 10) for n in range(50)])
        before = sink.revision
        sync = Sync(source, sink)
        await until(lambda: there(sink))
        await sync.stop()
        assert sink.revision == before + 1

    async def there(sink: Store) -> bool:
        return await sink.get(LSR) is not None

    play(scenario)


def test_a_source_does_not_run_ahead_of_its_window() -> None:
    async def scenario() -> None:
        source = MemoryStore()
        await source.txn((), [Put(f"{SOURCE}{n}", bytes(1000)) for n in range(5)])
        sent: list[bytes] = []
        answers: asyncio.Queue[bytes] = asyncio.Queue()

        async def send(data: bytes) -> None:
            sent.append(data)

        from kubeedge.sync.codec import Ack, Fetch

        answers.put_nowait(encode(Fetch(source.store_id, source.revision)))
        task = asyncio.create_task(run_source(source, SOURCE, send, answers.get, Progress()))
        await asyncio.sleep(0)
        for n in range(50):
            await source.put(f"{SOURCE}x", b"%d" % n)
            for _ in range(5):
                await asyncio.sleep(0)
        batches = [m for m in map(decode, sent) if isinstance(m, Batch)]
        assert len(batches) == WINDOW_BATCHES
        for batch in batches:
            answers.put_nowait(encode(Ack(batch.revision)))
        await until(lambda: newest(sent))
        assert len(sent) < 2 * WINDOW_BATCHES + 2  # what was superseded meanwhile is not sent
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def newest(sent: list[bytes]) -> bool:
        last = decode(sent[-1])
        return isinstance(last, Batch) and last.items[0].value == b"49"

    play(scenario)


def test_two_sinks_with_one_identity_do_not_both_go_on() -> None:
    async def scenario() -> None:
        source, sink = MemoryStore(), MemoryStore()
        one, two = Sync(source, sink), Sync(source, sink)
        await until(lambda: both_at(one, two))
        await source.put(SOURCE + "a", b"1")
        done, _ = await asyncio.wait((one.sink, two.sink), return_when=asyncio.FIRST_COMPLETED)
        (loser,) = done
        with pytest.raises(PeerError, match="another session of the same identity"):
            loser.result()
        await until(same(source, sink))
        await one.stop()
        await two.stop()

    async def both_at(one: Sync, two: Sync) -> bool:
        return one.sink.done() or two.sink.done() or (one.at_sink.revision > 0 and two.at_sink.revision > 0)

    play(scenario)


def test_history_that_was_compacted_under_a_watch_ends_the_channel_with_service_restart() -> None:
    async def scenario() -> None:
        source = MemoryStore()
        answers: asyncio.Queue[bytes] = asyncio.Queue()
        stuck = asyncio.Event()

        async def send(data: bytes) -> None:
            if isinstance(decode(data), Batch):
                await stuck.wait()

        from kubeedge.sync.codec import Fetch

        answers.put_nowait(encode(Fetch(source.store_id, source.revision)))
        task = asyncio.create_task(run_source(source, SOURCE, send, answers.get, Progress()))
        await asyncio.sleep(0.001)
        for _ in range(600):  # more than a watcher may have queued
            await source.put(SOURCE + "a", b"")
        await source.compact(Revision(source.revision - 1))
        stuck.set()
        await asyncio.wait((task,))
        (error,) = task.exception().exceptions  # type: ignore[union-attr]
        assert isinstance(error, PeerError) and error.close_code == 1012

    play(scenario)


def test_many_keys_that_are_gone_go_in_several_transactions(tmp_path: Path) -> None:
    async def scenario() -> None:
        source = MemoryStore()
        sink = await open_sqlite(tmp_path / "sink.db")
        try:
            for start in (0, 2500):
                await sink.txn((), [Put(f"{SINK}old{n}", b"") for n in range(start, start + 2500)])
            await fill(source, 10)
            sync = Sync(source, sink)
            await until(same(source, sink))
            await sync.stop()
        finally:
            await sink.close()

    play(scenario)


def test_a_record_of_the_lsr_that_cannot_be_read_means_a_snapshot() -> None:
    async def scenario() -> None:
        source, sink = MemoryStore(), MemoryStore()
        await fill(source, 5)
        await sink.put(LSR, b"\xffgarbage")
        sync = Sync(source, sink)
        await until(same(source, sink))
        assert sync.at_sink.snapshots == 1
        await sync.stop()

    play(scenario)
