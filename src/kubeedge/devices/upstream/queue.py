"""The queue of messages for the cloud: one file of SQLite on the node's disk.

`append` returns when the messages are on the disk. When the queue is full, or a message too old, the oldest go. `done` is not waited for: after a
power cut the cloud gets messages again that it knows by their numbers. All methods block; they are for a thread.

A client that has had no acknowledgement sends its message again, marked as a duplicate and under the same packet identifier: whether it is here
already is looked up, also after the agent was killed in between.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from kubeedge.api.node_messages import NodeMessage
from kubeedge.devices.stamped_rows import StampedRows
from kubeedge.kit.dataclasses import dataclass
from kubeedge.kit.queue_file import QueueFile

_ROW = 64  # bytes that a message costs besides its own and its topic
_TRIM = 256  # messages that give way at once
_REMEMBERED = 8192  # packets whose duplicates are known
_SCHEMA = """
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
        self._most, self._age = most, age
        self._stamps = StampedRows(elapsed)
        self._file = QueueFile(path, _SCHEMA, self._read)
        self._lock = threading.Lock()
        self.bytes = 0  # of all messages that wait, with what each costs in the file
        self.count = 0
        self.kept = 0  # messages since the start
        self.lost = 0  # those that gave way

    @property
    def exists(self) -> bool:
        """A message was queued at some time."""
        return self._file.exists

    @property
    def uid(self) -> str:
        """Of this queue: with a message's number it names the message everywhere."""
        return self._file.uid

    def open(self) -> None:
        """Reads what waits. A file that is damaged is put aside. Raises OSError."""
        with self._lock:
            self._file.opened()

    def close(self) -> None:
        """Idempotent. The next call opens it again."""
        with self._lock:
            self._file.close()

    def _read(self, db: sqlite3.Connection) -> None:
        self._stamps.opened()
        query = "SELECT COUNT(*), COALESCE(SUM(LENGTH(payload) + LENGTH(topic)), 0) FROM waiting"
        self.count, size = db.execute(query).fetchone()
        self.bytes = size + self.count * _ROW

    def append(self, messages: Iterable[IncomingMessage], now: int) -> None:
        """They are on the disk when it returns. `now`: milliseconds since 1970. Raises OSError: none of them is kept."""
        with self._lock:
            with self._file.transaction(durable=True) as db:
                self._stamps.date(db, now)
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
            self._stamps.dated(now)

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
        with self._lock, self._file.reading() as db:
            for row in db.execute(query, (number, count)):
                message = NodeMessage(row[0], row[1], row[2], bytes(row[3]))
                size -= message.size
                if found and size < 0:
                    break
                found.append(message)
        return found

    def done(self, number: int) -> None:
        """The cloud has all messages up to that one. A number that was not given yet: this file is an older copy of the queue, whose
        next numbers the cloud has for other messages. It is another queue from here on. Raises OSError."""
        newest = "SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence WHERE name = 'waiting'"
        with self._lock, self._file.transaction(durable=False) as db:
            if number > db.execute(newest).fetchone()[0]:
                self._file.rename(db)
            else:
                query = "DELETE FROM waiting WHERE number <= ? RETURNING topic, payload"
                for topic, payload in db.execute(query, (number,)).fetchall():
                    self._forget(_size(topic, payload))


def _size(topic: str, payload: bytes) -> int:
    return _ROW + len(topic) + len(payload)
