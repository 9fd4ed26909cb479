"""Metadata of objects: identity, time stamps, canonical bytes. Time and randomness are arguments."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from kubeedge.api.client import Resource
from kubeedge.api.names import Object

#: characters of generated suffixes: no vowels (no words by accident), no 0, 1 and 3 (no doubt when read aloud)
_SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_MAX_GENERATED_BASE = 58  # with the five of the suffix, 63: still a label

#: added to, for `fromtimestamp` ends in 2038 where the C library's time_t has 32 bits
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)

Randbytes = Callable[[int], bytes]


def timestamp(wall: float) -> str:
    """Seconds since 1970 -> RFC 3339, UTC, whole seconds: the form of metav1.Time."""
    return (_EPOCH + datetime.timedelta(seconds=int(wall))).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_timestamp(wall: float) -> str:
    """Seconds since 1970 -> RFC 3339 with microseconds: the form of metav1.MicroTime."""
    return (_EPOCH + datetime.timedelta(seconds=wall)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_timestamp(text: object) -> float | None:
    """RFC 3339 -> seconds since 1970; None for what is not a time stamp."""
    if not isinstance(text, str) or not 20 <= len(text) <= 40:
        return None
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.timestamp() if moment.tzinfo is not None else None


def is_timestamp(text: str) -> bool:
    """Go's time.RFC3339, which is stricter than ISO 8601: what it cannot read, no client of Kubernetes can."""
    return _RFC3339.fullmatch(text) is not None and parse_timestamp(text) is not None


def new_uid(randbytes: Randbytes) -> str:
    """A version 4 UUID (RFC 9562)."""
    raw = bytearray(randbytes(16))
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def generated_name(base: str, randbytes: Randbytes) -> str:
    """A name from metadata.generateName: the base, cut where it is too long, and five random letters, as in Kubernetes."""
    size = len(_SUFFIX_ALPHABET)
    return base[:_MAX_GENERATED_BASE] + "".join(_SUFFIX_ALPHABET[b % size] for b in randbytes(5))


def encode(obj: Mapping[str, Any]) -> bytes:
    """Compact UTF-8 JSON. Key order is kept: kubectl users see their fields where they put them."""
    return json.dumps(obj, ensure_ascii=False, separators=(",", ":")).encode()


def encode_list(obj: Mapping[str, Any], field: str) -> bytes:
    """The same, with the items of the list `field`, which comes last, encoded one by one: no call takes long, however many there are."""
    head = encode({key: value for key, value in obj.items() if key != field} | {field: []})
    return head[:-2] + b",".join(map(encode, obj[field])) + b"]}"


def canonical(obj: Mapping[str, Any]) -> bytes:
    """Sorted keys: equal objects have equal bytes."""
    return json.dumps(obj, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


def decode(data: bytes) -> Object:
    """The object of its stored form."""
    found: Object = json.loads(data)
    return found


def metadata(obj: Mapping[str, Any]) -> Object:
    """obj's metadata, for reading; {} when it has none."""
    found = obj.get("metadata")
    return found if isinstance(found, dict) else {}


def without_nulls(value: Any) -> Any:
    """A copy in which no object has a null field: null and absent are the same thing in Kubernetes' API."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value


def name_of(obj: Mapping[str, Any]) -> str:
    """metadata.name, "" when it is missing."""
    return str(metadata(obj).get("name") or "")


def namespace_of(obj: Mapping[str, Any]) -> str:
    """metadata.namespace, "" for what has none."""
    return str(metadata(obj).get("namespace") or "")


def labels_of(obj: Mapping[str, Any]) -> Mapping[str, str]:
    """metadata.labels; an empty mapping where there are none."""
    found = metadata(obj).get("labels")
    return found if isinstance(found, dict) else {}


def field_of(obj: Mapping[str, Any], path: str) -> Any:
    """Value at a dotted path, None when a step is missing."""
    value: Any = obj
    for step in path.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(step)
    return value


def typed(resource: Resource, obj: Object) -> Object:
    """The object with apiVersion and kind first."""
    rest = {key: value for key, value in obj.items() if key not in ("apiVersion", "kind")}
    return {"kind": resource.kind, "apiVersion": resource.api_version, **rest}


def prepare_for_create(obj: Object, *, namespace: str, now: float, randbytes: Randbytes, generation: bool) -> None:
    """Set what the server decides, in place: whatever the client sent there does not count."""
    meta = obj.get("metadata")
    meta = dict(meta) if isinstance(meta, dict) else {}
    for decided in ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"):
        meta.pop(decided, None)
    for decided in ("resourceVersion", "selfLink", "managedFields", "generation"):
        meta.pop(decided, None)
    if not meta.get("name") and meta.get("generateName"):
        meta["name"] = generated_name(str(meta["generateName"]), randbytes)
    if namespace:
        meta["namespace"] = namespace
    else:
        meta.pop("namespace", None)
    meta["uid"] = new_uid(randbytes)
    meta["creationTimestamp"] = timestamp(now)
    if generation:
        meta["generation"] = 1
    _drop_empty(meta)
    obj["metadata"] = meta


#: the server's own metadata, which an update cannot change
_DECIDED = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")


def prepare_for_update(new: Object, old: Object) -> None:
    """Carry the server's metadata over from `old`, in place."""
    meta = new.get("metadata")
    meta = dict(meta) if isinstance(meta, dict) else {}
    before = metadata(old)
    for key in (*_DECIDED, "generation"):
        if key in before:
            meta[key] = before[key]
        else:
            meta.pop(key, None)
    for key in ("resourceVersion", "selfLink", "managedFields"):
        meta.pop(key, None)
    _drop_empty(meta)
    new["metadata"] = meta


def _drop_empty(meta: Object) -> None:
    """An empty map or list is the same as none; one form keeps comparisons honest."""
    for key in ("labels", "annotations", "finalizers", "ownerReferences"):
        if key in meta and not meta[key]:
            del meta[key]
