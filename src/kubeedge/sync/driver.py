"""Runs the two roles of sync over real stores and a hub channel. All decisions live in core.py."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

from kubeedge import faults
from kubeedge.api import keys
from kubeedge.api.names import NodeName, Revision, TenantId
from kubeedge.errors import ChannelDetached, Gone, PeerError
from kubeedge.hub.core import SYNC_DOWN, SYNC_UP
from kubeedge.hub.driver import Channel
from kubeedge.kit.signal import Signal
from kubeedge.store.model import Compare, Delete, Get, Op, Put, RangeResult, Store, Target
from kubeedge.sync.codec import MAX_ITEMS, Batch, End, Fetch, Item, Start, decode, encode
from kubeedge.sync.core import Apply, Lsr, Sink, Source, split

SNAPSHOT_PAGE = 64  # keys read at once to begin with; more when their values turn out small, fewer when large
SNAPSHOT_PAGE_MOST = 2_000
SNAPSHOT_PAGE_BYTES = 1024 * 1024  # of values, about

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


async def run_edge(channel: Channel, store: Store, down: Progress, up: Progress) -> None:
    """Both directions, as the edge sees them, for as long as the channel lives."""
    async with asyncio.TaskGroup() as group:
        group.create_task(
            run_sink(
                store, keys.DESIRED, keys.SYNC + "down", _sender(channel, SYNC_DOWN), channel.stream(SYNC_DOWN), down
            ),
            name="sync from the cloud",
        )
        group.create_task(
            run_source(store, keys.REPORTED, _sender(channel, SYNC_UP), channel.stream(SYNC_UP), up),
            name="sync to the cloud",
        )


async def run_cloud(
    channel: Channel, store: Store, tenant: TenantId, node: NodeName, down: Progress, up: Progress
) -> None:
    """Both directions, as the cloud sees them, for one node. Which node is the certificate's to say."""
    lsr_key = keys.edge(tenant, node) + "sync/up"
    async with asyncio.TaskGroup() as group:
        group.create_task(
            run_source(
                store, keys.edge_desired(tenant, node), _sender(channel, SYNC_DOWN), channel.stream(SYNC_DOWN), down
            ),
            name=f"sync to {tenant}/{node}",
        )
        group.create_task(
            run_sink(
                store, keys.edge_reported(tenant, node), lsr_key, _sender(channel, SYNC_UP), channel.stream(SYNC_UP), up
            ),
            name=f"sync from {tenant}/{node}",
        )


async def run_sink(store: Store, prefix: str, lsr_key: str, send: Send, receive: Receive, progress: Progress) -> None:
    record = await store.get(lsr_key)
    sink = Sink(_parse_lsr(record.value if record else b""))
    written = record.mod_revision if record else Revision(0)
    progress.revision = sink.lsr.revision
    await send(encode(sink.fetch()))
    while True:
        data = await receive()
        progress.bytes += len(data)
        message = decode(data)
        action = sink.receive(message)
        if action is None:
            progress.snapshots += isinstance(message, Start) and message.snapshot
            continue
        if isinstance(action, Apply):
            written = await _apply(store, prefix, lsr_key, action, written)
            progress.batches += 1
            progress.changes += len(action.items)
        progress.revision = sink.lsr.revision
        await send(encode(sink.acked(action)))


async def _apply(store: Store, prefix: str, lsr_key: str, action: Apply, written: Revision) -> Revision:
    """One transaction: items, deletions, LSR. It is refused when somebody else wrote the LSR: another process that speaks
    for the same identity."""
    ops: list[Op] = [
        Delete(prefix + item.key) if item.value is None else Put(prefix + item.key, item.value)
        for item in await _only_news(store, prefix, action.items)
    ]
    if action.keep is not None:
        have = (await store.range(prefix, keys.prefix_end(prefix), keys_only=True)).kvs
        stale: list[Op] = [Delete(kv.key) for kv in have if kv.key.removeprefix(prefix) not in action.keep]
        while len(stale) > MAX_ITEMS:  # more than one transaction takes; a cut here only repeats the snapshot
            written = await _commit(store, lsr_key, stale[:MAX_ITEMS], Lsr(), written)
            del stale[:MAX_ITEMS]
        ops += stale
    return await _commit(store, lsr_key, ops, action.lsr, written)


