"""A store that changes to other keys, or to none: rewritten into a new file, before any other part of the process has it open.

Each value is opened with the key that it has and sealed with the new one, row ids and revisions stay; the new file takes the old one's name
when it is whole. Nothing that was plain is in the new file, its log or its free pages; the blocks of the old file and its log are overwritten.

A value whose key is not there waits in the table `unreadable`, and does not exist as long as it is there; a later start that has the key
brings it back, unless its key was written meanwhile.

Lives elsewhere: what a sealed value looks like (sealing.py).
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from kubeedge import faults
from kubeedge.errors import Unavailable
from kubeedge.store.sealing import (
    OVERHEAD,
    Key,
    Keyring,
    NotAuthentic,
    Plain,
    Sealed,
    Sealing,
    Values,
    key_id,
)
from kubeedge.store.sealing_status import SealingStatus
from kubeedge.store.sqlite_file import (
    SCHEMA_PLAIN,
    SCHEMA_SEALED,
    CorruptStore,
    SqliteSettings,
    companions,
    connect,
    make_tables,
    read_revision,
    set_meta,
    sync_directory,
    take_name,
    translated,
)

log = logging.getLogger("kubeedge.store")

_ROW = "id, key, value, create_revision, version, lease"
_INSERT = "INSERT INTO {} VALUES (?, ?, ?, ?, ?, ?)"
_UNREADABLE = """
    CREATE TABLE unreadable (
        id INTEGER PRIMARY KEY, key TEXT NOT NULL, value BLOB NOT NULL,
        create_revision INTEGER NOT NULL, version INTEGER NOT NULL, lease INTEGER NOT NULL
    )
"""
_NEWEST_UNREADABLE = "FROM unreadable AS u WHERE id = (SELECT max(id) FROM unreadable WHERE key = u.key) ORDER BY id"
_BLOCK = 256 * 1024  # bytes overwritten at once


def current(db: sqlite3.Connection) -> Sealing | None:
    """What the file says of itself; None: nothing in it is sealed. Raises sqlite3.DatabaseError."""
    row = db.execute("SELECT value FROM meta WHERE name = 'sealing'").fetchone()
    if row is None:
        return None
    try:
        return Sealing.parse(row[0])
    except (ValueError, TypeError, RecursionError) as exc:
        raise sqlite3.DatabaseError("no sealing that can be read in the table meta") from exc


def choose(keyring: Keyring, now: Sealing | None, *, exists: bool) -> tuple[Sealing | None, Values]:
    """How a store is to be from here on. One that is plain stays so without a key: its values would be lost with this process."""
    if not keyring.enabled or (not keyring.keys and exists and now is None):
        return None, Plain()
    key = keyring.keys[0] if keyring.keys else keyring.fallback
    resources = keyring.resources if keyring.keys or now is None else now.resources
    return Sealing(key.id.hex(), resources), Sealed(key, resources)


def unreadable(db: sqlite3.Connection) -> list[bytes]:
    """The key id of each value whose key is missing."""
    if not db.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'unreadable'").fetchone():
        return []
    return [key_id(head) for (head,) in db.execute(f"SELECT substr(value, 1, {OVERHEAD}) {_NEWEST_UNREADABLE}")]


def prepare(path: Path, db: sqlite3.Connection, settings: SqliteSettings) -> tuple[Values, SealingStatus]:
    """Bring a file, whose only connection `db` is, to the configuration. It is closed when the file was rewritten.

    Raises CorruptStore for values that were changed, Unavailable where a key is `required` and missing; the file is then as it was.
    """
    scrub_leftovers(path)
    keyring = settings.keyring
    now = current(db)
    require(keyring, now, path)
    wanted, values = choose(keyring, now, exists=True)
    waiting = unreadable(db)
    problem = keyring.problem
    rewrite = now != wanted or any(keyring.find(id) for id in waiting)
    if rewrite:
        try:
            with translated(path), _Scrubbing(path):
                db.close()
                waiting = _rewrite(path, settings, now, wanted, values)
        except CorruptStore:
            raise
        except Unavailable as exc:  # a full disk: it goes on as it is, if that can be
            before = keyring.find(bytes.fromhex(now.key)) if now else None
            if keyring.required or (now and before is None):
                raise
            problem = f"the store could not be rewritten: {exc}"
            wanted, values = now, Sealed(before, now.resources) if now and before else Plain()
            log.error("%s", problem)
    elif isinstance(values, Sealed):
        _verify(db, values)
    return values, SealingStatus(
        enabled=keyring.enabled,
        key=wanted.key if wanted else "",
        lasting=bool(keyring.keys) and wanted is not None,
        unreadable=len(waiting),
        problem=problem,
        reopen=rewrite,
    )


def require(keyring: Keyring, now: Sealing | None, path: Path) -> None:
    """Raises Unavailable when the store must not be opened without a key that is missing."""
    if not keyring.required:
        return
    if keyring.enabled and not keyring.keys:
        raise Unavailable(f"no key to encrypt Secrets with: {keyring.problem}", where=str(path))
    if now is not None and keyring.find(bytes.fromhex(now.key)) is None:
        why = f": {keyring.problem}" if keyring.problem else ""
        raise Unavailable(
            f"its Secrets are encrypted with the key {now.key}, which is not configured{why}", where=str(path)
        )


def _verify(db: sqlite3.Connection, values: Sealed) -> None:
    """Every sealed value is authentic: SQLite's own check looks at pages and indexes."""
    for row in _covered(db, values):
        try:
            values.open(row[0], row[1], row[2])
        except NotAuthentic as exc:
            raise CorruptStore(str(exc)) from exc


