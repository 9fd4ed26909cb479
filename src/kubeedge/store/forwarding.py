"""A store that passes every call on to another one: the base of stores that change some of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from kubeedge.api.names import Revision
from kubeedge.store.model import Compare, KeyValue, Op, RangeResult, Store, TxnResult, WatchBatch


class ForwardingStore:
    """Subclasses override what they do otherwise. Each method stands for itself: none of them calls another one of this class."""

    def __init__(self, store: Store) -> None:
        self._store = store

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
        return await self._store.txn(compares, success, failure)

    async def put(self, key: str, value: bytes, lease: int = 0) -> Revision:
        return await self._store.put(key, value, lease)

    async def delete(self, key: str, end: str = "") -> int:
        return await self._store.delete(key, end)

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
        """Does nothing: the store behind it is its owner's to close."""
