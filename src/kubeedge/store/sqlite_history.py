"""The table `history` of a store's SQLite file: its rows, and what is asked of them. Each function is one statement, or a few within a snapshot.

Row id *is* the revision: id = revision << 20 | n for the n-th change of a transaction, so the history is in order by itself and
needs no second index. A delete is a row whose value is NULL. The newest row of a key is its state.

A value may stand sealed in its row (sealing.py).

Lives elsewhere: the schema (sqlite_file.py), when it is asked and by whom (sqlite.py, sqlite_writer.py).
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

from kubeedge import faults
from kubeedge.api.keys import prefix_end
from kubeedge.api.names import Revision
from kubeedge.store.core import MAX_OPS, Head
from kubeedge.store.model import Change, ChangeKind, Delete, Get, KeyValue, Op, Put
from kubeedge.store.sealing import Plain, Values
from kubeedge.store.sqlite_file import SHIFT, meta, set_meta

_COMPACT_STEP = 500  # rows followed in one commit: a long one would block writers
_COMPACT_BYTES = 4 * 1024 * 1024  # of their values: the pages of a large one are read when it is deleted
_FLOOR = "compacted "  # and an owner: a name in the table meta
_HISTORY_BYTES = 1024 * 1024  # of values, read at once for a watcher that is behind
_FEW_ROWS = 256  # below a prefix: so many are read by key and sorted, whatever the age of what is asked for
_MANY = 4  # keys from which on one statement for all of them is cheaper than one each

COLUMNS = "id, key, value, create_revision, version, lease"
_ARE_FEW = "SELECT 1 FROM history INDEXED BY history_by_key WHERE key >= ? AND key < ? LIMIT 1 OFFSET ?"
HistoryRow: TypeAlias = tuple[int, str, bytes | None, int, int, int]


def read_range(
    db: sqlite3.Connection, key: str, end: str, values: Values, *, at: Revision, limit: int, keys_only: bool
) -> tuple[tuple[KeyValue, ...], int]:
    """The live keys from `key` up to `end` ("": that one key) at a revision, at most `limit` (0: all); and how many there are."""
    columns = COLUMNS if not keys_only else COLUMNS.replace("value", "iif(value IS NULL, NULL, x'')")
    values = values if not keys_only else Plain()
    top = (at + 1) << SHIFT
    if not end:
        row = db.execute(
            f"SELECT {columns} FROM history WHERE key = ? AND id < ? ORDER BY id DESC LIMIT 1", (key, top)
        ).fetchone()
        found = [row] if row and row[2] is not None else []
        return tuple(key_value(r, values) for r in found), len(found)
    newest = "SELECT max(id) FROM history WHERE key >= ? AND key < ? AND id < ? GROUP BY key"
    live = f"FROM history WHERE id IN ({newest}) AND value IS NOT NULL"
    if limit:  # key by key, to stop early
        found = db.execute(
            f"""SELECT {columns} FROM history AS h WHERE key >= ? AND key < ? AND value IS NOT NULL
                AND id = (SELECT max(id) FROM history WHERE key = h.key AND id < ?) ORDER BY key LIMIT ?""",
            (key, end, top, limit),
        ).fetchall()
    else:
        found = db.execute(f"SELECT {columns} {live} ORDER BY key", (key, end, top)).fetchall()
    count = len(found)
    if limit and count == limit:
        count = db.execute(f"SELECT count(*) {live}", (key, end, top)).fetchone()[0]
    return tuple(key_value(r, values) for r in found), count


def read_changes(
    db: sqlite3.Connection, prefix: str, values: Values, *, after: Revision, upto: Revision, limit: int
) -> tuple[Sequence[Change], Revision]:
    """Changes below a prefix, in order: whole revisions, about `limit` rows or _HISTORY_BYTES; and the revision that they reach to."""
    changes: list[Change] = []
    size = 0
    bounds = (prefix, prefix_end(prefix), (after + 1) << SHIFT, (upto + 1) << SHIFT)
    # SQLite has no figures to choose by: it would follow the ids, through what all others wrote since then
    few = db.execute(_ARE_FEW, (*bounds[:2], _FEW_ROWS)).fetchone() is None
    path = "INDEXED BY history_by_key" if few else "NOT INDEXED"
    sql = f"SELECT {COLUMNS} FROM history {path} WHERE key >= ? AND key < ? AND id >= ? AND id < ? ORDER BY id"
    for row in db.execute(sql, bounds):
        one = change(row, values)
        if (len(changes) >= limit or size >= _HISTORY_BYTES) and one.revision > changes[-1].revision:
            return changes, changes[-1].revision
        changes.append(one)
        size += len(one.value)
    return changes, upto


def append(db: sqlite3.Connection, changes: Sequence[Change], values: Values) -> None:
    """Add the rows of one revision to the open transaction."""
    db.executemany(f"INSERT INTO history ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)", rows(changes, values))


def mark_compacted(db: sqlite3.Connection, revision: Revision, current: Revision) -> None:
    """One commit: history up to `revision` is no longer read."""
    db.execute("BEGIN IMMEDIATE")
    db.execute("UPDATE meta SET value = ? WHERE name = 'compacted'", (revision,))
    # the newest row may be a tombstone that goes: the revision must not go back with it
    db.execute("UPDATE meta SET value = max(value, ?) WHERE name = 'revision'", (current,))
    db.execute("DELETE FROM meta WHERE name GLOB ? AND value <= ?", (_FLOOR + "*", revision))
    db.execute("COMMIT")


def mark_compacted_of(db: sqlite3.Connection, owner: str, revision: Revision, current: Revision) -> None:
    """One commit: likewise, of one owner alone."""
    db.execute("BEGIN IMMEDIATE")
    set_meta(db, _FLOOR + owner, revision)
    db.execute("UPDATE meta SET value = max(value, ?) WHERE name = 'revision'", (current,))
    db.execute("COMMIT")


def floors(db: sqlite3.Connection) -> dict[str, Revision]:
    """The revisions up to which the history of single owners is compacted."""
    found = db.execute("SELECT name, value FROM meta WHERE name GLOB ?", (_FLOOR + "*",))
    return {name.removeprefix(_FLOOR): Revision(value) for name, value in found}


def sweep(db: sqlite3.Connection, revision: Revision) -> bool:
    """One commit: delete some of what `revision` makes superfluous. True: there may be more.

    It follows the rows that were added since the last compaction: each makes the older rows of its key superfluous. The cost is
    that of the changes, not that of the store.
    """
    top = (revision + 1) << SHIFT
    db.execute("BEGIN IMMEDIATE")
    reached = _follow(db, int(meta(db, "swept")), top)
    swept = reached or top - 1
    db.execute("UPDATE meta SET value = max(value, ?) WHERE name = 'swept'", (swept,))
    db.execute("COMMIT")
    faults.at("store.compact.after_sweep")
    return bool(reached)


def sweep_of(db: sqlite3.Connection, owner: str, after: int, revision: Revision) -> int:
    """One commit: likewise, of one owner's keys, following its rows after the id `after`. The id that it came to; 0: there are no more.

    How far it came is not kept: what is left after a crash goes with the history of all.
    """
    top = (revision + 1) << SHIFT
    db.execute("BEGIN IMMEDIATE")
    reached = _follow(db, max(after, int(meta(db, "swept"))), top, "AND key > ? AND key < ?", owner + "/", owner + "0")
    db.execute("COMMIT")
    faults.at("store.compact.after_sweep")
    return reached


def _follow(db: sqlite3.Connection, after: int, top: int, where: str = "", *bounds: str) -> int:
    """The id of the last row that was followed; 0: it was the last there is."""
    rows = db.execute(
        f"SELECT id, key, value IS NULL, ifnull(length(value), 0) FROM history NOT INDEXED WHERE id > ? AND id < ? {where} ORDER BY id LIMIT ?",
        (after, top, *bounds, _COMPACT_STEP),
    ).fetchall()
    size, many = 0, 0
    while many < len(rows) and (size < _COMPACT_BYTES):
        size += rows[many][3]
        many += 1
    followed = rows[:many]
    db.executemany("DELETE FROM history WHERE key = ? AND id < ?", [(key, id) for id, key, _, _ in followed])
    db.executemany("DELETE FROM history WHERE id = ?", [(id,) for id, _, deleted, _ in followed if deleted])
    return int(followed[-1][0]) if many < len(rows) or len(rows) == _COMPACT_STEP else 0


class HistoryView:
    """The newest values below a row id, as the connection's open transaction sees them."""

    def __init__(self, db: sqlite3.Connection, values: Values, below: int = (1 << 63) - 1) -> None:
        self._db = db
        self._sealing = values
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
            for row in self._newest_of(self._values, ", ".join(f"h.{name}" for name in COLUMNS.split(", "))):
                self._values[row[1]] = key_value(row, self._sealing)

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
            f"SELECT {COLUMNS} FROM history WHERE key = ? AND id < ? ORDER BY id DESC LIMIT 1", (key, self._below)
        ).fetchone()
        return key_value(row, self._sealing) if row and row[2] is not None else None

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
            f"SELECT {COLUMNS} FROM history WHERE id IN (SELECT max(id) FROM history "
            "WHERE key >= ? AND key < ? AND id < ? GROUP BY key) AND value IS NOT NULL ORDER BY key",
            (key, end, self._below),
        )
        return [key_value(row, self._sealing) for row in rows]

    def owned(self, lease: int) -> Sequence[Delete]:
        """What the lease owns, as much as one transaction takes."""
        rows = self._db.execute(
            "SELECT key FROM history AS h WHERE lease = ? AND value IS NOT NULL "
            "AND id = (SELECT max(id) FROM history WHERE key = h.key) LIMIT ?",
            (lease, MAX_OPS),
        )
        return [Delete(key) for (key,) in rows]


@contextlib.contextmanager
def snapshot(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Several statements see one state."""
    db.execute("BEGIN")
    try:
        yield db
    finally:
        db.execute("ROLLBACK")


def rows(changes: Sequence[Change], values: Values) -> Iterator[HistoryRow]:
    """The rows of one transaction's changes, in order."""
    for n, c in enumerate(changes):
        id = (c.revision << SHIFT) | n
        value = values.seal(id, c.key, c.value) if c.kind is ChangeKind.PUT else None
        yield id, c.key, value, c.create_revision, c.version, c.lease


def key_value(row: HistoryRow, values: Values) -> KeyValue:
    """A row that is no delete. Raises NotAuthentic, as all that read values."""
    id, key, value, create, version, lease = row
    assert value is not None
    return KeyValue(key, values.open(id, key, value), Revision(create), Revision(id >> SHIFT), version, lease)


def change(row: HistoryRow, values: Values) -> Change:
    """A row as watches deliver it."""
    id, key, value, create, version, lease = row
    revision = Revision(id >> SHIFT)
    if value is None:
        return Change(ChangeKind.DELETE, key, b"", revision)
    return Change(ChangeKind.PUT, key, values.open(id, key, value), revision, Revision(create), version, lease)