def _covered(db: sqlite3.Connection, values: Sealed) -> Iterator[tuple[int, str, bytes]]:
    for id, key in db.execute("SELECT id, key FROM history INDEXED BY history_by_key"):
        if values.covers(key):
            (value,) = db.execute("SELECT value FROM history WHERE id = ?", (id,)).fetchone()
            if value is not None:
                yield id, key, value


def _rewrite(
    path: Path, settings: SqliteSettings, now: Sealing | None, wanted: Sealing | None, values: Values
) -> list[bytes]:
    """The ids of the keys that are still waited for, one for each value."""
    new = path.with_name(path.name + ".new")
    for leftover in (new, *companions(new)):
        leftover.unlink(missing_ok=True)
    os.close(os.open(new, os.O_CREAT | os.O_EXCL, 0o600))
    with contextlib.closing(connect(path, settings)) as source, contextlib.closing(connect(new, settings)) as target:
        target.execute("BEGIN IMMEDIATE")
        make_tables(target)
        target.execute(_UNREADABLE)
        _Rewriter(source, target, settings.keyring, now, values).run()
        for name, value in source.execute("SELECT name, value FROM meta WHERE name NOT IN ('sealing', 'schema')"):
            set_meta(target, name, value)
        set_meta(target, "revision", read_revision(source))  # the newest row may be one that is put away
        waiting = unreadable(target)
        if not waiting:
            target.execute("DROP TABLE unreadable")
        set_meta(target, "schema", SCHEMA_SEALED if waiting or wanted else SCHEMA_PLAIN)
        if wanted is not None:
            set_meta(target, "sealing", wanted.text())
        target.execute("COMMIT")
        if source.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[
            0
        ]:  # the old file must be whole without its log
            raise sqlite3.OperationalError("its log cannot be applied")
    faults.at("store.reseal.before_rename")
    take_name(new, path)
    faults.at("store.reseal.before_scrub")
    how = f"encrypted with the key {wanted.key}" if wanted else "not encrypted"
    log.info("%s was rewritten: Secrets in it are %s; values that wait for their key: %d", path, how, len(waiting))
    return waiting


