"""The store as the node's own modules see it: what the cloud wants, with the node's pending writes on top.

Lives here:      /desired/ with writes merged in; everything else passes.
Lives elsewhere: the same for clients of the API, with status (view.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

from kubeedge.api import keys, meta
from kubeedge.api.names import Revision
from kubeedge.kit.dataclasses import replace
from kubeedge.metaserver import core, pending
from kubeedge.store.forwarding import ForwardingStore
from kubeedge.store.model import Change, ChangeKind, KeyValue, RangeResult, WatchBatch


class EffectiveStore(ForwardingStore):
    """A store; AppEngine gets it in place of the real one when the node has an API of its own."""

    async def range(
        self, key: str, end: str = "", *, revision: Revision | None = None, limit: int = 0, keys_only: bool = False
    ) -> RangeResult:
        """Values below /desired/ with the pending writes merged in, at the same revision."""
        if not key.startswith(keys.DESIRED) or keys_only:
            return await self._store.range(key, end, revision=revision, limit=limit, keys_only=keys_only)
        at = self._store.revision if revision is None else revision
        found = await self._store.range(key, end, revision=at, limit=limit)
        waiting = await pending.read(self._store, at)
        if not waiting.of:
            return replace(found, revision=at) if revision is None else found
        return replace(found, kvs=tuple(_merged(kv, waiting) for kv in found.kvs), revision=at)

    async def get(self, key: str) -> KeyValue | None:
        """One key as `range` shows it: with the pending writes of this node. None: it is not there."""
        found = (await self.range(key)).kvs
        return found[0] if found else None

    async def watch(self, prefix: str, *, after: Revision, progress: bool = False) -> AsyncGenerator[WatchBatch, None]:
        """Below /desired/ also a pending write is a change of the object that it is for."""
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


def _merged(kv: KeyValue, waiting: core.Pending) -> KeyValue:
    writes = waiting.of.get(keys.split(kv.key))
    obj = core.decoded(kv.value) if writes else None
    if not writes or obj is None:
        return kv
    return kv._replace(value=meta.canonical(core.merged(obj, writes)))