async def _commit(store: Store, lsr_key: str, ops: list[Op], lsr: Lsr | None, written: Revision) -> Revision:
    """The revision at which the LSR record was written last."""
    if lsr is not None:
        ops = [*ops, Put(lsr_key, json.dumps([lsr.store_id, lsr.revision]).encode())]
    if not ops:
        return written
    faults.at("sync.apply.before_commit")
    result = await store.txn((Compare(lsr_key, Target.MOD, "=", written),), ops)
    faults.at("sync.apply.after_commit")
    if not result.succeeded:
        raise PeerError("the last sync revision was written by another session of the same identity", close_code=1008)
    return result.revision if lsr is not None else written


async def _only_news(store: Store, prefix: str, items: Sequence[Item]) -> list[Item]:
    """Without what the store already has: a repeated snapshot writes nothing."""
    if not items:
        return []
    there = (await store.txn((), [Get(prefix + item.key) for item in items])).responses
    return [item for item, found in zip(items, there, strict=True) if _value(found) != item.value]


def _value(found: RangeResult | int | None) -> bytes | None:
    return found.kvs[0].value if isinstance(found, RangeResult) and found.kvs else None


async def run_source(store: Store, prefix: str, send: Send, receive: Receive, progress: Progress) -> None:
    source = Source(store.store_id)
    fetch = decode(await receive())
    if not isinstance(fetch, Fetch):
        raise PeerError(f"{type(fetch).__name__} instead of Fetch")
    room = Signal()
    room.set()
    async with asyncio.TaskGroup() as group:
        group.create_task(_take_acks(source, receive, room, progress), name="sync acknowledgements")
        group.create_task(_send_changes(source, store, prefix, fetch, send, room, progress), name="sync changes")


async def _take_acks(source: Source, receive: Receive, room: Signal, progress: Progress) -> None:
    while True:
        progress.revision = source.receive(decode(await receive()))
        if source.may_send():
            room.set()


async def _send_changes(
    source: Source, store: Store, prefix: str, fetch: Fetch, send: Send, room: Signal, progress: Progress
) -> None:
    async def push(message: Batch | End, revision: Revision) -> None:
        while not source.may_send():
            room.clear()
            await room.wait()
        data = encode(message)
        source.sent(revision, len(data))
        progress.bytes += len(data)
        if isinstance(message, Batch):
            progress.batches += 1
            progress.changes += len(message.items)
        await send(data)

    start = source.answer(fetch, store.revision, store.compacted)
    await send(encode(start))
    position = start.revision
    try:
        if start.snapshot:
            progress.snapshots += 1
            async for part in _snapshot(store, prefix, position):
                await push(Batch(position, part), position)
            await push(End(), position)
        async with contextlib.aclosing(store.watch(prefix, after=position, progress=True)) as batches:  # type: ignore[type-var]
            async for batch in batches:
                for message in source.delta(batch.changes, prefix, position, batch.revision):
                    await push(message, message.revision)
                position = batch.revision
    except Gone as exc:
        # we fell behind our own compaction; the sink is told by the end of the channel, and asks again
        raise PeerError(f"history is gone: {exc}", close_code=1012) from exc
    raise ChannelDetached("the store was closed")


async def _snapshot(store: Store, prefix: str, revision: Revision) -> AsyncIterator[Sequence[Item]]:
    """The live keys of the prefix at that revision, in bounded pages."""
    key, end, limit = prefix, keys.prefix_end(prefix), SNAPSHOT_PAGE
    while True:
        page = await store.range(key, end, revision=revision, limit=limit)
        size = sum(len(kv.value) for kv in page.kvs)
        limit = min(SNAPSHOT_PAGE_MOST, max(1, limit * SNAPSHOT_PAGE_BYTES // (size or 1)), 2 * limit)
        for part in split(Item(kv.key.removeprefix(prefix), kv.value) for kv in page.kvs):
            yield part
        if not page.more:
            return
        key = page.kvs[-1].key + "\0"


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


__all__ = ["Progress", "run_cloud", "run_edge", "run_sink", "run_source"]
