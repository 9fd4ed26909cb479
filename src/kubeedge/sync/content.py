"""What a store has below a prefix, read in bounded pages: as keys, as ranges with their digests, as one digest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from kubeedge.api import keys
from kubeedge.api.names import Revision
from kubeedge.store.model import KeyValue, Store
from kubeedge.sync import delta
from kubeedge.sync.bounds import Usage
from kubeedge.sync.codec import MAX_RANGES, TARGET_BODY, Range
from kubeedge.sync.core import Span

SNAPSHOT_PAGE = 64  # keys read at once to begin with; more when their values turn out small, fewer when large
SNAPSHOT_PAGE_MOST = 2_000
SNAPSHOT_PAGE_BYTES = 1024 * 1024  # of values, about
RANGE_KEYS = 16  # few, as a range is sent whole when one key of it differs
RANGE_BYTES = 128 * 1024  # of values; one value more may go beyond it


async def pages(store: Store, prefix: str, revision: Revision | None) -> AsyncIterator[Sequence[KeyValue]]:
    """The live keys of the prefix at that revision (None: whatever is there), in bounded pages."""
    key, end, limit = prefix, keys.prefix_end(prefix), SNAPSHOT_PAGE
    while True:
        page = await store.range(key, end, revision=revision, limit=limit)
        size = sum(len(kv.value) for kv in page.kvs)
        limit = min(SNAPSHOT_PAGE_MOST, max(1, limit * SNAPSHOT_PAGE_BYTES // (size or 1)), 2 * limit)
        if page.kvs:
            yield page.kvs
        if not page.more:
            return
        key = page.kvs[-1].key + "\0"


async def ranges(store: Store, prefix: str, revision: Revision) -> AsyncIterator[Sequence[Range]]:
    """The keys of the prefix as ranges, as many as go into a message."""
    found: list[Range] = []
    content, end, count, size, named = delta.Content(delta.DIGEST), "", 0, 0, 0
    async for page in pages(store, prefix, revision):
        for kv in page:
            if count == RANGE_KEYS or (count and size + len(kv.value) > RANGE_BYTES):
                found.append(Range(end, content.digest()))
                named += len(end)
                content, count, size = delta.Content(delta.DIGEST), 0, 0
                if len(found) == MAX_RANGES or named > TARGET_BODY:
                    yield found
                    found, named = [], 0
            end = kv.key.removeprefix(prefix)
            content.add(end, kv.value)
            count, size = count + 1, size + len(kv.value)
        await asyncio.sleep(0)
    if count:
        found.append(Range(end, content.digest()))
    if found:
        yield found


async def content_digest(
    store: Store, prefix: str, revision: Revision | None = None, *, usage: Usage | None = None
) -> bytes:
    """The digest of what is below the prefix, read in bounded pages; counted, too."""
    content = delta.Content(delta.CONTENT)
    async for page in pages(store, prefix, revision):
        for kv in page:
            content.add(kv.key.removeprefix(prefix), kv.value)
            if usage:
                usage.count(kv.key.removeprefix(prefix), kv.value)
        await asyncio.sleep(0)  # others have their turn
    return content.digest()


async def different(store: Store, prefix: str, spans: Sequence[tuple[Span, bytes]]) -> list[int]:
    """The indexes of the spans in which this store has not what their digests say."""
    different = []
    for index, (span, digest) in enumerate(spans):
        found = await store.range(*span_range(prefix, span), limit=RANGE_KEYS + 1)
        content = delta.Content(delta.DIGEST)
        for kv in found.kvs:
            content.add(kv.key.removeprefix(prefix), kv.value)
        if found.more or content.digest() != digest:
            different.append(index)
        await asyncio.sleep(0)
    return different


def span_range(prefix: str, span: Span) -> tuple[str, str]:
    """The span as a range of the store."""
    start = prefix + span.after + "\0" if span.after else prefix
    return start, prefix + span.end + "\0" if span.end else keys.prefix_end(prefix)
