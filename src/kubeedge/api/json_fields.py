"""Reads fields of a JSON object by what they have to be. Each raises Invalid with the path of the field ("spec.containers[0].image")."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from kubeedge.errors import Invalid

T = TypeVar("T")
_MAX_ID = 2**31 - 1


class UnknownValue(Invalid):
    """None of those that are known here. The API refuses it; to a node it comes from an API that is newer than the agent, and there it waits as
    what is not supported does: a pod that has Failed for it would be made anew by its controller, and again."""


def read_quantity(values: Mapping[str, Any], key: str, path: str, convert: Any) -> int | None:
    """A quantity in the unit of `convert`; None when it is absent. Raises Invalid."""
    if key not in values:
        return None
    try:
        amount: int = convert(str(values[key]))
        return amount
    except (ValueError, Invalid) as exc:
        raise Invalid(f"{values[key]!r} is not a quantity", path=f"{path}.{key}") from exc


def read(values: Mapping[str, Any], key: str, kind: type[T], path: str, default: T) -> T:
    """A value of that type; the default when it is absent or null. Raises Invalid."""
    value = values.get(key)
    if value is None:
        return default
    where = f"{path}.{key}" if path else key
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise Invalid(f"{value!r:.60} instead of {kind.__name__}", path=where)
    if isinstance(value, str):
        check_text(value, where)
    return value


def check_text(text: str, path: str) -> None:
    """What becomes an argument, a variable or the name of a file ends at its first NUL: in JSON one may stand anywhere."""
    if "\0" in text:
        raise Invalid(f"{text!r:.60} has a NUL character", path=path)


def check_texts(value: Any, path: str) -> None:
    """check_text() of all that is in a JSON value, which is as deep as JSON may be. Keys are fields' names."""
    if isinstance(value, str):
        check_text(value, path)
    elif isinstance(value, dict):
        for key, item in value.items():
            check_texts(item, f"{path}.{key:.64}")
    elif isinstance(value, list):
        for n, item in enumerate(value):
            check_texts(item, f"{path}[{n}]")


def read_mapping(values: Mapping[str, Any], key: str, path: str) -> dict[str, Any]:
    """A mapping of JSON; empty when it is absent. Raises Invalid."""
    return read(values, key, dict, path, {})


def mapping_of(item: Any, path: str) -> dict[str, Any]:
    """An object of a list."""
    if not isinstance(item, dict):
        raise Invalid(f"{item!r:.60} instead of an object", path=path)
    return item


def read_list(values: Mapping[str, Any], key: str, path: str) -> list[Any]:
    """[] when it is absent."""
    return read(values, key, list, path, [])


def read_texts(values: Mapping[str, Any], key: str, path: str) -> list[str] | None:
    """A list of strings; None when it is absent."""
    items = values.get(key)
    if items is None:
        return None
    if not isinstance(items, list) or not all(isinstance(i, str) for i in items):
        raise Invalid("not a list of text", path=f"{path}.{key}")
    for n, item in enumerate(items):
        check_text(item, f"{path}.{key}[{n}]")
    return items


def read_text_mapping(values: Mapping[str, Any], key: str, path: str) -> dict[str, str]:
    """A mapping of texts, like labels or annotations; empty when it is absent. Raises Invalid."""
    return {str(k): str(v) for k, v in read_mapping(values, key, path).items()}


def read_id(values: Mapping[str, Any], key: str, path: str) -> int | None:
    """The id of a user or group; None when it is absent. Raises Invalid."""
    number = read(values, key, int, path, -1)
    if values.get(key) is None:
        return None
    if not 0 <= number <= _MAX_ID:
        raise Invalid(f"{number} is not a user or group id", path=f"{path}.{key}")
    return number


def read_ids(values: Mapping[str, Any], key: str, path: str) -> list[int]:
    """Ids of users or groups, in the order of the list; [] when it is absent. Raises Invalid."""
    return [n for item in read_list(values, key, path) if (n := read_id({key: item}, key, path)) is not None]


def read_name(values: Mapping[str, Any], key: str, path: str, form: re.Pattern[str], default: str = "") -> str:
    """What becomes a file name, an argument or a host name."""
    name = read(values, key, str, path, "") or default
    if not name:
        raise Invalid("required", path=f"{path}.{key}")
    if not form.fullmatch(name) or ".." in name:
        raise Invalid(f"{name!r:.80} is not a name", path=f"{path}.{key}")
    return name


def read_choice(values: Mapping[str, Any], key: str, path: str, allowed: Sequence[str]) -> str:
    """One of `allowed`; the first is the default."""
    value = read(values, key, str, path, "") or allowed[0]
    if value not in allowed:
        raise UnknownValue(f"{value!r:.60} is none of {', '.join(dict.fromkeys(allowed))}", path=f"{path}.{key}")
    return value


def read_path(values: Mapping[str, Any], key: str, path: str, default: str = "") -> str:
    """A path inside of a container."""
    value = read(values, key, str, path, "") or default
    if not value.startswith("/") or value.strip("/") == "" or ".." in value.split("/") or "\0" in value:
        raise Invalid(f"{value!r:.80} is not an absolute path", path=f"{path}.{key}")
    return value
