"""The durable store: SQLite in WAL mode, one table, one writer thread with group commit.

Readers use a connection of their own on the event loop's thread: reads are short, and WAL lets them pass the writer. So does a
transaction that only reads, unless writes are in the queue, which it must see if it was asked for after them. What a transaction
needs to know of many keys is read by one statement.

A new store is made under another name and renamed, so that a file which is there but empty is a corrupt one, never a new one. One
process at a time has the store open: it holds PATH.lock.

Lives here:      reads, compaction, leases, the life of a store.
Lives elsewhere: commits (sqlite_writer.py), rows and statements (sqlite_history.py), the file and its schema (sqlite_file.py), values that
                 are encrypted in it (sealing.py, reseal.py), what a transaction means (core.py), watches (watch.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Literal

from kubeedge import faults
from kubeedge.api.keys import prefix_end
from kubeedge.api.names import Revision
from kubeedge.errors import KubeEdgeError, Misuse, NotFound, Unavailable
from kubeedge.kit import private
from kubeedge.store import reseal, sqlite_layouts
from kubeedge.store import sqlite_history as history
from kubeedge.store.core import MAX_OPS, check, check_range, evaluate
from kubeedge.store.history_shares import HistoryShares
from kubeedge.store.leases import Leases
from kubeedge.store.memory import check_compactable, check_leases, check_readable
from kubeedge.store.model import (
    Change,
    Compare,
    Delete,
    Get,
    KeyValue,
    Op,
    Put,
    RangeResult,
    TxnResult,
    WatchBatch,
)
from kubeedge.store.sqlite_file import (
    SHIFT,
    CorruptStore,
    NewerStore,
    SqliteSettings,
    check_header,
    companions,
    connect,
    create,
    examine,
    lock_of,
    locked,
    meta,
    read_revision,
    set_aside,
    translated,
)
from kubeedge.store.sqlite_writer import WriteAnswers, Writer
from kubeedge.store.watch import Watches

log = logging.getLogger("kubeedge.store")

_LEASE_RETRY = 1.0  # seconds until the keys of an expired lease are tried again, on a full disk


async def open_sqlite(
    path: Path,
    *,
    settings: SqliteSettings | None = None,
    on_corrupt: Literal["raise", "rebuild"] = "raise",
    wanted: Callable[[str, bytes], bool] = lambda key, value: False,
) -> SqliteStore:
    """Open or create a store. Raises CorruptStore; with "rebuild" the corrupt file is kept as PATH.corrupt-N and a store with a new identity takes
    its place, with those keys and values that are `wanted` and can be read (salvage.py). Its peer then compares everything. A file of a newer
    version is kept as PATH.newer-N, and what cannot be read of it is taken from the copy that was made before its layout changed."""
    settings = settings or SqliteSettings()
    try:
        return SqliteStore(path, settings)
    except CorruptStore as exc:
        if on_corrupt == "raise":
            raise
        from kubeedge.store.salvage import salvage  # here: what it imports is not for each agent to carry

        with translated(path):
            newer = isinstance(exc, NewerStore)
            found = salvage(path, wanted, settings.keyring)
            for copy in reversed(sqlite_layouts.copies(path)) if newer else ():
                found.add(salvage(copy, wanted, settings.keyring))
            aside = set_aside(path, why="newer" if newer else "corrupt")
            faults.at("store.rebuild.before_create")
            sealing, sealer = reseal.choose(settings.keyring, None, exists=False)
            revision = found.revision if found.values else 0
            create(path, settings, found.values, revision, sealing=sealing, sealer=sealer)
        log.error("%s; it is kept as %s, and %d keys of it could be read and go on", exc, aside.name, len(found.values))
        return SqliteStore(path, settings)


class SqliteStore:
    """Made by open_sqlite, inside a running event loop; every method belongs to that loop's thread."""

    def __init__(self, path: Path, settings: SqliteSettings, *, writer: type[Writer] = Writer) -> None:
        self.path = path
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        with translated(path), contextlib.ExitStack() as undo:
            self._lock = undo.enter_context(locked(path))
            private.files((path, *companions(path), lock_of(path)))  # they hold Secrets; a restored copy has any mode
            if not path.exists():
                reseal.require(settings.keyring, None, path)
                create(path, settings, sealing=reseal.choose(settings.keyring, None, exists=False)[0])
            check_header(path)
            db = undo.enter_context(contextlib.closing(connect(path, settings)))
            self._store_id = examine(db, path)
            sqlite_layouts.migrate(path, db, trial=settings.trial)
            self._values, self.sealing = reseal.prepare(path, db, settings)
            if self.sealing.reopen:  # it is another file now
                db = undo.enter_context(contextlib.closing(connect(path, settings)))
            self._reader = undo.enter_context(contextlib.closing(connect(path, settings)))
            self._reader.execute("PRAGMA query_only = 1")
            self._revision = read_revision(self._reader)
            self._compacted = Revision(int(meta(self._reader, "compacted")))
            self._shares = HistoryShares(settings.history_bytes, self._revision, history.floors(self._reader))
            self._leases = Leases()
            for lease, ttl in self._reader.execute("SELECT id, ttl FROM leases"):
                self._leases.restore(lease, ttl, self._loop.time())
            used = self._reader.execute("SELECT max(lease) FROM history WHERE lease != 0").fetchone()[0] or 0
            self._leases.not_below(used + 1)
            undo.pop_all()
        self._watches = Watches(self._changes, lambda prefix: self._floor(prefix, prefix_end(prefix)))
        self._due: dict[str, Revision] = {}  # owners with too much history, and how much of it goes
        self._writer = writer(path, db, self._revision, self._committed, self._values)
        self._closed = False
        self._compacting: asyncio.Task[None] | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writer.start()
        self._arm()

    @property
    def store_id(self) -> str:
        return self._store_id

    @property
    def revision(self) -> Revision:
        return self._revision

    @property
    def compacted(self) -> Revision:
        return self._compacted

    # -- reading -------------------------------------------------------------------------------------------------------------

    async def range(
        self, key: str, end: str = "", *, revision: Revision | None = None, limit: int = 0, keys_only: bool = False
    ) -> RangeResult:
        check_range(key, end)
        with translated(self.path), history.snapshot(self._reader) as reader:
            # what the writer committed a moment ago, and this thread has not heard of, is not there yet: a watch from
            # the revision that we answer with must be possible
            current = self._revision
            at = current if revision is None else revision
            check_readable(at, current, self._floor(key, end))
            found, count = history.read_range(reader, key, end, self._values, at=at, limit=limit, keys_only=keys_only)
        return RangeResult(found, current, len(found) < count, count)

    async def get(self, key: str) -> KeyValue | None:
        found = (await self.range(key)).kvs
        return found[0] if found else None

    def _floor(self, key: str, end: str) -> Revision:
        return max(self._compacted, self._shares.floor(key, end))

    def watch(self, prefix: str, *, after: Revision, progress: bool = False) -> AsyncGenerator[WatchBatch, None]:
        return self._watches.watch(prefix, after, progress, lambda: self._revision)

    def _changes(self, prefix: str, after: Revision, limit: int) -> tuple[Sequence[Change], Revision]:
        """History for a watcher that is behind."""
        with translated(self.path), history.snapshot(self._reader) as reader:
            return history.read_changes(reader, prefix, self._values, after=after, upto=self._revision, limit=limit)

    # -- writing -------------------------------------------------------------------------------------------------------------

    async def txn(self, compares: Sequence[Compare], success: Sequence[Op], failure: Sequence[Op] = ()) -> TxnResult:
        if self._closed:
            raise Misuse("the store is closed")
        check(compares, success, failure)
        check_leases(self._leases, success, failure)
        for op in (*success, *failure):
            if isinstance(op, Put):
                self._values.check(op.key)
        if self._writer.idle and all(isinstance(op, Get) for ops in (success, failure) for op in ops):
            return self._look(compares, success, failure)
        return await self._writer.transact(compares, success, failure)

    def _look(self, compares: Sequence[Compare], success: Sequence[Op], failure: Sequence[Op]) -> TxnResult:
        """A transaction that only reads, of what was acknowledged."""
        with translated(self.path), history.snapshot(self._reader) as reader:
            view = history.HistoryView(reader, self._values, below=(self._revision + 1) << SHIFT)
            view.expect(success)
            outcome = evaluate(view, self._revision, compares, success, failure)
        return TxnResult(outcome.succeeded, outcome.revision, outcome.responses)

    async def put(self, key: str, value: bytes, lease: int = 0) -> Revision:
        return (await self.txn((), (Put(key, value, lease),))).revision

    async def delete(self, key: str, end: str = "") -> int:
        count = (await self.txn((), (Delete(key, end),))).responses[0]
        assert isinstance(count, int)
        return count

    def _committed(self, answers: WriteAnswers) -> None:
        """Tell watchers and callers, in order."""
        for request, answer in answers:
            if isinstance(answer, BaseException):
                if not request.future.done():
                    request.future.set_exception(answer)
                continue
            if answer.changes:
                self._revision = answer.revision
                self._watches.committed(answer.changes, answer.revision)
                self._due.update(self._shares.committed(answer.changes, answer.revision))
            if not request.future.done():
                request.future.set_result(TxnResult(answer.succeeded, answer.revision, answer.responses))
        self._maybe_compact()

    # -- compaction ----------------------------------------------------------------------------------------------------------

    async def compact(self, revision: Revision) -> None:
        check_compactable(revision, self._revision, self._compacted)
        current = self._revision

        remaining = True

        def sweep(db: sqlite3.Connection) -> None:
            nonlocal remaining
            remaining = history.sweep(db, revision)

        self._compacted = revision  # readers are refused before rows go
        self._shares.all_compacted(revision)
        await self._writer.run(lambda db: history.mark_compacted(db, revision, current))
        faults.at("store.compact.after_mark")
        while remaining:
            await self._writer.run(sweep)

    async def _compact_of(self, owner: str, revision: Revision) -> None:
        """Compact the history of one owner's keys alone; see compact()."""
        current = self._revision
        after = self._shares.compacted(owner, revision) << SHIFT

        def sweep(db: sqlite3.Connection) -> None:
            nonlocal after
            after = history.sweep_of(db, owner, after, revision)

        await self._writer.run(lambda db: history.mark_compacted_of(db, owner, revision, current))
        faults.at("store.compact.after_mark")
        await self._writer.run(sweep)
        while after:
            await self._writer.run(sweep)

    def _maybe_compact(self) -> None:
        settings = self._settings
        behind = self._revision - self._compacted
        long = behind >= settings.keep_revisions + settings.compact_every
        if self._closed or not (long or self._due):
            return
        if self._compacting is None or self._compacting.done():
            target = Revision(self._revision - settings.keep_revisions) if long else None
            self._compacting = self._loop.create_task(self._auto_compact(target), name="store compaction")

    async def _auto_compact(self, target: Revision | None) -> None:
        with contextlib.suppress(KubeEdgeError):  # a full disk: tried again after the next commit
            if target is not None:
                await self.compact(target)
            while self._due:
                owner, revision = self._due.popitem()
                if revision <= self._floor(f"{owner}/", f"{owner}0"):
                    continue
                if owner:
                    await self._compact_of(owner, revision)
                else:  # what is not a tenant's: all of an edge's store
                    await self.compact(revision)

    # -- leases --------------------------------------------------------------------------------------------------------------

    async def lease_grant(self, ttl: float) -> int:
        lease = self._leases.grant(ttl, self._loop.time())
        try:
            await self._writer.run(
                lambda db: _write_one(db, "INSERT INTO leases (id, ttl) VALUES (?, ?)", (lease, ttl))
            )
        except KubeEdgeError:
            self._leases.drop(lease)
            raise
        self._arm()
        return lease

    async def lease_keepalive(self, lease: int) -> None:
        self._leases.keepalive(lease, self._loop.time())
        self._arm()

    async def lease_revoke(self, lease: int) -> None:
        if not (ttl := self._leases.drop(lease)):
            raise NotFound(f"lease {lease} does not exist or has expired")
        try:
            await self._end_lease(lease)
        except Unavailable:  # a full disk: the caller may try again, and time goes on
            self._leases.restore(lease, ttl, self._loop.time())
            raise
        finally:
            self._arm()

    async def _end_lease(self, lease: int) -> None:
        """The lease takes no more puts; those that wait for the writer are before us in the queue."""
        deleted = MAX_OPS
        while deleted == MAX_OPS:
            deleted = len((await self._writer.transact((), (), (), ends_lease=lease)).responses)
        await self._writer.run(lambda db: _write_one(db, "DELETE FROM leases WHERE id = ?", (lease,)))

    def _arm(self) -> None:
        if self._expiry:
            self._expiry.cancel()
            self._expiry = None
        if (at := self._leases.next_expiry()) is not None and not self._closed:
            self._expiry = self._loop.call_at(at, self._expire)

    def _expire(self) -> None:
        for lease in self._leases.expired(self._loop.time()):
            self._leases.drop(lease)
            task = self._loop.create_task(self._end_expired(lease), name=f"end of lease {lease}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._arm()

    async def _end_expired(self, lease: int) -> None:
        while not self._closed:
            try:
                return await self._end_lease(lease)
            except Unavailable:
                await asyncio.sleep(_LEASE_RETRY)
            except Misuse:  # closed meanwhile; the lease restarts with the next process
                return

    # -- the end -------------------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Write what is queued, then close the file. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._watches.close()
        if self._expiry:
            self._expiry.cancel()
        for task in (self._compacting, *self._tasks):
            if task:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, KubeEdgeError):
                    await task
        await self._writer.stop()
        self._reader.close()
        self._writer.db.close()
        self._lock.close()


def _write_one(db: sqlite3.Connection, sql: str, values: Sequence[object]) -> None:
    db.execute(sql, values)


__all__ = ["CorruptStore", "SqliteSettings", "SqliteStore", "open_sqlite"]
