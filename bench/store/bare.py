"""What the store is compared with: the disk, and the sqlite3 module, with nothing of ours above them."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path


class BareDisk:
    """pwrite and fdatasync over a file that exists already, as a log that has been used once is written."""

    def __init__(self, path: Path, length: int) -> None:
        self._length = length
        self._data = os.urandom(length)
        self._slots = max(1, 4 * 1024 * 1024 // length)
        self._file = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        os.write(self._file, bytes(self._slots * length))
        os.fsync(self._file)
        self._next = 0

    def put(self) -> None:
        os.pwrite(self._file, self._data, self._next % self._slots * self._length)
        os.fdatasync(self._file)
        self._next += 1

    def close(self) -> None:
        os.close(self._file)


class BareSqlite:
    """A log of keys and values as the store's own table is one, with its settings, and nothing of ours above it."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        for statement in (
            "PRAGMA journal_mode = WAL",
            "PRAGMA synchronous = FULL",
            "CREATE TABLE history (id INTEGER PRIMARY KEY, key TEXT NOT NULL, value BLOB)",
            "CREATE INDEX history_by_key ON history (key, id)",
        ):
            self._db.execute(statement)

    def write(self, rows: Sequence[tuple[str, bytes]]) -> None:
        """One durable transaction."""
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany("INSERT INTO history (key, value) VALUES (?, ?)", rows)
        self._db.execute("COMMIT")

    def close(self) -> None:
        self._db.close()


class Stopwatch:
    """Seconds, and processor seconds of all threads, since it was made."""

    def __init__(self) -> None:
        self._begun, self._used = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        return time.perf_counter() - self._begun, time.process_time() - self._used


Took = tuple[float, float]


def written(path: Path, rows: Sequence[tuple[str, bytes]], transactions: int) -> Took:
    """What so many durable transactions take that write these keys and values."""
    each = -(-len(rows) // transactions)
    with contextlib.closing(BareSqlite(path)) as db:
        watch = Stopwatch()
        for start in range(0, len(rows), each):
            db.write(rows[start : start + each])
        return watch.read()
