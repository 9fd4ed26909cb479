"""Runs the two roles of sync over real stores and a hub channel. All decisions live in core.py."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

from kubeedge import faults
from kubeedge.api import keys
from kubeedge.api.names import NodeName, Revision, TenantId
from kubeedge.errors import ChannelDetached, Gone, PeerError
from kubeedge.hub.core import BOUNDS, SYNC2, SYNC_DOWN, SYNC_UP
from kubeedge.hub.driver import Channel
from kubeedge.kit.bucket import Bucket
from kubeedge.kit.signal import Signal
from kubeedge.store.model import (
    MAX_KEY,
    Change,
    ChangeKind,
    Compare,
    CompareTarget,
    Delete,
    Get,
    KeyValue,
    Op,
    Put,
    RangeResult,
    Store,
)
from kubeedge.sync import delta
from kubeedge.sync.bounds import Bounds, Usage
from kubeedge.sync.codec import (
    MAX_ITEMS,
    MAX_RANGES,
    TARGET_BODY,
    Batch,
    End,
    Fetch,
    Fill,
    Item,
    KeysRefused,
    Message,
    Patch,
    Range,
    Ranges,
    Start,
    Want,
    decode,
    encode,
)
from kubeedge.sync.codec import (
    size as size_of,
)
from kubeedge.sync.core import Apply, Compared, Lsr, Sink, Source, Span, split

log = logging.getLogger("kubeedge.sync")

SNAPSHOT_PAGE = 64  # keys read at once to begin with; more when their values turn out small, fewer when large
SNAPSHOT_PAGE_MOST = 2_000
SNAPSHOT_PAGE_BYTES = 1024 * 1024  # of values, about
RANGE_KEYS = 16  # few, as a range is sent whole when one key of it differs
RANGE_BYTES = 128 * 1024  # of values; one value more may go beyond it
PATCH_FROM = 256  # bytes: smaller values travel whole

Send = Callable[[bytes], Awaitable[None]]
Receive = Callable[[], Awaitable[bytes]]


@dataclass(slots=True)
class Progress:
    """For `kubeedge status`: what one direction has done since the agent started."""

    revision: Revision = Revision(0)  # durable at the sink
    batches: int = 0
    changes: int = 0
    bytes: int = 0
    snapshots: int = 0
    refused: KeysRefused | None = None  # what the sink does not take, since the channel was attached
    held: float = 0.0  # seconds that the sink has let the source wait, as it changes more than it may


async def run_edge(channel: Channel, store: Store, down: Progress, up: Progress) -> None:
    """Both directions, as the edge sees them, for as long as the channel lives."""
    async with asyncio.TaskGroup() as group:
        group.create_task(
            run_sink(
                store,
                keys.DESIRED,
                keys.SYNC_DOWN,
                _sender(channel, SYNC_DOWN),
                channel.stream(SYNC_DOWN),
                down,
                rich=SYNC2 in channel.features,
            ),
            name="sync from the cloud",
        )
        await run_source(store, keys.REPORTED, _sender(channel, SYNC_UP), channel.stream(SYNC_UP), up)


async def run_cloud(
    channel: Channel,
    store: Store,
    tenant: TenantId,
    node: NodeName,
    down: Progress,
    up: Progress,
    bounds: Bounds | None = None,
    pace: Bucket | None = None,
) -> None:
    """Both directions, as the cloud sees them, for one node. Which node is the certificate's to say. `bounds`: of what it reports;
    `pace`: how often."""
    lsr_key = keys.edge_sync_up(tenant, node)
    async with asyncio.TaskGroup() as group:
        group.create_task(
            run_sink(
                store,
                keys.edge_reported(tenant, node),
                lsr_key,
                _sender(channel, SYNC_UP),
                channel.stream(SYNC_UP),
                up,
                rich=SYNC2 in channel.features,
                bounds=bounds,
                pace=pace,
                tells=BOUNDS in channel.features,
            ),
            name=f"sync from {tenant}/{node}",
        )
        # not a task of its own, for there are thousands of nodes
        await run_source(
            store, keys.edge_desired(tenant, node), _sender(channel, SYNC_DOWN), channel.stream(SYNC_DOWN), down
        )


async def run_sink(
    store: Store,
    prefix: str,
    lsr_key: str,
    send: Send,
    receive: Receive,
    progress: Progress,
    *,
    rich: bool = False,
    bounds: Bounds | None = None,
    pace: Bucket | None = None,
    tells: bool = False,
) -> None:
    """`rich`: the source speaks "sync2"; `bounds`: what it may have here; `pace`: how often that may change, in shares of the bounds;
    `tells`: it wants to hear what was refused."""
    usage = Usage(bounds, forgets=not rich, longest=MAX_KEY - len(prefix.encode())) if bounds else None
    progress.refused = None
    if pace:
        await _hold(pace, progress, prefix)  # a new session pays the debt of the one before
    record = await store.get(lsr_key)
    sink = Sink(_parse_lsr(record.value if record else b""))
    written = record.mod_revision if record else Revision(0)
    progress.revision = sink.lsr.revision
    digest = b""
    known = sink.lsr != Lsr()
    if usage or (rich and known):
        content = await _content(store, prefix, usage=usage)
        digest = content if rich and known else b""
    if rich and not known:
        digest = bytes(delta.CONTENT)
    faults.at("sync.sink.before_fetch")
    await send(encode(sink.fetch(digest)))
    while True:
        data = await receive()
        progress.bytes += len(data)
        message = decode(data)
        action = sink.receive(message)
        if action is None:
            progress.snapshots += isinstance(message, Start) and message.snapshot
            continue
        if isinstance(action, Compared):
            await send(encode(sink.wanted(await _different(store, prefix, action.spans))))
            continue
        if isinstance(action, Apply):
            written = await _apply(store, prefix, lsr_key, action, written, usage)
            progress.batches += 1
            progress.changes += len(action.items)
            if usage and pace:
                pace.charge(usage.spent(), asyncio.get_running_loop().time())
        progress.revision = sink.lsr.revision
        faults.at("sync.sink.before_ack")
        await send(encode(sink.acked(action)))
        faults.at("sync.sink.after_ack")
        if usage:
            await _say_refused(usage, progress, prefix, send if tells else None)
            if usage.refused and usage.stale and sink.lsr != Lsr():
                await _count(store, prefix, usage)
            if usage.fits() and sink.lsr != Lsr():  # not in the middle of a snapshot, which may bring it anyway
                await _commit(store, lsr_key, [], Lsr(), written)
                raise PeerError("there is room for what was refused; everything is compared anew", close_code=1012)
        if pace:
            await _hold(pace, progress, prefix)


async def _hold(pace: Bucket, progress: Progress, prefix: str) -> None:
    """Until what was written is paid for. What is sent meanwhile waits in the channel: a window of it, or the channel ends."""
    wait = pace.charge(0.0, asyncio.get_running_loop().time())
    if wait > 0:
        if not progress.held:
            log.warning("%s changes faster than it may; it is held up", prefix)
        progress.held += wait
        await asyncio.sleep(wait)


async def _say_refused(usage: Usage, progress: Progress, prefix: str, send: Send | None) -> None:
    """When it is not what was said last."""
    before, count = progress.refused.count if progress.refused else 0, usage.refusals
    if count == before:
        return
    bounds = usage.bounds
    progress.refused = KeysRefused(count, bounds.keys, bounds.size)
    if not before:
        log.warning(
            "%s has %d keys and %d bytes; more are refused (at most %d and %d), the first one is %.100r",
            prefix, usage.keys, usage.size, bounds.keys, bounds.size, next(iter((*usage.refused, *usage.unfit))),
        )  # fmt: skip
    if send:
        await send(encode(progress.refused))


async def _content(store: Store, prefix: str, revision: Revision | None = None, *, usage: Usage | None = None) -> bytes:
    """The digest of what is below the prefix, read in bounded pages; counted, too."""
    content = delta.Content(delta.CONTENT)
    async for page in _pages(store, prefix, revision):
        for kv in page:
            content.add(kv.key.removeprefix(prefix), kv.value)
            if usage:
                usage.count(kv.key.removeprefix(prefix), kv.value)
        await asyncio.sleep(0)  # others have their turn
    return content.digest()


async def _count(store: Store, prefix: str, usage: Usage) -> None:
    usage.keys, usage.size, usage.stale = 0, 0, False
    await _content(store, prefix, usage=usage)


async def _different(store: Store, prefix: str, spans: Sequence[tuple[Span, bytes]]) -> list[int]:
    """The indexes of the spans in which this store has not what their digests say."""
    different = []
    for index, (span, digest) in enumerate(spans):
        found = await store.range(*_bounds(prefix, span), limit=RANGE_KEYS + 1)
        content = delta.Content(delta.DIGEST)
        for kv in found.kvs:
            content.add(kv.key.removeprefix(prefix), kv.value)
        if found.more or content.digest() != digest:
            different.append(index)
        await asyncio.sleep(0)
    return different


def _bounds(prefix: str, span: Span) -> tuple[str, str]:
    """The span as a range of the store."""
    start = prefix + span.after + "\0" if span.after else prefix
    return start, prefix + span.end + "\0" if span.end else keys.prefix_end(prefix)


async def _apply(
    store: Store, prefix: str, lsr_key: str, action: Apply, written: Revision, usage: Usage | None = None
) -> Revision:
    """One transaction: items, deletions, LSR. It is refused when somebody else wrote the LSR: another process that speaks
    for the same identity."""
    ops: list[Op] = [
        Delete(prefix + item.key) if item.value is None else Put(prefix + item.key, item.value)
        for item in await _only_news(store, prefix, action.items, usage)
    ]
    if action.keep is not None:
        have = (await store.range(*_bounds(prefix, action.within or Span("", "")), keys_only=True)).kvs
        stale: list[Op] = [Delete(kv.key) for kv in have if kv.key.removeprefix(prefix) not in action.keep]
        while len(stale) > MAX_ITEMS:  # more than one transaction takes; a cut here only repeats the snapshot
            written = await _commit(store, lsr_key, stale[:MAX_ITEMS], Lsr(), written)
            del stale[:MAX_ITEMS]
        ops += stale
        if usage and stale:
            usage.stale = True
    lsr = Lsr() if action.lsr and usage and usage.refused and usage.forgets else action.lsr
    return await _commit(store, lsr_key, ops, lsr, written)


async def _commit(store: Store, lsr_key: str, ops: list[Op], lsr: Lsr | None, written: Revision) -> Revision:
    """The revision at which the LSR record was written last."""
    if lsr is not None:
        ops = [*ops, Put(lsr_key, json.dumps([lsr.store_id, lsr.revision]).encode())]
    if not ops:
        return written
    faults.at("sync.apply.before_commit")
    result = await store.txn((Compare(lsr_key, CompareTarget.MOD, "=", written),), ops)
    faults.at("sync.apply.after_commit")
    if not result.succeeded:
        raise PeerError("the last sync revision was written by another session of the same identity", close_code=1008)
    return result.revision if lsr is not None else written


async def _only_news(
    store: Store, prefix: str, items: Sequence[Item | Patch], usage: Usage | None = None
) -> list[Item]:
    """Without what the store already has: a repeated snapshot writes nothing; and without what is refused. Patches become values."""
    if not items:
        return []
    if usage and usage.stale and usage.near(len(items), sum(size_of(item) for item in items if isinstance(item, Item))):
        await _count(store, prefix, usage)
    there = (await store.txn((), [Get(prefix + item.key) for item in items])).responses
    news: list[Item] = []
    for item, found in zip(items, there, strict=True):
        have = _value(found)
        try:
            whole = _patched(item, have) if isinstance(item, Patch) else item
        except PeerError:
            if not (usage and usage.refuses_on(item.key)):
                raise
            continue
        if whole.value == have:
            if usage:
                usage.forget(item.key)  # it is again as it was
        elif usage is None or usage.admits(whole, have):
            news.append(whole)
    return news


def _patched(item: Patch, value: bytes | None) -> Item:
    """Raises PeerError when our value is not the one that the source thinks; the next FETCH then tells it, by its digest."""
    if value is None or delta.digest(value) != item.digest:  # it may have been applied before a cut
        value = delta.apply(value or b"", item.patch)
        if delta.digest(value) != item.digest:
            raise PeerError(
                f"a patch of {item.key} does not fit the value here; everything is compared anew", close_code=1012
            )
    return Item(item.key, value)


def _value(found: RangeResult | int | None) -> bytes | None:
    return found.kvs[0].value if isinstance(found, RangeResult) and found.kvs else None


async def run_source(store: Store, prefix: str, send: Send, receive: Receive, progress: Progress) -> None:
    progress.refused = None
    fetch = decode(await receive())
    if not isinstance(fetch, Fetch):
        raise PeerError(f"{type(fetch).__name__} instead of Fetch")
    await _Outgoing(store, prefix, fetch, send, receive, progress).run()


def refusal(told: KeysRefused) -> str:
    return f"it takes at most {told.keys} keys and {told.bytes} bytes of this node, and no very long keys; delete what is not needed"


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
                    async for page in _pages(store, prefix, position):
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
        if not fetch.digest or not self._source.continues(fetch, store.revision, store.compacted):
            return True
        try:
            return await _content(store, self._prefix, fetch.after) == fetch.digest
        except Gone:
            return False

    async def _send_ranges(self, revision: Revision) -> None:
        async for ranges in _ranges(self._store, self._prefix, revision):
            ends = [self._asked_up_to, *(entry.end for entry in ranges)]
            self._asked_up_to = ends[-1]
            self._asked.append([Span(after, end) for after, end in zip(ends, ends[1:], strict=False)])
            await self._push(Ranges(ranges), None)
            await self._fill(revision)
        while self._asked:
            await self._wait()
            await self._fill(revision)

    async def _fill(self, revision: Revision) -> None:
        while self._wanted:
            span = self._wanted.pop(0)
            found = await self._store.range(*_bounds(self._prefix, span), revision=revision)
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


async def _pages(store: Store, prefix: str, revision: Revision | None) -> AsyncIterator[Sequence[KeyValue]]:
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


async def _ranges(store: Store, prefix: str, revision: Revision) -> AsyncIterator[Sequence[Range]]:
    """The keys of the prefix as ranges, as many as go into a message."""
    ranges: list[Range] = []
    content, end, count, size, named = delta.Content(delta.DIGEST), "", 0, 0, 0
    async for page in _pages(store, prefix, revision):
        for kv in page:
            if count == RANGE_KEYS or (count and size + len(kv.value) > RANGE_BYTES):
                ranges.append(Range(end, content.digest()))
                named += len(end)
                content, count, size = delta.Content(delta.DIGEST), 0, 0
                if len(ranges) == MAX_RANGES or named > TARGET_BODY:
                    yield ranges
                    ranges, named = [], 0
            end = kv.key.removeprefix(prefix)
            content.add(end, kv.value)
            count, size = count + 1, size + len(kv.value)
        await asyncio.sleep(0)
    if count:
        ranges.append(Range(end, content.digest()))
    if ranges:
        yield ranges


def _sender(channel: Channel, kind: int) -> Send:
    async def send(payload: bytes) -> None:
        await channel.send(kind, payload)

    return send


def _parse_lsr(value: bytes) -> Lsr:
    try:
        store_id, revision = json.loads(value)
        return Lsr(str(store_id), Revision(int(revision)))
    except (ValueError, TypeError):
        return Lsr()


__all__ = ["Progress", "refusal", "run_cloud", "run_edge", "run_sink", "run_source"]
