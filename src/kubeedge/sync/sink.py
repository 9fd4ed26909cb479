"""Runs the sink of one direction over a real store. All decisions live in core.py."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Sequence

from kubeedge import faults
from kubeedge.api.names import Revision
from kubeedge.errors import PeerError
from kubeedge.store.model import MAX_KEY, Compare, CompareTarget, Delete, Get, Op, Put, RangeResult, Store
from kubeedge.sync import delta
from kubeedge.sync.bounds import Bounds, Pace, Usage
from kubeedge.sync.codec import MAX_ITEMS, Item, KeysRefused, Patch, Receive, Send, Start, decode, encode
from kubeedge.sync.codec import size as size_of
from kubeedge.sync.content import content_digest, different, span_range
from kubeedge.sync.core import Apply, Compared, Lsr, Sink, Span
from kubeedge.sync.progress import Progress

log = logging.getLogger("kubeedge.sync")


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
    pace: Pace | None = None,
    tells: bool = False,
    is_key: Callable[[str], bool] = lambda key: True,
) -> None:
    """`rich`: the source speaks "sync2"; `bounds`: what it may have here; `pace`: how often that may change, in shares of the bounds;
    `tells`: the source wants to be told what was refused; `is_key`: with bounds, other keys are refused."""
    longest = MAX_KEY - len(prefix.encode())
    usage = Usage(bounds, forgets=not rich, longest=longest, is_key=is_key) if bounds else None
    progress.refused = None
    if pace:
        await _throttle(pace, progress, prefix)  # a new session pays the debt of the one before
    record = await store.get(lsr_key)
    sink = Sink(_parse_lsr(record.value if record else b""))
    written = record.mod_revision if record else Revision(0)
    progress.revision = sink.lsr.revision
    digest = b""
    known = sink.lsr != Lsr()
    if usage or (rich and known):
        content = await content_digest(store, prefix, usage=usage)
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
            await send(encode(sink.wanted(await different(store, prefix, action.spans))))
            continue
        if isinstance(action, Apply):
            written = await _apply(store, prefix, lsr_key, action, written, usage)
            progress.batches += 1
            progress.changes += len(action.items)
            if usage and pace:
                spent = max(usage.spent(), 1 / max(1, usage.bounds.commits))
                pace.charge(spent, asyncio.get_running_loop().time())
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
                raise PeerError("there is room for what was refused; everything is compared again", close_code=1012)
        if pace:
            await _throttle(pace, progress, prefix)


async def _throttle(pace: Pace, progress: Progress, prefix: str) -> None:
    """Until what was written is paid for. What is sent meanwhile waits in the channel: a window of it, or the channel ends."""
    wait = pace.charge(0.0, asyncio.get_running_loop().time())
    if wait > 0:
        if not progress.throttled:
            log.warning("%s changes faster than it may; it is throttled", prefix)
        progress.throttled += wait
        await asyncio.sleep(wait)


async def _say_refused(usage: Usage, progress: Progress, prefix: str, send: Send | None) -> None:
    """Tell the source what is refused, when that has changed."""
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


async def _count(store: Store, prefix: str, usage: Usage) -> None:
    usage.keys, usage.size, usage.stale = 0, 0, False
    await content_digest(store, prefix, usage=usage)


async def _apply(
    store: Store, prefix: str, lsr_key: str, action: Apply, written: Revision, usage: Usage | None = None
) -> Revision:
    """One transaction: items, deletions, LSR. It is refused when another process wrote the LSR: another process that speaks
    for the same identity."""
    ops: list[Op] = [
        Delete(prefix + item.key) if item.value is None else Put(prefix + item.key, item.value)
        for item in await _only_news(store, prefix, action.items, usage)
    ]
    if action.keep is not None:
        have = (await store.range(*span_range(prefix, action.within or Span("", "")), keys_only=True)).kvs
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
                f"a patch of {item.key} does not fit the value here; everything is compared again", close_code=1012
            )
    return Item(item.key, value)


def _value(found: RangeResult | int | None) -> bytes | None:
    return found.kvs[0].value if isinstance(found, RangeResult) and found.kvs else None


def _parse_lsr(value: bytes) -> Lsr:
    try:
        store_id, revision = json.loads(value)
        return Lsr(str(store_id), Revision(int(revision)))
    except (ValueError, TypeError):
        return Lsr()
