"""Disks that come back from the past, stores that are lost: each ends in agreement, and only the differences cross the wire."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from kubeedge.api.names import Revision
from kubeedge.errors import KubeEdgeError, PeerError
from kubeedge.store.memory import MemoryStore
from kubeedge.store.model import Put, Store
from kubeedge.store.sqlite import SqliteStore, open_sqlite
from kubeedge.sync.codec import Batch, End, Fetch, Fill, Item, Message, Patch, Ranges, Start, Want, decode, encode
from kubeedge.sync.progress import Progress
from kubeedge.sync.sink import run_sink
from kubeedge.sync.source import run_source
from tests.kit import virtual_time
from tests.unit.sync.world import LSR, SINK, SOURCE, Sync, contents, fill, play, same, until


async def agree(source: Store, sink: Store, *, rich: bool = True) -> Sync:
    """One session until both are at rest."""
    sync = Sync(source, sink, rich=rich)

    async def ended_or_settled() -> bool:
        return sync.sink.done() or sync.source.done() or await sync.settled()

    await until(ended_or_settled)
    for task in (sync.sink, sync.source):
        if task.done():
            task.result()
    assert await contents(source, SOURCE) == await contents(sink, SINK)
    await sync.stop()
    return sync


async def write(store: Store, *names: str, text: str) -> None:
    for name in names:
        await store.put(f"{SOURCE}pods/default/{name}", f"{name} {text}".encode())


class Disk:
    """SQLite files that can be copied away and put back while nobody has them open."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def open(self) -> SqliteStore:
        return await open_sqlite(self.path)

    def image(self, name: str) -> Path:
        return Path(shutil.copy(self.path, self.path.with_suffix(f".{name}")))

    def restore(self, image: Path) -> None:
        for leftover in self.path.parent.glob(f"{self.path.name}-*"):
            leftover.unlink()
        shutil.copy(image, self.path)


@pytest.mark.parametrize("later", [0, 1, 4, 20])
def test_a_source_restored_from_a_backup_under_its_old_identity_is_believed_and_nothing_diverges(
    tmp_path: Path, later: int
) -> None:
    """The file says the same identity, its revisions went back, and went on to mean something else: below, at and above the
    revision that the sink has."""

    async def scenario() -> None:
        disk, sink = Disk(tmp_path / "source.db"), MemoryStore()
        source = await disk.open()
        await write(source, "a", "b", "c", text="first")
        await agree(source, sink)
        await source.close()
        backup = disk.image("backup")
        source = await disk.open()
        await write(source, "a", "d", "e", "f", text="after the backup")
        await agree(source, sink)
        await source.close()
        disk.restore(backup)
        source = await disk.open()
        await write(source, *(f"n{n}" for n in range(later)), text="after the restore")
        assert (await agree(source, sink)).at_sink.snapshots == 1
        await source.close()

    play(scenario)


def test_a_sink_restored_from_an_old_disk_image_catches_up(tmp_path: Path) -> None:
    async def scenario() -> None:
        disk, source = Disk(tmp_path / "sink.db"), MemoryStore()
        sink = await disk.open()
        await write(source, "a", "b", text="first")
        await agree(source, sink)
        await sink.close()
        image = disk.image("image")
        sink = await disk.open()
        await write(source, "b", "c", text="later")
        await agree(source, sink)
        await sink.close()
        disk.restore(image)
        await source.delete(f"{SOURCE}pods/default/a")
        sink = await disk.open()
        caught_up = await agree(source, sink)
        assert (caught_up.at_sink.snapshots, caught_up.at_sink.changes) == (0, 3)  # from where the image was
        await sink.close()

    play(scenario)


def test_a_sink_that_was_changed_by_hand_is_healed() -> None:
    async def scenario() -> None:
        source, sink = MemoryStore(), MemoryStore()
        await fill(source, 100)
        await agree(source, sink)
        await sink.put(f"{SINK}pods/default/p00050", b"not what the cloud says")
        await sink.delete(f"{SINK}pods/default/p00070")
        await sink.put(f"{SINK}zz", b"of nobody")
        assert (await agree(source, sink)).at_sink.snapshots == 1

    play(scenario)


