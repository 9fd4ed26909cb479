"""Values of the chart: `--set` as Helm reads it, files of values, and the check by values.schema.json. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from kubeedge.api.schema import found_type
from kubeedge.errors import Invalid

_MAX_INDEX = 64  # of a list in --set


def with_sets(values: Mapping[str, Any], texts: Iterable[str]) -> dict[str, Any]:
    """`values` with each KEY=VALUE,... of `texts`: a.b=1, a[0].b=x, a={x,y}, a\\.b=x; a=null takes a default away. Raises Invalid."""
    result: dict[str, Any] = _copied(values)
    for text in texts:
        for key, value in _pairs(text):
            _put(result, _path(key), value, key)
    return result


def check(values: Any, schema: Mapping[str, Any], path: str = "") -> None:
    """By the keywords that the chart's schema uses. Raises Invalid with the path of the value."""
    wanted = schema.get("type")
    if wanted is not None and not any(_is(values, kind) for kind in ([wanted] if isinstance(wanted, str) else wanted)):
        raise Invalid(
            f"is {_kind(values)}, not {wanted if isinstance(wanted, str) else ' or '.join(wanted)}", path=path
        )
    if "enum" in schema and values not in schema["enum"]:
        raise Invalid(f"{values!r:.60} is none of {', '.join(map(str, schema['enum']))}", path=path)
    if isinstance(values, str) and not re.search(schema.get("pattern", ""), values):
        raise Invalid(f"{values!r:.60} does not match {schema['pattern']}", path=path)
    if isinstance(values, int | float) and not isinstance(values, bool):
        low, high = schema.get("minimum", values), schema.get("maximum", values)
        if not low <= values <= high:
            raise Invalid(f"{values} is not from {low} to {high}", path=path)
    if isinstance(values, list):
        for n, item in enumerate(values):
            check(item, schema.get("items", {}), f"{path}[{n}]")
    if isinstance(values, Mapping):
        _check_keys(values, schema, path)


def _check_keys(values: Mapping[str, Any], schema: Mapping[str, Any], path: str) -> None:
    properties = schema.get("properties", {})
    for key, value in values.items():
        where = f"{path}.{key}" if path else str(key)
        if key in properties:
            check(value, properties[key], where)
        elif schema.get("additionalProperties") is False:
            raise Invalid("the chart has no such value", path=where)
    for key in schema.get("required", ()):
        if key not in values:
            raise Invalid("is missing", path=f"{path}.{key}" if path else key)


def _pairs(text: str) -> Iterable[tuple[str, Any]]:
    at = 0
    while at < len(text):
        match = re.compile(r"((?:[^\\,=]|\\.)+)=").match(text, at)
        if match is None:
            raise Invalid(f"--set {text!r:.80}: write it like KEY=VALUE")
        key, at = match[1], match.end()
        if text.startswith("{", at):
            end = text.find("}", at)
            if end < 0:
                raise Invalid(f"--set {text!r:.80}: a brace is open")
            yield key, [_scalar(item) for item in _split(text[at + 1 : end])]
            at = end + 1
        else:
            value = re.compile(r"(?:[^\\,]|\\.)*").match(text, at)
            assert value is not None
            yield key, _scalar(value[0])
            at = value.end()
        if at < len(text) and text[at] != ",":
            raise Invalid(f"--set {text!r:.80}: {text[at:]!r:.20} is too much")
        at += 1


def _split(text: str) -> list[str]:
    return re.findall(r"(?:[^\\,]|\\.)+", text)


def _scalar(text: str) -> Any:
    plain = re.sub(r"\\(.)", r"\1", text)
    match plain:
        case "true" | "false":
            return plain == "true"
        case "null":
            return None
    if re.fullmatch(r"0|-?[1-9][0-9]{0,18}", plain):
        return int(plain)
    return plain


def _path(key: str) -> list[str | int]:
    parts: list[str | int] = []
    for part in re.findall(r"(?:[^\\.]|\\.)+", key):
        match = re.fullmatch(r"((?:[^\\\[]|\\.)*)((?:\[\d{1,4}\])*)", part)
        if match is None:
            raise Invalid(f"--set {key!r:.80}: not a key")
        if match[1]:
            parts.append(re.sub(r"\\(.)", r"\1", match[1]))
        parts += [int(index) for index in re.findall(r"\d+", match[2])]
    return parts


def _put(into: Any, path: list[str | int], value: Any, key: str) -> None:
    for n, part in enumerate(path):
        last = n == len(path) - 1
        fresh: Any = value if last else ([] if isinstance(path[n + 1], int) else {})
        if isinstance(part, int):
            if not isinstance(into, list) or part > min(len(into), _MAX_INDEX):
                raise Invalid(f"--set {key!r:.80}: no list that has [{part}]")
            if part == len(into):
                into.append(fresh)
            elif last:
                into[part] = fresh
        elif not isinstance(into, dict):
            raise Invalid(f"--set {key!r:.80}: {part} of what is no map")
        elif last or not isinstance(into.get(part), type(fresh)):
            into[part] = fresh
        into = into[part]


def _copied(values: Any) -> Any:
    if isinstance(values, Mapping):
        return {key: _copied(value) for key, value in values.items()}
    return [_copied(item) for item in values] if isinstance(values, list) else values


def _is(value: object, kind: str) -> bool:
    return kind == _kind(value) or (kind == "number" and _kind(value) == "integer")


def _kind(value: object) -> str:
    """JSON Schema counts 1.0 as an integer."""
    return "integer" if isinstance(value, float) and value.is_integer() else found_type(value)
