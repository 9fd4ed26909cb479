"""JSON patch (RFC 6902) and JSON merge patch (RFC 7386), on copies.

Lives elsewhere: the strategic merge patch (strategic.py).
"""

from __future__ import annotations

import copy
import re
from typing import Any

from kubeedge.api.json_bounds import MAX_DEPTH
from kubeedge.api.names import Object
from kubeedge.errors import Invalid

MAX_OPERATIONS = 10_000  # the limit of Kubernetes' own API server
_MAX_COPIED = 3 * 1024 * 1024  # bytes (roughly) that `copy` operations may add: ten lines could ask for gigabytes


def merge(target: Any, patch: Any) -> Any:
    """RFC 7386, section 2. `target` and `patch` stay untouched; the result may share parts with them."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def apply_json_patch(target: Object, operations: Any) -> Any:
    """RFC 6902. Raises Invalid with the number of the operation that fails."""
    if not isinstance(operations, list):
        raise Invalid("a JSON patch is a list of operations")
    if len(operations) > MAX_OPERATIONS:
        raise Invalid(f"a JSON patch of {len(operations)} operations is longer than {MAX_OPERATIONS}")
    document: Any = copy.deepcopy(target)
    copied = 0
    for index, operation in enumerate(operations):
        if not isinstance(operation, dict):
            raise Invalid(f"operation {index} is not an object")
        try:
            document, added = _apply(document, operation)
        except Invalid as exc:
            what = f"{operation.get('op')!s:.32} {operation.get('path')!s:.200}"
            raise Invalid(f"operation {index} ({what}): {str(exc)[:400]}") from exc
        except RecursionError as exc:
            raise Invalid(f"operation {index} nests the object too deep") from exc
        copied += added
        if copied > _MAX_COPIED:
            raise Invalid(f"the copy operations of the patch add more than {_MAX_COPIED} bytes")
    return document


def _apply(document: Any, operation: Object) -> tuple[Any, int]:
    name = operation.get("op")
    path = _pointer(operation.get("path"))
    match name:
        case "add":
            return _add(document, path, copy.deepcopy(_value(operation))), 0
        case "remove":
            return _remove(document, path)[0], 0
        case "replace":
            _get(document, path)
            return _set(document, path, copy.deepcopy(_value(operation))), 0
        case "test":
            if not _equal(_get(document, path), _value(operation)):
                raise Invalid("testing the value failed")
            return document, 0
        case "move":
            source = _pointer(operation.get("from"))
            if path[: len(source)] == source and path != source:
                raise Invalid("a value cannot be moved into itself")
            document, value = _remove(document, source)
            return _add(document, path, value), 0
        case "copy":
            value = copy.deepcopy(_get(document, _pointer(operation.get("from"))))
            return _add(document, path, value), len(repr(value))
    raise Invalid(f"unknown operation {name!r}")


def _value(operation: Object) -> Any:
    if "value" not in operation:
        raise Invalid("value is missing")
    return operation["value"]


def _pointer(text: Any) -> list[str]:
    """The reference tokens of a JSON Pointer (RFC 6901), unescaped."""
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise Invalid(f"{text!r:.200} is not a JSON pointer")
    if text.count("/") > MAX_DEPTH:
        raise Invalid(f"the path has more than {MAX_DEPTH} steps")
    return [step.replace("~1", "/").replace("~0", "~") for step in text.split("/")[1:]]


def value_at(document: Any, pointer: Any) -> Any:
    """What a JSON Pointer leads to. Raises Invalid for one that leads nowhere, or is none."""
    return _get(document, _pointer(pointer))


def _index(array: list[Any], step: str, *, end: bool = False) -> int:
    if step == "-" and end:
        return len(array)
    if not re.fullmatch(r"0|[1-9][0-9]{0,8}", step):
        raise Invalid(f"{step!r} is not an index")
    index = int(step)
    if index > len(array) - (0 if end else 1):
        raise Invalid(f"index {index} is out of bounds")
    return index


def _get(document: Any, path: list[str]) -> Any:
    for step in path:
        if isinstance(document, dict):
            if step not in document:
                raise Invalid(f"the path has no {step!r}")
            document = document[step]
        elif isinstance(document, list):
            document = document[_index(document, step)]
        else:
            raise Invalid(f"the path has no {step!r}")
    return document


def _add(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent = _get(document, path[:-1])
    if isinstance(parent, dict):
        parent[path[-1]] = value
    elif isinstance(parent, list):
        parent.insert(_index(parent, path[-1], end=True), value)
    else:
        raise Invalid("the parent is neither an object nor a list")
    return document


def _set(document: Any, path: list[str], value: Any) -> Any:
    """For a path that exists."""
    if not path:
        return value
    parent = _get(document, path[:-1])
    if isinstance(parent, list):
        parent[_index(parent, path[-1])] = value
    else:
        parent[path[-1]] = value
    return document


def _remove(document: Any, path: list[str]) -> tuple[Any, Any]:
    if not path:
        return None, document
    parent = _get(document, path[:-1])
    if isinstance(parent, dict):
        if path[-1] not in parent:
            raise Invalid(f"the path has no {path[-1]!r}")
        return document, parent.pop(path[-1])
    if isinstance(parent, list):
        return document, parent.pop(_index(parent, path[-1]))
    raise Invalid(f"the path has no {path[-1]!r}")


def _equal(left: Any, right: Any) -> bool:
    """RFC 6902 section 4.6: true is not 1."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_equal(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_equal, left, right))
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return bool(left == right)
