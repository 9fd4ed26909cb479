"""How much history each owner has written, and up to where it is to be compacted. Pure.

All history is compacted by revisions (SqliteSettings.keep_revisions); an owner who writes large values fills the file long before that. What
it has written beyond a limit is compacted for it alone: watches and lists of others still find theirs.

Bytes are counted as they are written, in two halves: when the newer one is full, the older one goes. So an owner has between a half
and the whole of the limit in history, and what is live besides.

Lives elsewhere: rows (sqlite_history.py), when they are deleted (sqlite.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kubeedge.api import keys
from kubeedge.api.names import Revision
from kubeedge.store.model import Change


class HistoryShares:
    """`limit` in bytes of keys and values, for each owner (keys.owner); `floors` are what was compacted for one alone before."""

    def __init__(self, limit: int, current: Revision, floors: Mapping[str, Revision]) -> None:
        self._half = max(1, limit // 2)
        self._from = current
        self._written: dict[str, int] = {}  # bytes of the newer half
        self._marks: dict[str, Revision] = {}  # where it begins
        self._floors = dict(floors)

    def committed(self, changes: Sequence[Change], revision: Revision) -> Mapping[str, Revision]:
        """Owner -> the revision up to which its history is to go now."""
        due: dict[str, Revision] = {}
        for change in changes:
            owner = keys.owner(change.key)
            written = self._written.get(owner, 0) + len(change.key) + len(change.value)
            if written >= self._half:
                due[owner] = self._marks.get(owner, self._from)
                self._marks[owner] = revision
                written = 0
            self._written[owner] = written
        return due

    def compacted(self, owner: str, revision: Revision) -> Revision:
        """Readers of older revisions are refused from now on; the floor before, 0 for none."""
        before = self._floors.get(owner, Revision(0))
        self._floors[owner] = max(before, revision)
        return before

    def all_compacted(self, revision: Revision) -> None:
        """What was compacted for one owner alone is nothing special any more."""
        self._floors = {owner: floor for owner, floor in self._floors.items() if floor > revision}

    def floor(self, key: str, end: str = "") -> Revision:
        """The oldest revision at which all keys from `key` up to `end` ("": that one) can be read, as far as owners go; 0: any."""
        top = end or key + "\0"
        floors = (floor for owner, floor in self._floors.items() if key < owner + "0" and owner + "/" < top)
        return max(floors, default=Revision(0))
