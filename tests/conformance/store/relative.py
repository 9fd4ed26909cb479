"""A store seen from a later beginning: revisions count from 1 as in an empty store, though others have used it before."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import replace
from typing import Any

from kubeedge.api.names import Revision
from kubeedge.errors import Gone
from kubeedge.store.model import Compare, CompareTarget, KeyValue, Op, RangeResult, Store, TxnResult, WatchBatch


class RelativeStore:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._base = store.revision - 1
        self.store_id = store.store_id
        self.close = store.close
        self.delete = store.delete
        self.lease_grant = store.lease_grant
        self.lease_keepalive = store.lease_keepalive
        self.lease_revoke = store.lease_revoke

    @property
    def revision(self) -> Revision:
        return self._down(self._store.revision)

    @property
    def compacted(self) -> Revision:
        return self._down(self._store.compacted)

    async def range(
        self, key: str, end: str = "", *, revision: Revision | None = None, limit: int = 0, keys_only: bool = False
    ) -> RangeResult:
        at = None if revision is None else self._up(revision)
        with self._errors():
            found = await self._store.range(key, end, revision=at, limit=limit, keys_only=keys_only)
        return self._result(found)

    async def get(self, key: str) -> KeyValue | None:
        found = await self._store.get(key)
        return found and self._kv(found)

    async def txn(self, compares: Sequence[Compare], success: Sequence[Op], failure: Sequence[Op] = ()) -> TxnResult:
        moved = [
            replace(c, operand=self._up(Revision(int(c.operand))))
            if c.target in (CompareTarget.CREATE, CompareTarget.MOD) and isinstance(c.operand, int) and c.operand > 0
            else c
            for c in compares
        ]
        done = await self._store.txn(moved, success, failure)
        responses = tuple(self._result(r) if isinstance(r, RangeResult) else r for r in done.responses)
        return TxnResult(done.succeeded, self._down(done.revision), responses)

    async def put(self, key: str, value: bytes, lease: int = 0) -> Revision:
        return self._down(await self._store.put(key, value, lease))

    async def compact(self, revision: Revision) -> None:
        with self._errors():
            await self._store.compact(self._up(revision))

    async def watch(self, prefix: str, *, after: Revision, progress: bool = False) -> AsyncGenerator[WatchBatch, None]:
        inner: Any = self._store.watch(prefix, after=self._up(after), progress=progress)
        with self._errors():
            async with aclosing(inner) as batches:
                async for batch in batches:
                    changes = tuple(
                        c._replace(
                            revision=self._down(c.revision),
                            create_revision=self._down(c.create_revision) if c.create_revision else c.create_revision,
                        )
                        for c in batch.changes
                    )
                    yield WatchBatch(changes, self._down(batch.revision))

    def _up(self, revision: Revision) -> Revision:
        return Revision(revision + self._base)

    def _down(self, revision: Revision) -> Revision:
        return Revision(revision - self._base)

    def _result(self, found: RangeResult) -> RangeResult:
        kvs = tuple(self._kv(kv) for kv in found.kvs)
        return RangeResult(kvs, self._down(found.revision), found.more, found.count)

    def _kv(self, kv: KeyValue) -> KeyValue:
        return kv._replace(create_revision=self._down(kv.create_revision), mod_revision=self._down(kv.mod_revision))

    @contextmanager
    def _errors(self) -> Any:
        try:
            yield
        except Gone as exc:
            raise Gone(str(exc), compacted=self._down(Revision(exc.compacted))) from exc
