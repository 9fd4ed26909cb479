"""The queue of messages for the cloud: one file of SQLite on the node's disk.

`append` returns when the messages are on the disk. When the queue is full, or a message too old, the oldest go. `done` is not waited for: after a
power cut the cloud gets messages again that it knows by their numbers. All methods block; they are for a thread.

A client that has had no acknowledgement sends its message again, marked as a duplicate and under the same packet identifier: whether it is here
already is looked up, also after the agent was killed in between.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from kubeedge.api.node_messages import NodeMessage
from kubeedge.devices.ages import EPOCH, ClockLeaps
from kubeedge.kit.dataclasses import dataclass

log = logging.getLogger("kubeedge.devices.upstream")

_ROW = 64  # bytes that a message costs besides its own and its topic
_TRIM = 256  # messages that give way at once
_REMEMBERED = 8192  # packets whose duplicates are known
_SCHEMA = """
CREATE TABLE IF NOT EXISTS queue (id INTEGER PRIMARY KEY CHECK (id = 1), uid TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS waiting (
    number INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL, queued INTEGER NOT NULL, topic TEXT NOT NULL, payload BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS packet (
    number INTEGER PRIMARY KEY AUTOINCREMENT, client TEXT NOT NULL, id INTEGER NOT NULL, digest BLOB NOT NULL, UNIQUE (client, id));
"""


@dataclass(frozen=True, slots=True)
class IncomingMessage:
    """A message of a client. `packet` 0: it will not be sent again. `dup`: it may be here already. Without a topic it is none: the client
    sends none of its messages again."""

    topic: str
    payload: bytes
    time: int
    client: str = ""
    packet: int = 0
    dup: bool = False


class UpstreamQueue:
    """`most`: bytes of all messages that wait; `age`: seconds after which one is of no use any more."""

    def __init__(self, path: Path, most: int, age: float, elapsed: Callable[[], float] | None = None) -> None:
        """`elapsed`: as ClockLeaps has it."""
        self._path, self._most, self._age = path, most, age
        self._leaps, self._ahead, self._is_dated = ClockLeaps(elapsed), 0, False
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self.uid = ""  # of this queue: with a message's number it names the message everywhere
        self.bytes = 0  # of all messages that wait, with what each costs in the file
        self.count = 0
        self.kept = 0  # messages since the start
        self.lost = 0  # those that gave way

    @property
    def exists(self) -> bool:
        """A message was queued at some time."""
        return self._path.exists()

    def open(self) -> None:
        """Reads what waits. A file that is damaged is put aside. Raises OSError."""
        with self._lock:
            self._opened()

    def close(self) -> None:
        """Idempotent. The next call opens it again."""
        with self._lock:
            self._closed()

    def _closed(self) -> None:
        if self._db is not None:
            self._db.close()
        self._db = None

    def _opened(self) -> sqlite3.Connection:
        if self._db is None:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                self._db = self._read()
            except sqlite3.DatabaseError as exc:
                if isinstance(exc, sqlite3.OperationalError):
                    raise OSError(f"{self._path}: {exc}") from exc
                log.error("%s is damaged and put aside, what waited in it is lost: %s", self._path, exc)
                for suffix in ("-wal", "-shm"):
                    self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
                self._path.replace(self._path.with_suffix(".damaged"))
                self._db = self._read()
        return self._db

    def _read(self) -> sqlite3.Connection:
        self._is_dated = False
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        db = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA cache_size=-256")
            db.execute("PRAGMA wal_autocheckpoint=256")
            db.executescript(_SCHEMA)
            db.execute("INSERT OR IGNORE INTO queue VALUES (1, ?)", (os.urandom(8).hex(),))
            self.uid = str(db.execute("SELECT uid FROM queue").fetchone()[0])
            query = "SELECT COUNT(*), COALESCE(SUM(LENGTH(payload) + LENGTH(topic)), 0) FROM waiting"
            self.count, size = db.execute(query).fetchone()
            self.bytes = size + self.count * _ROW
        except BaseException:
            db.close()
            raise
        return db

    def append(self, messages: Iterable[IncomingMessage], now: int) -> None:
        """They are on the disk when it returns. `now`: milliseconds since 1970. Raises OSError: none of them is kept."""
        with self._lock:
            db = self._opened()
            try:
                db.execute("PRAGMA synchronous=FULL")
                db.execute("BEGIN IMMEDIATE")
                self._date(db, now)
                for message in messages:
                    if not message.topic:
                        db.execute("DELETE FROM packet WHERE client = ?", (message.client,))
                    elif not message.packet or self._is_new(db, message):
                        row = (message.time, now, message.topic, message.payload)
                        db.execute("INSERT INTO waiting (time, queued, topic, payload) VALUES (?,?,?,?)", row)
                        self.kept += 1
                        self.count += 1
                        self.bytes += _size(message.topic, message.payload)
                db.execute("DELETE FROM packet WHERE number <= (SELECT MAX(number) FROM packet) - ?", (_REMEMBERED,))
                self._trim(db, now)
                db.execute("COMMIT")
                self._ahead, self._is_dated = 0, now >= EPOCH
            except (sqlite3.Error, OverflowError) as exc:
                self._closed()  # all that is known comes from the file again
                raise OSError(f"{self._path}: {exc}") from exc

    def _date(self, db: sqlite3.Connection, now: int) -> None:
        """What waits is no older for a clock that was set. What an earlier life stamped without a clock is looked at once."""
        self._ahead += self._leaps.ahead(now)
        if self._ahead:
            db.execute("UPDATE waiting SET queued = MIN(queued + ?, MAX(queued, ?))", (self._ahead, now))
        if now >= EPOCH and not self._is_dated:
            db.execute("UPDATE waiting SET queued = ? WHERE queued < ?", (now, EPOCH))

    def _is_new(self, db: sqlite3.Connection, message: IncomingMessage) -> bool:
        digest = hashlib.blake2b(message.payload + message.topic.encode(), digest_size=8).digest()
        if message.dup:
            query = "SELECT digest FROM packet WHERE client = ? AND id = ?"
            if (digest,) == db.execute(query, (message.client, message.packet)).fetchone():
                return False
        query = "INSERT OR REPLACE INTO packet (client, id, digest) VALUES (?,?,?)"
        db.execute(query, (message.client, message.packet, digest))
        return True

    def _trim(self, db: sqlite3.Connection, now: int) -> None:
        too_old = now - int(self._age * 1000)
        while self.count:
            gone = []
            query = "SELECT number, queued, topic, payload FROM waiting ORDER BY number LIMIT ?"
            for number, queued, topic, payload in db.execute(query, (_TRIM,)):
                if self.bytes <= self._most and queued >= too_old:
                    break
                gone.append(number)
                self._forget(_size(topic, payload))
            if not gone:
                return
            db.execute("DELETE FROM waiting WHERE number <= ?", (gone[-1],))
            self.lost += len(gone)

    def _forget(self, size: int) -> None:
        self.count -= 1
        self.bytes -= size

    def after(self, number: int, count: int, size: int) -> Sequence[NodeMessage]:
        """The oldest messages after that one: at most so many, and of so many bytes unless it is one. Raises OSError."""
        query = "SELECT number, time, topic, payload FROM waiting WHERE number > ? ORDER BY number LIMIT ?"
        found: list[NodeMessage] = []
        with self._lock:
            try:
                for row in self._opened().execute(query, (number, count)):
                    message = NodeMessage(row[0], row[1], row[2], bytes(row[3]))
                    size -= message.size
                    if found and size < 0:
                        break
                    found.append(message)
            except sqlite3.Error as exc:
                self._closed()
                raise OSError(f"{self._path}: {exc}") from exc
        return found

    def done(self, number: int) -> None:
        """The cloud has all messages up to that one. A number that was not given yet: this file is an older copy of the queue, whose
        next numbers the cloud has for other messages. It is another queue from here on. Raises OSError."""
        with self._lock:
            db = self._opened()
            try:
                db.execute("PRAGMA synchronous=NORMAL")
                db.execute("BEGIN IMMEDIATE")
                newest = db.execute(
                    "SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence WHERE name = 'waiting'"
                ).fetchone()
                if number > newest[0]:
                    self.uid = os.urandom(8).hex()
                    db.execute("UPDATE queue SET uid = ?", (self.uid,))
                else:
                    query = "DELETE FROM waiting WHERE number <= ? RETURNING topic, payload"
                    for topic, payload in db.execute(query, (number,)).fetchall():
                        self._forget(_size(topic, payload))
                db.execute("COMMIT")
            except sqlite3.Error as exc:
                self._closed()
                raise OSError(f"{self._path}: {exc}") from exc


def _size(topic: str, payload: bytes) -> int:
    return _ROW + len(topic) + len(payload)
