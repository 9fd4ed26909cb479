"""Care for the SQLite file of a store, from outside of the process that uses it: check, backup, restore, figures.

check, backup and stats may be used while the process runs: readers do not stop SQLite's writer in WAL mode. restore takes the store's lock.

A restored store is a history of its own: it has a new identity, its revision is far above any that was handed out before (the distance that
etcd's `--bump-revision` recommends), and everything before is compacted. So no reader continues a history that did not happen: the other
side of sync compares both stores again, and watches of clients list again.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from kubeedge import faults
from kubeedge.api import keys
from kubeedge.errors import Invalid, NotFound, Unavailable
from kubeedge.kit.dataclasses import dataclass
from kubeedge.store import reseal
from kubeedge.store.sealing import Sealing
from kubeedge.store.sqlite_file import (
    SHIFT,
    CorruptStore,
    SqliteSettings,
    check_header,
    companions,
    connect,
    examine,
    lock_of,
    locked,
    meta,
    read_revision,
    set_aside,
    sync_directory,
    translated,
)

BUMP = 1_000_000_000  # revisions; a store that makes 1,000 a second needs 11 days for as many
_MAX_FINDINGS = 20
_LIVE = "value IS NOT NULL AND id = (SELECT max(id) FROM history WHERE key = h.key)"
_SIDES = {"cloud": (keys.TENANTS,), "edge": (keys.DESIRED, keys.REPORTED, keys.SYNC_DOWN)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Figures of a store, for `kubeedge store status`."""

    store_id: str
    revision: int
    compacted: int
    keys: int  # live
    history: int  # rows, live and old
    value_bytes: int  # of live keys
    file_bytes: int
    log_bytes: int  # of the write-ahead log
    free_bytes: int  # inside of the file, for new rows
    leases: int
    prefixes: Mapping[str, int]  # first two elements of the key -> live keys


def check(path: Path) -> Sequence[str]:
    """What is wrong with the file, in words; nothing when it is whole. Raises NotFound, Unavailable (it cannot be read)."""
    _must_exist(path)
    try:
        with _reading(path) as db:
            found = [str(row[0]) for row in db.execute(f"PRAGMA integrity_check({_MAX_FINDINGS})")]
            if found != ["ok"]:
                return found
            return [*_disagreements(db)]
    except CorruptStore as exc:
        return [str(exc)]


def _disagreements(db: sqlite3.Connection) -> Iterator[str]:
    """What SQLite cannot know: the rules of our rows."""
    revision, compacted = read_revision(db), int(meta(db, "compacted"))
    if compacted > revision:
        yield f"it is compacted up to revision {compacted}, above its newest, {revision}"
    for what, where in (
        ("rows of revision 0", f"id < {1 << SHIFT}"),
        ("live rows without a version", "value IS NOT NULL AND version < 1"),
        ("rows older than their key", f"value IS NOT NULL AND create_revision > (id >> {SHIFT})"),
        ("rows that name no key", "key = ''"),
    ):
        count = db.execute(f"SELECT count(*) FROM history WHERE {where}").fetchone()[0]
        if count:
            yield f"{count} {what}"


def side(path: Path) -> str:
    """Whose store it is by its keys: "cloud", "edge", or "" when it has none that tells. Raises NotFound, CorruptStore, Unavailable."""
    _must_exist(path)
    with _reading(path) as db:
        for name, prefixes in _SIDES.items():
            for prefix in prefixes:
                if db.execute(
                    "SELECT 1 FROM history WHERE key >= ? AND key < ? LIMIT 1", (prefix, keys.prefix_end(prefix))
                ).fetchone():
                    return name
    return ""


def values(path: Path, wanted: Callable[[str], bool]) -> Mapping[str, bytes]:
    """The live keys that are wanted, with their values as they are in the file: those of Secrets may be sealed. Raises as `side`."""
    _must_exist(path)
    with _reading(path) as db:
        rows = db.execute(f"SELECT key, value FROM history AS h WHERE {_LIVE}")
        return {key: bytes(value) for key, value in rows if wanted(key)}


def sealing(path: Path) -> tuple[Sealing | None, frozenset[str]]:
    """How its Secrets are encrypted (None: they are not), and the ids of all keys that it needs. Raises NotFound, CorruptStore, Unavailable."""
    _must_exist(path)
    with _reading(path) as db:
        found = reseal.current(db)
        needed = {id.hex() for id in reseal.unreadable(db)} | ({found.key} if found else set())
        return found, frozenset(needed)


def copies(path: Path) -> Sequence[Path]:
    """Stores that were set aside next to it, and may hold Secrets as they were then."""
    return sorted(
        file
        for kind in ("corrupt", "newer", "replaced", "layout")
        for file in path.parent.glob(f"{path.name}.{kind}-*")
    )