@pytest.mark.parametrize(
    "stale", [[], ["pods/default/p00500x"], ["a", "zzz"], [f"pods/default/p00001-{n}" for n in range(3000)]]
)
def test_a_snapshot_sends_only_the_ranges_that_differ(stale: list[str]) -> None:
    async def scenario() -> None:
        source, sink = MemoryStore(), MemoryStore()
        rng = random.Random(5)
        everything = [(f"pods/default/p{n:05}", rng.randbytes(1000)) for n in range(2000)]
        for start in (0, 1000):
            part = everything[start : start + 1000]
            await source.txn((), [Put(SOURCE + key, value) for key, value in part])
            await sink.txn((), [Put(SINK + key, value) for key, value in part])
        for start in range(0, len(stale), 1000):
            await sink.txn((), [Put(SINK + key, b"stale") for key in stale[start : start + 1000]])
        await source.put(f"{SOURCE}pods/default/p01000", b"new")
        sync = await agree(source, sink)
        assert sync.at_sink.snapshots == 1
        assert sum(isinstance(m, Fill) for m in sync.told) <= 3
        assert sync.bytes_down < 80_000  # of two million

    play(scenario)


def test_a_lost_store_gets_everything_and_a_source_without_anything_empties_its_sink() -> None:
    async def scenario() -> None:
        source, sink = MemoryStore(), MemoryStore()
        await fill(source, 500)
        await agree(source, MemoryStore())
        await agree(source, sink)
        await agree(MemoryStore(), sink)
        assert await contents(sink, SINK) == {}

    play(scenario)


def test_compaction_while_the_sink_was_away_costs_the_differences() -> None:
    async def scenario() -> None:
        source, sink = MemoryStore(), MemoryStore()
        await fill(source, 1000)
        await agree(source, sink)
        await write(source, "p00001", text="changed")
        await source.compact(source.revision)
        sync = await agree(source, sink)
        assert sync.at_sink.snapshots == 1 and sync.at_source.changes <= 16

    play(scenario)


def test_a_small_change_of_a_large_object_is_a_patch() -> None:
    async def scenario() -> None:
        source, sink = MemoryStore(), MemoryStore()
        rng = random.Random(3)
        value = rng.randbytes(10_000)
        await source.put(SOURCE + "configmaps/default/large", value)
        sync = Sync(source, sink, rich=True)
        await until(sync.settled)
        await until(same(source, sink))
        before = sync.bytes_down + sync.bytes_up
        await source.put(SOURCE + "configmaps/default/large", value[:5000] + b"changed" + value[5007:])
        await until(same(source, sink))
        await until(sync.settled)
        assert isinstance(sync.told[-1], Batch) and isinstance(sync.told[-1].items[0], Patch)
        assert sync.bytes_down + sync.bytes_up - before < 100
        await sync.stop()

    play(scenario)


def test_a_patch_that_does_not_fit_ends_the_session_and_the_next_one_heals() -> None:
    async def scenario() -> None:
        source, sink = MemoryStore(), MemoryStore()
        value = random.Random(3).randbytes(5_000)
        await source.put(SOURCE + "large", value)
        sync = Sync(source, sink, rich=True)
        await until(same(source, sink))
        await until(sync.settled)
        await sink.put(SINK + "large", b"x" + value)
        await source.put(SOURCE + "large", value + b"more")
        await asyncio.wait((sync.sink,), timeout=10)
        with pytest.raises(PeerError, match="does not fit"):
            sync.sink.result()
        await sync.stop()
        await agree(source, sink)

    play(scenario)


def test_an_end_of_yesterday_gets_no_message_of_today() -> None:
    async def scenario() -> None:
        source, sink = MemoryStore(), MemoryStore()
        value = random.Random(3).randbytes(5_000)
        await source.put(SOURCE + "large", value)
        sync = await agree(source, sink, rich=False)
        await source.put(SOURCE + "large", value + b"more")
        sync.told += (await agree(source, sink, rich=False)).told
        assert all(isinstance(m, Batch | Start) or type(m).__name__ == "End" for m in sync.told)
        assert not any(isinstance(i, Patch) for m in sync.told if isinstance(m, Batch) for i in m.items)
        await agree(source, sink, rich=True)

    play(scenario)


