"""check, backup, restore and stats, of files that are whole, in use, cut, scribbled over, or something else."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubeedge import faults
from kubeedge.errors import Gone, Invalid, NotFound, Unavailable
from kubeedge.store import upkeep
from kubeedge.store.model import Delete, Put
from kubeedge.store.sqlite import open_sqlite
from kubeedge.store.sqlite_file import CorruptStore


async def fill(path: Path, *, count: int = 300) -> None:
    store = await open_sqlite(path)
    for start in range(0, count, 100):
        await store.txn((), [Put(f"/desired/pods/default/p{n:04d}", b"x" * 200) for n in range(start, start + 100)])
    await store.txn((), [Delete("/desired/pods/default/p0000"), Put("/reported/nodes/_/n", b"{}")])
    await store.close()


def kubeedge(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kubeedge", "store", *arguments], capture_output=True, text=True, timeout=30, check=False
    )


def test_a_whole_store_has_no_findings_and_its_figures_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "edge.db"
    asyncio.run(fill(path))
    assert upkeep.check(path) == []
    found = upkeep.stats(path)
    assert (found.keys, found.history, found.revision) == (300, 302, 5)
    assert found.prefixes == {"/desired/pods": 299, "/reported/nodes": 1}
    assert found.value_bytes == 299 * 200 + 2


def test_a_backup_is_one_moment_of_a_store_that_is_in_use(tmp_path: Path) -> None:
    path, copy = tmp_path / "edge.db", tmp_path / "b"

    async def scenario() -> None:
        store = await open_sqlite(path)
        await store.txn((), [Put("/a", b"0"), Put("/b", b"0")])
        stop = asyncio.Event()

        async def write() -> int:
            n = 0
            while not stop.is_set():
                n += 1
                await store.txn((), [Put("/a", b"%d" % n), Put("/b", b"%d" % n)])
            return n

        writing = asyncio.create_task(write())
        for _ in range(5):
            await asyncio.sleep(0.02)
            await asyncio.to_thread(upkeep.backup, path, copy, replace=True)
            assert upkeep.check(copy) == []
            with contextlib.closing(sqlite3.connect(copy)) as db:
                newest = "SELECT value FROM history WHERE key = ? ORDER BY id DESC LIMIT 1"
                a, b = (db.execute(newest, (key,)).fetchone()[0] for key in ("/a", "/b"))
                assert a == b
        stop.set()
        assert await writing > 5
        await store.close()

    asyncio.run(scenario())
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with pytest.raises(Invalid, match="--force"):
        upkeep.backup(path, copy)


def test_a_restored_store_is_another_history_with_the_same_keys(tmp_path: Path) -> None:
    path, copy = tmp_path / "edge.db", tmp_path / "b"

    async def scenario() -> None:
        await fill(path)
        upkeep.backup(path, copy)
        store = await open_sqlite(path)
        before, later = store.store_id, await store.put("/later", b"1")
        with pytest.raises(Unavailable, match="in use"):
            upkeep.restore(copy, path)
        await store.close()
        old = upkeep.restore(copy, path)
        assert old is not None and upkeep.check(old) == []
        store = await open_sqlite(path)
        assert store.store_id != before and store.revision > later + 1_000_000
        assert await store.get("/later") is None and await store.get("/reported/nodes/_/n") is not None
        with pytest.raises(Gone):
            async for _ in store.watch("/", after=later):
                raise AssertionError("a watch went on in a history that did not happen")
        revision = await store.put("/new", b"1")
        assert revision == store.revision
        await store.compact(revision)
        assert len((await store.range("/", "0")).kvs) == 301
        await store.close()
        assert upkeep.check(path) == []

    asyncio.run(scenario())


@pytest.mark.parametrize("name", ["edge.db", "edge.db-wal", "edge.db-shm", "edge.db.lock", "../other/edge.db", "link"])
def test_a_backup_does_not_replace_the_store_that_it_is_of(tmp_path: Path, name: str) -> None:
    """Whoever has the file open would write into one that has no name any more, and lose all of it at the next start."""
    directory = tmp_path / "other"
    directory.mkdir()
    path = directory / "edge.db"
    asyncio.run(fill(path))
    (directory / "link").symlink_to(path)
    inode = path.stat().st_ino
    with pytest.raises(Invalid, match="belongs to the store itself"):
        upkeep.backup(path, directory / name, replace=True)
    assert path.stat().st_ino == inode and upkeep.check(path) == []


@pytest.mark.parametrize("corrupt", [False, True])
def test_a_power_cut_in_a_restore_leaves_a_store_where_it_was(tmp_path: Path, corrupt: bool) -> None:
    """Where none is the next start makes an empty one, and a cloud without tenants."""
    path, copy = tmp_path / "edge.db", tmp_path / "b"
    asyncio.run(fill(path))
    upkeep.backup(path, copy)
    if corrupt:
        path.write_bytes(path.read_bytes()[:8192] + b"\xa5" * 8192)
    before = path.read_bytes()

    def cut() -> None:
        raise RuntimeError("the power goes")

    faults.arm("store.restore.before_rename", cut)
    try:
        with pytest.raises(RuntimeError):
            upkeep.restore(copy, path)
    finally:
        faults.disarm()
    assert path.read_bytes() == before and bool(upkeep.check(path)) == corrupt
    old = upkeep.restore(copy, path)
    assert upkeep.check(path) == [] and upkeep.stats(path).revision > 1_000_000
    assert old is not None and old.read_bytes() == before


def test_what_the_log_has_is_in_the_store_that_was_set_aside(tmp_path: Path) -> None:
    path, copy = tmp_path / "edge.db", tmp_path / "b"
    asyncio.run(fill(path))
    upkeep.backup(path, copy)
    subprocess.run(
        [
            sys.executable,
            "-c",
            "import asyncio, os, sys; from pathlib import Path; from kubeedge.store.sqlite import open_sqlite\n"
            "async def scenario():\n"
            "    store = await open_sqlite(Path(sys.argv[1]))\n"
            "    await store.put('/late', b'1')\n"
            "    os._exit(0)\n"
            "asyncio.run(scenario())",
            str(path),
        ],
        check=True,
        timeout=30,
    )
    assert path.with_name("edge.db-wal").stat().st_size > 0, "it was killed before it could tidy up"
    old = upkeep.restore(copy, path)
    assert old is not None and upkeep.stats(old).prefixes["/late"] == 1
    assert "/late" not in upkeep.stats(path).prefixes


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A file system with a store that was closed in order, made read-only as a kernel does after errors."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "kubeedge-test", str(disk)], check=True)
    try:
        asyncio.run(fill(disk / "edge.db"))
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        yield disk / "edge.db"
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.root
def test_a_store_on_a_read_only_file_system_is_checked_and_backed_up(read_only: Path, tmp_path: Path) -> None:
    assert upkeep.check(read_only) == [] and upkeep.stats(read_only).keys == 300
    assert upkeep.backup(read_only, tmp_path / "b") > 0 and upkeep.stats(tmp_path / "b").keys == 300
    with pytest.raises(Unavailable, match="Read-only file system"):
        upkeep.restore(tmp_path / "b", read_only)


@pytest.mark.parametrize("damage", ["cut", "scribbled", "empty", "text", "rule", "other"])
def test_a_corrupt_file_is_told_apart_and_is_no_backup(tmp_path: Path, damage: str) -> None:
    path, store = tmp_path / "corrupt", tmp_path / "edge.db"
    asyncio.run(fill(path))
    asyncio.run(fill(store))
    whole = path.read_bytes()
    match damage:
        case "cut":
            path.write_bytes(whole[: len(whole) // 2])
        case "scribbled":
            path.write_bytes(whole[:8192] + b"\xa5" * 8192 + whole[16384:])
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_text("this is a letter\n" * 1000)
        case "rule":
            with contextlib.closing(sqlite3.connect(path)) as db, db:
                db.execute("UPDATE meta SET value = 10000 WHERE name = 'compacted'")
        case "other":
            with contextlib.closing(sqlite3.connect(tmp_path / "other")) as db, db:
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("CREATE TABLE t (x)")
            path = tmp_path / "other"
    assert upkeep.check(path)
    kept = upkeep.stats(store).store_id
    with pytest.raises(CorruptStore):
        upkeep.restore(path, store)
    assert upkeep.stats(store).store_id == kept


def test_the_command_says_what_is_wrong_and_what_comes_next(tmp_path: Path) -> None:
    path, copy = tmp_path / "edge.db", tmp_path / "b"
    asyncio.run(fill(path))
    done = kubeedge("check", "--store", str(path), "-o", "json")
    assert done.returncode == 0 and json.loads(done.stdout) == {"store": str(path), "whole": True, "findings": []}
    assert kubeedge("backup", "--store", str(path), str(copy)).returncode == 0
    assert "--force" in kubeedge("backup", "--store", str(path), str(copy)).stderr
    assert json.loads(kubeedge("stats", "--store", str(path), "-o", "json").stdout)["keys"] == 300
    path.write_bytes(path.read_bytes()[:20_000])
    done = kubeedge("check", "--store", str(path))
    assert done.returncode == 1 and "restart the agent" in done.stdout
    assert "replaced-1" in kubeedge("restore", "--store", str(path), str(copy)).stdout
    assert kubeedge("check", "--store", str(path)).returncode == 0
    done = kubeedge("check", "--store", str(tmp_path / "none"))
    assert done.returncode == 1 and "there is no store" in done.stderr and "Traceback" not in done.stderr
    with pytest.raises(NotFound):
        upkeep.restore(tmp_path / "none", path)
