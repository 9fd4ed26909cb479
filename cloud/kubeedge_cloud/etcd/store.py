"""A Store in an etcd cluster. Revisions are etcd's own; keys have the namespace in front.

What the cluster must allow: --max-txn-ops=4096 and --max-request-bytes=8388608; a refusal names the option.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any

from kubeedge.api import keys
from kubeedge.api.names import Revision, TenantId
from kubeedge.errors import Gone, Invalid, KubeEdgeError, Misuse, NotFound, Unavailable
from kubeedge.store.core import check, check_range
from kubeedge.store.leases import MAX_TTL
from kubeedge.store.model import (
    Compare,
    CompareTarget,
    Delete,
    Get,
    KeyValue,
    Op,
    Put,
    RangeResult,
    TxnResult,
    WatchBatch,
)
from kubeedge.store.watch import Watches
from kubeedge_cloud.etcd.feed import Feed
from kubeedge_cloud.etcd.history import TenantHistory
from kubeedge_cloud.etcd.members import EtcdMembers, EtcdSettings, rpc

log = logging.getLogger("kubeedge.etcd")

_STORE_ID = "\0store-id"  # the contract has no keys with a zero byte
_OPENED = "\0opened"
_OPERATORS = {"=": 0, ">": 1, "<": 2, "!=": 3}  # etcdserverpb.Compare.CompareResult
_TARGETS = {
    CompareTarget.VERSION: 0,
    CompareTarget.CREATE: 1,
    CompareTarget.MOD: 2,
    CompareTarget.VALUE: 3,
}  # CompareTarget
_FIELDS = {
    CompareTarget.VERSION: "version",
    CompareTarget.CREATE: "create_revision",
    CompareTarget.MOD: "mod_revision",
    CompareTarget.VALUE: "value",
}


async def open_etcd(settings: EtcdSettings) -> EtcdStore:
    """A store in etcd. Raises Unavailable when no member answers."""
    store = EtcdStore(settings)
    try:
        await store.open()
    except BaseException:
        await store.close()
        raise
    return store


class EtcdStore:
    """Made by open_etcd, inside a running event loop."""

    def __init__(self, settings: EtcdSettings) -> None:
        self._settings = settings
        self._members = EtcdMembers(settings)
        self._namespace = settings.namespace.encode()
        self._store_id = ""
        self._known = Revision(0)  # the highest that any answer named
        self._written = Revision(0)  # the highest at which we changed something
        self._compacted = Revision(0)  # as far as this process has heard
        self._bytes = TenantHistory(settings.history_bytes)
        self._is_over = asyncio.Event()  # some tenant has more history than it may
        self._feed = Feed(self._members, self._namespace, self._told, self._lost)
        self._watches = Watches(self._history, lambda prefix: self._compacted)
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False
        #: called once when etcd's history goes back: it was restored from a backup. Watches would wait for revisions of the future then, and
        #: hear nothing for hours; users of the store have to start over, as all API servers of Kubernetes have
        self.on_rewound: Callable[[], None] | None = None
        self.rewound = ""  # why, in words

    async def open(self) -> None:
        """Finds or creates the identity of the store, and begins to follow its changes. Raises Unavailable."""
        fresh = uuid.uuid4().hex
        absent = (Compare(_STORE_ID, CompareTarget.VERSION, "=", 0),)
        found = await self._txn(absent, (Put(_STORE_ID, fresh.encode()),), (Get(_STORE_ID),))
        self._store_id = fresh
        if not found.succeeded and isinstance(found.responses[0], RangeResult):
            self._store_id = found.responses[0].kvs[0].value.decode()
        revision = (await self._txn((), (Put(_OPENED, b""),))).revision
        self._feed.begin(revision)
        self._watches.begin(revision)
        self._tasks.append(asyncio.create_task(self._feed.run(), name="feed of etcd"))
        if self._settings.keep_revisions:
            self._tasks.append(asyncio.create_task(self._compact_for_ever(), name="compaction of etcd"))

    @property
    def store_id(self) -> str:
        return self._store_id

    @property
    def revision(self) -> Revision:
        return self._known

    @property
    def compacted(self) -> Revision:
        return self._compacted

    # -- reading -------------------------------------------------------------------------------------------------------

    async def range(
        self, key: str, end: str = "", *, revision: Revision | None = None, limit: int = 0, keys_only: bool = False
    ) -> RangeResult:
        """Linearizable: what was acknowledged before is seen, whichever member answers."""
        check_range(key, end)
        request = rpc.RangeRequest(
            key=self._start(key) if end else self._key(key),
            range_end=self._key(end) if end else b"",
            revision=revision or 0,
            limit=limit,
            keys_only=keys_only,
        )
        known = self._known
        try:
            answer = await self._members.call(rpc.KVStub, "Range", request, repeatable=True)
        except Gone as exc:
            raise Gone(f"revision {revision} has been compacted", compacted=self._compacted) from exc
        self._check_history(answer.header, known)
        return self._range(answer)

    async def get(self, key: str) -> KeyValue | None:
        found = (await self.range(key)).kvs
        return found[0] if found else None

    async def watch(self, prefix: str, *, after: Revision, progress: bool = False) -> AsyncGenerator[WatchBatch, None]:
        await self._feed.reached(self._written)  # who has written sees it in a watch that begins afterwards
        async with aclosing(self._watches.watch(prefix, after, progress, lambda: self._feed.revision)) as batches:
            async for batch in batches:
                yield batch

    async def _history(self, prefix: str, after: Revision, limit: int) -> tuple[Sequence[Any], Revision]:
        try:
            return await self._feed.history(prefix, after, limit)
        except Gone as exc:
            self._compacted = Revision(max(self._compacted, exc.compacted))
            raise

    def _told(self, changes: Sequence[Any], revision: Revision) -> None:
        self._known = Revision(max(self._known, revision))
        if self._settings.keep_revisions and self._bytes.wrote(changes, revision):
            self._is_over.set()
        self._watches.committed(changes, revision)

    def _lost(self, revision: Revision) -> None:
        self._compacted = Revision(max(self._compacted, revision))
        self._bytes.compacted(self._compacted)
        self._watches.forget()

    # -- writing -------------------------------------------------------------------------------------------------------

    async def txn(self, compares: Sequence[Compare], success: Sequence[Op], failure: Sequence[Op] = ()) -> TxnResult:
        if self._closed:
            raise Misuse("the store is closed")
        check(compares, success, failure)
        return await self._txn(compares, success, failure)

    async def _txn(self, compares: Sequence[Compare], success: Sequence[Op], failure: Sequence[Op] = ()) -> TxnResult:
        request = rpc.TxnRequest(
            compare=[self._compare(c) for c in compares],
            success=[self._op(op) for op in success],
            failure=[self._op(op) for op in failure],
        )
        writes = any(not isinstance(op, Get) for op in (*success, *failure))
        known = self._known
        answer = await self._members.call(rpc.KVStub, "Txn", request, repeatable=not writes)
        self._check_history(answer.header, known)
        revision = self._heard(answer.header)
        responses = tuple(self._response(r) for r in answer.responses)
        if any(r is None or (isinstance(r, int) and r) for r in responses):  # a put, or a delete that found something
            self._written = Revision(max(self._written, revision))
        if self._settings.keep_revisions and revision > self._feed.revision:
            for op in success if answer.succeeded else failure:
                if isinstance(op, Put):
                    self._bytes.acknowledged(keys.owner(op.key), len(op.key) + len(op.value), revision)
        return TxnResult(answer.succeeded, revision, responses)

    async def put(self, key: str, value: bytes, lease: int = 0) -> Revision:
        return (await self.txn((), (Put(key, value, lease),))).revision

    async def delete(self, key: str, end: str = "") -> int:
        count = (await self.txn((), (Delete(key, end),))).responses[0]
        assert isinstance(count, int)
        return count

    async def compact(self, revision: Revision) -> None:
        try:
            request = rpc.CompactionRequest(revision=revision)
            await self._members.call(rpc.KVStub, "Compact", request, repeatable=False)
        except Gone as exc:
            self._compacted = Revision(max(self._compacted, revision))
            raise Gone(f"revision {revision} has been compacted already", compacted=self._compacted) from exc
        self._compacted = Revision(max(self._compacted, revision))

    async def _compact_for_ever(self) -> None:
        """Every process does, and it costs nothing when another one was faster. Readers always find what is a moment old."""
        while True:
            target = Revision(self._feed.revision - self._settings.keep_revisions)
            self._is_over.clear()
            if not self._bytes.target():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._settings.compact_interval):
                        await self._is_over.wait()
            if by_bytes := self._bytes.target():
                target = max(target, by_bytes)
                await asyncio.sleep(self._settings.compact_soon)
            if target > self._compacted:
                with contextlib.suppress(KubeEdgeError):
                    await self.compact(target)
                if self._compacted < target:  # no member answers
                    await asyncio.sleep(self._settings.compact_soon)
            self._bytes.compacted(self._compacted)

    def pressure(self, tenant: TenantId) -> float:
        """Seconds that the tenant has to wait before it writes: its history has twice the bytes that it may have. 0.0: it may write."""
        return self._settings.compact_soon if self._bytes.over_twice(keys.owner(keys.registry(tenant))) else 0.0

    # -- leases --------------------------------------------------------------------------------------------------------

    async def lease_grant(self, ttl: float) -> int:
        """etcd counts in whole seconds, and not below one and a half election timeouts: 2 by default."""
        if not 0 < ttl <= MAX_TTL:
            raise Invalid(f"a lease of {ttl} seconds; it must be above 0 and at most {MAX_TTL:.0f}")
        request = rpc.LeaseGrantRequest(TTL=math.ceil(ttl))
        answer = await self._members.call(
            rpc.LeaseStub, "LeaseGrant", request, repeatable=True, timeout=self._settings.grant_timeout
        )
        return int(answer.ID)

    async def lease_keepalive(self, lease: int) -> None:
        request = rpc.LeaseKeepAliveRequest(ID=lease)
        answer = await self._members.first(
            rpc.LeaseStub, "LeaseKeepAlive", request, timeout=self._settings.lease_timeout
        )
        if answer.TTL <= 0:
            raise NotFound(f"lease {lease} does not exist or has expired")

    async def lease_revoke(self, lease: int) -> None:
        try:
            request = rpc.LeaseRevokeRequest(ID=lease)
            answer = await self._members.call(rpc.LeaseStub, "LeaseRevoke", request, repeatable=False)
        except NotFound as exc:
            raise NotFound(f"lease {lease} does not exist or has expired") from exc
        self._heard(answer.header)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._watches.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._members.close()

    # -- messages ------------------------------------------------------------------------------------------------------

    def _check_history(self, header: Any, known: Revision) -> None:
        """Of a linearizable answer, which is never older than what was known when it was asked for. Raises Unavailable."""
        if header.revision >= known:
            return
        if not self.rewound:
            self.rewound = (
                f"etcd went back from revision {known} to {header.revision}: it was restored from a backup; "
                "this process ends, and starts over with what is there"
            )
            log.error("%s", self.rewound)
            if self.on_rewound:
                self.on_rewound()
        raise Unavailable(self.rewound)

    def _heard(self, header: Any) -> Revision:
        self._known = Revision(max(self._known, header.revision))
        return Revision(header.revision)

    def _key(self, key: str) -> bytes:
        return self._namespace + key.encode()

    def _start(self, key: str) -> bytes:
        """The key at which a range starts: from the beginning means behind our own records."""
        return self._key(max(key, "\1"))

    def _range(self, answer: Any, revision: Revision | None = None) -> RangeResult:
        revision = self._heard(answer.header) if revision is None else revision
        return RangeResult(tuple(self._kv(kv) for kv in answer.kvs), revision, answer.more, answer.count)

    def _kv(self, kv: Any) -> KeyValue:
        return KeyValue(
            kv.key[len(self._namespace) :].decode(),
            kv.value,
            Revision(kv.create_revision),
            Revision(kv.mod_revision),
            kv.version,
            kv.lease,
        )

    def _compare(self, compare: Compare) -> Any:
        return rpc.Compare(
            key=self._key(compare.key),
            target=_TARGETS[compare.target],
            result=_OPERATORS[compare.op],
            **{_FIELDS[compare.target]: compare.operand},
        )

    def _op(self, op: Op) -> Any:
        match op:
            case Put(key, value, lease):
                return rpc.RequestOp(request_put=rpc.PutRequest(key=self._key(key), value=value, lease=lease))
            case Delete(key, end):
                end_key = self._key(end) if end else b""
                start = self._start(key) if end else self._key(key)
                return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=start, range_end=end_key))
            case Get(key, end, limit):
                end_key = self._key(end) if end else b""
                start = self._start(key) if end else self._key(key)
                return rpc.RequestOp(request_range=rpc.RangeRequest(key=start, range_end=end_key, limit=limit))

    def _response(self, response: Any) -> RangeResult | int | None:
        match response.WhichOneof("response"):
            case "response_range":
                return self._range(response.response_range)
            case "response_delete_range":
                return int(response.response_delete_range.deleted)
        return None