@pytest.mark.parametrize("rich", [False, True])
def test_throughput_does_not_depend_on_the_round_trip(rich: bool) -> None:
    """500 changes that come one by one within a second, over 5 ms and over 200 ms there and back."""

    async def takes(round_trip: float) -> float:
        loop = asyncio.get_running_loop()
        source, sink = MemoryStore(), MemoryStore()
        sync = Sync(source, sink, rich=rich, delay=round_trip / 2)
        await settle(sync.settled)
        start = loop.time()
        for n in range(500):
            await source.put(f"{SOURCE}pods/default/p{n}", b"%d" % n)
            await asyncio.sleep(0.002)
        await settle(same(source, sink))
        await sync.stop()
        return loop.time() - start

    async def settle(condition: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(60):
            while not await condition():
                await asyncio.sleep(0.001)

    near, far = virtual_time.run(takes(0.005)), virtual_time.run(takes(0.2))
    assert near < 1.1 and far < near + 0.4  # the last change waits for one round trip at most, and takes half of one


def test_what_says_how_nodes_are_goes_before_bulk() -> None:
    async def scenario() -> None:
        source, sink = MemoryStore(), MemoryStore()
        sync = Sync(source, sink, rich=True)
        await until(sync.settled)
        await source.txn(
            (),
            [Put(f"{SOURCE}configmaps/default/c{n}", random.Random(n).randbytes(200_000)) for n in range(5)]
            + [Put(f"{SOURCE}nodes/_/edge1", b"alive")],
        )
        await until(same(source, sink))
        first = next(m for m in sync.told if isinstance(m, Batch) and m.items)
        assert first.items[0].key == "nodes/_/edge1"
        await sync.stop()

    play(scenario)


def test_the_last_sync_revision_is_written_once_when_nothing_differs() -> None:
    async def scenario() -> None:
        source, sink = MemoryStore(), MemoryStore()
        await fill(source, 50)
        await agree(source, sink)
        await sink.delete(LSR)
        before = sink.revision
        await agree(source, sink)
        assert sink.revision == before + 1
        await agree(source, sink)
        assert sink.revision == before + 1

    play(scenario)


@pytest.mark.parametrize("wish", [[7], [0, 0], [2**62], [0, 1]])
def test_a_sink_that_wants_what_was_not_named_is_refused(wish: list[int]) -> None:
    async def scenario() -> None:
        source = MemoryStore()
        await source.put(SOURCE + "a", b"1")
        answers: asyncio.Queue[bytes] = asyncio.Queue()

        async def send(data: bytes) -> None:
            if isinstance(decode(data), Ranges):
                answers.put_nowait(encode(Want(wish)))

        answers.put_nowait(encode(Fetch("", Revision(0), bytes(16))))
        with pytest.raises(BaseExceptionGroup) as broken:
            await run_source(source, SOURCE, send, answers.get, Progress())
        (error,) = broken.value.exceptions
        assert isinstance(error, PeerError) and "are wanted" in str(error)

    play(scenario)


@pytest.mark.parametrize(
    "hostile",
    [
        [Batch(Revision(5), [Item("a\0b", b"")])],
        [Batch(Revision(5), [Item("x" * 1024, b"")])],  # with the prefix it is too long
        [Batch(Revision(5), [Patch("a", bytes(8), b"\x00\x00\x02x")])],
        [Batch(Revision(5), [Patch("nothing", bytes(8), b"\x01\x01\x02x")])],
        [Batch(Revision(5), [Item("b", b"2")]), Batch(Revision(4), [])],  # replayed out of order
        [Fill([])],
        [End()],
    ],
)
def test_what_a_hostile_source_says_ends_its_session_and_touches_nothing_else(hostile: list[Message]) -> None:
    async def scenario() -> None:
        sink = MemoryStore()
        await sink.put(SINK + "a", b"1")
        await sink.put("/reported/mine", b"1")
        await sink.put(LSR, b'["them", 3]')
        messages: asyncio.Queue[bytes] = asyncio.Queue()
        for message in (Start("them", Revision(3), False), *hostile):
            messages.put_nowait(encode(message, rich=True))

        async def send(data: bytes) -> None:
            pass

        with pytest.raises(KubeEdgeError):
            await run_sink(sink, SINK, LSR, send, messages.get, Progress(), rich=True)
        assert sink.newest("/reported/mine") is not None
        assert (await sink.get(SINK + "a")).value == b"1"  # type: ignore[union-attr]

    play(scenario)
