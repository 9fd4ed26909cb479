"""What survives, and the store of a process on it: one commit after the other, each takes time, any may be the last.

The store follows the durable one (kubeedge.store.sqlite) step by step: a queue, groups that share a commit, answers after it, reads
that pass the queue, leases that are on the disk. What a transaction means is the product's own core.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from bisect import bisect_right
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass

from kubeedge import faults
from kubeedge.api import keys
from kubeedge.api.names import Revision
from kubeedge.errors import NotFound, Unavailable
from kubeedge.store.core import check, evaluate
from kubeedge.store.leases import Leases
from kubeedge.store.memory import MemoryStore, check_leases
from kubeedge.store.model import (
    Change,
    ChangeKind,
    Compare,
    Delete,
    Get,
    KeyValue,
    Op,
    Put,
    RangeResult,
    TxnResult,
    WatchBatch,
)

_GROUP = 256  # as the durable store's


class Data(MemoryStore):
    """The contents, for its process and for the checks."""

    def apply(
        self, compares: Sequence[Compare], success: Sequence[Op], failure: Sequence[Op]
    ) -> tuple[TxnResult, Sequence[Change]]:
        """A transaction that was checked, at once."""
        outcome = evaluate(self, self._revision, compares, success, failure)
        if outcome.changes:
            self.follow(outcome.changes, outcome.revision)
            self._watches.committed(outcome.changes, outcome.revision)
        return TxnResult(outcome.succeeded, outcome.revision, outcome.responses), outcome.changes

    def follow(self, changes: Sequence[Change], revision: Revision) -> None:
        for change in changes:
            self._history.setdefault(change.key, []).append(change)
        self._log.extend(changes)
        self._revision = revision

    def copy(self) -> Data:
        other = Data(store_id=self._store_id)
        other._revision, other._compacted = self._revision, self._compacted
        other._history = {key: list(changes) for key, changes in self._history.items()}
        other._log = list(self._log)
        return other

    def history(self, key: str) -> Sequence[Change]:
        return self._history.get(key, ())

    def past(self, prefix: str) -> list[str]:
        return [key for key in self._history if key.startswith(prefix)]

    def between(self, after: Revision, upto: Revision) -> Sequence[Change]:
        start = bisect_right(self._log, after, key=_revision)
        return self._log[start : bisect_right(self._log, upto, key=_revision)]

    def rot(self, key: str, value: bytes) -> None:
        """The newest value of a live key is another one all at once."""
        old = self._history[key][-1]
        new = old._replace(value=value)
        self._history[key][-1] = new
        self._log = [new if change is old else change for change in self._log]


def _revision(change: Change) -> Revision:
    return change.revision


class Disk:
    """What survives. `on_commit(changes)` hears of each commit that changes something."""

    def __init__(self, store_id: str, *, data: Data | None = None) -> None:
        self.data = data or Data(store_id=store_id)
        self.leases: dict[int, float] = {}  # granted and not ended -> seconds
        self.next_lease = 1
        self.full = False
        self.on_commit: Callable[[Sequence[Change]], None] = lambda changes: None
        #: for the checks: all values that a key had, oldest first, None is a deletion; and its newest commit
        self.log: dict[str, list[bytes | None]] = {}
        self.newest: dict[str, tuple[Revision, bytes | None]] = {}
        self.rotten: dict[str, Revision] = {}  # keys whose value of that revision is not what was written
        if data:
            for key in data.past("/"):
                if (kv := data.newest(key)) is not None:
                    self.log[key] = [kv.value]
                    self.newest[key] = (kv.mod_revision, kv.value)

    def image(self) -> Disk:
        """A copy of the disk as it is."""
        other = Disk("", data=self.data.copy())
        other.leases, other.next_lease = dict(self.leases), self.next_lease
        other.newest, other.rotten = dict(self.newest), dict(self.rotten)
        return other

    def rot(self, kv: KeyValue, value: bytes) -> None:
        self.data.rot(kv.key, value)
        self.newest[kv.key] = (kv.mod_revision, value)
        self.rotten[kv.key] = kv.mod_revision

    def is_rotten(self, kv: KeyValue | None) -> bool:
        return kv is not None and self.rotten.get(kv.key) == kv.mod_revision

    def open(self, rng: random.Random) -> SimStore:
        """For a process that starts."""
        return SimStore(self, rng)

    def live(self, prefix: str) -> dict[str, bytes]:
        end = keys.prefix_end(prefix)
        return {kv.key.removeprefix(prefix): kv.value for kv in self.data.newest_range(prefix, end)}

    def commit(self, compares: Sequence[Compare], success: Sequence[Op], failure: Sequence[Op] = ()) -> TxnResult:
        result, changes = self.data.apply(compares, success, failure)
        if changes:
            self.took(changes)
        return result

    def took(self, changes: Sequence[Change]) -> None:
        for change in changes:
            value = change.value if change.kind is ChangeKind.PUT else None
            self.log.setdefault(change.key, []).append(value)
            self.newest[change.key] = (change.revision, value)
        self.on_commit(changes)

    def owned(self, lease: int) -> Sequence[Op]:
        return [Delete(key) for key in self.data.past("/") if (kv := self.data.newest(key)) and kv.lease == lease]


@dataclass(slots=True)
class _Request:
    compares: Sequence[Compare]
    success: Sequence[Op]
    failure: Sequence[Op]
    future: asyncio.Future[TxnResult]
    ends_lease: int = 0


@dataclass(slots=True)
class _Job:
    work: Callable[[], None]
    future: asyncio.Future[None]


class SimStore:
    """Death in the middle of a commit loses or keeps it, nobody knows. As in the product, a caller that is cancelled does not take
    its transaction back."""

    def __init__(self, disk: Disk, rng: random.Random) -> None:
        self.disk = disk
        self._rng = rng
        self._loop = asyncio.get_running_loop()
        self._queue: deque[_Request | _Job] = deque()
        self._syncing: list[_Request | _Job] = []
        self._unanswered = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._expiry: asyncio.TimerHandle | None = None
        self._leases = Leases()
        for lease, ttl in disk.leases.items():
            self._leases.restore(lease, ttl, self._loop.time())
        self._leases.not_below(disk.next_lease)
        self.context: Context = copy_context()  # whose store it is: faults ask
        self.dead = False
        self._arm()

    @property
    def store_id(self) -> str:
        return self.disk.data.store_id

    @property
    def revision(self) -> Revision:
        return self.disk.data.revision

    @property
    def compacted(self) -> Revision:
        return self.disk.data.compacted

    async def range(
        self, key: str, end: str = "", *, revision: Revision | None = None, limit: int = 0, keys_only: bool = False
    ) -> RangeResult:
        return await self.disk.data.range(key, end, revision=revision, limit=limit, keys_only=keys_only)

    async def get(self, key: str) -> KeyValue | None:
        return await self.disk.data.get(key)

    async def txn(self, compares: Sequence[Compare], success: Sequence[Op], failure: Sequence[Op] = ()) -> TxnResult:
        if self.dead:
            raise Unavailable("the process is dead")
        check(compares, success, failure)
        check_leases(self._leases, success, failure)
        if not self._unanswered and all(isinstance(op, Get) for ops in (success, failure) for op in ops):
            return self.disk.commit(compares, success, failure)
        future: asyncio.Future[TxnResult] = self._loop.create_future()
        self._ask(_Request(compares, success, failure, future))
        return await future

    def _ask(self, item: _Request | _Job) -> None:
        self._queue.append(item)
        self._unanswered += 1
        if not self._syncing:
            self._sync()

    def _sync(self) -> None:
        while self._queue and len(self._syncing) < _GROUP:
            self._syncing.append(self._queue.popleft())
        if self._syncing:
            self._loop.call_later(self._rng.choice((0.0, 0.001, 0.01, 0.2)), self.context.run, self._synced)

    def _synced(self) -> None:
        if self.dead:
            return
        with contextlib.suppress(asyncio.CancelledError):  # the process died in it
            faults.at("store.commit.before_fsync")
            group = self._syncing
            answers = self._written(group)
            self._syncing = []
            faults.at("store.commit.after_fsync")
            self._unanswered -= len(group)
            for item, answer in zip(group, answers, strict=True):
                if item.future.done():
                    continue
                if isinstance(answer, Exception):
                    item.future.set_exception(answer)
                else:
                    item.future.set_result(answer)  # type: ignore[arg-type]
            self._sync()

    def _written(self, group: Sequence[_Request | _Job]) -> Sequence[TxnResult | Exception | None]:
        if self.disk.full and self._rng.random() < 0.8:
            return [Unavailable("the disk is full", retry_after=1.0)] * len(group)
        answers: list[TxnResult | Exception | None] = []
        for item in group:
            if isinstance(item, _Job):
                answers.append(item.work())  # type: ignore[func-returns-value]
            else:
                success = self.disk.owned(item.ends_lease) if item.ends_lease else item.success
                answers.append(self.disk.commit(item.compares, success, item.failure))
        return answers

    def die(self, *, power: bool) -> None:
        """What was being synced may be on the disk or not."""
        if self.dead:
            return
        self.dead = True
        for task in self._tasks:
            task.cancel()
        if self._expiry:
            self._expiry.cancel()
        syncing, self._syncing = self._syncing, []
        if syncing and self._rng.random() < 0.5:
            self._written(syncing)

    async def put(self, key: str, value: bytes, lease: int = 0) -> Revision:
        return (await self.txn((), (Put(key, value, lease),))).revision

    async def delete(self, key: str, end: str = "") -> int:
        count = (await self.txn((), (Delete(key, end),))).responses[0]
        assert isinstance(count, int)
        return count

    def watch(self, prefix: str, *, after: Revision, progress: bool = False) -> AsyncGenerator[WatchBatch, None]:
        return self.disk.data.watch(prefix, after=after, progress=progress)

    async def compact(self, revision: Revision) -> None:
        await self.disk.data.compact(revision)

    # -- leases --------------------------------------------------------------------------------------------------------------

    async def lease_grant(self, ttl: float) -> int:
        lease = self._leases.grant(ttl, self._loop.time())

        def work() -> None:
            self.disk.leases[lease] = ttl
            self.disk.next_lease = max(self.disk.next_lease, lease + 1)

        try:
            await self._do(work)
        except Unavailable:
            self._leases.drop(lease)
            raise
        self._arm()
        return lease

    async def lease_keepalive(self, lease: int) -> None:
        self._leases.keepalive(lease, self._loop.time())
        self._arm()

    async def lease_revoke(self, lease: int) -> None:
        if not (ttl := self._leases.drop(lease)):
            raise NotFound(f"lease {lease} does not exist or has expired")
        try:
            await self._end_lease(lease)
        except Unavailable:
            self._leases.restore(lease, ttl, self._loop.time())
            raise
        finally:
            self._arm()

    async def _end_lease(self, lease: int) -> None:
        if self.dead:
            raise Unavailable("the process is dead")
        future: asyncio.Future[TxnResult] = self._loop.create_future()
        self._ask(_Request((), (), (), future, ends_lease=lease))
        await future
        await self._do(lambda: self.disk.leases.pop(lease, None) and None)

    async def _do(self, work: Callable[[], None]) -> None:
        if self.dead:
            raise Unavailable("the process is dead")
        future: asyncio.Future[None] = self._loop.create_future()
        self._ask(_Job(work, future))
        await future

    def _arm(self) -> None:
        if self._expiry:
            self._expiry.cancel()
            self._expiry = None
        if (at := self._leases.next_expiry()) is not None and not self.dead:
            self._expiry = self._loop.call_at(at, self._expire)

    def _expire(self) -> None:
        for lease in self._leases.expired(self._loop.time()):
            self._leases.drop(lease)
            task = self._loop.create_task(self._end_expired(lease))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._arm()

    async def _end_expired(self, lease: int) -> None:
        while not self.dead:
            try:
                return await self._end_lease(lease)
            except Unavailable:
                await asyncio.sleep(1.0)

    async def close(self) -> None:
        pass
