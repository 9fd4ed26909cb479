"""Writes that a node makes through its own API: what travels to the cloud, and how it is merged. Pure.

Lives here:      a write as a list of changed fields, the three-way merge of fields, what a node may change at all.
Lives elsewhere: making writes (kubeedge.metaserver), merging them into the cluster (kubeedge_cloud.edgecontroller.writes).

A write does not carry the object but its changed fields, each with the value that the edge saw before. That is the base of a
three-way merge: a field that still has (in the cloud) the value that the edge saw takes the edge's value; one that was changed in the
cloud meanwhile keeps the cloud's. Lists are one field. The same function makes what the edge shows while a write is pending, so both
sides agree on what a write means.

    /reported/writes/_/SEQ     one write; SEQ has 16 digits and counts up, so the order of keys is the order of writes
    /desired/writes/_/SEQ      what became of it; there until the edge has taken the write away
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from kubeedge.api import strict_json
from kubeedge.api.names import Object
from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass

RESOURCE = "writes"  # below /reported/ and /desired/
PENDING = "kubeedge.io/pending-write"  # annotation at the edge: id of the newest write that the cloud has not answered
MERGED = "kubeedge.io/merged-write"  # annotation in the cloud: the last writes that were merged into the object
POLICY = "kubeedge.io/edge-writes"  # annotation of a ConfigMap or Secret, set in the cloud: "allow" or "deny"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

MAX_CHANGES = 512  # fields of one write
MAX_DEPTH = 16
MAX_BYTES = 1024 * 1024  # of one write, encoded
_WAS_INLINE = 128  # bytes of JSON; a longer value from before travels as its digest

#: hexadecimal digits of the digest that a write carries of itself. Until the cloud has it, the row on the node's disk is the only copy there
#: is, and flash without checksums may change it (docs/adr/0023)
_SUM = 16

_RESERVED = ("kubernetes.io", "k8s.io", "kubeedge.io")
_FIELDS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "configmaps": (("data",), ("binaryData",)),
    "secrets": (("data",),),
    "pods": (),
    "nodes": (("spec", "unschedulable"),),
}
_DELETABLE = ("pods",)

FieldPath: TypeAlias = tuple[str, ...]
WriteOutcome: TypeAlias = Literal["merged", "conflict", "refused", "gone"]


class _Absent:
    def __repr__(self) -> str:
        return "absent"


ABSENT = _Absent()


@dataclass(frozen=True, slots=True)
class FieldChange:
    """`was` and `now` are JSON values or ABSENT; a long `was` is known by its digest alone."""

    path: FieldPath
    now: Any
    was: Any = ABSENT
    was_digest: str = ""

    def fits(self, current: Any) -> bool:
        """The field is as the edge saw it."""
        if self.was_digest:
            return current is not ABSENT and _digest(current) == self.was_digest
        return _same(current, self.was)


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeWrite:
    """`id` is random and never changes: the cloud recognizes a repeated write by it."""

    id: str
    operation: Literal["change", "delete"]
    resource: str
    namespace: str
    name: str
    uid: str = ""  # "": not known at the edge
    changes: tuple[FieldChange, ...] = ()
    grace: int | None = None  # seconds, of a deletion
    at: str = ""  # RFC 3339

    @property
    def object_key(self) -> tuple[str, str, str]:
        """(resource, namespace, name), as kubeedge.api.keys.split gives them."""
        return self.resource, self.namespace, self.name


def key_name(seq: int) -> str:
    """The last element of a write's key: 16 digits, so that the order of keys is that of the writes."""
    return f"{seq:016d}"


# -- fields ------------------------------------------------------------------------------------------------------------------


def diff(old: Object, new: Object) -> tuple[FieldChange, ...]:
    """The fields that make `new` of `old`."""
    return tuple(_differences((), old, new))


