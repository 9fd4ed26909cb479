"""Checkpoints of a SQLite store's write-ahead log, off the writer's path: a thread and a connection of their own.

SQLite would copy the log into the database inside the commit that makes it long, and all who share that commit would wait for a thousand
pages and two fsyncs more. A passive checkpoint from another connection waits for no other connection, and none waits for it.

The log begins at its start again when all of it was copied and a writer comes. While writes never pause, a passive checkpoint is always some
pages behind, and the log would grow: beyond LONG the writer waits for the checkpoint that runs, and copies what is left itself, which is
little then.

Lives elsewhere: commits (sqlite_writer.py), the file (sqlite_file.py).
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from pathlib import Path

from kubeedge import faults
from kubeedge.store.sqlite_file import SqliteSettings, connect

log = logging.getLogger("kubeedge.store")

PAGE = 4096  # bytes
OFTEN = 1000  # pages written between two checkpoints: SQLite's own measure
LONG = 4 * OFTEN  # pages of the log
_SETTINGS = SqliteSettings(cache_bytes=64 * 1024)  # a checkpoint goes past the page cache
_CHECKPOINT = "PRAGMA wal_checkpoint(PASSIVE)"


def pages(size: int, changes: int) -> int:
    """About so many pages a commit adds to the log: values of `size` bytes in all, and the index of their keys."""
    return size // PAGE + min(changes, 32) + 1


class Checkpointer:
    """`written` and `catch_up` are for the writer's thread. The thread begins with the first checkpoint: a quiet store has none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._total = 0  # pages that the writer has added, about
        self._asked = 0  # `total` when a checkpoint was asked for last
        self._base = 0  # the log's length less `total`, as the last checkpoint has seen it
        self._running = threading.Lock()  # while a checkpoint runs: SQLite lets no other connection make one
        self._wake = threading.Event()
        self._behind = threading.Event()  # the log is long: the writer is to help
        self._stopped = False
        self._thread: threading.Thread | None = None

    def written(self, more: int) -> None:
        """A commit added about `more` pages."""
        self._total += more
        if self._total + self._base > LONG:
            self._behind.set()
        if self._total - self._asked < OFTEN:
            return
        self._asked = self._total
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=f"log of {self._path.name}", daemon=True)
            self._thread.start()
        self._wake.set()

    def catch_up(self, db: sqlite3.Connection) -> None:
        """Between two commits, with the writer's connection, so that nothing is added meanwhile."""
        if self._behind.is_set():
            self._behind.clear()
            with self._running, contextlib.suppress(sqlite3.Error):  # a full disk, say: the next checkpoint says so
                busy, _, _ = db.execute(_CHECKPOINT).fetchone()
                if not busy:
                    self._base = -self._total  # the next commit begins at the start

    def stop(self) -> None:
        """Waits for a checkpoint that runs. The last connection that closes makes another one."""
        self._stopped = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        try:
            with contextlib.closing(connect(self._path, _SETTINGS)) as db:
                while self._wake.wait() and not self._stopped:
                    self._wake.clear()
                    self._checkpoint(db)
        except sqlite3.Error as exc:  # no connection: the writer does it, as if there were no thread
            log.warning("%s: no checkpoints beside its writer: %s", self._path, exc)
            while self._wake.wait() and not self._stopped:
                self._wake.clear()
                self._behind.set()

    def _checkpoint(self, db: sqlite3.Connection) -> None:
        with self._running:
            faults.at("store.checkpoint.before")
            before = self._total
            try:
                busy, length, _ = db.execute(_CHECKPOINT).fetchone()
            except sqlite3.Error as exc:  # it is in the log, which stays as it is
                log.warning("%s: its log could not be applied: %s", self._path, exc)
                return
            faults.at("store.checkpoint.after")
            if not busy:  # another process makes one, of a backup
                self._base = length - before
