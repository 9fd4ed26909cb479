"""Runs the source of one direction over a real store. All decisions live in core.py."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence

from kubeedge import faults
from kubeedge.api.keys import prefix_end
from kubeedge.api.names import Revision
from kubeedge.errors import ChannelDetached, Gone, PeerError
from kubeedge.kit.signal import Signal
from kubeedge.store.model import Change, ChangeKind, Store
from kubeedge.sync import delta
from kubeedge.sync.codec import (
    Batch,
    End,
    Fetch,
    Fill,
    Item,
    KeysRefused,
    Message,
    Patch,
    Ranges,
    Receive,
    Send,
    Want,
    decode,
    encode,
)
from kubeedge.sync.content import content_digest, pages, ranges, span_range
from kubeedge.sync.core import Source, Span, split
from kubeedge.sync.progress import Progress, refusal

log = logging.getLogger("kubeedge.sync")

PATCH_FROM = 256  # bytes: smaller values travel whole


async def run_source(store: Store, prefix: str, send: Send, receive: Receive, progress: Progress) -> None:
    """Answers the FETCH of a sink, then sends what changes below the prefix, until it is cancelled. Raises PeerError, ChannelDetached."""
    progress.refused = None
    fetch = decode(await receive())
    if not isinstance(fetch, Fetch):
        raise PeerError(f"{type(fetch).__name__} instead of Fetch")
    await _Outgoing(store, prefix, fetch, send, receive, progress).run()


class _Outgoing:
    """A source that was asked."""

    def __init__(
        self, store: Store, prefix: str, fetch: Fetch, send: Send, receive: Receive, progress: Progress
    ) -> None:
        self._source = Source(store.store_id)
        self._store, self._prefix, self._fetch = store, prefix, fetch
        self._send, self._receive, self._progress = send, receive, progress
        self._rich = bool(fetch.digest)
        self._room = Signal()
        self._room.set()
        self._asked: list[Sequence[Span]] = []  # ranges that were named, and not answered yet
        self._asked_up_to = ""
        self._wanted: list[Span] = []

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._take_answers(), name="sync acknowledgements")
            await self._send_changes()

    async def _take_answers(self) -> None:
        while True:
            answer = self._source.receive(decode(await self._receive()))
            if isinstance(answer, KeysRefused):
                if not (self._progress.refused and self._progress.refused.count):
                    log.warning("the other end does not take %d keys: %s", answer.count, refusal(answer))
                self._progress.refused = answer
            elif isinstance(answer, Want):
                spans = self._asked.pop(0)
                if any(index >= len(spans) for index in answer.indexes) or len(set(answer.indexes)) < len(
                    answer.indexes
                ):
                    raise PeerError(f"ranges {list(answer.indexes)[:20]} of {len(spans)} are wanted")
                self._wanted += [spans[index] for index in answer.indexes]
            elif answer is not None:
                self._progress.revision = answer
            self._room.set()

    async def _push(self, message: Message, revision: Revision | None, *, complete: bool = True) -> None:
        while not self._source.may_send():
            await self._wait()
        data = encode(message, rich=self._rich)
        self._source.sent(revision, len(data), complete=complete)
        self._progress.bytes += len(data)
        if isinstance(message, Batch | Fill):
            self._progress.batches += 1
            self._progress.changes += len(message.items)
        faults.at("sync.source.before_send")
        await self._send(data)
        faults.at("sync.source.after_send")

    async def _wait(self) -> None:
        self._room.clear()
        await self._room.wait()

    async def _send_changes(self) -> None:
        store, prefix = self._store, self._prefix
        try:
            start = self._source.answer(self._fetch, store.revision, store.compacted, agreed=await self._agrees())
            await self._send(encode(start))
            faults.at("sync.source.after_start")
            position = start.revision
            if start.snapshot:
                self._progress.snapshots += 1
                if start.ranges:
                    await self._send_ranges(position)
                else:
                    async for page in pages(store, prefix, position):
                        for part in split(Item(kv.key.removeprefix(prefix), kv.value) for kv in page):
                            await self._push(Batch(position, part), position, complete=False)
                await self._push(End(), position)
            async with contextlib.aclosing(store.watch(prefix, after=position, progress=True)) as batches:
                async for batch in batches:
                    for message in self._source.delta(batch.changes, prefix, position, batch.revision):
                        await self._push(await self._patches(message, batch.changes, position), message.revision)
                    position = batch.revision
        except Gone as exc:
            # we fell behind our own compaction; the sink is told by the end of the channel, and asks again
            raise PeerError(f"history is gone: {exc}", close_code=1012) from exc
        raise ChannelDetached("the store was closed")

    async def _agrees(self) -> bool:
        """Was our past at the sink's revision what the sink has?"""
        fetch, store = self._fetch, self._store
        if not self._source.continues(fetch, store.revision, store.compacted):
            return True
        try:
            if not fetch.digest:  # a tenant that writes much has its history compacted before that of all
                await store.range(self._prefix, prefix_end(self._prefix), revision=fetch.after, limit=1, keys_only=True)
                return True
            return await content_digest(store, self._prefix, fetch.after) == fetch.digest
        except Gone:
            return False

    async def _send_ranges(self, revision: Revision) -> None:
        async for found in ranges(self._store, self._prefix, revision):
            ends = [self._asked_up_to, *(entry.end for entry in found)]
            self._asked_up_to = ends[-1]
            self._asked.append([Span(after, end) for after, end in zip(ends, ends[1:], strict=False)])
            await self._push(Ranges(found), None)
            await self._fill(revision)
        while self._asked:
            await self._wait()
            await self._fill(revision)

    async def _fill(self, revision: Revision) -> None:
        while self._wanted:
            span = self._wanted.pop(0)
            found = await self._store.range(*span_range(self._prefix, span), revision=revision)
            items = [Item(kv.key.removeprefix(self._prefix), kv.value) for kv in found.kvs]
            await self._push(Fill(items), revision, complete=False)

    async def _patches(self, batch: Batch, changes: Sequence[Change], before: Revision) -> Batch:
        """With patches instead of large values that the sink has another value of."""
        if not self._rich:
            return batch
        old = {
            c.key.removeprefix(self._prefix)
            for c in changes
            if c.kind is ChangeKind.PUT and c.create_revision <= before and len(c.value) >= PATCH_FROM
        }
        items: list[Item | Patch] = []
        for item in batch.items:
            if isinstance(item, Item) and item.key in old and item.value is not None:
                items.append(await self._patch(item, item.value, before))
            else:
                items.append(item)
        return Batch(batch.revision, items)

    async def _patch(self, item: Item, value: bytes, before: Revision) -> Item | Patch:
        try:
            base = (await self._store.range(self._prefix + item.key, revision=before)).kvs
        except Gone:
            return item
        patch = delta.make(base[0].value, value) if base else None
        return item if patch is None else Patch(item.key, delta.digest(value), patch)
