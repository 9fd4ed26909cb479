"""The functions of templates that the chart uses, as Go's text/template, Sprig and Helm define them. Pure."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from kubeedge.errors import Invalid


def is_true(value: object) -> bool:
    """Go's truth: zero, an empty string, an empty list or map, nil and false are not."""
    return bool(value)


def text(value: object) -> str:
    """A value as an action writes it into the text."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer():
            return str(int(value))
        case str() | int() | float():
            return str(value)
    raise Invalid(f"a {type(value).__name__} cannot be written as it is; use toYaml")


def to_yaml(value: object) -> str:
    """Block style, keys sorted, without a line end."""
    return (
        yaml.safe_dump(value, default_flow_style=False, width=10**6, sort_keys=True, allow_unicode=True)
        .rstrip("\n")
        .removesuffix("\n...")
    )


def merged(into: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Maps are merged, everything else of `over` replaces; a null takes a key away, as in values of Helm."""
    result = dict(into)
    for key, value in over.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping):
            before = result.get(key)
            result[key] = merged(before if isinstance(before, Mapping) else {}, value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def overlaid(first: Mapping[str, Any], *others: Mapping[str, Any]) -> dict[str, Any]:
    """As merged, but a null stays: what is given later is still to take a default away."""
    result = dict(first)
    for other in others:
        for key, value in other.items():
            before = result.get(key)
            both = isinstance(before, Mapping) and isinstance(value, Mapping)
            result[key] = overlaid(before, value) if both else value  # type: ignore[arg-type]
    return result


def _indent(width: int, value: str) -> str:
    pad = " " * int(width)
    return "\n".join(pad + line for line in value.split("\n"))


class Failed(Invalid):
    """What the chart's own `fail` and `required` say: the values are wrong, not the template."""


def _fail(message: str) -> Any:
    raise Failed(message)


def _required(message: str, value: object) -> object:
    if value is None or value == "":
        raise Failed(message)
    return value


def _printf(form: str, *values: object) -> str:
    left = list(values)

    def put(match: re.Match[str]) -> str:
        if match[0] == "%%":
            return "%"
        value = left.pop(0)
        return json.dumps(value) if match[0] == "%q" else text(value)

    return re.sub(r"%[sdvq%]", put, form)


def _to_json(value: object) -> str:
    """A value as Go's encoding/json writes it: compact, keys sorted, characters that HTML would read escaped."""
    found = json.dumps(_whole(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return found.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _whole(value: Any) -> Any:
    """A value in which whole numbers are integers, so that 1.0 is written as 1."""
    if isinstance(value, Mapping):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _dict(*pairs: Any) -> dict[str, Any]:
    return dict(zip(pairs[::2], pairs[1::2], strict=True))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "append": lambda items, item: [*items, item],
    "concat": lambda *lists: [item for each in lists for item in each],
    "contains": lambda part, whole: part in whole,
    "default": lambda other, value=None: value if is_true(value) else other,
    "dict": _dict,
    "empty": lambda value: not is_true(value),
    "eq": lambda first, *others: first in others,
    "fail": _fail,
    "first": lambda items: items[0],
    "gt": lambda a, b: a > b,
    "hasKey": lambda mapping, key: key in mapping,
    "indent": _indent,
    "index": lambda of, key: of[key],
    "int": lambda value: int(value or 0),
    "join": lambda between, items: between.join(map(text, items)),
    "len": len,
    "list": lambda *items: list(items),
    "lookup": lambda *_: {},  # as in `helm template`: no cluster is asked
    "lt": lambda a, b: a < b,
    "mergeOverwrite": overlaid,
    "ne": lambda a, b: a != b,
    "nindent": lambda width, value: "\n" + _indent(width, value),
    "not": lambda value: not is_true(value),
    "printf": _printf,
    "quote": lambda *values: " ".join(json.dumps(text(v), ensure_ascii=False) for v in values if v is not None),
    "replace": lambda old, new, value: value.replace(old, new),
    "required": _required,
    "sha256sum": lambda value: hashlib.sha256(value.encode()).hexdigest(),
    "ternary": lambda yes, no, test: yes if test else no,
    "toJson": _to_json,
    "toYaml": to_yaml,
    "trimSuffix": lambda end, value: value.removesuffix(end),
    "trunc": lambda width, value: value[: int(width)],
}
