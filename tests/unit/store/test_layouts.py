"""A newer version that lays out the store's tables in another way, and the version before it that comes back."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubeedge import faults
from kubeedge.agent.salvage import worth_keeping
from kubeedge.store import sqlite_file, sqlite_layouts, upkeep
from kubeedge.store.model import Delete, Put
from kubeedge.store.sqlite import SqliteSettings, SqliteStore, open_sqlite
from kubeedge.store.sqlite_file import CorruptStore, NewerStore, meta_number
from kubeedge.store.sqlite_layouts import Migration

POD, LATER = "/desired/pods/default/a", "/desired/pods/default/later"
WRITE = "/reported/writes/_/0000000000000012"


def further_table(db: sqlite3.Connection) -> None:
    db.execute("CREATE TABLE owners (name TEXT PRIMARY KEY, bytes INTEGER NOT NULL)")


def other_rows(db: sqlite3.Connection) -> None:
    db.execute("ALTER TABLE history RENAME TO history2")


@pytest.fixture(autouse=True)
def unarmed() -> Iterator[None]:
    yield
    faults.disarm()


class Version:
    """A program with these changes of layout."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *steps: Migration) -> None:
        self._monkeypatch, self._steps = monkeypatch, steps

    def __enter__(self) -> None:
        self._monkeypatch.setattr(sqlite_layouts, "MIGRATIONS", self._steps)
        self._monkeypatch.setattr(sqlite_file, "LAYOUT", self._steps[-1].layout if self._steps else 1)

    def __exit__(self, *_: object) -> None:
        self._monkeypatch.undo()


def newer(monkeypatch: pytest.MonkeyPatch) -> Version:
    """Which older programs do not read."""
    return Version(monkeypatch, Migration(2, 2, further_table))


async def opened(path: Path, *, trial: bool = False, rebuild: bool = False) -> SqliteStore:
    settings = SqliteSettings(trial=trial)
    return await open_sqlite(
        path, settings=settings, on_corrupt="rebuild" if rebuild else "raise", wanted=worth_keeping
    )


async def values(store: SqliteStore) -> dict[str, bytes]:
    return {kv.key: kv.value for kv in (await store.range("/", "0")).kvs}


