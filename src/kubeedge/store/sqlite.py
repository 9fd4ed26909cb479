"""The durable store: SQLite in WAL mode, one table, one writer thread with group commit.

Row id *is* the revision: id = revision << 20 | n for the n-th change of a transaction, so the history is in order by itself and
needs no second index. A delete is a row whose value is NULL. The newest row of a key is its state.

Writers queue; the thread takes whatever waits, decides the transactions in order inside one SQLite transaction, and answers all
of them after its one fsync. A transaction that changes nothing writes nothing. Readers use a connection of their own on the event
loop's thread: reads are short, and WAL lets them pass the writer. So does a transaction that only reads, unless writes are in the
queue, which it must see if it was asked for after them. What a transaction needs to know of many keys is read by one statement.

A new store is made under another name and renamed, so that a file which is there but empty is a sick one, never a new one. One
process at a time has the store open: it holds PATH.lock.

Compaction follows the rows that were added since the last one: each makes the older rows of its key superfluous. Its cost is
that of the changes, not that of the store.

Lives here:      commits, reads, compaction, leases.
Lives elsewhere: the file and its schema (sqlite_file.py), what a transaction means (core.py), watches (watch.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import queue
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from kubeedge import faults
from kubeedge.api.keys import prefix_end
from kubeedge.api.names import Revision
from kubeedge.errors import KubeEdgeError, Misuse, NotFound, Unavailable
from kubeedge.kit import private
from kubeedge.store.core import MAX_OPS, Head, Outcome, check, check_range, evaluate
from kubeedge.store.leases import Leases
from kubeedge.store.memory import check_compactable, check_leases, check_readable
from kubeedge.store.model import (
    Change,
    ChangeKind,
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
    translate,
    translated,
)
from kubeedge.store.watch import Watches

log = logging.getLogger("kubeedge.store")

_GROUP = 256  # transactions that share one commit at most
_COMPACT_STEP = 500  # rows followed in one commit: a long one would hold up writers
_HISTORY_BYTES = 1024 * 1024  # of values, read at once for a watcher that is behind
_FEW_ROWS = 256  # below a prefix: so many are read by key and sorted, whatever the age of what is asked for
_MANY = 4  # keys from which on one statement for all of them is cheaper than one each
_LEASE_RETRY = 1.0  # seconds until the keys of an expired lease are tried again, on a full disk

_COLUMNS = "id, key, value, create_revision, version, lease"
_ARE_FEW = "SELECT 1 FROM history INDEXED BY history_by_key WHERE key >= ? AND key < ? LIMIT 1 OFFSET ?"
_Row: TypeAlias = tuple[int, str, bytes | None, int, int, int]


async def open_sqlite(
    path: Path,
    *,
    settings: SqliteSettings | None = None,
    on_corrupt: Literal["raise", "rebuild"] = "raise",
    wanted: Callable[[str, bytes], bool] = lambda key, value: False,
) -> SqliteStore:
    """Open or create a store. Raises CorruptStore; with "rebuild" the sick file is kept as PATH.sick-N and a store with a new identity takes
    its place, with those keys and values that are `wanted` and can be read (salvage.py). Its peer then compares everything."""
    settings = settings or SqliteSettings()
    try:
        return SqliteStore(path, settings)
    except CorruptStore as exc:
        if on_corrupt == "raise":
            raise
        from kubeedge.store.salvage import salvage  # here: what it imports is not for each agent to carry

        with translated(path):
            found = salvage(path, wanted)
            aside = set_aside(path)
            faults.at("store.rebuild.before_create")
            create(path, settings, found.values, found.revision if found.values else 0)
        log.error("%s; it is kept as %s, and %d keys of it could be read and go on", exc, aside.name, len(found.values))
        return SqliteStore(path, settings)


@dataclass(slots=True)
class _Request:
    compares: Sequence[Compare]
    success: Sequence[Op]
    failure: Sequence[Op]
    future: asyncio.Future[TxnResult]
    ends_lease: int = 0  # instead of `success`: delete what this lease owns when the request's turn comes


@dataclass(slots=True)
class _Job:
    """Something else for the writer thread to do with its connection, outside of any transaction."""

    work: Callable[[sqlite3.Connection], None]
    future: asyncio.Future[None]


class SqliteStore:
    """Made by open_sqlite, inside a running event loop; every method belongs to that loop's thread."""

    def __init__(self, path: Path, settings: SqliteSettings) -> None:
        self.path = path
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        with translated(path), contextlib.ExitStack() as undo:
            self._lock = undo.enter_context(locked(path))
            private.files((path, *companions(path), lock_of(path)))  # they hold Secrets; a restored copy has any mode
            if not path.exists():
                create(path, settings)
            check_header(path)
            self._writer = undo.enter_context(contextlib.closing(connect(path, settings)))
            self._store_id = examine(self._writer, path)
            self._reader = undo.enter_context(contextlib.closing(connect(path, settings)))
            self._reader.execute("PRAGMA query_only = 1")
            self._revision = read_revision(self._reader)
            self._compacted = Revision(int(meta(self._reader, "compacted")))
            self._leases = Leases()
            for lease, ttl in self._reader.execute("SELECT id, ttl FROM leases"):
                self._leases.restore(lease, ttl, self._loop.time())
            used = self._reader.execute("SELECT max(lease) FROM history WHERE lease != 0").fetchone()[0] or 0
            self._leases.not_below(used + 1)
            undo.pop_all()
        self._watches = Watches(self._changes, lambda: self._compacted)
        self._queue: queue.SimpleQueue[_Request | _Job | None] = queue.SimpleQueue()
        self._closed = False
        self._unanswered = 0  # requests in the queue or at the writer
        self._compacting: asyncio.Task[None] | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._write, name=f"store {path.name}", daemon=True)
        self._thread.start()
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
        columns = _COLUMNS if not keys_only else _COLUMNS.replace("value", "iif(value IS NULL, NULL, x'')")
        with translated(self.path), _snapshot(self._reader) as reader:
            # what the writer committed a moment ago, and this thread has not heard of, is not there yet: a watch from
            # the revision that we answer with must be possible
            current = self._revision
            at = current if revision is None else revision
            check_readable(at, current, self._compacted)
            top = (at + 1) << SHIFT
            if not end:
                row = reader.execute(
                    f"SELECT {columns} FROM history WHERE key = ? AND id < ? ORDER BY id DESC LIMIT 1", (key, top)
                ).fetchone()
                rows = [row] if row and row[2] is not None else []
                return RangeResult(tuple(_kv(r) for r in rows), current, False, len(rows))
            newest = "SELECT max(id) FROM history WHERE key >= ? AND key < ? AND id < ? GROUP BY key"
            live = f"FROM history WHERE id IN ({newest}) AND value IS NOT NULL"
            if limit:  # key by key, to stop early
                rows = reader.execute(
                    f"""SELECT {columns} FROM history AS h WHERE key >= ? AND key < ? AND value IS NOT NULL
                        AND id = (SELECT max(id) FROM history WHERE key = h.key AND id < ?) ORDER BY key LIMIT ?""",
                    (key, end, top, limit),
                ).fetchall()
            else:
                rows = reader.execute(f"SELECT {columns} {live} ORDER BY key", (key, end, top)).fetchall()
            count = len(rows)
            if limit and count == limit:
                count = reader.execute(f"SELECT count(*) {live}", (key, end, top)).fetchone()[0]
        return RangeResult(tuple(_kv(r) for r in rows), current, len(rows) < count, count)

    async def get(self, key: str) -> KeyValue | None:
        found = (await self.range(key)).kvs
        return found[0] if found else None

    def watch(self, prefix: str, *, after: Revision, progress: bool = False) -> AsyncIterator[WatchBatch]:
        return self._watches.watch(prefix, after, progress, lambda: self._revision)

    def _changes(self, prefix: str, after: Revision, limit: int) -> tuple[Sequence[Change], Revision]:
        """History for a watcher that is behind: whole revisions, about `limit` rows or _HISTORY_BYTES."""
        changes: list[Change] = []
        size = 0
        with translated(self.path), _snapshot(self._reader) as reader:
            bounds = (prefix, prefix_end(prefix), (after + 1) << SHIFT, (self._revision + 1) << SHIFT)
            # SQLite has no figures to choose by: it would follow the ids, through what all others wrote since then
            few = reader.execute(_ARE_FEW, (*bounds[:2], _FEW_ROWS)).fetchone() is None
            path = "INDEXED BY history_by_key" if few else "NOT INDEXED"
            sql = f"SELECT {_COLUMNS} FROM history {path} WHERE key >= ? AND key < ? AND id >= ? AND id < ? ORDER BY id"
            for row in reader.execute(sql, bounds):
                change = _change(row)
                if (len(changes) >= limit or size >= _HISTORY_BYTES) and change.revision > changes[-1].revision:
                    return changes, changes[-1].revision
                changes.append(change)
                size += len(change.value)
        return changes, self._revision

    # -- writing -------------------------------------------------------------------------------------------------------------

    async def txn(self, compares: Sequence[Compare], success: Sequence[Op], failure: Sequence[Op] = ()) -> TxnResult:
        if self._closed:
            raise Misuse("the store is closed")
        check(compares, success, failure)
        check_leases(self._leases, success, failure)
        if not self._unanswered and all(isinstance(op, Get) for ops in (success, failure) for op in ops):
            return self._look(compares, success, failure)
        future: asyncio.Future[TxnResult] = self._loop.create_future()
        self._ask(_Request(compares, success, failure, future))
        return await future

    def _look(self, compares: Sequence[Compare], success: Sequence[Op], failure: Sequence[Op]) -> TxnResult:
        """A transaction that only reads, of what was acknowledged."""
        with translated(self.path), _snapshot(self._reader) as reader:
            view = _SqlView(reader, below=(self._revision + 1) << SHIFT)
            view.expect(success)
            outcome = evaluate(view, self._revision, compares, success, failure)
        return TxnResult(outcome.succeeded, outcome.revision, outcome.responses)

    def _ask(self, request: _Request) -> None:
        self._unanswered += 1
        self._queue.put(request)

    async def put(self, key: str, value: bytes, lease: int = 0) -> Revision:
        return (await self.txn((), (Put(key, value, lease),))).revision

    async def delete(self, key: str, end: str = "") -> int:
        count = (await self.txn((), (Delete(key, end),))).responses[0]
        assert isinstance(count, int)
        return count

    def _write(self) -> None:
        """The writer thread: groups of requests, one commit each."""
        revision = self._revision
        stop = False
        while not stop:
            items: list[_Request | _Job | None] = [self._queue.get()]
            with contextlib.suppress(queue.Empty):
                while len(items) < _GROUP:
                    items.append(self._queue.get_nowait())
            revision = self._serve(items, revision)
            stop = None in items

    def _serve(self, items: Sequence[_Request | _Job | None], revision: Revision) -> Revision:
        """What waited, in order: requests that stand together share a commit."""
        group: list[_Request] = []
        for item in items:
            if isinstance(item, _Request):
                group.append(item)
                continue
            revision = self._commit(group, revision)
            group = []
            if item is not None:
                self._do(item)
        return self._commit(group, revision)

    def _commit(self, group: list[_Request], revision: Revision) -> Revision:
        """Decide and commit a group; the new revision. Answers every future, after the fsync."""
        if not group:
            return revision
        answers: list[tuple[_Request, Outcome | BaseException]] = []
        start = revision
        view = _SqlView(self._writer)
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            for request in group:
                success = view.owned(request.ends_lease) if request.ends_lease else request.success
                view.expect(success)
                try:
                    outcome = evaluate(view, revision, request.compares, success, request.failure)
                except KubeEdgeError as exc:
                    answers.append((request, exc))
                    continue
                if outcome.changes:
                    self._writer.executemany(
                        f"INSERT INTO history ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)", _rows(outcome.changes)
                    )
                    revision = outcome.revision
                answers.append((request, outcome))
            if revision == start:
                self._writer.execute("ROLLBACK")
            else:
                faults.at("store.commit.before_fsync")
                self._writer.execute("COMMIT")
        except Exception as exc:  # nothing of the group happened; a full disk, a sick file
            with contextlib.suppress(sqlite3.Error):
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
            error = translate(exc, self.path)
            answers, revision = [(request, error) for request in group], start
        faults.at("store.commit.after_fsync")
        self._post(lambda: self._answer(answers))
        return revision

    def _answer(self, answers: Sequence[tuple[_Request, Outcome | BaseException]]) -> None:
        """On the loop's thread: tell watchers and callers, in order."""
        self._unanswered -= len(answers)
        for request, answer in answers:
            if isinstance(answer, BaseException):
                if not request.future.done():
                    request.future.set_exception(answer)
                continue
            if answer.changes:
                self._revision = answer.revision
                self._watches.committed(answer.changes, answer.revision)
            if not request.future.done():
                request.future.set_result(TxnResult(answer.succeeded, answer.revision, answer.responses))
        self._maybe_compact()

    def _do(self, job: _Job) -> None:
        try:
            job.work(self._writer)
        except Exception as exc:
            with contextlib.suppress(sqlite3.Error):
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
            error = translate(exc, self.path)
            self._post(lambda: None if job.future.done() else job.future.set_exception(error))
        else:
            self._post(lambda: None if job.future.done() else job.future.set_result(None))

    def _post(self, callback: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(callback)

    async def _run(self, work: Callable[[sqlite3.Connection], None]) -> None:
        if self._closed:
            raise Misuse("the store is closed")
        future: asyncio.Future[None] = self._loop.create_future()
        self._queue.put(_Job(work, future))
        await future

    # -- compaction ----------------------------------------------------------------------------------------------------------

    async def compact(self, revision: Revision) -> None:
        check_compactable(revision, self._revision, self._compacted)
        current = self._revision

        def mark(db: sqlite3.Connection) -> None:
            db.execute("BEGIN IMMEDIATE")
            db.execute("UPDATE meta SET value = ? WHERE name = 'compacted'", (revision,))
            # the newest row may be a tombstone that goes: the revision must not go back with it
            db.execute("UPDATE meta SET value = max(value, ?) WHERE name = 'revision'", (current,))
            db.execute("COMMIT")

        remaining = True

        def sweep(db: sqlite3.Connection) -> None:
            nonlocal remaining
            top = (revision + 1) << SHIFT
            db.execute("BEGIN IMMEDIATE")
            rows = db.execute(
                "SELECT id, key, value IS NULL FROM history WHERE id > ? AND id < ? ORDER BY id LIMIT ?",
                (meta(db, "swept"), top, _COMPACT_STEP),
            ).fetchall()
            remaining = len(rows) == _COMPACT_STEP
            db.executemany("DELETE FROM history WHERE key = ? AND id < ?", [(key, id) for id, key, _ in rows])
            db.executemany("DELETE FROM history WHERE id = ?", [(id,) for id, _, deleted in rows if deleted])
            swept = rows[-1][0] if remaining else top - 1
            db.execute("UPDATE meta SET value = max(value, ?) WHERE name = 'swept'", (swept,))
            db.execute("COMMIT")
            faults.at("store.compact.after_sweep")

        self._compacted = revision  # readers are refused before rows go
        await self._run(mark)
        faults.at("store.compact.after_mark")
        while remaining:
            await self._run(sweep)

    def _maybe_compact(self) -> None:
        settings = self._settings
        behind = self._revision - self._compacted
        if behind < settings.keep_revisions + settings.compact_every or self._closed:
            return
        if self._compacting is None or self._compacting.done():
            target = Revision(self._revision - settings.keep_revisions)
            self._compacting = self._loop.create_task(self._auto_compact(target), name="store compaction")

    async def _auto_compact(self, target: Revision) -> None:
        with contextlib.suppress(KubeEdgeError):  # a full disk: tried again after the next commit
            await self.compact(target)

    # -- leases --------------------------------------------------------------------------------------------------------------

    async def lease_grant(self, ttl: float) -> int:
        lease = self._leases.grant(ttl, self._loop.time())
        try:
            await self._run(lambda db: _write_one(db, "INSERT INTO leases (id, ttl) VALUES (?, ?)", (lease, ttl)))
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
            if self._closed:
                raise Misuse("the store is closed")
            future: asyncio.Future[TxnResult] = self._loop.create_future()
            self._ask(_Request((), (), (), future, ends_lease=lease))
            deleted = len((await future).responses)
        await self._run(lambda db: _write_one(db, "DELETE FROM leases WHERE id = ?", (lease,)))

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
            except Misuse:  # closed meanwhile; the lease begins anew at the next start
                return

    # -- the end -------------------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """What was queued is still written. Idempotent."""
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
        self._queue.put(None)
        await self._loop.run_in_executor(None, self._thread.join)
        self._reader.close()
        self._writer.close()
        self._lock.close()


class _SqlView:
    """The newest values below a row id, as the connection's open transaction sees them."""

    def __init__(self, db: sqlite3.Connection, below: int = (1 << 63) - 1) -> None:
        self._db = db
        self._below = below
        self._heads: dict[str, Head | None] = {}
        self._values: dict[str, KeyValue | None] = {}

    def expect(self, ops: Sequence[Op]) -> None:
        """These come next: read together what they ask for. Good until something is written."""
        gets = [op.key for op in ops if isinstance(op, Get) and not op.end]
        writes = [op.key for op in ops if isinstance(op, Put) or (isinstance(op, Delete) and not op.end)]
        self._heads = dict.fromkeys(writes) if len(writes) >= _MANY else {}
        self._values = dict.fromkeys(gets) if len(gets) >= _MANY else {}
        if self._heads:
            for key, created, version in self._newest_of(self._heads, "h.key, h.create_revision, h.version"):
                self._heads[key] = (Revision(created), version)
        if self._values:
            for row in self._newest_of(self._values, ", ".join(f"h.{name}" for name in _COLUMNS.split(", "))):
                self._values[row[1]] = _kv(row)

    def _newest_of(self, keys: Iterable[str], columns: str) -> Iterator[Any]:
        return self._db.execute(
            f"SELECT {columns} FROM json_each(?) AS asked CROSS JOIN history AS h ON h.id = "
            "(SELECT max(id) FROM history WHERE key = asked.value AND id < ?) WHERE h.value IS NOT NULL",
            (json.dumps([key for key in keys if "\0" not in key]), self._below),  # no key has a zero byte
        )

    def newest(self, key: str) -> KeyValue | None:
        if key in self._values:
            return self._values[key]
        row = self._db.execute(
            f"SELECT {_COLUMNS} FROM history WHERE key = ? AND id < ? ORDER BY id DESC LIMIT 1", (key, self._below)
        ).fetchone()
        return _kv(row) if row and row[2] is not None else None

    def head(self, key: str) -> Head | None:
        if key in self._heads:
            return self._heads[key]
        row = self._db.execute(
            "SELECT create_revision, version, value IS NULL FROM history WHERE key = ? AND id < ? ORDER BY id DESC LIMIT 1",
            (key, self._below),
        ).fetchone()
        return (Revision(row[0]), row[1]) if row and not row[2] else None

    def newest_range(self, key: str, end: str) -> Sequence[KeyValue]:
        rows = self._db.execute(
            f"SELECT {_COLUMNS} FROM history WHERE id IN (SELECT max(id) FROM history "
            "WHERE key >= ? AND key < ? AND id < ? GROUP BY key) AND value IS NOT NULL ORDER BY key",
            (key, end, self._below),
        )
        return [_kv(row) for row in rows]

    def owned(self, lease: int) -> Sequence[Delete]:
        """What the lease owns, as much as one transaction takes."""
        rows = self._db.execute(
            "SELECT key FROM history AS h WHERE lease = ? AND value IS NOT NULL "
            "AND id = (SELECT max(id) FROM history WHERE key = h.key) LIMIT ?",
            (lease, MAX_OPS),
        )
        return [Delete(key) for (key,) in rows]


def _write_one(db: sqlite3.Connection, sql: str, values: Sequence[object]) -> None:
    db.execute(sql, values)


@contextlib.contextmanager
def _snapshot(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Several statements see one state."""
    db.execute("BEGIN")
    try:
        yield db
    finally:
        db.execute("ROLLBACK")


def _rows(changes: Sequence[Change]) -> Iterator[_Row]:
    for n, c in enumerate(changes):
        value = c.value if c.kind is ChangeKind.PUT else None
        yield (c.revision << SHIFT) | n, c.key, value, c.create_revision, c.version, c.lease


def _kv(row: _Row) -> KeyValue:
    id, key, value, create, version, lease = row
    assert value is not None
    return KeyValue(key, value, Revision(create), Revision(id >> SHIFT), version, lease)


def _change(row: _Row) -> Change:
    id, key, value, create, version, lease = row
    revision = Revision(id >> SHIFT)
    if value is None:
        return Change(ChangeKind.DELETE, key, b"", revision)
    return Change(ChangeKind.PUT, key, value, revision, Revision(create), version, lease)


__all__ = ["CorruptStore", "SqliteSettings", "SqliteStore", "open_sqlite"]