def _differences(path: FieldPath, old: Any, new: Any) -> Iterator[FieldChange]:
    if len(path) < MAX_DEPTH and isinstance(new, dict) and (isinstance(old, dict) or old is ABSENT):
        before = old if isinstance(old, dict) else {}
        for key in sorted(before.keys() | new.keys()):
            yield from _differences((*path, key), before.get(key, ABSENT), new.get(key, ABSENT))
    elif (
        new is ABSENT
        and isinstance(old, dict)
        and path in (("metadata", "labels"), ("metadata", "annotations"), ("data",), ("binaryData",))
    ):
        yield from _differences(path, old, {})
    elif not _same(old, new):
        if old is not ABSENT and len(_canonical(old)) > _WAS_INLINE:
            yield FieldChange(path, new, was_digest=_digest(old))
        else:
            yield FieldChange(path, new, old)


def apply(obj: Object, changes: Sequence[FieldChange]) -> tuple[Object, list[FieldPath]]:
    """The merged object (a copy where it differs), and the fields where the cloud's value stays against the edge's."""
    result: Object = json.loads(json.dumps(obj)) if changes else obj
    conflicts: list[FieldPath] = []
    for change in changes:
        current = _get(result, change.path)
        if _same(current, change.now):
            continue
        if not change.fits(current) or not _set(result, change.path, change.now):
            conflicts.append(change.path)
    return result, conflicts


def _get(obj: Any, path: FieldPath) -> Any:
    for part in path:
        if not isinstance(obj, dict) or part not in obj:
            return ABSENT
        obj = obj[part]
    return obj


def _set(obj: Object, path: FieldPath, value: Any) -> bool:
    """False when something that is no mapping is in the way."""
    trail: list[tuple[Object, str]] = []
    here: Any = obj
    for part in path[:-1]:
        if here.get(part) is None:
            here[part] = {}
        trail.append((here, part))
        here = here[part]
        if not isinstance(here, dict):
            return False
    if value is not ABSENT:
        here[path[-1]] = value
        return True
    here.pop(path[-1], None)
    for parent, part in reversed(trail):  # an empty mapping that is left says nothing
        if parent[part] == {} and part != "metadata":
            del parent[part]
    return True


def _same(a: Any, b: Any) -> bool:
    if a is ABSENT or b is ABSENT:
        return a is b
    return type(a) is type(b) and bool(a == b)  # True == 1, but true is not 1


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _digest(value: Any) -> str:
    return hashlib.sha256(_canonical(value)).hexdigest()


# -- what a node may change --------------------------------------------------------------------------------------------------


def forbidden(write: EdgeWrite) -> str:
    """Why no node may make this write, whatever the object; "" when it may. Both ends ask."""
    fields = _FIELDS.get(write.resource)
    if fields is None:
        return f"{write.resource} are not written at the edge"
    if write.operation == "delete":
        return "" if write.resource in _DELETABLE else f"{write.resource} are deleted in the cloud, not at the edge"
    for change in write.changes:
        if not _may_change(fields, change.path):
            return (
                f"the field {'.'.join(change.path)[:200]} of {write.resource} is changed in the cloud, not at the edge"
            )
    return ""


def _may_change(fields: tuple[tuple[str, ...], ...], path: FieldPath) -> bool:
    if len(path) == 3 and path[0] == "metadata" and path[1] in ("labels", "annotations"):
        domain = path[2].partition("/")[0] if "/" in path[2] else ""
        return not any(domain == name or domain.endswith(f".{name}") for name in _RESERVED)
    if path in fields:
        return path[0] == "spec"
    return len(path) == 2 and path[:1] in fields


# -- bytes -------------------------------------------------------------------------------------------------------------------


def encode(write: EdgeWrite) -> bytes:
    """Raises Invalid for a write that is too large."""
    body: dict[str, Any] = {
        "id": write.id,
        "operation": write.operation,
        "resource": write.resource,
        "namespace": write.namespace,
        "name": write.name,
        "at": write.at,
    }
    if write.uid:
        body["uid"] = write.uid
    if write.grace is not None:
        body["grace"] = write.grace
    if write.changes:
        body["changes"] = [_encode_change(change) for change in write.changes]
    data = _canonical(body | {"sum": _digest(body)[:_SUM]})
    if len(write.changes) > MAX_CHANGES or len(data) > MAX_BYTES:
        raise Invalid(
            f"{len(write.changes)} changed fields in {len(data)} bytes; at the edge at most {MAX_CHANGES} in {MAX_BYTES}"
        )
    return data


