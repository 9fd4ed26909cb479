"""What is special about the durable store: its file, its commits, its bounds."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from kubeedge import faults
from kubeedge.api.names import Revision
from kubeedge.errors import Unavailable
from kubeedge.store.model import Put
from kubeedge.store.sqlite import CorruptStore, SqliteSettings, SqliteStore, open_sqlite

T = TypeVar("T")


def run(scenario: Coroutine[Any, Any, T]) -> T:
    async def limited() -> T:
        async with asyncio.timeout(20):
            return await scenario

    return asyncio.run(limited())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "edge.db"


async def fill(path: Path, count: int = 200) -> str:
    store = await open_sqlite(path)
    await store.txn((), [Put(f"/k/{n:05}", b"v" * 500) for n in range(count)])
    await store.close()
    return store.store_id


def test_what_was_written_is_there_after_a_restart(path: Path) -> None:
    async def scenario() -> None:
        store = await open_sqlite(path)
        lease = await store.lease_grant(60)
        await store.put("a", b"1", lease)
        await store.put("b", b"2")
        await store.compact(Revision(2))
        await store.close()
        again = await open_sqlite(path)
        assert (again.store_id, again.revision, again.compacted) == (store.store_id, 3, 2)
        assert await again.lease_grant(60) > lease
        await again.lease_revoke(lease)
        assert await again.get("a") is None
        await again.close()

    run(scenario())


def test_lease_ids_are_not_used_again(path: Path) -> None:
    async def scenario() -> None:
        store = await open_sqlite(path)
        lease = await store.lease_grant(60)
        await store.put("a", b"1", lease)
        await store.lease_revoke(lease)
        await store.close()
        again = await open_sqlite(path)
        assert await again.lease_grant(60) != lease
        await again.close()

    run(scenario())


def test_the_file_is_for_its_owner_only(path: Path) -> None:
    run(fill(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_second_process_is_refused(path: Path) -> None:
    async def scenario() -> None:
        store = await open_sqlite(path)
        with pytest.raises(Unavailable, match=r"edge\.db: in use by another process"):
            await open_sqlite(path, on_corrupt="rebuild")
        await store.close()
        await (await open_sqlite(path)).close()

    run(scenario())


def _truncate(path: Path, to: int) -> None:
    os.truncate(path, to)


def _scribble(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xde\xad\xbe\xef" * 4096)


def _flip(path: Path, what: bytes, nth: int) -> None:
    """One bit, in the nth place where those bytes are."""
    content = bytearray(path.read_bytes())
    at = -1
    for _ in range(nth + 1):
        at = content.index(what, at + 1)
    content[at + len(what) - 1] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "a bit of a key, here": lambda p: _flip(p, b"/k/00100", 0),
    "a bit of a key, there": lambda p: _flip(p, b"/k/00100", 1),
    "a bit of the name of a column": lambda p: _flip(p, b"create_revision", 0),
    "a bit of the name of a column of leases": lambda p: _flip(p, b"ttl", 0),
    "cut to nothing": lambda p: _truncate(p, 0),
    "cut in its header": lambda p: _truncate(p, 50),
    "cut in the middle": lambda p: _truncate(p, p.stat().st_size // 2),
    "overwritten in the middle": _scribble,
    "another file": lambda p: p.write_bytes(b"#!/bin/sh\necho hello\n" * 500),
    "null bytes": lambda p: p.write_bytes(bytes(p.stat().st_size)),
    "another database": lambda p: (p.unlink(), sqlite3.connect(p).execute("CREATE TABLE t (x)").connection.close()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_corrupt_file_is_refused_or_set_aside_and_never_taken_for_an_empty_store(path: Path, damage: str) -> None:
    old_id = run(fill(path))
    DAMAGES[damage](path)
    corrupt = path.read_bytes()

    async def scenario() -> None:
        with pytest.raises(CorruptStore, match=r"edge\.db"):
            await open_sqlite(path)
        assert path.read_bytes() == corrupt
        store = await open_sqlite(path, on_corrupt="rebuild")
        assert store.store_id != old_id and store.revision == 1
        await store.put("a", b"1")
        await store.close()
        assert path.with_name("edge.db.corrupt-1").read_bytes() == corrupt

    run(scenario())


def test_a_second_corrupt_file_does_not_overwrite_the_first(path: Path) -> None:
    async def scenario() -> None:
        for n in (1, 2):
            path.write_bytes(b"corrupt %d" % n * 1000)
            await (await open_sqlite(path, on_corrupt="rebuild")).close()
            assert path.with_name(f"edge.db.corrupt-{n}").read_bytes() == b"corrupt %d" % n * 1000
            path.unlink()

    run(scenario())


def test_a_start_that_was_cut_short_leaves_no_half_made_store(path: Path) -> None:
    path.with_name("edge.db.new").write_bytes(b"half made")
    path.with_name("edge.db-wal").write_bytes(b"a log of something else" * 1000)
    run(fill(path))
    assert not path.with_name("edge.db.new").exists()


def test_a_directory_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="nowhere/edge.db"):
        run(open_sqlite(tmp_path / "nowhere" / "edge.db"))


class Commits:
    """Counts what the writer commits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        monkeypatch.setitem(faults._armed, "store.commit.before_fsync", self.one)

    def one(self) -> None:
        self.count += 1


