"""The sizes of what is stored under a prefix, reflected into a count. The values themselves are not kept."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Protocol

from kubeedge.api.names import Revision
from kubeedge.store.model import ChangeKind, Store
from kubeedge.store.reflector import pages

_PAGE = 50  # keys read at once; each may have 1.5 MiB


class Count(Protocol):
    """Bytes by key, a key's own included, up to a revision (usage.TenantUsage)."""

    def begin_again(self, sizes: dict[str, int], revision: Revision) -> None:
        """The sizes of all keys as of `revision`; whatever was counted before is void."""
        ...

    def put(self, key: str, size: int) -> None:
        """A key was created or replaced; its size in bytes."""
        ...

    def deleted(self, key: str) -> None:
        """A key is gone; it may be one that was never counted."""
        ...

    def seen(self, revision: Revision) -> None:
        """All changes up to `revision` have been told."""
        ...


class StoredSizes:
    """A ListerWatcher for kubeedge.kit.reflector that keeps the size of each value below a prefix."""

    def __init__(self, store: Store, prefix: str, count: Count) -> None:
        self._store = store
        self._prefix = prefix
        self._count = count

    async def list(self) -> Revision:
        sizes: dict[str, int] = {}
        revision = Revision(0)
        async with aclosing(pages(self._store, self._prefix, size=_PAGE)) as found:
            async for page in found:
                sizes.update((kv.key, len(kv.key) + len(kv.value)) for kv in page.kvs)
                revision = page.revision
        self._count.begin_again(sizes, revision)
        return revision

    async def watch(self, position: Revision) -> AsyncGenerator[Revision, None]:
        async with aclosing(self._store.watch(self._prefix, after=position, progress=True)) as batches:
            async for batch in batches:
                for change in batch.changes:
                    if change.kind is ChangeKind.PUT:
                        self._count.put(change.key, len(change.key) + len(change.value))
                    else:
                        self._count.deleted(change.key)
                self._count.seen(batch.revision)
                yield batch.revision
