"""The readable store: everything in dictionaries. The model that the other stores are compared with, and the store of tests.

Each key has the list of its changes, oldest first. A read at revision r takes the last change at or below r of each key.
compact(r) keeps, of what is at or below r, only the newest put of each key.
"""

from __future__ import annotations

import asyncio
import secrets
from bisect import bisect_right
from collections.abc import AsyncGenerator, Sequence

from kubeedge.api.names import Revision
from kubeedge.errors import Gone, Invalid, NotFound
from kubeedge.store.core import FIRST_REVISION, Head, check, check_range, evaluate, key_value
from kubeedge.store.leases import Leases
from kubeedge.store.model import (
    Change,
    ChangeKind,
    Compare,
    Delete,
    KeyValue,
    Op,
    Put,
    RangeResult,
    TxnResult,
    WatchBatch,
)
from kubeedge.store.watch import Watches


class MemoryStore:
    """The reference implementation of Store, for tests and comparisons: nothing is durable."""

    def __init__(self, *, store_id: str = "") -> None:
        self._store_id = store_id or secrets.token_hex(16)
        self._revision = FIRST_REVISION
        self._compacted = Revision(0)
        self._history: dict[str, list[Change]] = {}
        self._log: list[Change] = []  # everything after the compacted revision, in the order in which it was done
        self._watches = Watches(self._changes, lambda prefix: self._compacted)
        self._leases = Leases()
        self._expiry: asyncio.TimerHandle | None = None

    @property
    def store_id(self) -> str:
        return self._store_id

    @property
    def revision(self) -> Revision:
        return self._revision

    @property
    def compacted(self) -> Revision:
        return self._compacted

    async def range(
        self, key: str, end: str = "", *, revision: Revision | None = None, limit: int = 0, keys_only: bool = False
    ) -> RangeResult:
        check_range(key, end)
        at = self._revision if revision is None else revision
        check_readable(at, self._revision, self._compacted)
        found = [kv for k in self._keys(key, end) if (kv := self._at(k, at))]
        cut = found[:limit] if limit else found
        if keys_only:
            cut = [without_value(kv) for kv in cut]
        return RangeResult(tuple(cut), self._revision, len(cut) < len(found), len(found))

    async def get(self, key: str) -> KeyValue | None:
        check_range(key)
        return self.newest(key)

    async def txn(self, compares: Sequence[Compare], success: Sequence[Op], failure: Sequence[Op] = ()) -> TxnResult:
        check(compares, success, failure)
        check_leases(self._leases, success, failure)
        outcome = evaluate(self, self._revision, compares, success, failure)
        for change in outcome.changes:
            self._history.setdefault(change.key, []).append(change)
            self._log.append(change)
        self._revision = outcome.revision
        if outcome.changes:
            self._watches.committed(outcome.changes, outcome.revision)
        return TxnResult(outcome.succeeded, outcome.revision, outcome.responses)

    async def put(self, key: str, value: bytes, lease: int = 0) -> Revision:
        return (await self.txn((), (Put(key, value, lease),))).revision

    async def delete(self, key: str, end: str = "") -> int:
        count = (await self.txn((), (Delete(key, end),))).responses[0]
        assert isinstance(count, int)
        return count

    def watch(self, prefix: str, *, after: Revision, progress: bool = False) -> AsyncGenerator[WatchBatch, None]:
        return self._watches.watch(prefix, after, progress, lambda: self._revision)

    async def compact(self, revision: Revision) -> None:
        check_compactable(revision, self._revision, self._compacted)
        self._compacted = revision
        del self._log[: bisect_right(self._log, revision, key=lambda c: c.revision)]
        for key in list(self._history):
            changes = self._history[key]
            cut = bisect_right(changes, revision, key=lambda c: c.revision)
            keep = changes[cut:]
            if cut and changes[cut - 1].kind is ChangeKind.PUT:
                keep.insert(0, changes[cut - 1])
            if keep:
                self._history[key] = keep
            else:
                del self._history[key]

    async def lease_grant(self, ttl: float) -> int:
        lease = self._leases.grant(ttl, _now())
        self._arm()
        return lease

    async def lease_keepalive(self, lease: int) -> None:
        self._leases.keepalive(lease, _now())
        self._arm()

    async def lease_revoke(self, lease: int) -> None:
        if not self._leases.drop(lease):
            raise NotFound(f"lease {lease} does not exist or has expired")
        owned = [Delete(key) for key in self._history if (kv := self.newest(key)) and kv.lease == lease]
        if owned:
            await self.txn((), owned)
        self._arm()

    async def close(self) -> None:
        self._watches.close()
        if self._expiry:
            self._expiry.cancel()

    # -- the view that transactions are evaluated on ---------------------------------------------------------------------

    def newest(self, key: str) -> KeyValue | None:
        last = self._live(key)
        return key_value(last) if last else None

    def head(self, key: str) -> Head | None:
        last = self._live(key)
        return (last.create_revision, last.version) if last else None

    def newest_range(self, key: str, end: str) -> Sequence[KeyValue]:
        return [kv for k in self._keys(key, end) if (kv := self.newest(k))]

    # -- inside ------------------------------------------------------------------------------------------------------------

    def _keys(self, key: str, end: str) -> list[str]:
        if not end:
            return [key] if key in self._history else []
        return sorted(k for k in self._history if key <= k < end)

    def _live(self, key: str) -> Change | None:
        """The put that is the key's state, if it has one."""
        changes = self._history.get(key)
        return changes[-1] if changes and changes[-1].kind is ChangeKind.PUT else None

    def _at(self, key: str, revision: Revision) -> KeyValue | None:
        if revision >= self._revision:
            return self.newest(key)
        changes = self._history.get(key, ())
        position = bisect_right(changes, revision, key=lambda c: c.revision)
        if position == 0 or (last := changes[position - 1]).kind is ChangeKind.DELETE:
            return None
        return key_value(last)

    def _changes(self, prefix: str, after: Revision, limit: int) -> tuple[Sequence[Change], Revision]:
        start = bisect_right(self._log, after, key=lambda c: c.revision)
        return [c for c in self._log[start:] if c.key.startswith(prefix)], self._revision

    def _arm(self) -> None:
        if self._expiry:
            self._expiry.cancel()
            self._expiry = None
        if (at := self._leases.next_expiry()) is not None:
            self._expiry = asyncio.get_running_loop().call_at(at, self._expire)

    def _expire(self) -> None:
        for lease in self._leases.expired(_now()):
            self._leases.drop(lease)
            owned = [Delete(key) for key in self._history if (kv := self.newest(key)) and kv.lease == lease]
            if owned:
                task = asyncio.ensure_future(self.txn((), owned))
                task.add_done_callback(lambda t: t.exception())
        self._arm()


