"""The objects of this node as the store of a cluster: what kubeedge.apiserver.Registry reads, watches and writes.

    /t/T/registry/core/pods/NS/NAME   <- /desired/pods/NS/NAME, pending writes, status of /reported/pods/NS/NAME
    /t/T/registry/core/events/NS/NAME <- /reported/events/NS/NAME
    /t/T/registry/core/namespaces/NS  <- every namespace that has something here
    a write                           -> one row below /reported/writes/, which goes up to the cloud

Revisions are those of the edge's store, so a resourceVersion lives as long as the node's history. Kinds that no node receives are empty.
What may be written is the list in kubeedge.api.edge_writes; everything else is refused here, in words, before it is queued.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Callable, Sequence

from kubeedge.api import edge_writes, keys, meta
from kubeedge.api.client import Resource
from kubeedge.api.edge_writes import EdgeWrite
from kubeedge.api.meta import Randbytes
from kubeedge.api.names import Revision, TenantId
from kubeedge.api.resources import EVENTS, NAMESPACES, NODES, PODS, SECRETS
from kubeedge.api.status import Forbidden, TooManyRequests
from kubeedge.apiserver.builtin import BUILT_IN
from kubeedge.errors import Invalid, Misuse
from kubeedge.kit.dataclasses import dataclass
from kubeedge.metaserver import core, pending
from kubeedge.metaserver.effective import EffectiveStore
from kubeedge.store.model import (
    Change,
    ChangeKind,
    Compare,
    CompareTarget,
    Delete,
    KeyValue,
    Op,
    Put,
    RangeResult,
    Store,
    TxnResult,
    WatchBatch,
)

_AT_ONCE = 16  # changed objects that are looked at before others have their turn: each takes 0.2 ms on a fast machine
_PAGE = 500  # rows read at once when many of them are hidden


@dataclass(frozen=True, slots=True)
class _Kind:
    resource: Resource
    base: str  # of its keys, as a registry has them
    local: str  # of its rows, in the edge's store
    report: str  # of what the node says about them; "" when it says nothing


class RegistryView(EffectiveStore):
    """`wall` gives seconds since 1970, `randbytes` feeds the ids of writes."""

    def __init__(
        self, store: Store, tenant: TenantId, *, wall: Callable[[], float], randbytes: Randbytes = os.urandom
    ) -> None:
        super().__init__(store)
        self._randbytes = randbytes
        self._wall = wall
        self._writing = asyncio.Lock()
        registry = keys.registry(tenant)
        self._kinds = [_kind(registry, row.resource) for row in BUILT_IN]

    def _kind_of(self, key: str) -> _Kind:
        for kind in self._kinds:
            if key.startswith(kind.base):
                return kind
        raise Misuse(f"{key} is no key of a resource")

    # -- reading -------------------------------------------------------------------------------------------------------

    async def range(
        self, key: str, end: str = "", *, revision: Revision | None = None, limit: int = 0, keys_only: bool = False
    ) -> RangeResult:
        """As Store.range, of joined objects, whose mod_revision is the newest of their rows. Hidden rows do not count for `limit`."""
        kind = self._kind_of(key)
        at = self._store.revision if revision is None else revision
        if kind.resource == NAMESPACES:
            return await self._namespaces(kind, key, end, at, limit)
        start = kind.local + key.removeprefix(kind.base)
        if end:
            inside = end.startswith(kind.base)
            end = kind.local + end.removeprefix(kind.base) if inside else keys.prefix_end(kind.local)
        waiting = await pending.read(self._store, at)
        kvs: list[KeyValue] = []
        while True:  # rows that are hidden make no page
            room = max(limit - len(kvs), 1) if limit else _PAGE
            found = await self._store.range(start, end, revision=at, limit=room if end else 0)
            kvs += await self._join(kind, found.kvs, waiting, at)
            if not found.more or (limit and len(kvs) >= limit):
                return RangeResult(tuple(kvs), at, found.more, len(kvs) + found.count - len(found.kvs))
            start = found.kvs[-1].key + "\0"
            await asyncio.sleep(0)

    async def _join(self, kind: _Kind, rows: Sequence[KeyValue], waiting: core.Pending, at: Revision) -> list[KeyValue]:
        if not rows:
            return []
        first, last = (row.key.removeprefix(kind.local) for row in (rows[0], rows[-1]))
        reports = await pending.rows_between(self._store, kind.report, first, last, at) if kind.report else {}
        prefix = keys.WRITTEN + kind.local.removeprefix(keys.DESIRED)
        written = await pending.rows_between(self._store, prefix, first, last, at) if kind.resource != EVENTS else {}
        found = []
        for row in rows:
            rest = row.key.removeprefix(kind.local)
            object_key = keys.split(row.key)
            report = reports.get(rest)
            obj = core.shown(kind.resource, row.value, waiting.of.get(object_key, ()), report.value if report else b"")
            if obj is None:
                continue
            newest = max(
                row.mod_revision,
                report.mod_revision if report else 0,
                written[rest].mod_revision if rest in written else 0,
                waiting.revisions.get(object_key, 0),
            )
            value = meta.encode(obj)
            found.append(KeyValue(kind.base + rest, value, row.create_revision, Revision(newest), 2, 0))
        return found

    async def _namespaces(self, kind: _Kind, key: str, end: str, at: Revision, limit: int) -> RangeResult:
        names: set[str] = set()
        for other in self._kinds:
            if not other.resource.namespaced:
                continue
            start = other.local
            while True:  # from namespace to namespace, whatever they hold
                page = await self._store.range(
                    start, keys.prefix_end(other.local), revision=at, limit=1, keys_only=True
                )
                if not page.kvs:
                    break
                name = page.kvs[0].key.removeprefix(other.local).partition("/")[0]
                names.add(name)
                start = f"{other.local}{name}0"  # "0" comes behind "/"
        kvs = [
            KeyValue(kind.base + name, meta.encode(core.namespace(name)), Revision(1), Revision(1), 1, 0)
            for name in sorted(names)
            if (key <= kind.base + name < end if end else kind.base + name == key)
        ]
        chosen = kvs[:limit] if limit else kvs
        return RangeResult(tuple(chosen), at, len(chosen) < len(kvs), len(kvs))

    # -- watching ------------------------------------------------------------------------------------------------------

    async def watch(self, prefix: str, *, after: Revision, progress: bool = False) -> AsyncGenerator[WatchBatch, None]:
        """As Store.watch, with an event for each joined object that a transaction touched, whichever of its rows that was."""
        kind = self._kind_of(prefix)
        local = kind.local + prefix.removeprefix(kind.base)
        batches = self._store.watch("/", after=after, progress=progress)
        async with contextlib.aclosing(batches):
            async for batch in batches:
                changes: list[Change] = []
                looked = 0
                for revision, some in core.by_revision(batch.changes).items():
                    for key in self._touched(kind, some):
                        if key.startswith(local):
                            changes += await self._event(kind, key, revision)
                            looked += 1
                            if looked % _AT_ONCE == 0:
                                await asyncio.sleep(0)
                if changes or (progress and not batch.changes):
                    yield WatchBatch(changes, batch.revision)

    def _touched(self, kind: _Kind, changes: Sequence[Change]) -> dict[str, None]:
        found = {key: None for key in core.touched(changes) if key.startswith(kind.local)}
        for change in changes:
            for prefix in filter(None, (kind.report, kind.local)):
                if change.key.startswith(prefix):
                    found[kind.local + change.key.removeprefix(prefix)] = None
        return found

    async def _event(self, kind: _Kind, local_key: str, revision: Revision) -> list[Change]:
        key = kind.base + local_key.removeprefix(kind.local)
        before = (await self.range(key, revision=Revision(revision - 1))).kvs
        after = (await self.range(key, revision=revision)).kvs
        if not after:
            return [Change(ChangeKind.DELETE, key, b"", revision)] if before else []
        if before and before[0].value == after[0].value:
            return []
        one = after[0]
        version = 2 if before else 1
        return [Change(ChangeKind.PUT, key, one.value, revision, one.create_revision, version, 0)]

    # -- writing -------------------------------------------------------------------------------------------------------

    async def txn(self, compares: Sequence[Compare], success: Sequence[Op], failure: Sequence[Op] = ()) -> TxnResult:
        """One object, changed or deleted, as Registry does it: becomes one write for the cloud.

        Raises Forbidden for what is not written at the edge, TooManyRequests when too many writes wait.
        """
        op, *more = success
        if more or isinstance(op, Delete) and op.end or not isinstance(op, Put | Delete):
            raise Misuse("a write at the edge changes one object")
        kind = self._kind_of(op.key)
        async with self._writing:
            at = self._store.revision
            found = (await self.range(op.key, revision=at)).kvs
            current = found[0] if found else None
            if not all(_holds(compare, current) for compare in compares if compare.key == op.key):
                return TxnResult(False, at)
            name = op.key.rpartition("/")[2]
            if current is None or kind.resource == EVENTS:
                raise Forbidden.of(
                    kind.resource, name, f"{kind.resource.plural} are created in the cloud, not at the edge"
                )
            write = self._write_of(kind, op, current, at)
            if write.operation == "change" and not write.changes:
                return TxnResult(True, at, (None,))
            return await self._queue(kind, write, at)

    def _write_of(self, kind: _Kind, op: Put | Delete, current: KeyValue, at: Revision) -> EdgeWrite:
        old = meta.decode(current.value)
        inner = meta.metadata(old)
        grace: int | None = 0
        changes: tuple[edge_writes.FieldChange, ...] = ()
        if isinstance(op, Put):
            new = meta.decode(op.value)
            grace = None
            if meta.metadata(new).get("deletionTimestamp") != inner.get("deletionTimestamp"):
                wanted = meta.metadata(new).get("deletionGracePeriodSeconds")
                grace = wanted if isinstance(wanted, int) else 0
            else:
                changes = edge_writes.diff(core.plain(old), core.plain(new))
        write = EdgeWrite(
            id=self._randbytes(8).hex(),
            operation="change" if grace is None else "delete",
            resource=kind.resource.plural,
            namespace=meta.namespace_of(old),
            name=meta.name_of(old),
            uid=str(inner.get("uid") or ""),
            changes=changes,
            grace=grace,
            at=meta.timestamp(self._wall()),
        )
        why = edge_writes.forbidden(write)
        rule = (inner.get("annotations") or {}).get(edge_writes.POLICY)
        if not why and (rule == "deny" or (kind.resource == SECRETS and rule != "allow")):
            why = f"its annotation {edge_writes.POLICY} in the cloud does not allow writes of nodes"
        if why:
            raise Forbidden.of(kind.resource, write.name, why)
        return write

    async def _queue(self, kind: _Kind, write: EdgeWrite, at: Revision) -> TxnResult:
        try:
            data = edge_writes.encode(write)
        except Invalid as exc:
            raise Forbidden.of(kind.resource, write.name, str(exc)) from exc
        waiting = await pending.read(self._store, at)
        if waiting.count >= core.MAX_PENDING or waiting.size + len(data) > core.MAX_PENDING_BYTES:
            raise TooManyRequests(
                f"{waiting.count} writes ({waiting.size} bytes) wait for the cloud, at most {core.MAX_PENDING} "
                f"({core.MAX_PENDING_BYTES} bytes) do: write again when the cloud is back (kubeedge sync status)"
            )
        desired = keys.desired(*write.object_key)
        row = await self._store.get(desired)
        key = core.WRITES + edge_writes.key_name(at + 1)
        compares = [
            Compare(desired, CompareTarget.MOD, "=", row.mod_revision if row else 0),
            Compare(key, CompareTarget.VERSION, "=", 0),
        ]
        if row is None or row.mod_revision > at:
            return TxnResult(False, at)
        return await self._store.txn(compares, [Put(key, data)])

    async def lease_grant(self, ttl: float) -> int:
        """Raises Forbidden: only Events need a lease, and clients do not make them here."""
        raise Forbidden("events are made by the node and the cloud, not by clients of the edge's API")


def _kind(registry: str, resource: Resource) -> _Kind:
    base = f"{registry}{resource.group or 'core'}/{resource.plural}/"
    if resource == EVENTS:
        return _Kind(resource, base, f"{keys.REPORTED}events/", "")
    local = f"{resource.plural}.{resource.group}" if resource.group else resource.plural
    scope = "" if resource.namespaced else f"{keys.CLUSTER_SCOPE}/"
    told = resource in (PODS, NODES)
    return _Kind(resource, base, f"{keys.DESIRED}{local}/{scope}", f"{keys.REPORTED}{local}/{scope}" if told else "")


def _holds(compare: Compare, kv: KeyValue | None) -> bool:
    have = 0 if kv is None else kv.mod_revision if compare.target is CompareTarget.MOD else kv.version
    return have == compare.operand
