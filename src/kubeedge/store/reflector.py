"""The present values under a prefix of the store, kept up to date in memory.

Level-triggered: a consumer gets the keys that may have changed and reads the values; after a compaction everything is read again and
only the differences are reported, so the consumer never notices.

Lives elsewhere: the loop (kubeedge.kit.reflector); the same for Kubernetes objects (kubeedge_cloud.controllers.informer).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import aclosing
from typing import Any, Generic, TypeVar

from kubeedge.api import keys
from kubeedge.api.names import Revision
from kubeedge.errors import Gone
from kubeedge.kit.reflector.driver import reflect as follow
from kubeedge.store.model import ChangeKind, RangeResult, Store

_PAGE = 500  # keys read at once
V = TypeVar("V")


class PrefixView(Generic[V]):
    """A ListerWatcher for kubeedge.kit.reflector. `keep` makes of a value what is kept; keys that are not `wanted` are not kept, and nobody hears
    of them. `changed` are the keys of the last step, `revision` is that of the store after it."""

    def __init__(
        self,
        store: Store,
        prefix: str,
        *,
        keep: Callable[[bytes], V],
        wanted: Callable[[str], bool] = lambda key: True,
        page: int = _PAGE,
    ) -> None:
        self.values: dict[str, V] = {}
        self.changed: Collection[str] = ()
        self.revision = Revision(0)
        self._store = store
        self._prefix = prefix
        self._keep = keep
        self._wanted = wanted
        self._page = page

    async def list(self) -> Revision:
        fresh: dict[str, V] = {}
        async with aclosing(pages(self._store, self._prefix, size=self._page)) as found:
            async for page in found:
                fresh.update((kv.key, self._keep(kv.value)) for kv in page.kvs if self._wanted(kv.key))
                self.revision = page.revision
        before = self.values
        self.changed = {key for key in before.keys() | fresh.keys() if before.get(key) != fresh.get(key)}
        before.clear()
        before.update(fresh)
        return self.revision

    async def watch(self, position: Revision) -> AsyncGenerator[Revision, None]:
        # Progress keeps the watch of a quiet prefix ahead of compaction.
        async with aclosing(self._store.watch(self._prefix, after=position, progress=True)) as batches:
            async for batch in batches:
                changes = [change for change in batch.changes if self._wanted(change.key)]
                for change in changes:
                    if change.kind is ChangeKind.PUT:
                        self.values[change.key] = self._keep(change.value)
                    else:
                        self.values.pop(change.key, None)
                self.changed = {change.key for change in changes}
                self.revision = batch.revision
                yield batch.revision


def _itself(value: bytes) -> bytes:
    return value


async def reflect(
    store: Store, prefix: str, *, wanted: Callable[[str], bool] = lambda key: True
) -> AsyncGenerator[tuple[Mapping[str, bytes], Collection[str]], None]:
    """(all values, keys that changed), at once and after every change, until the store is closed. The mapping is one and the same each time."""
    view = PrefixView(store, prefix, keep=_itself, wanted=wanted)
    async with aclosing(follow_view(view)) as steps:
        async for changed in steps:
            yield view.values, changed


async def follow_view(view: PrefixView[Any]) -> AsyncGenerator[Collection[str], None]:
    """The keys that changed, at once and after every change, until the store is closed."""
    first = True
    async with aclosing(follow(view)) as steps:
        async for _ in steps:
            if first or view.changed:
                first = False
                yield view.changed


async def read_all(store: Store, prefix: str, *, keys_only: bool = False) -> dict[str, bytes]:
    """All keys and values below a prefix, at one revision."""
    while True:
        values: dict[str, bytes] = {}
        try:
            async with aclosing(pages(store, prefix, keys_only=keys_only)) as found:
                async for page in found:
                    values.update((kv.key, kv.value) for kv in page.kvs)
            return values
        except Gone:
            await asyncio.sleep(0)  # compacted between two pages: begin again


async def pages(
    store: Store, prefix: str, *, size: int = _PAGE, keys_only: bool = False
) -> AsyncGenerator[RangeResult, None]:
    """Everything under the prefix at the revision of the first page. Raises Gone when that was compacted between two pages."""
    start, end = prefix, keys.prefix_end(prefix)
    revision: Revision | None = None
    while True:
        found = await store.range(start, end, revision=revision, limit=size, keys_only=keys_only)
        revision = found.revision if revision is None else revision
        yield found if found.revision == revision else RangeResult(found.kvs, revision, found.more, found.count)
        if not found.more:
            return
        start = found.kvs[-1].key + "\0"
