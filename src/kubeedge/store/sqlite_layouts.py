"""How the tables of a store's file are laid out, and what brings an older file to the layout of today. ADR 76.

The file says which layout it has, and the oldest one whose programs still read it; no row of `meta` says so in layout 1, the first one. A change that
older programs can read (a further table, a further index) is made at once. For any other one two rules hold:

* It waits while this machine's image is on trial: the image before it may come back, and finds a store that it reads, with everything that was
  acknowledged meanwhile. So a program works with the layout before its own, too.
* It gives other names to the tables whose rows it changes, so that an older program does not take them for its own, and is one transaction.

Before such a change the store is copied to PATH.layout-N, for whoever installs an older program on purpose.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path

from kubeedge import faults
from kubeedge.errors import Unavailable
from kubeedge.kit.dataclasses import dataclass
from kubeedge.store.sqlite_file import meta_number, set_meta

log = logging.getLogger("kubeedge.store")


@dataclass(frozen=True, slots=True)
class Migration:
    """From one layout to the next one, within an open transaction. `readable_by`: the oldest layout whose programs read the file afterwards."""

    layout: int
    readable_by: int
    apply: Callable[[sqlite3.Connection], None]


#: the newest last, whose layout is sqlite_file.LAYOUT; none yet. Every file begins in layout 1. The first one that changes the tables of sqlite_file.py
#: has reseal.py, which writes a file anew, know that
MIGRATIONS: tuple[Migration, ...] = ()


def migrate(path: Path, db: sqlite3.Connection, *, trial: bool) -> None:
    """Brings a file to the newest layout, as far as it may be. On a full disk it stays as it is, and is tried again at the next start.

    `trial`: the program before this one, which reads the layout that the file has now, may come back. Raises sqlite3.Error for a file that cannot
    be read.
    """
    found = meta_number(db, "layout", 1)
    for step in MIGRATIONS:
        if step.layout <= found:
            continue
        if step.readable_by > found and trial:
            log.info("%s stays in layout %d while this image is on trial", path.name, found)
            return
        try:
            if step.readable_by > found:
                _copy(path, found)
            _apply(db, step)
        except (OSError, sqlite3.OperationalError, Unavailable) as exc:
            log.error("%s stays in layout %d: %s", path.name, found, exc)
            return
        found = step.layout


def copies(path: Path) -> list[Path]:
    """What was kept of a store before its layout changed; the newest one last."""
    found = path.parent.glob(f"{path.name}.layout-*")
    return sorted((file for file in found if _number(file)), key=_number)


def _apply(db: sqlite3.Connection, step: Migration) -> None:
    db.execute("BEGIN IMMEDIATE")
    try:
        step.apply(db)
        set_meta(db, "layout", step.layout)
        set_meta(db, "readable_by", max(step.readable_by, meta_number(db, "readable_by", 1)))
        faults.at("store.migrate.before_commit")
        db.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise


def _copy(path: Path, layout: int) -> None:
    """One is kept: the last one."""
    from kubeedge.store import upkeep  # once in a layout's life

    target = path.with_name(f"{path.name}.layout-{layout}")
    upkeep.backup(path, target, replace=True)
    faults.at("store.migrate.after_copy")
    for older in copies(path):
        if older != target:
            older.unlink(missing_ok=True)


def _number(copy: Path) -> int:
    digits = copy.name.rpartition("-")[2]
    return int(digits) if digits.isdigit() else 0
