"""A queue on the disk: one file of SQLite, its set-up, and transactions in it. What is in it is its owner's.

A file that is damaged is put aside, for what waits in a queue is worth less than that the queue works. All calls block; they are for a thread,
and for one at a time: a lock is the owner's, too, since it guards what the owner counts.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger("kubeedge.queuefile")

_SCHEMA = "CREATE TABLE IF NOT EXISTS queue (id INTEGER PRIMARY KEY CHECK (id = 1), uid TEXT NOT NULL);"


class QueueFile:
    """`schema`: of the owner's tables; `read` is called with a file that has been opened, and takes in what waits there."""

    def __init__(self, path: Path, schema: str, read: Callable[[sqlite3.Connection], None]) -> None:
        self.path = path
        self.uid = ""  # of this queue: with the number of one of its entries it names that everywhere
        self._schema, self._read = schema, read
        self._db: sqlite3.Connection | None = None

    @property
    def exists(self) -> bool:
        """Something was queued at some time."""
        return self.path.exists()

    def opened(self) -> sqlite3.Connection:
        """The file, which is opened if it is not yet. Raises OSError."""
        if self._db is None:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                self._db = self._made()
            except sqlite3.OperationalError as exc:
                raise OSError(f"{self.path}: {exc}") from exc
            except sqlite3.DatabaseError as exc:
                log.error("%s is damaged and put aside, what waited in it is lost: %s", self.path, exc)
                for suffix in ("-wal", "-shm"):
                    self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
                self.path.replace(self.path.with_suffix(".damaged"))
                self._db = self._made()
        return self._db

    def close(self) -> None:
        """Idempotent. The next call opens it again."""
        if self._db is not None:
            self._db.close()
        self._db = None

    @contextmanager
    def transaction(self, *, durable: bool) -> Iterator[sqlite3.Connection]:
        """All of the block is in the file, or nothing of it. `durable`: it is on the disk at the end; if not, a power cut may undo it. Raises OSError;
        the file is closed then, so that its owner reads all that it knows again."""
        with self.reading() as db:
            db.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """As `transaction`, of a block that changes nothing."""
        db = self.opened()
        try:
            yield db
        except (sqlite3.Error, OverflowError) as exc:  # a number that is none of SQLite's
            self.close()
            raise OSError(f"{self.path}: {exc}") from exc
        except BaseException:
            self.close()
            raise

    def _made(self) -> sqlite3.Connection:
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        db = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA cache_size=-256")
            db.execute("PRAGMA wal_autocheckpoint=256")
            db.executescript(_SCHEMA + self._schema)
            db.execute("INSERT OR IGNORE INTO queue VALUES (1, ?)", (os.urandom(8).hex(),))
            self.uid = str(db.execute("SELECT uid FROM queue").fetchone()[0])
            self._read(db)
        except BaseException:
            db.close()
            raise
        return db

    def rename(self, db: sqlite3.Connection) -> None:
        """It is another queue from here on, in a transaction of the caller."""
        uid = os.urandom(8).hex()
        db.execute("UPDATE queue SET uid = ?", (uid,))
        self.uid = uid