def test_writers_at_once_share_commits(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        store = await open_sqlite(path)
        commits = Commits(monkeypatch)
        await asyncio.gather(*(store.put(f"k{n}", b"") for n in range(200)))
        assert store.revision == 201 and commits.count < 60
        await store.close()

    run(scenario())


def test_no_change_means_no_commit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        store = await open_sqlite(path)
        commits = Commits(monkeypatch)
        await store.delete("absent")
        await store.txn((), ())
        assert commits.count == 0
        await store.close()

    run(scenario())


def test_a_commit_that_fails_is_not_acknowledged_and_the_next_one_works(path: Path) -> None:
    async def scenario() -> None:
        store = await open_sqlite(path)
        await store.put("a", b"1")

        def fail() -> None:
            raise OSError(28, "No space left on device")

        faults.arm("store.commit.before_fsync", fail)
        try:
            results = await asyncio.gather(*(store.put(f"b{n}", b"") for n in range(5)), return_exceptions=True)
        finally:
            faults.disarm()
        assert all(isinstance(r, Unavailable) and "edge.db" in str(r) for r in results)
        assert store.revision == 2 and await store.get("b0") is None
        assert await store.put("c", b"") == 3
        await store.close()

    run(scenario())


def test_a_cancelled_writer_harms_nobody(path: Path) -> None:
    async def scenario() -> None:
        store = await open_sqlite(path)
        tasks = [asyncio.create_task(store.put(f"k{n}", b"")) for n in range(20)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert [t.cancelled() for t in tasks[:2]] == [True, False]
        assert await store.put("last", b"") == store.revision
        await store.close()

    run(scenario())


def test_what_was_queued_before_close_is_written(path: Path) -> None:
    async def scenario() -> None:
        store = await open_sqlite(path)
        puts = [asyncio.create_task(store.put(f"k{n}", b"")) for n in range(50)]
        await asyncio.sleep(0)
        await store.close()
        await asyncio.gather(*puts)
        again = await open_sqlite(path)
        assert again.revision == 51
        await again.close()

    run(scenario())


def rows_of(path: Path) -> int:
    db = sqlite3.connect(path)
    try:
        return int(db.execute("SELECT count(*) FROM history").fetchone()[0])
    finally:
        db.close()


def test_history_is_compacted_by_itself(path: Path) -> None:
    async def scenario() -> None:
        store = await open_sqlite(path, settings=SqliteSettings(keep_revisions=100, compact_every=50))
        await store.put("kept", b"from the beginning")
        for n in range(10):
            await asyncio.gather(*(store.put(f"k{m}", b"%d" % n) for m in range(50)))
        loop = asyncio.get_running_loop()
        deadline = loop.time() + 60
        while store.revision - store.compacted > 150 or store._compacting is None or not store._compacting.done():
            assert loop.time() < deadline
            await asyncio.sleep(0.01)
        assert (await store.get("kept")) is not None
        await store.close()

    run(scenario())
    assert rows_of(path) <= 1 + 50 + 150


def test_compaction_that_was_cut_short_is_finished_by_the_next(path: Path) -> None:
    async def scenario() -> None:
        manual = SqliteSettings(keep_revisions=10**9)
        store = await open_sqlite(path, settings=manual)
        for _ in range(20):
            await asyncio.gather(*(store.put(f"k{m}", b"") for m in range(100)))

        class Cut(Exception):
            pass

        def cut() -> None:
            raise Cut

        faults.arm("store.compact.after_mark", cut)
        try:
            with pytest.raises(Cut):
                await store.compact(Revision(1000))
        finally:
            faults.disarm()
        await store.close()
        again = await open_sqlite(path, settings=manual)
        assert again.compacted == 1000
        await again.compact(again.revision)
        assert len((await again.range("k", "l")).kvs) == 100
        await again.close()

    run(scenario())
    assert rows_of(path) == 100


def test_history_for_a_watcher_is_read_in_bounded_pieces(path: Path) -> None:
    async def scenario(store: SqliteStore) -> None:
        for n in range(8):
            await store.put(f"k{n}", bytes(400_000))
        changes, upto = store._changes("k", Revision(1), 256)
        assert len(changes) == 3 and upto == changes[-1].revision == 4
        rest, upto = store._changes("k", Revision(7), 256)
        assert len(rest) == 2 and upto == 9
        await store.close()

    async def opened() -> None:
        await scenario(await open_sqlite(path))

    run(opened())


def test_a_lease_outlives_a_full_disk(path: Path) -> None:
    """Its keys go when there is room again."""

    async def scenario() -> None:
        store = await open_sqlite(path)
        lease = await store.lease_grant(1.0)
        await store.put("a", b"", lease)
        failures = 0

        def fail() -> None:
            nonlocal failures
            failures += 1
            raise OSError(28, "No space left on device")

        faults.arm("store.commit.before_fsync", fail)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + 60
        try:
            while failures == 0:
                assert loop.time() < deadline
                await asyncio.sleep(0.01)
        finally:
            faults.disarm()
        assert await store.get("a")
        while await store.get("a"):
            assert loop.time() < deadline
            await asyncio.sleep(0.05)
        await store.close()

    run(scenario())


def test_who_comes_back_reads_the_history_of_its_own_keys_alone(path: Path) -> None:
    """However much all others have written since then; counted in steps of SQLite's machine."""

    async def scenario() -> None:
        store = await open_sqlite(path)
        await store.put("/edge/n1/desired/a", b"1")
        since = store.revision
        await store.put("/edge/n1/desired/a", b"2")
        steps = 0

        def step() -> None:
            nonlocal steps
            steps += 1

        async def cost(others: int) -> int:
            nonlocal steps
            await store.txn((), [Put(f"/sessions/n{n:05}", b"s") for n in range(others)])
            steps = 0
            changes, upto = store._changes("/edge/n1/", since, 100)
            assert [c.value for c in changes] == [b"2"] and upto == store.revision
            return steps

        store._reader.set_progress_handler(step, 1)
        few, many = await cost(10), await cost(3000)
        assert 0 < many <= few + 10, f"{many} steps instead of {few}"
        everything, _ = store._changes("", since, 10_000)  # many keys: in the order of revisions, as they lie there
        assert [c.revision for c in everything] == sorted(c.revision for c in everything)
        assert len(everything) == 1 + 10 + 3000
        await store.close()

    run(scenario())
