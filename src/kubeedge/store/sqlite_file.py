"""The SQLite file of a store: made, locked, examined, set aside; and what SQLite's errors mean.

Lives elsewhere: what goes into it (sqlite.py).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, TextIO

from kubeedge.api.names import Revision
from kubeedge.errors import KubeEdgeError, Unavailable
from kubeedge.kit.dataclasses import dataclass
from kubeedge.store.core import FIRST_REVISION
from kubeedge.store.sealing import Keyring, NotAuthentic, Plain, Sealing, Values

LAYOUT = 1  # of the tables: the newest that this version reads; sqlite_layouts.py brings files to it
SCHEMA_PLAIN = 1
SCHEMA_SEALED = 2  # an agent that knows no sealed values must not take them for objects
_SCHEMA = """
    CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
    CREATE TABLE history (
        id INTEGER PRIMARY KEY,          -- revision << 20 | n
        key TEXT NOT NULL,
        value BLOB,                      -- NULL: deleted
        create_revision INTEGER NOT NULL,
        version INTEGER NOT NULL,
        lease INTEGER NOT NULL
    );
    CREATE UNIQUE INDEX history_by_key ON history (key, id);
    CREATE INDEX history_by_lease ON history (lease) WHERE lease != 0;
    CREATE TABLE leases (id INTEGER PRIMARY KEY, ttl REAL NOT NULL);
"""
_COLUMNS = (
    "id, key, value, create_revision, version, lease FROM history",
    "id, ttl FROM leases",
    "name, value FROM meta",
)
SHIFT = 20


class CorruptStore(Unavailable):
    """The file is truncated, corrupt, or not a store."""


class NewerStore(CorruptStore):
    """The file was written by a newer version, and this one does not read it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteSettings:
    """How much memory and history a store may have."""

    cache_bytes: int = 512 * 1024  # page cache of each of the two connections; a 128 MB machine pays for it
    keep_revisions: int = (
        10_000  # history kept by automatic compaction: how far a node may be behind without a snapshot
    )
    history_bytes: int = (
        64 * 1024 * 1024
    )  # of one owner, written since its last compaction: beyond, its older half goes sooner
    compact_every: int = 2_000  # revisions between two automatic compactions; each costs a few commits
    keyring: Keyring = Keyring()  # what is encrypted in the file, and with which keys
    trial: bool = False  # the program before this one may come back, and must be able to read the file


def set_aside(path: Path, *, why: Literal["corrupt", "newer", "replaced"]) -> Path:
    """A second name for a store's file, which keeps its own until another file gets that: after a power cut in between, the next start must
    not find no file and make an empty store. Returns `PATH.WHY-N`."""
    n = 1
    while (target := path.with_name(f"{path.name}.{why}-{n}")).exists():
        n += 1
    try:
        os.link(path, target)
    except OSError:  # a file system without links
        path.rename(target)
    for companion, aside in zip(companions(path), companions(target), strict=True):
        with contextlib.suppress(FileNotFoundError):
            companion.rename(aside)
    return target


