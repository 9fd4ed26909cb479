"""Sets of fields of an object, as FieldsV1 of metadata.managedFields writes them. Pure.

A field is a path of elements (Kubernetes: FieldsV1, structured-merge-diff):

    f:spec                            a field of an object, or a key of a map
    k:{"name":"web"}                  an item of a list whose items have keys
    v:"kubeedge.io/keep"              an item of a list that is a set

Whatever has no such parts (a plain value, a list or an object that is one whole) is a field without fields below. An item of a list is a
field itself, beside those in it: a manager that owns it keeps the item there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Set
from typing import Any

from kubeedge.api import schema
from kubeedge.api.names import Object
from kubeedge.api.schema import Field
from kubeedge.errors import Invalid

ElementPath = tuple[str, ...]  # of a FieldsV1: "f:NAME" of a field, "k:..." and "v:..." of an item, from the root
ElementPaths = frozenset[ElementPath]

MAX_PATHS = 20_000  # of one set that a client sends; objects have no more values
_DEPTH = 100
#: lists whose items have more than one key (x-kubernetes-list-map-keys), beyond the one by which a strategic patch merges them
_MORE_KEYS: dict[str, tuple[tuple[str, Any], ...]] = {
    "ContainerPort": (("containerPort", None), ("protocol", "TCP")),
    "ServicePort": (("port", None), ("protocol", "TCP")),
    "TopologySpread": (("topologyKey", None), ("whenUnsatisfiable", None)),
}
#: what has one owner as a whole (x-kubernetes-map-type: atomic), by the type, or by the names of a type and of its field
_ATOMIC_TYPES = frozenset(
    (
        "LabelSelector",
        "LocalRef",
        "ObjectRef",
        "FieldRef",
        "ResourceFieldRef",
        "KeyRef",
        "NodeSelectorTerm",
        "NodeSelector",
    )
)
_ATOMIC_MAPS = frozenset((("PodSpec", "nodeSelector"), ("ServiceSpec", "selector"), ("PodSpec", "overhead")))
_ANY = Field("any")


def root(kind: str) -> Field:
    """Of an object of that kind; one that the table of fields does not know is made of maps, and of lists that are one whole."""
    return Field(kind) if schema.fields_of(kind) is not None else _ANY


def parts(value: Any, field: Field) -> dict[str, tuple[Any, Field]] | None:
    """element -> (value, field) of what has owners of its own in there; None: the value is one whole."""
    if isinstance(value, dict):
        if field.shape == "list" or field.merge_set or field.type in _ATOMIC_TYPES and field.shape == "one":
            return None
        if field.shape == "map":
            return {f"f:{key}": (item, Field(field.type)) for key, item in value.items()}
        known = schema.fields_of(field.type)
        if known is None:
            return {f"f:{key}": (item, _ANY) for key, item in value.items()} if field.type == "any" else None
        return {f"f:{key}": (item, _field(field.type, key, known.get(key))) for key, item in value.items()}
    if isinstance(value, list) and field.shape == "list":
        items = _items(value, field)
        return (
            items if len(items) == len(value) else None
        )  # with an item twice, or one without its key, it is no map and no set
    return None


def _items(value: list[Any], field: Field) -> dict[str, tuple[Any, Field]]:
    if field.merge_set:
        return {f"v:{_json(item)}": (item, Field("str")) for item in value}
    if field.merge_key and all(isinstance(item, dict) for item in value):
        return {element: (item, Field(field.type)) for item in value if (element := item_of(item, field))}
    return {}


def _field(kind: str, name: str, field: Field | None) -> Field:
    if field is None:
        return _ANY
    return Field(field.type, merge_set=True) if (kind, name) in _ATOMIC_MAPS else field


def item_of(item: Object, field: Field) -> str:
    """The element that names this item of a list; "" when it lacks its key."""
    keys = _MORE_KEYS.get(field.type, ((field.merge_key, None),))
    values = {key: item.get(key, default) for key, default in keys}
    return "" if values[keys[0][0]] is None else f"k:{_json({k: v for k, v in values.items() if v is not None})}"


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def leaves(value: Any, field: Field, path: ElementPath = ()) -> Iterator[ElementPath]:
    """All fields of a value."""
    inner = parts(value, field)
    if not inner:
        if path:
            yield path
        return
    if path and path[-1][0] == "k":
        yield path
    for element, (item, below) in inner.items():
        yield from leaves(item, below, (*path, element))


def differences(old: Any, new: Any, field: Field, path: ElementPath = ()) -> Iterator[tuple[bool, ElementPath]]:
    """(is it there in `new`, field) of all that was added, has another value, or was removed."""
    if old == new:
        return
    before, after = parts(old, field), parts(new, field)
    if before is None or after is None:
        if path:
            yield True, path
        return
    for element, (item, below) in after.items():
        if element in before:
            yield from differences(before[element][0], item, below, (*path, element))
        else:
            yield from ((True, added) for added in leaves(item, below, (*path, element)))
    for element, (item, below) in before.items():
        if element not in after:
            yield from ((False, removed) for removed in leaves(item, below, (*path, element)))


def merged(live: Any, applied: Any, field: Field) -> Any:
    """`applied` over `live`: what has parts is merged part by part, the rest is replaced. Items of `live` keep their order."""
    before, after = parts(live, field), parts(applied, field)
    if before is None or after is None:
        return applied
    if isinstance(applied, dict) and isinstance(live, dict):
        return {
            **live,
            **{
                key: merged(live[key], item, after[f"f:{key}"][1]) if key in live else item
                for key, item in applied.items()
            },
        }
    kept = [
        merged(item, after[element][0], below) if element in after else item
        for element, (item, below) in before.items()
    ]
    return [*kept, *(item for element, (item, _) in after.items() if element not in before)]


def without(value: Any, gone: Set[ElementPath], kept: Set[ElementPath], field: Field, path: ElementPath = ()) -> Any:
    """`value` without the fields of `gone`. What has nothing left goes with its last field, unless it is an item or one of `kept`."""
    inner = parts(value, field)
    if not inner:
        return value
    left: dict[str, Any] = {}
    for element, (item, below) in inner.items():
        at = (*path, element)
        if at in gone:
            continue
        rest = without(item, gone, kept, below, at)
        if rest or not item or element[0] == "k" or at in kept:
            left[element] = rest
    if isinstance(value, dict):
        return {element[2:]: item for element, item in left.items()}
    return list(left.values())


def encode(paths: Set[ElementPath]) -> Object:
    """The paths as a FieldsV1 object (managedFields): nested objects with keys "f:NAME", "k:{...}", "v:VALUE"."""
    tree: Object = {}
    for path in sorted(paths):
        node = tree
        for element in path:
            node = node.setdefault(element, {})
        node["."] = {}
    return _compact(tree)


def _compact(node: Object) -> Object:
    """ "." stands only where there is something beside it."""
    if set(node) == {"."}:
        return {}
    return {key: item if key == "." else _compact(item) for key, item in node.items()}


def decode(tree: Any) -> ElementPaths:
    """The paths of a FieldsV1 object. Raises Invalid for anything else."""
    found: set[ElementPath] = set()
    waiting: list[tuple[ElementPath, Any]] = [((), tree)]
    while waiting:
        path, node = waiting.pop()
        if not isinstance(node, dict) or len(path) > _DEPTH:
            raise Invalid("fieldsV1 is not a tree of fields")
        if path and not node:
            found.add(path)
        for element, below in node.items():
            if element == ".":
                found.add(path)
            elif element[:2] in ("f:", "k:", "v:", "i:"):
                waiting.append(((*path, element), below))
            else:
                raise Invalid(f"fieldsV1: {element[:64]!r} is not f:, k:, v: or i:")
        if len(found) + len(waiting) > MAX_PATHS:
            raise Invalid(f"fieldsV1 has more than {MAX_PATHS} fields")
    return frozenset(found)


def text_of(path: ElementPath) -> str:
    """A path as messages show it: .spec.containers[name="web"].image"""
    return "".join(_step(element) for element in path)


def _step(element: str) -> str:
    kind, rest = element[:2], element[2:]
    if kind == "f:":
        return f".{rest}"
    if kind == "k:":
        return "[" + ",".join(f"{key}={_json(value)}" for key, value in json.loads(rest).items()) + "]"
    return f"[={rest}]" if kind == "v:" else f"[{rest}]"
