"""The history of a tenant is bounded in bytes, and it alone pays for what it writes."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import aclosing, closing
from pathlib import Path

import pytest

from kubeedge import faults
from kubeedge.api.names import Revision
from kubeedge.errors import Gone, Unavailable
from kubeedge.store.history_shares import HistoryShares
from kubeedge.store.model import Change, ChangeKind
from kubeedge.store.sqlite import SqliteSettings, SqliteStore, open_sqlite

KIB = 1024
LIMIT = 1024 * KIB
SETTINGS = SqliteSettings(history_bytes=LIMIT)
VALUE = 32 * KIB


def history_of(path: Path, tenant: str) -> int:
    """Bytes of values that are in the file, live or not."""
    with closing(sqlite3.connect(path)) as db:
        found = db.execute("SELECT sum(length(value)) FROM history WHERE key GLOB ?", (f"/t/{tenant}/*",)).fetchone()
    return int(found[0] or 0)


async def settled(store: SqliteStore) -> None:
    while store._due or (store._compacting and not store._compacting.done()):
        await asyncio.sleep(0)


async def flood(store: SqliteStore, tenant: str, count: int, length: int = VALUE) -> None:
    for n in range(count):
        await store.put(f"/t/{tenant}/registry/configmaps/default/c{n % 3}", b"%8d" % n + b"x" * length)
    await settled(store)


def test_a_tenant_that_rewrites_its_objects_keeps_the_file_small(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def scenario() -> None:
        store = await open_sqlite(path, settings=SETTINGS)
        await store.put("/t/quiet/registry/a", b"1")
        seen = store.revision
        await store.put("/t/quiet/registry/a", b"2")
        await flood(store, "loud", 200)  # 6.5 MB
        assert history_of(path, "loud") <= LIMIT + 4 * VALUE
        assert store.compacted == 0, "the others' history is whole"
        assert [kv.value for kv in (await store.range("/t/quiet/registry/a", revision=seen)).kvs] == [b"1"]
        async with aclosing(store.watch("/t/quiet/", after=seen)) as batches:
            assert [change.value for change in (await anext(batches)).changes] == [b"2"]
        assert (await store.range("/t/loud/", "/t/loud0")).count == 3
        for key, end in (("/t/loud/", "/t/loud0"), ("/t/loud/registry/x", ""), ("/t/", "/t0"), ("", "\U0010ffff")):
            with pytest.raises(Gone):
                await store.range(key, end, revision=seen)
        with pytest.raises(Gone):
            async with aclosing(store.watch("/t/loud/", after=seen)) as batches:
                await anext(batches)
        await store.close()

    asyncio.run(scenario())


def test_what_was_compacted_is_refused_after_a_restart_too(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def scenario() -> None:
        store = await open_sqlite(path, settings=SETTINGS)
        seen = await store.put("/t/quiet/registry/a", b"1")
        await flood(store, "loud", 100)
        await store.close()
        again = await open_sqlite(path, settings=SETTINGS)
        with pytest.raises(Gone):
            await again.range("/t/loud/", "/t/loud0", revision=seen)
        assert (await again.range("/t/quiet/", "/t/quiet0", revision=seen)).count == 1
        await again.compact(again.revision)
        assert again._shares.floor("/t/loud/", "/t/loud0") == 0, "it is told by the history of all now"
        await again.close()
        third = await open_sqlite(path, settings=SETTINGS)
        assert third._shares.floor("/t/loud/", "/t/loud0") == 0
        await third.close()

    asyncio.run(scenario())
    assert history_of(path, "loud") <= 3 * (VALUE + 8)


def test_a_sweep_that_was_cut_short_is_finished_by_that_of_all(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    hits = []

    def cut() -> None:
        hits.append(None)
        raise Unavailable("cut")

    async def scenario() -> None:
        store = await open_sqlite(path, settings=SETTINGS)
        faults.arm("store.compact.after_mark", cut)
        try:
            for n in range(40):
                await store.put("/t/loud/a", b"%4d" % n + b"x" * VALUE)
            await settled(store)
            assert hits
        finally:
            faults.disarm()
        await store.compact(store.revision)
        await store.close()

    asyncio.run(scenario())
    assert history_of(path, "loud") <= VALUE + 4


def test_the_history_of_an_edge_is_bounded_as_well(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def scenario() -> None:
        store = await open_sqlite(path, settings=SETTINGS)
        for n in range(200):
            await store.put("/reported/pods/default/a", b"%8d" % n + b"x" * VALUE)
        await settled(store)
        await store.close()

    asyncio.run(scenario())
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT sum(length(value)) FROM history").fetchone()[0] <= LIMIT + 4 * VALUE


def test_deleted_objects_leave_nothing(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def scenario() -> None:
        store = await open_sqlite(path, settings=SETTINGS)
        for n in range(100):
            await store.put(f"/t/loud/{n}", b"x" * VALUE)
            await store.delete(f"/t/loud/{n}")
        await settled(store)
        await store.close()

    asyncio.run(scenario())
    assert history_of(path, "loud") <= LIMIT + 4 * VALUE


def test_owners_are_told_apart_by_whole_names() -> None:
    shares = HistoryShares(100, Revision(1), {"/t/a": Revision(7)})
    assert shares.floor("/t/a/registry/", "/t/a/registry0") == 7
    assert shares.floor("/t/ab/", "/t/ab0") == 0
    assert shares.floor("/t/a-b/", "/t/a-b0") == 0
    assert shares.floor("/t/", "/t0") == 7
    assert shares.floor("/sessions/", "/sessions0") == 0


def test_the_older_half_goes_when_the_newer_one_is_full() -> None:
    shares = HistoryShares(100, Revision(3), {})

    def wrote(revision: int, size: int) -> dict[str, Revision]:
        change = Change(ChangeKind.PUT, "/t/a/x", b"x" * (size - len("/t/a/x")), Revision(revision))
        return dict(shares.committed([change], Revision(revision)))

    assert wrote(4, 40) == {}
    assert wrote(5, 20) == {"/t/a": 3}
    assert wrote(6, 49) == {}
    assert wrote(7, 10) == {"/t/a": 5}
