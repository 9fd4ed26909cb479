"""Reading the edge's store with its pending writes on top, at any revision that it still has.

An object at the edge is joined of rows: what the cloud wants (/desired/), what waits to be merged (/reported/writes/), what the node
says of it (/reported/). Nothing is copied and nothing is cached: history gives watches their events and costs no memory.

/local/written/RESOURCE/NAMESPACE/NAME holds the revision at which the last answered write of an object was taken away; so an object's
version never goes back when its pending write goes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from kubeedge.api import edge_writes, keys, meta
from kubeedge.api.edge_writes import EdgeWrite
from kubeedge.api.names import Object, Revision
from kubeedge.errors import Invalid
from kubeedge.store.model import Change, ChangeKind, KeyValue, Store

WRITES = f"{keys.REPORTED}{edge_writes.RESOURCE}/{keys.CLUSTER_SCOPE}/"
RESULTS = f"{keys.DESIRED}{edge_writes.RESOURCE}/{keys.CLUSTER_SCOPE}/"
MAX_PENDING = 256  # writes that wait for the cloud
MAX_PENDING_BYTES = 4 * 1024 * 1024

ObjectKey: TypeAlias = tuple[str, str, str]  # resource, namespace, name


@dataclass(slots=True)
class Pending:
    """The writes that wait, by object, in order; with the revision of the newest one of each object."""

    of: dict[ObjectKey, list[EdgeWrite]] = field(default_factory=dict)
    revisions: dict[ObjectKey, int] = field(default_factory=dict)
    count: int = 0
    size: int = 0


async def pending(store: Store, at: Revision) -> Pending:
    found = Pending()
    for kv in (await store.range(WRITES, keys.prefix_end(WRITES), revision=at)).kvs:
        found.count += 1
        found.size += len(kv.value)
        try:
            write = edge_writes.decode(kv.value)
        except Invalid:  # not ours; the cloud says no to it
            continue
        found.of.setdefault(write.object_key, []).append(write)
        found.revisions[write.object_key] = max(found.revisions.get(write.object_key, 0), kv.mod_revision)
    return found


async def any_pending(store: Store, at: Revision) -> bool:
    return bool((await store.range(WRITES, keys.prefix_end(WRITES), revision=at, limit=1, keys_only=True)).kvs)


async def revisions_of(store: Store, prefix: str, first: str, last: str, at: Revision) -> Mapping[str, KeyValue]:
    """Rows of `prefix` from `first` to `last` (both named below it), by name."""
    found = await store.range(prefix + first, prefix + last + "\0", revision=at)
    return {kv.key.removeprefix(prefix): kv for kv in found.kvs}


def merged(obj: Object, writes: Sequence[EdgeWrite]) -> Object:
    """The object as the edge shows it while the writes wait: the cloud's later changes shine through."""
    for write in writes:
        if write.operation == "change":
            obj, _ = edge_writes.apply(obj, write.changes)
        elif not write.uid or write.uid == meta.metadata(obj).get("uid"):
            inner = dict(meta.metadata(obj))
            grace = write.grace or 0
            inner["deletionTimestamp"] = meta.timestamp((meta.parse_timestamp(write.at) or 0.0) + grace)
            inner["deletionGracePeriodSeconds"] = grace
            obj = {**obj, "metadata": inner}
    return obj


def decoded(value: bytes) -> Object | None:
    try:
        obj = json.loads(value)
    except (ValueError, RecursionError):
        return None
    return obj if isinstance(obj, dict) else None


def touched(changes: Iterable[Change]) -> dict[str, Change | None]:
    """Keys below /desired/ that the changes of one revision may have changed; with the change itself when it is theirs."""
    found: dict[str, Change | None] = {}
    for change in changes:
        if change.key.startswith(keys.DESIRED):
            found[change.key] = change
        elif change.key.startswith(keys.WRITTEN) and change.kind is ChangeKind.PUT:
            found.setdefault(keys.DESIRED + change.key.removeprefix(keys.WRITTEN), None)
        elif change.key.startswith(WRITES) and change.kind is ChangeKind.PUT:
            try:
                found.setdefault(keys.desired(*edge_writes.decode(change.value).object_key), None)
            except Invalid:
                continue
    return found


def by_revision(changes: Sequence[Change]) -> dict[Revision, list[Change]]:
    found: dict[Revision, list[Change]] = {}
    for change in changes:
        found.setdefault(change.revision, []).append(change)
    return found
