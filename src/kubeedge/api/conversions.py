"""Two versions of one object, converted both ways so that nothing is lost. Pure.

A version that cannot say something would lose it: the converted object has an annotation for that, a list of differences, and the
conversion back applies them. A difference counts only where the object is still as it was when the difference was made (by a fingerprint), so
what a client has changed in the other version meanwhile is not overruled.

    to stored:   stored = apply(lossy(other), the other's annotation)     annotation = differences(lossy back(stored), other)

Lives elsewhere: what the fields of the versions are (devices_v1alpha2.py).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from kubeedge.api import meta, strict_json
from kubeedge.api.client import Resource
from kubeedge.api.json_bounds import MAX_DEPTH, JsonBounds
from kubeedge.api.names import Object
from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass, field

_PARTS = ("spec", "status")  # what is converted; metadata is the same in all versions
_KEYS = ("name", "propertyName", "type")  # by the first of them that each item has, the items of a list are told apart
_DEPTH = 16  # steps of a path
_BOUNDS = JsonBounds(
    values=256 * 1024, depth=MAX_DEPTH + 4
)  # of an annotation, whose size is bounded with that of all others
_ABSENT = object()


@dataclass(frozen=True, eq=False, slots=True)
class Lossy:
    """The two directions for what both versions can say; of and to an object without metadata."""

    to_stored: Callable[[Object], Object]
    from_stored: Callable[[Object], Object]


@dataclass(frozen=True, eq=False, slots=True)
class Version:
    """A version of a resource that is served besides the stored one. The annotations have what the other one cannot say."""

    resource: Resource
    stored: Resource
    lossy: Lossy
    annotation: str  # in stored objects: what only this version can say
    stored_annotation: str  # in objects of this version: what only the stored one can say

    def to_stored(self, obj: Object) -> Object:
        """An object of this version as it is stored."""
        return _converted(
            obj,
            self.stored.api_version,
            (self.lossy.to_stored, self.lossy.from_stored),
            self.stored_annotation,
            self.annotation,
        )

    def from_stored(self, obj: Object) -> Object:
        """A stored object in this version."""
        return _converted(
            obj,
            self.resource.api_version,
            (self.lossy.from_stored, self.lossy.to_stored),
            self.annotation,
            self.stored_annotation,
        )


def _converted(
    obj: Object,
    api_version: str,
    ways: tuple[Callable[[Object], Object], Callable[[Object], Object]],
    brought: str,
    left: str,
) -> Object:
    there, back = ways
    inner = dict(meta.metadata(obj))
    annotations = dict(inner["annotations"]) if isinstance(inner.get("annotations"), dict) else {}
    text = annotations.pop(brought, None)
    annotations.pop(left, None)
    before = {part: obj[part] for part in _PARTS if obj.get(part) is not None}
    after = there(before)
    if text is not None:
        after = apply(after, _read(text))
    if found := differences(back(after), before):
        annotations[left] = json.dumps(found, separators=(",", ":"))
    inner.pop("annotations", None)
    if annotations:
        inner["annotations"] = annotations
    rest = {key: value for key, value in obj.items() if key not in (*_PARTS, "apiVersion", "kind", "metadata")}
    return {"kind": obj.get("kind"), "apiVersion": api_version, "metadata": inner, **rest, **after}


def _read(text: Any) -> list[Any]:
    """The differences in an annotation, which any client may write; what is none, or about anything but `_PARTS`, does not count."""
    try:
        found = strict_json.loads(str(text).encode(), bounds=_BOUNDS)
    except (ValueError, Invalid):
        return []
    return [item for item in found if _well_formed(item)] if isinstance(found, list) else []


def _well_formed(item: Any) -> bool:
    return (
        isinstance(item, list)
        and 2 <= len(item) <= 3
        and isinstance(item[0], list)
        and 0 < len(item[0]) <= _DEPTH
        and all(isinstance(step, str) for step in item[0])
        and item[0][0] in _PARTS
        and (item[1] is None or isinstance(item[1], str))
    )


def fingerprint(value: Any) -> str:
    """The same for the same JSON; 1, 1.0 and true are three values."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def differences(one: Any, other: Any) -> list[list[Any]]:
    """What makes `other` of `one`: [path, fingerprint of what is there in `one` or null, what is there in `other`]; without the last where
    `other` has nothing."""
    return list(_differences(one, other, []))


def _differences(one: Any, other: Any, path: list[str]) -> Iterator[list[Any]]:
    first, second = _children(one), _children(other)
    if (
        first is None
        or second is None
        or type(one) is not type(other)
        or len(path) >= _DEPTH
        or not _in_order(one, first, second)
    ):
        if not _same(one, other):
            yield [path, fingerprint(one), other]
        return
    for step, value in first.items():
        if step not in second:
            yield [[*path, step], fingerprint(value)]
        else:
            yield from _differences(value, second[step], [*path, step])
    for step, value in second.items():
        if step not in first:
            yield [[*path, step], None, value]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return bool(one == other)
    return fingerprint(one) == fingerprint(other)


def _in_order(one: Any, first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Items that are taken out and put at the end make the same list."""
    if not isinstance(one, list):
        return True
    return [*(step for step in first if step in second), *(step for step in second if step not in first)] == list(
        second
    )


def _children(value: Any) -> dict[str, Any] | None:
    """What is one step below: members by name, items by their key; None for what is a value as a whole."""
    if isinstance(value, dict):
        return value
    if not isinstance(value, list) or not value:
        return None
    for key in _KEYS:
        names = [item.get(key) if isinstance(item, dict) else None for item in value]
        if all(isinstance(name, str) for name in names):
            return dict(zip(names, value, strict=True)) if len(set(names)) == len(names) else None  # type: ignore[arg-type]
    return None


def apply(value: Any, found: Sequence[Sequence[Any]]) -> Any:
    """The value with the differences that are about it as it is."""
    steps: _Steps = {}
    for path, was, *now in found:
        inner = steps
        for step in path[:-1]:
            inner = inner.setdefault(step, _Step()).below
        inner.setdefault(path[-1], _Step()).change = was, (now[0] if now else _ABSENT)
    return _applied(value, steps)


@dataclass(slots=True)
class _Step:
    below: dict[str, _Step] = field(default_factory=dict)
    change: tuple[str | None, Any] | None = None  # what has to be there, and what is to be


_Steps: TypeAlias = dict[str, _Step]


def _applied(value: Any, steps: _Steps) -> Any:
    children = {} if isinstance(value, list) and not value else _children(value)
    if children is None:
        return value
    changed = dict(children)
    for step, one in steps.items():
        have = changed.get(step, _ABSENT)
        if have is not _ABSENT and one.below:
            have = changed[step] = _applied(have, one.below)
        if one.change is not None and (None if have is _ABSENT else fingerprint(have)) == one.change[0]:
            changed[step] = one.change[1]
            if one.change[1] is _ABSENT:
                del changed[step]
    return list(changed.values()) if isinstance(value, list) else changed
