"""The present values under a prefix of the store, kept up to date in memory.

Level-triggered: a consumer hears which keys may have changed and looks at the values; after a compaction the mirror
reads everything again and reports only the differences, so its consumer never notices.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import aclosing
from typing import cast

from kubeedge.api import keys
from kubeedge.api.names import Revision
from kubeedge.errors import Gone
from kubeedge.store.model import ChangeKind, Store, WatchBatch

_PAGE = 500  # keys read at once


async def reflect(
    store: Store, prefix: str, *, wanted: Callable[[str], bool] = lambda key: True
) -> AsyncGenerator[tuple[Mapping[str, bytes], Collection[str]], None]:
    """(all values, keys that changed), at once and after every change. The mapping is one and the same each time.

    Keys that are not `wanted` are not kept, and nobody hears of them.
    """
    values: dict[str, bytes] = {}
    first = True
    while True:
        fresh, revision = await _read(store, prefix, wanted=wanted)
        changed = {key for key in values.keys() | fresh.keys() if values.get(key) != fresh.get(key)}
        values.clear()
        values.update(fresh)
        if first or changed:
            first = False
            yield values, changed
        try:
            # Progress keeps the watch of a quiet prefix ahead of compaction.
            watch = cast(AsyncGenerator[WatchBatch, None], store.watch(prefix, after=revision, progress=True))
            async with aclosing(watch) as batches:
                async for batch in batches:
                    changes = [change for change in batch.changes if wanted(change.key)]
                    if not changes:
                        continue
                    for change in changes:
                        if change.kind is ChangeKind.PUT:
                            values[change.key] = change.value
                        else:
                            values.pop(change.key, None)
                    yield values, {change.key for change in changes}
            return  # the store was closed
        except Gone:
            await asyncio.sleep(0)


async def read_all(store: Store, prefix: str, *, keys_only: bool = False) -> dict[str, bytes]:
    return (await _read(store, prefix, keys_only=keys_only))[0]


async def _read(
    store: Store, prefix: str, *, keys_only: bool = False, wanted: Callable[[str], bool] = lambda key: True
) -> tuple[dict[str, bytes], Revision]:
    """Everything at one revision."""
    while True:
        values: dict[str, bytes] = {}
        start, end = prefix, keys.prefix_end(prefix)
        revision: Revision | None = None
        try:
            while True:
                found = await store.range(start, end, revision=revision, limit=_PAGE, keys_only=keys_only)
                revision = found.revision if revision is None else revision
                values.update((kv.key, kv.value) for kv in found.kvs if wanted(kv.key))
                if not found.more:
                    return values, revision
                start = found.kvs[-1].key + "\0"
        except Gone:
            await asyncio.sleep(0)  # compacted between two pages: begin again
