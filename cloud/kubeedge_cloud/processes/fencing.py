"""A store for the work of one leader: what it writes counts only while it leads.

A process that is stopped between reading and writing, and goes on when another one has taken over, would otherwise write what it had decided
before: a node Ready that is away, a pod too many. Its transactions carry the fence (Membership.fence) and do not succeed any more.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence

from kubeedge.api.names import Revision
from kubeedge.errors import Conflict, Misuse
from kubeedge.store.model import Compare, Delete, Get, KeyValue, Op, Put, RangeResult, Store, TxnResult, WatchBatch


class FencedStore:
    """Reads pass. A write that comes too late is a transaction that did not succeed; put and delete raise Conflict."""

    def __init__(self, store: Store, fence: Callable[[], Sequence[Compare]]) -> None:
        self._store = store
        self._fence = fence

    @property
    def store_id(self) -> str:
        return self._store.store_id

    @property
    def revision(self) -> Revision:
        return self._store.revision

    @property
    def compacted(self) -> Revision:
        return self._store.compacted

    async def range(
        self, key: str, end: str = "", *, revision: Revision | None = None, limit: int = 0, keys_only: bool = False
    ) -> RangeResult:
        return await self._store.range(key, end, revision=revision, limit=limit, keys_only=keys_only)

    async def get(self, key: str) -> KeyValue | None:
        return await self._store.get(key)

    async def txn(self, compares: Sequence[Compare], success: Sequence[Op], failure: Sequence[Op] = ()) -> TxnResult:
        if not all(isinstance(op, Get) for op in failure):
            raise Misuse("what is written on failure would be written by who does not lead")
        if all(isinstance(op, Get) for op in success):
            return await self._store.txn(compares, success, failure)
        return await self._store.txn([*compares, *self._fence()], success, failure)

    async def put(self, key: str, value: bytes, lease: int = 0) -> Revision:
        return (await self._must((Put(key, value, lease),))).revision

    async def delete(self, key: str, end: str = "") -> int:
        count = (await self._must((Delete(key, end),))).responses[0]
        assert isinstance(count, int)
        return count

    async def _must(self, ops: Sequence[Op]) -> TxnResult:
        done = await self.txn((), ops)
        if not done.succeeded:
            raise Conflict("another process does this work now")
        return done

    def watch(self, prefix: str, *, after: Revision, progress: bool = False) -> AsyncGenerator[WatchBatch, None]:
        return self._store.watch(prefix, after=after, progress=progress)

    async def compact(self, revision: Revision) -> None:
        await self._store.compact(revision)

    async def lease_grant(self, ttl: float) -> int:
        return await self._store.lease_grant(ttl)

    async def lease_keepalive(self, lease: int) -> None:
        await self._store.lease_keepalive(lease)

    async def lease_revoke(self, lease: int) -> None:
        await self._store.lease_revoke(lease)

    async def close(self) -> None:
        """The real store is its owner's to close."""
