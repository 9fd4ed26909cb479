"""What the fields of the main kinds may hold, and how lists merge in a strategic merge patch.

One table (schema_table.py) serves two readers: the type check of manifests (`check`) and the strategic merge patch
(strategic.py). A kind that is not in it is stored as it comes.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
from typing import Any

from kubeedge.api import meta
from kubeedge.api.findings import Enough, Findings
from kubeedge.api.names import Object
from kubeedge.api.quantities import is_quantity
from kubeedge.api.schema_table import TABLE
from kubeedge.api.status import MAX_CAUSES, FieldError, invalid, wrong_type
from kubeedge.kit.dataclasses import dataclass

_PLAIN = {
    "str": (str, "string"),
    "time": (str, "string"),
    "int": (int, "integer"),
    "long": (int, "integer"),
    "num": ((int, float), "number"),
    "bool": (bool, "boolean"),
}
_STEP = 320  # characters; the longest key of a label has 317
_LIMITS = {"int": 32, "long": 64}  # bits, as in Kubernetes' types: a client that has too few cannot read the whole list


@dataclass(frozen=True, slots=True)
class Field:
    """`type` is the type of the value, of a list's items, or of a map's values."""

    type: str
    shape: str = "one"  # one, list, map
    merge_key: str = ""
    merge_set: bool = False
    retain_keys: bool = False


Fields = Mapping[str, Field]


@functools.cache
def types() -> Mapping[str, Fields]:
    """The parsed schema table: type -> field -> what it may hold."""
    table: dict[str, dict[str, Field]] = {}
    fields: dict[str, Field] = {}
    for line in TABLE.splitlines():
        if not line.startswith(" "):
            fields = table.setdefault(line, {})
            continue
        name, kind, *flags = line.split()
        shape = "one"
        if kind == "map":
            kind, shape = "str", "map"
        elif kind[0] in "[{":
            kind, shape = kind[1:-1], "list" if kind[0] == "[" else "map"
        key = next((flag[4:] for flag in flags if flag.startswith("key=")), "")
        fields[name] = Field(kind, shape, key, "set" in flags, "retain" in flags)
    table.pop("", None)
    return table


def fields_of(kind: str) -> Fields | None:
    """Fields of a kind or type; None when the table does not know it."""
    return types().get(kind)


def check(kind: str, obj: Object) -> tuple[list[FieldError], list[str]]:
    """Values of a wrong type, and paths of fields that the kind does not have (they are kept, and warned about); the first of each."""
    errors = Findings()
    unknown: list[str] = []
    fields = fields_of(kind)
    if fields is not None:
        with contextlib.suppress(Enough):
            _check_fields(fields, obj, "", errors, unknown)
    return errors, unknown


def _check_fields(fields: Fields, obj: Object, path: str, errors: list[FieldError], unknown: list[str]) -> None:
    for name, value in obj.items():
        field = fields.get(name)
        where = f"{path}.{_step(name)}" if path else _step(name)
        if field is None:
            if len(unknown) < MAX_CAUSES:
                unknown.append(where)
        elif value is not None:  # null is the same as absent
            _check_shape(field, value, where, errors, unknown)


def _step(name: str) -> str:
    """A key as it stands in a path: the path of each value below has it again."""
    return name if len(name) <= _STEP else name[:_STEP] + "..."


def _check_shape(field: Field, value: Any, path: str, errors: list[FieldError], unknown: list[str]) -> None:
    if field.shape == "list":
        if not isinstance(value, list):
            errors.append(wrong_type(path, "array", found_type(value)))
            return
        for index, item in enumerate(value):
            _check_one(field.type, item, f"{path}[{index}]", errors, unknown)
    elif field.shape == "map":
        if not isinstance(value, dict):
            errors.append(wrong_type(path, "object", found_type(value)))
            return
        for key, item in value.items():
            _check_one(field.type, item, f"{path}.{_step(key)}", errors, unknown)
    else:
        _check_one(field.type, value, path, errors, unknown)


def _check_one(kind: str, value: Any, path: str, errors: list[FieldError], unknown: list[str]) -> None:
    if kind == "any":
        return
    plain = _PLAIN.get(kind)
    if plain is not None:
        expected, name = plain
        if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):  # type: ignore[arg-type]
            errors.append(wrong_type(path, name, found_type(value)))
        elif (bits := _LIMITS.get(kind)) and not -(1 << bits - 1) <= value < 1 << bits - 1:
            errors.append(invalid(path, value, f"must fit into {bits} bits"))
        elif kind == "time" and not meta.is_timestamp(value):
            errors.append(invalid(path, value, "must be a time as in RFC 3339, like 2026-01-31T12:00:00Z"))
    elif kind == "quantity":
        if not is_quantity(value):
            errors.append(
                invalid(
                    path,
                    value,
                    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
                )
            )
    elif kind == "intorstr":
        if isinstance(value, bool) or not isinstance(value, int | str):
            errors.append(wrong_type(path, "integer or string", found_type(value)))
    elif not isinstance(value, dict):
        errors.append(wrong_type(path, "object", found_type(value)))
    else:
        _check_fields(types()[kind], value, path, errors, unknown)


def found_type(value: Any) -> str:
    """The JSON type of a value, in the words of error messages."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
    return "object"
