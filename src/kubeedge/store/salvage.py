"""What can still be read of a corrupt SQLite store, for the one that replaces it.

A page that cannot be read takes the rows on it; the rows before and behind it are there. The table is read from both ends, and not by its
indexes, which may be what is corrupt. Of each key the newest row counts that can be read: an older value than the last one is possible,
and so is a key that had been deleted. So it is for stores whose loss would be worse, and whose other end knows better as soon as
it can be asked: an edge that is offline goes on with its pods.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

from kubeedge.kit.dataclasses import dataclass, field
from kubeedge.store.model import MAX_KEY, MAX_VALUE
from kubeedge.store.sealing import OVERHEAD, Keyring, NotAuthentic, Sealed, key_id
from kubeedge.store.sqlite_file import SHIFT

log = logging.getLogger("kubeedge.store")

_SQL = "SELECT id, key, value FROM history NOT INDEXED ORDER BY id"


@dataclass(slots=True)
class Salvage:
    """What could be read of a corrupt store."""

    values: dict[str, bytes] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)  # keys of which the newest row says so
    revision: int = 0  # the highest that was seen; a store that counts on from it gives out no number twice

    def add(self, older: Salvage) -> None:
        """What an older copy has, and this one has not."""
        more = {key: value for key, value in older.values.items() if key not in self.deleted}
        self.values = {**more, **self.values}
        self.deleted |= older.deleted - self.values.keys()
        self.revision = max(self.revision, older.revision)


def salvage(path: Path, wanted: Callable[[str, bytes], bool], keyring: Keyring | None = None) -> Salvage:
    """Read the keys that `wanted` chooses from a corrupt file, which stays as it is. Never raises: what cannot be read, or opened with the keys, is not there."""
    found = Salvage()
    newest: dict[str, tuple[int, bytes | None]] = {}
    copy = path.with_name(f"{path.name}.reading")
    files = [(path.with_name(path.name + end), copy.with_name(copy.name + end)) for end in ("", "-wal")]
    try:
        for old, new in files:
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(old, new)
        for order in ("ASC", "DESC"):
            with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(copy)) as db:
                db.text_factory = bytes
                for row in db.execute(f"{_SQL} {order}"):
                    _keep(row, newest, found)
    except OSError as exc:
        log.warning("nothing of %s could be salvaged: %s", path, exc)
    finally:
        for leftover in (*(new for _, new in files), copy.with_name(copy.name + "-shm")):
            leftover.unlink(missing_ok=True)
    for key, (id, stored) in sorted(newest.items()):
        if stored is None:
            found.deleted.add(key)
        else:
            value = _opened(id, key, stored, keyring)
            if wanted(key, value):
                found.values[key] = value
    return found


def _opened(id: int, key: str, stored: bytes, keyring: Keyring | None) -> bytes:
    """Without trust in what the file says of itself: as it is, unless it names one of our keys and is authentic."""
    if keyring is None or (found := keyring.find(key_id(stored))) is None:
        return stored
    try:
        return Sealed(found, ("*",)).open(id, key, stored)
    except NotAuthentic:
        return stored


def _keep(row: tuple[object, ...], newest: dict[str, tuple[int, bytes | None]], found: Salvage) -> None:
    id, name, value = row
    if not isinstance(id, int) or not isinstance(name, bytes) or not isinstance(value, bytes | None):
        return
    if not 0 < len(name) <= MAX_KEY or len(value or b"") > MAX_VALUE + OVERHEAD or b"\0" in name:
        return
    try:
        key = name.decode()
    except UnicodeDecodeError:
        return
    if 0 < id >> SHIFT < 1 << 42:
        found.revision = max(found.revision, id >> SHIFT)
    if key not in newest or newest[key][0] < id:
        newest[key] = (id, value)
