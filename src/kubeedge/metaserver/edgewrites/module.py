"""Module "edgewrites": takes in the cloud's answer to a write, which ends the write.

The answer comes in the same transaction as the merged object (kubeedge_cloud.edgecontroller), so taking the write away changes nothing
visible but the pending annotation. After a lost link or a crash the answer is found again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from kubeedge.api import edge_writes, keys, meta
from kubeedge.errors import Invalid, Unavailable
from kubeedge.metaserver import core
from kubeedge.store.model import Compare, CompareTarget, Delete, KeyValue, Op, Put, Store
from kubeedge.store.reflector import PrefixView, follow_view, reflect

log = logging.getLogger("kubeedge.metaserver")

_RETRY = 1.0  # seconds, on a full disk


class EdgeWrites:
    """Counts the node's writes and takes in their answers; `outcomes` and `waiting` are for the metrics."""

    name = "edgewrites"

    def __init__(self, store: Store, node: str, *, wall: Callable[[], float]) -> None:
        self._store = store
        self._node = node
        self._wall = wall
        self.outcomes: dict[str, int] = {}  # since the start
        self.waiting = 0  # for the cloud

    async def run(self, ready: asyncio.Event) -> None:
        """Follows the answers, and counts what waits."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.count(), name="count of pending writes")
            group.create_task(self._follow(ready), name="answers to writes")

    async def _follow(self, ready: asyncio.Event) -> None:
        async with contextlib.aclosing(reflect(self._store, core.RESULTS)) as changes:
            async for answers, changed in changes:
                for key in sorted(changed):
                    if key in answers:
                        await self._answered(key, answers[key])
                ready.set()

    async def pending(self) -> int:
        """How many writes the cloud has not answered; reads their keys only."""
        return len((await self._store.range(core.WRITES, keys.prefix_end(core.WRITES), keys_only=True)).kvs)

    async def count(self) -> None:
        """Keep `waiting` current, for the metrics."""
        view = PrefixView(self._store, core.WRITES, keep=len)
        async with contextlib.aclosing(follow_view(view)) as changes:
            async for _ in changes:
                self.waiting = len(view.values)

    async def _answered(self, key: str, value: bytes) -> None:
        while True:
            try:
                return await self._settle(core.WRITES + key.removeprefix(core.RESULTS), value)
            except Unavailable as exc:
                log.warning("the answer to a write is not kept yet: %s", exc)
                await asyncio.sleep(_RETRY)

    async def _drop(self, kv: KeyValue, answer: bytes) -> None:
        """A row that is not a write (flipped bits) would count as pending indefinitely; the cloud refused it as well."""
        with contextlib.suppress(Invalid):
            if edge_writes.decode_result(answer)[:2] == ("", "refused"):
                await self._store.txn((Compare(kv.key, CompareTarget.MOD, "=", kv.mod_revision),), (Delete(kv.key),))

    async def _settle(self, key: str, value: bytes) -> None:
        kv = await self._store.get(key)
        if kv is None:
            return
        try:
            write_id, outcome, message = edge_writes.decode_result(value)
            write = edge_writes.decode(kv.value)
        except Invalid as exc:
            log.error("%s: %s", key, exc)
            await self._drop(kv, value)
            return
        if write_id not in (write.id, ""):
            return  # it answers a write of another history
        marker = keys.WRITTEN + keys.desired(*write.object_key).removeprefix(keys.DESIRED)
        ops: list[Op] = [Delete(key), Put(marker, write.id.encode())]
        if outcome != "merged":
            now = meta.timestamp(self._wall())
            namespace, name, event = edge_writes.event(write, outcome, message, node=self._node, at=now)
            ops.append(Put(keys.reported("events", namespace, name), meta.canonical(event)))
        done = await self._store.txn((Compare(key, CompareTarget.MOD, "=", kv.mod_revision),), ops)
        if done.succeeded:
            self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
            level = logging.INFO if outcome == "merged" else logging.WARNING
            log.log(level, "write %s of %s %s/%s: %s: %s", write.id, *write.object_key, outcome, message)
