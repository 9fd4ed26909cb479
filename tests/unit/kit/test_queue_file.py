"""The file of a queue: set up, put aside, changed as a whole or not at all."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from kubeedge.kit.queue_file import QueueFile

SCHEMA = "CREATE TABLE IF NOT EXISTS waiting (number INTEGER PRIMARY KEY AUTOINCREMENT, value TEXT NOT NULL);"


def queue(path: Path) -> tuple[QueueFile, list[str]]:
    """One, and what was in it when it was last read."""
    found: list[str] = []

    def read(db: sqlite3.Connection) -> None:
        found[:] = [row[0] for row in db.execute("SELECT value FROM waiting ORDER BY number")]

    return QueueFile(path, SCHEMA, read), found


def put(file: QueueFile, *values: str | None) -> None:
    with file.transaction(durable=True) as db:
        for value in values:
            db.execute("INSERT INTO waiting (value) VALUES (?)", (value,))


def test_what_was_put_in_is_there_after_a_restart_and_for_nobody_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "queue.db"
    file, found = queue(path)
    assert not file.exists and not path.parent.exists()
    put(file, "a", "b")
    assert file.exists and found == [], "the owner counts what it puts in itself"
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    uid = file.uid
    file.close()
    file.close()
    again, found = queue(path)
    with again.reading() as db:
        assert db.execute("SELECT COUNT(*) FROM waiting").fetchone() == (2,)
    assert found == ["a", "b"] and again.uid == uid != ""
    with again.transaction(durable=False) as db:
        again.rename(db)
    renamed = again.uid
    again.close()
    again.opened()
    assert again.uid == renamed != uid
    again.close()


def test_a_transaction_that_fails_leaves_nothing_and_the_next_one_works(tmp_path: Path) -> None:
    file, found = queue(tmp_path / "queue.db")
    put(file, "a")
    with pytest.raises(OSError, match="queue.db: NOT NULL"):
        put(file, "b", None)
    with pytest.raises(ZeroDivisionError), file.transaction(durable=True) as db:
        db.execute("INSERT INTO waiting (value) VALUES ('c')")
        raise ZeroDivisionError
    put(file, "d")
    assert found == ["a"], "it was read again after the failure"
    with file.reading() as db:
        assert [row[0] for row in db.execute("SELECT value FROM waiting")] == ["a", "d"]
    with pytest.raises(OSError, match="no such table"), file.reading() as db:
        db.execute("SELECT 1 FROM missing")
    file.close()


def test_a_damaged_file_is_put_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "queue.db"
    file, found = queue(path)
    put(file, "a" * 10_000)
    uid = file.uid
    file.close()
    data = path.read_bytes()
    for damaged in (b"x" * len(data), data[:100] + b"\xff" * (len(data) - 100)):
        path.write_bytes(damaged)
        path.with_name("queue.db-wal").write_bytes(b"old")
        file.opened()
        assert found == [] and file.uid != uid and path.with_suffix(".damaged").read_bytes() == damaged
        assert "is damaged and put aside" in caplog.text
        put(file, "b")
        file.close()
        caplog.clear()


def test_what_is_wrong_with_the_disk_is_said_and_nothing_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    file, _ = queue(path)
    put(file, "a")
    file.close()
    path.rename(tmp_path / "elsewhere")
    path.mkdir()
    with pytest.raises(OSError, match="queue.db"):
        file.opened()
    path.rmdir()
    (tmp_path / "elsewhere").rename(path)
    file.opened()
    assert not path.with_suffix(".damaged").exists()
    file.close()
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        queue(tmp_path / "file" / "queue.db")[0].opened()