def _encode_change(change: FieldChange) -> dict[str, Any]:
    body: dict[str, Any] = {"path": list(change.path)}
    if change.now is not ABSENT:
        body["now"] = change.now
    if change.was_digest:
        body["wasDigest"] = change.was_digest
    elif change.was is not ABSENT:
        body["was"] = change.was
    return body


def decode(data: bytes) -> EdgeWrite:
    """Raises Invalid for anything that encode() does not make."""
    try:
        if len(data) > MAX_BYTES:
            raise ValueError(f"{len(data)} bytes, more than {MAX_BYTES}")
        body = strict_json.loads(data)
        if not isinstance(body, dict):
            raise ValueError("not an object")
        if (digest := body.pop("sum", None)) is not None and digest != _digest(body)[:_SUM]:
            raise ValueError("it is not what was written: bits of it have flipped on a disk")
        changes = body.get("changes", [])
        if not isinstance(changes, list) or len(changes) > MAX_CHANGES:
            raise ValueError("changes is no list, or a very long one")
        operation = body["operation"]
        if operation not in ("change", "delete"):
            raise ValueError(f"operation {str(operation)[:32]!r}")
        return EdgeWrite(
            id=_text(body, "id"),
            operation=operation,
            resource=_text(body, "resource"),
            namespace=_text(body, "namespace"),
            name=_text(body, "name"),
            uid=_text(body, "uid", ""),
            changes=tuple(map(_decode_change, changes)),
            grace=_number(body["grace"]) if "grace" in body else None,
            at=_text(body, "at", ""),
        )
    except (Invalid, ValueError, KeyError, TypeError) as exc:
        raise Invalid(f"not a write of an edge: {exc!r:.200}") from exc


def _decode_change(body: Any) -> FieldChange:
    path = body["path"]
    if not isinstance(path, list) or not 0 < len(path) <= MAX_DEPTH or not all(isinstance(p, str) for p in path):
        raise ValueError("path is no list of words")
    digest = body.get("wasDigest", "")
    if not isinstance(digest, str):
        raise ValueError("wasDigest is no text")
    return FieldChange(tuple(path), body.get("now", ABSENT), body.get("was", ABSENT), digest)


def _text(body: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = body[name] if default is None else body.get(name, default)
    if not isinstance(value, str) or len(value) > 253 or "/" in value or "\0" in value:
        raise ValueError(f"{name} is no name")
    return value


def _number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        raise ValueError("not a number from 0 to 2^53")
    return value


# -- the answer --------------------------------------------------------------------------------------------------------------


def encode_result(write_id: str, outcome: WriteOutcome, message: str) -> bytes:
    """The cloud's answer to a write, as compact JSON; the message is cut after 1,024 characters."""
    return _canonical({"id": write_id, "outcome": outcome, "message": message[:1024]})


def decode_result(data: bytes) -> tuple[str, str, str]:
    """(id, outcome, message). Raises Invalid."""
    try:
        body = json.loads(data)
        return str(body["id"]), str(body["outcome"]), str(body.get("message", ""))[:1024]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise Invalid(f"not an answer to a write: {exc!r:.200}") from exc


_KINDS = {"configmaps": "ConfigMap", "secrets": "Secret", "pods": "Pod", "nodes": "Node"}


def event(write: EdgeWrite, outcome: str, message: str, *, node: str, at: str) -> tuple[str, str, Object]:
    """(namespace, name, Event) about the object of a write. Both ends make the same name, so it is one event."""
    reason = {"merged": "EdgeWriteMerged", "conflict": "EdgeWriteConflict"}.get(outcome, "EdgeWriteRefused")
    namespace = write.namespace or "default"
    name = f"{write.name[:200]}.{hashlib.sha256(f'{node}/{write.id}'.encode()).hexdigest()[:16]}"
    involved = {"apiVersion": "v1", "kind": _KINDS.get(write.resource, ""), "name": write.name}
    if write.namespace:
        involved["namespace"] = write.namespace
    if write.uid:
        involved["uid"] = write.uid
    return namespace, name, {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": namespace},
        "involvedObject": involved,
        "type": "Normal" if outcome == "merged" else "Warning",
        "reason": reason,
        "message": f"write {write.id} made on node {node} at {write.at}: {message}"[:1024],
        "source": {"component": "edge-api", "host": node},
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
    }  # fmt: skip
