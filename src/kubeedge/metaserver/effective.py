"""The store as the node's own modules see it: what the cloud wants, with the node's pending writes on top.

Lives here:      /desired/ with writes merged in; everything else passes.
Lives elsewhere: the same for clients of the API, with status (view.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

from kubeedge.api import keys, meta
from kubeedge.api.names import Revision
from kubeedge.metaserver import core, pending
from kubeedge.store.model import Change, ChangeKind, Compare, KeyValue, Op, RangeResult, Store, TxnResult, WatchBatch


class EffectiveStore:
    """A store; AppEngine gets it in place of the real one when the node has an API of its own."""

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
        if not key.startswith(keys.DESIRED) or keys_only:
            return await self._store.range(key, end, revision=revision, limit=limit, keys_only=keys_only)
        at = self._store.revision if revision is None else revision
        found = await self._store.range(key, end, revision=at, limit=limit)
        waiting = await pending.read(self._store, at)
        if not waiting.of:
            return replace(found, revision=at) if revision is None else found
        return replace(found, kvs=tuple(_merged(kv, waiting) for kv in found.kvs), revision=at)

    async def get(self, key: str) -> KeyValue | None:
        found = (await self.range(key)).kvs
        return found[0] if found else None

    async def watch(self, prefix: str, *, after: Revision, progress: bool = False) -> AsyncGenerator[WatchBatch, None]:
        if not prefix.startswith(keys.DESIRED):
            async with contextlib.aclosing(self._store.watch(prefix, after=after, progress=progress)) as batches:
                async for batch in batches:
                    yield batch
            return
        async with contextlib.aclosing(self._store.watch("/", after=after, progress=progress)) as batches:
            async for batch in batches:
                changes = await self._seen(prefix, batch)
                if changes or (progress and not batch.changes):
                    yield WatchBatch(changes, batch.revision)

    async def _seen(self, prefix: str, batch: WatchBatch) -> list[Change]:
        seen: list[Change] = []
        for revision, changes in core.by_revision(batch.changes).items():
            found = {key: c for key, c in core.touched(changes).items() if key.startswith(prefix)}
            if not found:
                continue
            plain = not await pending.exist(self._store, revision)
            for key, change in found.items():
                if change is not None and (plain or change.kind is ChangeKind.DELETE):
                    seen.append(change)
                    continue
                for kv in (await self.range(key, revision=revision)).kvs:
                    kind = ChangeKind.PUT
                    seen.append(Change(kind, key, kv.value, revision, kv.create_revision, kv.version, kv.lease))
        return seen

    async def txn(self, compares: Sequence[Compare], success: Sequence[Op], failure: Sequence[Op] = ()) -> TxnResult:
        return await self._store.txn(compares, success, failure)

    async def put(self, key: str, value: bytes, lease: int = 0) -> Revision:
        return await self._store.put(key, value, lease)

    async def delete(self, key: str, end: str = "") -> int:
        return await self._store.delete(key, end)

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


def _merged(kv: KeyValue, waiting: core.Pending) -> KeyValue:
    writes = waiting.of.get(keys.split(kv.key))
    obj = core.decoded(kv.value) if writes else None
    if not writes or obj is None:
        return kv
    return kv._replace(value=meta.canonical(core.merged(obj, writes)))