def backup(path: Path, target: Path, *, replace: bool = False) -> int:
    """A whole copy, as of one moment, mode 0600; its bytes. Raises Invalid when `target` exists or is the store, CorruptStore."""
    _must_exist(path)
    if target.resolve() in {file.resolve() for file in (path, *companions(path), lock_of(path))}:
        raise Invalid(f"{target} belongs to the store itself: the process that uses it would go on with a deleted file")
    if target.exists() and not replace:
        raise Invalid(f"{target} exists: name another file, or use --force")
    with _reading(path) as db:
        _copy(db, target, lambda copy: None)
    return target.stat().st_size


def restore(source: Path, path: Path) -> Path | None:
    """Replace a store that no process uses with a backup; returns where the old one is now.

    Raises NotFound, CorruptStore (the backup), Unavailable (the store is in use).
    """
    _must_exist(source)
    if findings := check(source):
        raise CorruptStore(f"{source} is not a complete backup: {findings[0]}")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with contextlib.closing(locked(path)), _reading(source) as db:
        new = path.with_name(path.name + ".restored")
        _copy(db, new, _begin_history)
        old = _aside(path) if path.exists() else None
        for companion in companions(path):  # a log without its file would be applied to ours
            companion.unlink(missing_ok=True)
        sync_directory(path.parent)
        faults.at("store.restore.before_rename")
        os.rename(new, path)
        sync_directory(path.parent)
        return old


def _begin_history(db: sqlite3.Connection) -> None:
    revision = read_revision(db) + BUMP
    db.execute("BEGIN IMMEDIATE")
    for name, value in (("store_id", secrets.token_hex(16)), ("revision", revision), ("compacted", revision)):
        db.execute("UPDATE meta SET value = ? WHERE name = ?", (value, name))
    db.execute("COMMIT")


def stats(path: Path) -> Stats:
    """Read without writing. Raises NotFound, Unavailable."""
    _must_exist(path)
    with _reading(path) as db:
        prefixes: dict[str, int] = {}
        count = size = 0
        for key, length in db.execute(f"SELECT key, length(value) FROM history AS h WHERE {_LIVE}"):
            count, size = count + 1, size + length
            name = "/".join(key.split("/")[:3])
            if name in prefixes or len(prefixes) < 100:
                prefixes[name] = prefixes.get(name, 0) + 1
        (page,) = db.execute("PRAGMA page_size").fetchone()
        (free,) = db.execute("PRAGMA freelist_count").fetchone()
        (history,) = db.execute("SELECT count(*) FROM history").fetchone()
        (leases,) = db.execute("SELECT count(*) FROM leases").fetchone()
        log = companions(path)[0]
        return Stats(
            store_id=str(meta(db, "store_id")), revision=read_revision(db), compacted=int(meta(db, "compacted")),
            keys=count, history=history, value_bytes=size, file_bytes=path.stat().st_size,
            log_bytes=log.stat().st_size if log.exists() else 0, free_bytes=page * free, leases=leases,
            prefixes=dict(sorted(prefixes.items())),
        )  # fmt: skip


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that only reads, to a store that was checked. Raises CorruptStore or Unavailable."""
    with translated(path):
        check_header(path)
        with contextlib.closing(_open(path)) as db:
            db.execute("PRAGMA query_only = 1")
            examine(db, path)
            yield db


def _open(path: Path) -> sqlite3.Connection:
    """Of a file system that the kernel has made read-only, too, when there is no log that would have to be applied: it is then that
    a backup is wanted."""
    try:
        return connect(path, SqliteSettings())
    except sqlite3.OperationalError:
        log = companions(path)[0]
        if not os.statvfs(path).f_flag & os.ST_RDONLY or (log.exists() and log.stat().st_size):
            raise
        return sqlite3.connect(f"{path.resolve().as_uri()}?immutable=1", uri=True, isolation_level=None)


def _copy(db: sqlite3.Connection, target: Path, change: Callable[[sqlite3.Connection], None]) -> None:
    """Under another name until it is whole and durable."""
    new = target.with_name(f".{target.name}.part")
    for leftover in (new, *companions(new)):
        leftover.unlink(missing_ok=True)
    with translated(target):
        os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))  # it holds Secrets
        try:
            with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as copy:
                db.backup(copy)
                change(copy)
                copy.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            _sync(new)
            os.rename(new, target)
            sync_directory(target.parent)
        finally:
            for leftover in (new, *companions(new)):
                leftover.unlink(missing_ok=True)


def _aside(path: Path) -> Path:
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path)) as db:
        # so that it is whole without its log; a corrupt one stays as it is
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return set_aside(path, why="replaced")


def _must_exist(path: Path) -> None:
    try:
        if not path.is_file():
            raise NotFound(f"there is no store at {path}")
    except PermissionError as exc:
        raise Unavailable(f"{path} may be read by root only") from exc


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
