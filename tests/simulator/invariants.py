"""What must hold at every commit, and at the end.

At every commit of a sink:  what it holds of each key is what the source held at some moment not before the sink's LSR (the LSR
                            is never ahead of the data); the values of a key appear in the order in which they were written, each once.
At the end, when everything works again: both stores agree in both directions; each acknowledged write is there or was overwritten
                            by a later one; what a lease owned is gone with it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from kubeedge.api.names import Revision
from kubeedge.store.model import Change, ChangeKind, KeyValue
from tests.simulator.disks import Disk


class Violation(AssertionError):
    pass


@dataclass(slots=True)
class Direction:
    """From one prefix of a source to one of a sink, with what the checks remember."""

    name: str
    source: Disk
    prefix: str
    sink: Disk
    sink_prefix: str
    lsr_key: str
    acknowledged: dict[str, tuple[Revision, bytes | None]] = field(default_factory=dict)
    position: dict[str, int] = field(default_factory=dict)  # key -> how far in its log the sink has come
    checked: tuple[str, Revision] = ("", Revision(0))  # history and LSR at which every key was last found right
    enforced: bool = True  # False: another process writes for the same source too, and only the end must be right
    stale: Revision | None = None  # the LSR that was written then names a past that the source no longer has

    def check_commit(self, changes: Sequence[Change], former: Callable[[str, bytes], bool]) -> None:
        """After a commit at the sink. `former`: did some source ever have that value? What it had sent may still arrive."""
        if not self.enforced:
            return
        touched: set[str] = set()
        lsr = False
        start = len(self.sink_prefix)
        for change in changes:
            if not change.key.startswith(self.sink_prefix):
                lsr = lsr or change.key == self.lsr_key
                continue
            key = change.key[start:]
            touched.add(key)
            value = change.value if change.kind is ChangeKind.PUT else None
            log, at = self.source.log.get(self.prefix + key, ()), self.position.get(key, -1)
            if self.sink.rotten.pop(change.key, None):
                at -= 1  # it may become once more what it was
            # before the first value there was none: position 0
            later = (
                0
                if at < 0 and value is None
                else next((n for n in range(max(at, 0), len(log)) if log[n] == value), -1) + 1
            )
            if later or (at < 0 and value is None):
                self.position[key] = later
            elif value is not None and (value in log or not former(self.prefix + key, value)):
                raise Violation(f"{self.name}: {key} became {value[:20]!r} twice, out of order, or out of nothing")
        if touched or lsr:
            self._check_lsr(touched)

    def _check_lsr(self, touched: set[str]) -> None:
        """Every key is at the sink as it was at the LSR, or newer. Looked at are those that the sink has just touched, and those that
        changed at the source between the LSR that was checked last and this one: for the others neither side of the question moved."""
        record = self.sink.data.newest(self.lsr_key)
        if record is None or record.mod_revision == self.stale or self.sink.is_rotten(record):
            return
        self.stale = None
        store_id, revision = json.loads(record.value)
        source = self.source.data
        if store_id != source.store_id or revision < source.compacted:
            return
        if revision > source.revision:
            raise Violation(f"{self.name}: the LSR {revision} is ahead of its source at {source.revision}")
        history, since = self.checked
        suspects: Iterable[str]
        if history == store_id and source.compacted <= since <= revision:
            suspects = touched.union(
                c.key[len(self.prefix) :] for c in source.between(since, revision) if c.key.startswith(self.prefix)
            )
        else:
            past = (key[len(self.prefix) :] for key in source.past(self.prefix))
            suspects = {*self.sink.live(self.sink_prefix), *past}
        self.checked = (store_id, revision)
        for key in suspects:
            self._check_key(key, revision)

    def _check_key(self, key: str, revision: Revision) -> None:
        kv = self.sink.data.newest(self.sink_prefix + key)
        have = kv.value if kv else None
        allowed: list[bytes | None] = []
        then: bytes | None = None
        for change in self.source.data.history(self.prefix + key):
            value = None if change.kind is ChangeKind.DELETE else change.value
            if change.revision <= revision:
                then = value
            else:
                allowed.append(value)
        if have != then and have not in allowed and not self.sink.is_rotten(kv):
            raise Violation(
                f"{self.name}: LSR {revision}, but {key} is {have!r:.40} and was none of {[then, *allowed]!r:.80}"
            )

    def check_end(self) -> None:
        have, want = self.sink.live(self.sink_prefix), self.source.live(self.prefix)
        if have != want:
            wrong = sorted(k for k in {*have, *want} if have.get(k) != want.get(k))
            raise Violation(f"{self.name}: the stores differ at the end in {wrong}")
        committed = self.source.newest
        if self.source.live("") != {k: v for k, (_, v) in committed.items() if v is not None}:
            raise Violation(f"{self.name}: the disk of the source does not hold what was committed")
        for key, (revision, value) in self.acknowledged.items():
            at, newest = committed.get(key, (0, None))
            if at < revision and newest != value:
                raise Violation(f"{self.name}: {key} was acknowledged at revision {revision} and is lost")


def outlived(disk: Disk) -> list[KeyValue]:
    """What is there of a lease; to be asked when every lease is over."""
    return [kv for key in disk.data.past("/") if (kv := disk.data.newest(key)) and kv.lease]


__all__ = ["Direction", "Violation", "outlived"]