class _Rewriter:
    """Rows from one file to another."""

    def __init__(
        self,
        source: sqlite3.Connection,
        target: sqlite3.Connection,
        keyring: Keyring,
        now: Sealing | None,
        values: Values,
    ) -> None:
        self._source, self._target = source, target
        self._keyring, self._now, self._values = keyring, now, values
        self._openers: dict[bytes, Sealed | None] = {}

    def run(self) -> None:
        """All of them. Raises NotAuthentic as CorruptStore."""
        try:
            self._target.executemany(_INSERT.format("history"), self._history())
            self._target.executemany(
                "INSERT INTO leases VALUES (?, ?)", self._source.execute("SELECT id, ttl FROM leases")
            )
            if unreadable(self._source):
                self._return_what_can_be_read()
        except NotAuthentic as exc:
            raise CorruptStore(str(exc)) from exc

    def _history(self) -> Iterator[tuple[object, ...]]:
        was = Sealed(Key(bytes(32)), self._now.resources) if self._now else None  # to know which are sealed
        with_key = self._opener(bytes.fromhex(self._now.key)) if self._now else None
        for row in self._source.execute(f"SELECT {_ROW} FROM history ORDER BY id"):
            id, key, value, *rest = row
            if value is not None:
                if was is not None and was.covers(key):
                    if with_key is None:
                        self._put_away(row)
                        continue
                    value = with_key.open(id, key, value)
                value = self._values.seal(id, key, value)
            yield (id, key, value, *rest)

    def _opener(self, id: bytes) -> Sealed | None:
        """What opens values of the key with that id, if it is there."""
        if id not in self._openers:
            key = self._keyring.find(id)
            self._openers[id] = Sealed(key, ("*",)) if key else None
        return self._openers[id]

    def _put_away(self, row: tuple[object, ...]) -> None:
        """Not what an ephemeral key sealed: that can never be read again."""
        stored = row[2]
        if isinstance(stored, bytes) and key_id(stored):
            self._target.execute(_INSERT.format("unreadable"), row)

    def _return_what_can_be_read(self) -> None:
        """The newest of each key, if nothing newer was written while it could not be read."""
        newest = f"SELECT {_ROW} FROM unreadable AS u WHERE id = (SELECT max(id) FROM unreadable WHERE key = u.key) ORDER BY id"
        for row in self._source.execute(newest):
            id, key, stored, *rest = row
            found = self._target.execute("SELECT max(id) FROM history WHERE key = ?", (key,)).fetchone()[0]
            if found is not None and found > id:
                continue
            if (opener := self._opener(key_id(stored))) is None:
                self._put_away(row)
                continue
            value = self._values.seal(id, key, opener.open(id, key, stored))
            self._target.execute(_INSERT.format("history"), (id, key, value, *rest))


# -- what the old file leaves ----------------------------------------------------------------------------------------------


class _Scrubbing:
    """Around a rewriting: when it has come to its end the blocks of the old file and its log are overwritten.

    Both get a second name first, so that a power cut does not leave them free and as they were.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: list[int] = []

    def __enter__(self) -> None:
        for file in _files(self._path):
            with contextlib.suppress(FileNotFoundError):
                self._held.append(os.open(file, os.O_RDWR | os.O_CLOEXEC))
                with contextlib.suppress(OSError):  # a file system without links
                    os.link(file, _second_name(file))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                for fd in self._held:
                    _overwrite(fd)
        finally:
            for fd in self._held:
                os.close(fd)
        for file in _files(self._path):
            _second_name(file).unlink(missing_ok=True)
        sync_directory(self._path.parent)


def _files(path: Path) -> tuple[Path, Path]:
    return path, companions(path)[0]


def _second_name(file: Path) -> Path:
    return file.with_name(file.name + ".scrub")


def scrub_leftovers(path: Path) -> None:
    """Of a rewriting that ended before its end: the old file, if it is another one than the store."""
    for file in _files(path):
        name = _second_name(file)
        if not name.exists():
            continue
        if (
            name.stat().st_nlink == 1
        ):  # with two it is the store itself: the new file did not come so far as to take its name
            fd = os.open(name, os.O_RDWR | os.O_CLOEXEC)
            try:
                _overwrite(fd)
            finally:
                os.close(fd)
        name.unlink()


def _overwrite(fd: int) -> None:
    """In place. Flash memory may write it elsewhere and keep the old block, which only a discard gets rid of."""
    status = os.fstat(fd)
    if status.st_nlink > 1:
        log.warning("an old file of the store is not overwritten: it has another name, by which somebody may keep it")
        return
    size = status.st_size
    for at in range(0, size, _BLOCK):
        os.pwrite(fd, bytes(min(_BLOCK, size - at)), at)
    os.fsync(fd)
