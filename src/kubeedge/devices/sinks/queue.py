"""The queue of values on the disk: one file of SQLite for all destinations of a node.

Lives here:      what waits, in order, and what gives way when there is no more room.
Lives elsewhere: sending (module.py).

`append` returns when the values are on the disk, so what a mapper was told is kept is kept. `done` is not waited for: after a power cut values
may be sent again, with the same number. All methods block; they are for a thread.

When the queue is full the device that has most in it loses its oldest value: one that floods loses its own.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from kubeedge.devices.sinks.core import PushedValue
from kubeedge.devices.stamped_rows import StampedRows
from kubeedge.kit.queue_file import QueueFile

log = logging.getLogger("kubeedge.devices.sinks")

_ROW = 96  # bytes that a value costs besides its own and its names, with the indexes
_TRIM = 256  # values that give way at once
_DROPPED = 1024 * 1024  # bytes of them that are read for that
_SCHEMA = """
CREATE TABLE IF NOT EXISTS destination (id INTEGER PRIMARY KEY AUTOINCREMENT, spec TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS waiting (
    number INTEGER PRIMARY KEY AUTOINCREMENT, destination INTEGER NOT NULL, namespace TEXT NOT NULL, device TEXT NOT NULL,
    property TEXT NOT NULL, kind TEXT NOT NULL, time INTEGER NOT NULL, queued INTEGER NOT NULL, size INTEGER NOT NULL, value TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS by_destination ON waiting (destination, number);
CREATE INDEX IF NOT EXISTS by_device ON waiting (namespace, device, number);
"""


class PushQueue:
    """`most`: bytes of all values that wait; `age`: seconds after which one is of no use any more."""

    def __init__(self, path: Path, most: int, age: float, elapsed: Callable[[], float] | None = None) -> None:
        """`elapsed`: as ClockLeaps has it."""
        self._most, self._age = most, age
        self._stamps = StampedRows(elapsed)
        self._file = QueueFile(path, _SCHEMA, self._read)
        self._lock = threading.Lock()
        self._sizes: dict[tuple[str, str], int] = {}  # bytes by device
        self._total = 0
        self._counts: dict[str, int] = {}  # values by destination
        self._ids: dict[str, int] = {}
        self.lost = 0  # values that gave way since the start

    @property
    def exists(self) -> bool:
        """A value was queued at some time."""
        return self._file.exists

    @property
    def uid(self) -> str:
        """Of this queue: with a value's number it names the value everywhere."""
        return self._file.uid

    @property
    def bytes(self) -> int:
        """Of all values that wait, with what each costs in the file."""
        return self._total

    def waiting(self) -> dict[str, int]:
        """How many values wait, by destination."""
        with self._lock:
            return {spec: count for spec, count in self._counts.items() if count}

    def open(self) -> None:
        """Reads what waits. A file that is damaged is put aside. Raises OSError."""
        with self._lock:
            self._file.opened()

    def _read(self, db: sqlite3.Connection) -> None:
        self._stamps.opened()
        self._sizes = {
            (row[0], row[1]): row[2]
            for row in db.execute("SELECT namespace, device, SUM(size) FROM waiting GROUP BY namespace, device")
        }
        db.execute("DELETE FROM destination WHERE id NOT IN (SELECT DISTINCT destination FROM waiting)")
        self._ids = {row[1]: row[0] for row in db.execute("SELECT id, spec FROM destination")}
        counted = dict(db.execute("SELECT destination, COUNT(*) FROM waiting GROUP BY destination").fetchall())
        self._counts = {spec: counted.get(number, 0) for spec, number in self._ids.items()}
        self._total = sum(self._sizes.values())

    def close(self) -> None:
        """Idempotent. The next call opens it again: a report that is on its way is kept."""
        with self._lock:
            self._file.close()

    def append(self, values: Iterable[tuple[str, PushedValue]], now: int) -> None:
        """(destination, value), whose number is given here. `now`: milliseconds since 1970. Raises OSError: none of them is kept."""
        with self._lock:
            with self._file.transaction(durable=True) as db:
                self._stamps.date(db, now)
                added = [self._insert(db, spec, value, now) for spec, value in values]
            self._stamps.dated(now)
            for spec, device, size in added:
                self._count(spec, device, size, 1)
            self._trim(now)

    def _insert(
        self, db: sqlite3.Connection, spec: str, value: PushedValue, now: int
    ) -> tuple[str, tuple[str, str], int]:
        if spec not in self._ids:
            self._ids[spec] = int(
                db.execute("INSERT INTO destination (spec) VALUES (?) RETURNING id", (spec,)).fetchone()[0]
            )
        size = _ROW + len(value.value.encode("utf-8", "replace")) + len(value.device) + len(value.prop)
        db.execute(
            "INSERT INTO waiting (destination, namespace, device, property, kind, time, queued, size, value) VALUES (?,?,?,?,?,?,?,?,?)",
            (
                self._ids[spec],
                value.namespace,
                value.device,
                value.prop,
                value.kind,
                value.time,
                now,
                size,
                value.value,
            ),
        )
        return spec, (value.namespace, value.device), size

    def _count(self, spec: str, device: tuple[str, str], size: int, values: int) -> None:
        self._total += size
        self._counts[spec] = self._counts.get(spec, 0) + values
        self._sizes[device] = self._sizes.get(device, 0) + size
        if self._sizes[device] <= 0:
            del self._sizes[device]

    def _trim(self, now: int) -> None:
        try:
            while self._total > self._most and self._sizes:
                heaviest = max(self._sizes, key=lambda device: self._sizes[device])
                query = "SELECT number, destination, size FROM waiting WHERE namespace = ? AND device = ? ORDER BY number LIMIT ?"
                self.lost += self._remove(heaviest, self._rows(query, *heaviest, _TRIM), self._total - self._most)
            too_old = now - int(self._age * 1000)
            query = "SELECT number, destination, size, namespace, device, queued FROM waiting ORDER BY number LIMIT ?"
            for row in self._rows(query, _TRIM):  # each append takes some of them
                if row[5] >= too_old:
                    break
                self.lost += self._remove((row[3], row[4]), [row[:3]], row[2])
        except OSError as exc:
            log.warning("what is too much stays for now: %s", exc)

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self._file.reading() as db:
            return db.execute(query, values).fetchall()

    def _remove(self, device: tuple[str, str], rows: Sequence[tuple[Any, ...]], enough: int) -> int:
        """How many were removed, the first of them until these are enough bytes."""
        names = {number: spec for spec, number in self._ids.items()}
        removed, size = 0, 0
        with self._file.transaction(durable=False) as db:
            for number, destination, one in rows:
                if size >= enough:
                    break
                db.execute("DELETE FROM waiting WHERE number = ?", (number,))
                self._count(names[destination], device, -one, -1)
                removed, size = removed + 1, size + one
        if not removed:  # nothing is left of the device: the count was wrong
            self._total -= self._sizes.pop(device, 0)
        return removed

    def first(self, spec: str, count: int, size: int) -> list[PushedValue]:
        """The oldest values for a destination: at most so many, and of so many bytes unless it is one. Raises OSError."""
        query = "SELECT number, namespace, device, property, kind, time, value, size FROM waiting WHERE destination = ? ORDER BY number LIMIT ?"
        found: list[PushedValue] = []
        with self._lock, self._file.reading() as db:
            for *row, own in db.execute(query, (self._ids.get(spec, 0), count)):
                size -= own
                if found and size < 0:
                    break
                found.append(PushedValue(*row))
        return found

    def done(self, spec: str, values: Iterable[PushedValue]) -> None:
        """They need not be sent any more. Raises OSError."""
        with self._lock:
            gone = []
            with self._file.transaction(durable=False) as db:
                for value in values:
                    row = db.execute("DELETE FROM waiting WHERE number = ? RETURNING size", (value.number,)).fetchone()
                    if row is not None:  # it may have given way meanwhile
                        gone.append(((value.namespace, value.device), int(row[0])))
            for device, size in gone:
                self._count(spec, device, -size, -1)
            if not self._counts.get(spec):
                self._forget(spec)

    def drop(self, spec: str) -> int:
        """How many values were waiting for a destination that gets none of them any more. Raises OSError."""
        count, last = self._counts.get(spec, 0), 0
        while values := self.first(spec, _TRIM, _DROPPED):
            if values[-1].number == last:
                break
            last = values[-1].number
            self.done(spec, values)
        return count

    def _forget(self, spec: str) -> None:
        """Devices change: of a destination that nothing waits for nothing is left."""
        self._counts.pop(spec, None)
        number = self._ids.pop(spec, None)
        with self._file.reading() as db:
            db.execute("DELETE FROM destination WHERE id = ?", (number,))
