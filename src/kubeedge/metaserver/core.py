"""An object at the edge, joined of rows: what the cloud wants (/desired/), what waits to be merged (/reported/writes/), what the node reports of
it (/reported/). Pure.

Nothing is copied and nothing is cached: history gives watches their events and costs no memory.

/local/written/RESOURCE/NAMESPACE/NAME holds the revision at which the last answered write of an object was deleted; so an object's
version never goes back when its pending write goes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from kubeedge.api import edge_writes, keys, meta
from kubeedge.api.client import Resource
from kubeedge.api.edge_writes import EdgeWrite
from kubeedge.api.names import Object, Revision
from kubeedge.api.resources import NAMESPACES, NODES, PODS
from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass, field
from kubeedge.store.model import Change, ChangeKind, KeyValue

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

    def add(self, kv: KeyValue) -> None:
        """Take in a row below WRITES."""
        self.count += 1
        self.size += len(kv.value)
        try:
            write = edge_writes.decode(kv.value)
        except Invalid:  # not ours; the cloud says no to it
            return
        self.of.setdefault(write.object_key, []).append(write)
        self.revisions[write.object_key] = max(self.revisions.get(write.object_key, 0), kv.mod_revision)


def merged(obj: Object, writes: Sequence[EdgeWrite]) -> Object:
    """The object as the edge shows it while the writes wait: with the cloud's later changes to other fields."""
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
    """The object in a row; None when it is not the JSON of one, or nested too deeply."""
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
    """Changes grouped by the transaction that made them, in the order in which they came."""
    found: dict[Revision, list[Change]] = {}
    for change in changes:
        found.setdefault(change.revision, []).append(change)
    return found


def shown(resource: Resource, desired: bytes, writes: Sequence[EdgeWrite], report: bytes) -> Object | None:
    """One object of the API, of its rows; None when there is nothing to show."""
    obj = decoded(desired)
    if obj is None or not isinstance(obj.get("metadata"), dict):
        return None
    obj = merged(obj, writes)
    if writes:
        inner = dict(meta.metadata(obj))
        inner["annotations"] = {**(inner.get("annotations") or {}), edge_writes.PENDING: writes[-1].id}
        obj = {**obj, "metadata": inner}
    said = decoded(report) if report else None
    if resource == PODS:
        uid = meta.metadata(obj).get("uid")
        ours = said if said is not None and said.get("uid") == uid else {}
        if ours.get("gone"):
            return None
        status = ours.get("status")
        obj = {**obj, "status": status if isinstance(status, dict) else {"phase": "Pending"}}
    elif resource == NODES:
        status = (said or {}).get("status")
        obj = {**obj, "status": _node_status(status if isinstance(status, dict) else {})}
    return meta.typed(resource, obj)


def _node_status(status: Object) -> Object:
    """Ready: a client that reads this has reached the node's agent."""
    ready = {"type": "Ready", "status": "True", "reason": "AgentRunning", "message": "the edge agent answers"}
    return {**status, "conditions": [ready]}


def plain(obj: Object) -> Object:
    """Without what is the server's: the fields that a write may be about."""
    inner = {key: value for key, value in meta.metadata(obj).items() if key not in ("resourceVersion", "generation")}
    hidden = (edge_writes.PENDING, edge_writes.LAST_APPLIED)
    annotations = {key: value for key, value in (inner.pop("annotations", None) or {}).items() if key not in hidden}
    if annotations:
        inner["annotations"] = annotations
    return {**{key: value for key, value in obj.items() if key != "status"}, "metadata": inner}


def namespace(name: str) -> Object:
    """A Namespace made up from its name: the edge has the objects in it, not the object itself."""
    inner = {"name": name, "labels": {"kubernetes.io/metadata.name": name}}
    return meta.typed(NAMESPACES, {"metadata": inner, "spec": {}, "status": {"phase": "Active"}})
