"""Reads of the edge's store about its pending writes, at any revision that it still has. Raises Gone for older ones."""

from __future__ import annotations

from collections.abc import Mapping

from kubeedge.api import keys
from kubeedge.api.names import Revision
from kubeedge.metaserver.core import WRITES, Pending
from kubeedge.store.model import KeyValue, Store


async def read(store: Store, at: Revision) -> Pending:
    """All that wait at a revision."""
    found = Pending()
    for kv in (await store.range(WRITES, keys.prefix_end(WRITES), revision=at)).kvs:
        found.add(kv)
    return found


async def exist(store: Store, at: Revision) -> bool:
    """Reads one key at most, and no value."""
    return bool((await store.range(WRITES, keys.prefix_end(WRITES), revision=at, limit=1, keys_only=True)).kvs)


async def rows_between(store: Store, prefix: str, first: str, last: str, at: Revision) -> Mapping[str, KeyValue]:
    """Rows of `prefix` from `first` to `last` (both named below it), by name."""
    found = await store.range(prefix + first, prefix + last + "\0", revision=at)
    return {kv.key.removeprefix(prefix): kv for kv in found.kvs}