def connect(path: Path, settings: SqliteSettings) -> sqlite3.Connection:
    """A connection in WAL mode whose commits are synced. Raises sqlite3.Error."""
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA cache_size = -{settings.cache_bytes // 1024}")
        db.execute("PRAGMA temp_store = MEMORY")
    except BaseException:
        db.close()
        raise
    return db


def lock_of(path: Path) -> Path:
    """The file that a process locks for as long as it has the store open."""
    return path.with_name(path.name + ".lock")


def locked(path: Path) -> TextIO:
    """The lock of one process on the store; it ends with the process."""
    with translated(lock_of(path)):
        lock = open(lock_of(path), "a", opener=lambda name, flags: os.open(name, flags, 0o600))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise Unavailable("in use by another process", retry_after=1.0, where=str(path)) from None
    return lock


def create(
    path: Path,
    settings: SqliteSettings,
    values: Mapping[str, bytes] | None = None,
    revision: int = 0,
    *,
    sealing: Sealing | None = None,
    sealer: Values | None = None,
) -> None:
    """A store that is complete before it has its name: empty, or with these values, all written at the revision after that one."""
    sealer = sealer or Plain()
    new = path.with_name(path.name + ".new")
    for leftover in (new, *companions(new), *companions(path)):  # a log without its file would be applied to ours
        leftover.unlink(missing_ok=True)
    os.close(os.open(new, os.O_CREAT | os.O_EXCL, 0o600))  # it will hold Secrets
    with contextlib.closing(connect(new, settings)) as db:
        db.execute("BEGIN IMMEDIATE")
        make_tables(db)
        rows: Sequence[tuple[str, str | int]] = (
            ("schema", SCHEMA_SEALED if sealing else SCHEMA_PLAIN),
            ("store_id", secrets.token_hex(16)),
            ("compacted", 0),
            ("swept", 0),  # ids up to here were followed by a compaction
            ("revision", max(FIRST_REVISION, revision + 1)),
            *((("sealing", sealing.text()),) if sealing else ()),
        )
        numbered = enumerate((values or {}).items(), revision + 1 << SHIFT)
        history = ((id, key, sealer.seal(id, key, value), revision + 1, 1, 0) for id, (key, value) in numbered)
        db.executemany("INSERT INTO history VALUES (?, ?, ?, ?, ?, ?)", history)
        db.executemany("INSERT INTO meta VALUES (?, ?)", rows)
        db.execute("COMMIT")
    take_name(new, path)


def make_tables(db: sqlite3.Connection) -> None:
    """Creates the schema in an empty database. Raises sqlite3.Error."""
    for statement in _SCHEMA.split(";"):
        if statement.strip():
            db.execute(statement)


def take_name(new: Path, path: Path) -> None:
    """A file that is whole becomes the store, durably."""
    os.rename(new, path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """What was renamed or removed in it is so after a power cut."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def companions(path: Path) -> tuple[Path, Path]:
    """What SQLite keeps beside it in WAL mode; both have of what is in it."""
    return path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")


def check_header(path: Path) -> None:
    """Before SQLite touches it: it would make an empty file a new database, and another database one in WAL mode."""
    with path.open("rb") as file:
        head = file.read(20)
    if head[:16] != b"SQLite format 3\0" or head[18:20] != b"\2\2":  # read and write version: 2 is WAL
        raise CorruptStore("not a store, or cut short", where=str(path))


def examine(db: sqlite3.Connection, path: Path) -> str:
    """Is it whole, is it ours; the store's identity.

    The whole check: the quick one does not compare indexes with their rows, and a bit that flips in a key would go unnoticed.
    """
    result = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if result != "ok":
        raise CorruptStore(result, where=str(path))
    if (least := meta_number(db, "readable_by", 1)) > LAYOUT:
        raise NewerStore(f"written by a newer version: layout {least} instead of {LAYOUT}", where=str(path))
    for columns in _COLUMNS:  # names of columns are bytes of the file, too
        db.execute(f"SELECT {columns} LIMIT 0")
    if int(meta(db, "schema")) not in (SCHEMA_PLAIN, SCHEMA_SEALED):
        raise CorruptStore(f"schema {meta(db, 'schema')} instead of {SCHEMA_SEALED}", where=str(path))
    return str(meta(db, "store_id"))


def meta(db: sqlite3.Connection, name: str) -> str | int:
    """A value of the table meta. Raises sqlite3.DatabaseError when it is missing."""
    row = db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise sqlite3.DatabaseError(f"no {name} in the table meta")
    value: str | int = row[0]
    return value


def meta_number(db: sqlite3.Connection, name: str, default: int) -> int:
    """A number of the table meta, which files of older layouts do not have. Raises sqlite3.DatabaseError for what is none."""
    row = db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    if row is None:
        return default
    if not isinstance(row[0], int):
        raise sqlite3.DatabaseError(f"no {name} that is a number in the table meta")
    return row[0]


def set_meta(db: sqlite3.Connection, name: str, value: str | int) -> None:
    """Set a value of the meta table, within the open transaction."""
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))


def read_revision(db: sqlite3.Connection) -> Revision:
    """The newest revision in the file."""
    newest = db.execute("SELECT max(id) FROM history").fetchone()[0] or 0
    return Revision(max(newest >> SHIFT, int(meta(db, "revision"))))


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Errors of SQLite and of files as ours (see `translate`)."""
    try:
        yield
    except (sqlite3.Error, OSError, OverflowError, ValueError) as exc:
        raise translate(exc, path) from exc


def translate(exc: BaseException, path: Path) -> KubeEdgeError:
    """SQLite's errors as ours: a full disk may have room later, a corrupt file needs care."""
    if isinstance(exc, KubeEdgeError):
        return exc
    text = (isinstance(exc, OSError) and exc.strerror) or str(exc)  # the text of an OSError names its file
    if isinstance(exc, UnicodeDecodeError | NotAuthentic):  # a key or value that no writer has written
        error: KubeEdgeError = CorruptStore(text, where=str(path))
    elif isinstance(exc, sqlite3.DatabaseError) and any(
        w in text
        for w in ("malformed", "not a database", "no such table", "no such column", "in the table meta", "disk image")
    ):
        error = CorruptStore(text, where=str(path))
    else:
        error = Unavailable(text, retry_after=1.0, where=str(path))
    error.__cause__ = exc
    return error