def _now() -> float:
    return asyncio.get_running_loop().time()


def check_readable(at: Revision, current: Revision, compacted: Revision) -> None:
    """Raises Invalid for a revision of the future, Gone for a compacted one."""
    if at > current:
        raise Invalid(f"revision {at} is in the future (the store is at {current})")
    if at < compacted:
        raise Gone(f"revision {at} has been compacted (up to {compacted})", compacted=compacted)


def check_compactable(revision: Revision, current: Revision, compacted: Revision) -> None:
    """Raises Invalid for a revision of the future, Gone for one that is compacted already."""
    if revision > current:
        raise Invalid(f"revision {revision} is in the future (the store is at {current})")
    if revision <= compacted:
        raise Gone(f"revision {revision} has been compacted already (up to {compacted})", compacted=compacted)


def check_leases(leases: Leases, *groups: Sequence[Op]) -> None:
    """Raises NotFound when a put names a lease that does not exist."""
    for ops in groups:
        for op in ops:
            if isinstance(op, Put) and op.lease and op.lease not in leases:
                raise NotFound(f"lease {op.lease} does not exist or has expired")


def without_value(kv: KeyValue) -> KeyValue:
    """The same key with an empty value (keys_only)."""
    return KeyValue(kv.key, b"", kv.create_revision, kv.mod_revision, kv.version, kv.lease)