def layout(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return meta_number(db, "layout", 1)


async def filled(path: Path) -> str:
    """By this version; the identity of the store."""
    store = await opened(path)
    await store.txn((), [Put(POD, b'{"v":1}'), Put("/local/written/pods/default/a", b"w")])
    await store.close()
    return store.store_id


def test_the_layout_that_is_read_is_the_one_that_is_made() -> None:
    steps = sqlite_layouts.MIGRATIONS
    assert sqlite_file.LAYOUT == (steps[-1].layout if steps else 1)
    assert [step.layout for step in steps] == list(range(2, len(steps) + 2))
    assert all(1 <= step.readable_by <= step.layout for step in steps)


def test_an_update_on_trial_that_is_taken_back_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "edge.db"

    async def scenario() -> None:
        identity = await filled(path)
        with newer(monkeypatch):
            store = await opened(path, trial=True)
            await store.txn((), [Put(POD, b'{"v":2}'), Put(LATER, b"{}"), Put(WRITE, b'{"id":"w"}')])
            revision = store.revision
            await store.close()
        # the image before it: the same store, with all that was acknowledged, and nothing for the cloud to compare
        store = await opened(path)
        assert (store.store_id, store.revision) == (identity, revision)
        there = await values(store)
        assert (there[POD], there[LATER], there[WRITE]) == (b'{"v":2}', b"{}", b'{"id":"w"}')
        await store.close()
        assert [file.name for file in tmp_path.iterdir() if "layout" in file.name] == []

    asyncio.run(scenario())


def test_an_image_that_is_good_changes_the_layout_and_keeps_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "edge.db"

    async def scenario() -> None:
        identity = await filled(path)
        (tmp_path / "edge.db.layout-0").touch()  # none of ours
        with newer(monkeypatch):
            for _ in range(2):
                store = await opened(path)
                assert store.store_id == identity and (await values(store))[POD] == b'{"v":1}'
                await store.close()
                assert layout(path) == 2
        copy = tmp_path / "edge.db.layout-1"
        assert layout(copy) == 1 and upkeep.check(copy) == [] and copy.stat().st_mode & 0o777 == 0o600
        assert copy in upkeep.copies(path)

    asyncio.run(scenario())


def test_a_change_that_older_programs_read_waits_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "edge.db"

    async def scenario() -> None:
        identity = await filled(path)
        with Version(monkeypatch, Migration(2, 1, further_table)):
            await (await opened(path, trial=True)).close()
        assert layout(path) == 2 and sqlite_layouts.copies(path) == []
        store = await opened(path)
        assert store.store_id == identity and (await values(store))[POD] == b'{"v":1}'
        await store.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("point", ["store.migrate.after_copy", "store.migrate.before_commit"])
def test_a_change_that_is_interrupted_is_made_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    path = tmp_path / "edge.db"

    class PowerCut(BaseException):
        pass

    def cut() -> None:
        raise PowerCut

    async def scenario() -> None:
        identity = await filled(path)
        with newer(monkeypatch):
            faults.arm(point, cut)
            with pytest.raises(PowerCut):
                await opened(path)
            faults.disarm()
            assert layout(path) == 1
            store = await opened(path)
            assert store.store_id == identity and (await values(store))[POD] == b'{"v":1}'
            await store.close()
            assert layout(path) == 2

    asyncio.run(scenario())


@pytest.mark.parametrize("point", ["store.migrate.after_copy", "store.migrate.before_commit"])
def test_on_a_full_disk_it_works_on_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    path = tmp_path / "edge.db"

    def full() -> None:
        raise OSError(28, "No space left on device")

    async def scenario() -> None:
        await filled(path)
        with newer(monkeypatch):
            faults.arm(point, full)
            store = await opened(path)
            await store.put(LATER, b"{}")
            await store.close()
        assert layout(path) == 1
        store = await opened(path)
        assert (await values(store))[LATER] == b"{}"
        await store.close()

    asyncio.run(scenario())


def test_an_older_version_that_was_installed_on_purpose_goes_on_with_what_it_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "edge.db"

    async def scenario() -> None:
        identity = await filled(path)
        with newer(monkeypatch):
            store = await opened(path)
            await store.txn((), [Put(LATER, b"{}"), Put(WRITE, b'{"id":"w"}')])
            await store.close()
        with pytest.raises(NewerStore, match="newer version: layout 2 instead of 1"):
            await opened(path)
        store = await opened(path, rebuild=True)
        assert store.store_id != identity  # so both sides of sync compare everything
        assert set(await values(store)) == {POD, LATER, WRITE, "/local/written/pods/default/a"}
        await store.close()
        assert (tmp_path / "edge.db.newer-1").exists() and not (tmp_path / "edge.db.corrupt-1").exists()

    asyncio.run(scenario())


def test_where_the_newer_rows_cannot_be_read_the_copy_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "edge.db"

    async def scenario() -> None:
        await filled(path)
        with (
            Version(monkeypatch, Migration(2, 2, other_rows)),
            contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db,
        ):
            sqlite_layouts.migrate(path, db, trial=False)
        store = await opened(path, rebuild=True)
        assert (await values(store))[POD] == b'{"v":1}'
        await store.close()

    asyncio.run(scenario())


def test_what_was_deleted_since_the_copy_does_not_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod that would run again; a write of a user that the cloud has answered."""
    path = tmp_path / "edge.db"

    async def scenario() -> None:
        await filled(path)
        store = await opened(path)
        await store.put(WRITE, b'{"id":"w"}')
        await store.close()
        with newer(monkeypatch):
            store = await opened(path)
            await store.txn((), [Delete(POD), Delete(WRITE), Put(LATER, b"{}")])
            await store.close()
        store = await opened(path, rebuild=True)
        found = await values(store)
        assert POD not in found and WRITE not in found and LATER in found
        await store.close()

    asyncio.run(scenario())


def test_of_two_copies_the_newest_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Power was lost between the second copy and the removal of the first."""
    path = tmp_path / "edge.db"

    async def scenario() -> None:
        await filled(path)
        upkeep.backup(path, path.with_name("edge.db.layout-1"))
        store = await opened(path)
        await store.put(POD, b'{"v":9}')
        await store.close()
        upkeep.backup(path, path.with_name("edge.db.layout-2"))
        with (
            Version(monkeypatch, Migration(3, 3, other_rows)),
            contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db,
        ):
            monkeypatch.setattr(sqlite_layouts, "_copy", lambda *_: None)
            sqlite_layouts.migrate(path, db, trial=False)
        store = await opened(path, rebuild=True)
        assert (await values(store))[POD] == b'{"v":9}'
        await store.close()

    asyncio.run(scenario())


def test_a_number_that_is_none_is_a_corrupt_store(tmp_path: Path) -> None:
    path = tmp_path / "edge.db"

    async def scenario() -> None:
        await filled(path)
        with contextlib.closing(sqlite3.connect(path)) as db, db:
            db.execute("INSERT INTO meta VALUES ('readable_by', 'x')")
        with pytest.raises(CorruptStore):
            await opened(path)

    asyncio.run(scenario())
