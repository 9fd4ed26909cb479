"""Strategic merge patch: a merge patch that knows which lists are really maps.

`kubectl apply`, `kubectl patch` and `kubectl edit` send it for the built-in kinds. Theory:

* Objects merge key by key, null removes, as in RFC 7386.
* A list merges when the schema names its merge key (containers by name, ports by containerPort): items with the same
  key merge, new ones are appended. A list of plain values merges as a set when the schema says so. Any other list is
  replaced.
* Directives inside the patch: `$patch: replace|delete|merge` in an object or as a list item;
  `$deleteFromPrimitiveList/F`: values to take out of list F; `$setElementOrder/F`: the order the client wants in list
  F; `$retainKeys`: of this object only these keys stay.
* Order: the items that the patch orders come in its order; an item that only the server has keeps its place relative
  to the ordered items that stood around it. Example: live [a, X, b], order [b, a] gives [X, b, a]: b stood
  behind X.
"""

from __future__ import annotations

from typing import Any

from kubeedge.api import schema
from kubeedge.api.names import Object
from kubeedge.errors import Invalid

_DIRECTIVE = "$patch"
_RETAIN = "$retainKeys"
_ORDER = "$setElementOrder/"
_PRUNE = "$deleteFromPrimitiveList/"
_GONE = object()


def apply(kind: str, target: Object, patch: Any) -> Object:
    """Raises Invalid. The arguments stay untouched; the result may share parts with them."""
    fields = schema.fields_of(kind)
    if fields is None:
        raise Invalid(f"{kind} has no merge keys: use a merge patch or a JSON patch")
    if not isinstance(patch, dict):
        raise Invalid("a strategic merge patch is an object")
    return _merge_object(target, patch, fields)


def _merge_object(target: Object, patch: Object, fields: schema.Fields | None) -> Object:
    match patch.get(_DIRECTIVE):
        case None | "merge":
            pass
        case "replace":
            return {key: _clean(value) for key, value in patch.items() if not key.startswith("$")}
        case "delete":
            return {}
        case other:
            raise Invalid(f"unknown directive $patch: {other!r}; write replace, delete or merge")
    result = dict(target)
    if (retain := patch.get(_RETAIN)) is not None:
        if not isinstance(retain, list):
            raise Invalid("$retainKeys is not a list")
        kept = {key for key in retain if isinstance(key, str)}
        result = {key: value for key, value in result.items() if key in kept}
    orders: dict[str, list[Any]] = {}
    for key, value in patch.items():
        if key.startswith(_ORDER):
            orders[key.removeprefix(_ORDER)] = _list(key, value)
        elif key.startswith(_PRUNE):
            name = key.removeprefix(_PRUNE)
            gone = set(map(repr, _list(key, value)))
            if isinstance(result.get(name), list):
                result[name] = [item for item in result[name] if repr(item) not in gone]
    for key, value in patch.items():
        if key.startswith("$"):
            continue
        if value is None:
            result.pop(key, None)
            continue
        field = fields.get(key) if fields is not None else None
        result[key] = _merge_value(result.get(key), value, field)
    for name, order in orders.items():
        field = fields.get(name) if fields is not None else None
        if isinstance(result.get(name), list):
            live = target.get(name)
            result[name] = _ordered(result[name], live if isinstance(live, list) else [], order, field)
    return result


def _list(key: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise Invalid(f"{key} is not a list")
    return value


def _merge_value(target: Any, patch: Any, field: schema.Field | None) -> Any:
    if isinstance(patch, dict):
        inner = None if field is None or field.shape == "list" else schema.fields_of(field.type)
        if field is not None and field.shape == "map":
            return _merge_object(target if isinstance(target, dict) else {}, patch, None)
        return _merge_object(target if isinstance(target, dict) else {}, patch, inner)
    if isinstance(patch, list) and field is not None and field.shape == "list":
        if field.merge_key:
            return _merge_by_key(target if isinstance(target, list) else [], patch, field)
        if field.merge_set:
            live = target if isinstance(target, list) else []
            known = set(map(repr, live))
            return [*live, *(item for item in patch if repr(item) not in known)]
    return _clean(patch)


def _merge_by_key(target: list[Any], patch: list[Any], field: schema.Field) -> list[Any]:
    key = field.merge_key
    if any(isinstance(item, dict) and item.get(_DIRECTIVE) == "replace" for item in patch):
        return [_clean(item) for item in patch if not (isinstance(item, dict) and _DIRECTIVE in item)]
    inner = schema.fields_of(field.type)
    result: list[Any] = list(target)
    positions: dict[str, list[int]] = {}  # an index: a hostile list of 100,000 items must not cost its square
    for index, old in enumerate(result):
        if isinstance(old, dict) and key in old:
            positions.setdefault(repr(old[key]), []).append(index)
    for item in patch:
        if not isinstance(item, dict):
            raise Invalid(f"a list that merges by {key!r} holds {str(item)[:64]!r}, which is not an object")
        if key not in item:
            raise Invalid(f"map: {sorted(map(str, item))[:8]} does not contain declared merge key: {key}")
        found = positions.get(repr(item[key]), [])
        if item.get(_DIRECTIVE) == "delete":
            for index in found:
                result[index] = _GONE
            found.clear()
        elif not found:
            positions.setdefault(repr(item[key]), []).append(len(result))
            result.append(_merge_object({}, item, inner))
        else:
            result[found[0]] = _merge_object(result[found[0]], item, inner)
    return [item for item in result if item is not _GONE]


def _ordered(items: list[Any], live: list[Any], order: list[Any], field: schema.Field | None) -> list[Any]:
    key = field.merge_key if field is not None else ""

    def identity(item: Any) -> str:
        return repr(item.get(key) if key and isinstance(item, dict) else item)

    wanted = {identity(item): index for index, item in reversed(list(enumerate(order)))}
    positions = {identity(item): index for index, item in reversed(list(enumerate(live)))}
    ours = sorted((item for item in items if identity(item) in wanted), key=lambda item: wanted[identity(item)])
    theirs = [item for item in items if identity(item) not in wanted]
    result: list[Any] = []
    # Merge the two sequences: an item of theirs goes first unless one of ours stood before it on the server.
    left = right = 0
    while left < len(ours) and right < len(theirs):
        mine, other = positions.get(identity(ours[left])), positions.get(identity(theirs[right]))
        if mine is not None and other is not None and mine < other:
            result.append(ours[left])
            left += 1
        else:
            result.append(theirs[right])
            right += 1
    return result + ours[left:] + theirs[right:]


def _clean(value: Any) -> Any:
    """A value that becomes part of the object as a whole: without directives and nulls."""
    if isinstance(value, dict):
        return {k: _clean(v) for k, v in value.items() if v is not None and not str(k).startswith("$")}
    if isinstance(value, list):
        return [_clean(item) for item in value]
    return value
