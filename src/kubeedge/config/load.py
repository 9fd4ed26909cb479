"""YAML to dataclasses, strictly: an unknown key or a wrong type is refused with its path and the nearest right name.

Keys are camelCase in the file and snake_case in the dataclass. Durations are numbers of seconds, sizes numbers of bytes.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from kubeedge.errors import Invalid

T = TypeVar("T")

MAX_FILE = 256 * 1024  # bytes; a configuration is a few kilobytes
_DOCUMENT_KEYS = ("apiVersion", "kind")


def load_file(cls: type[T], path: Path, *, api_version: str, kind: str) -> T:
    """Read and check one configuration file. Raises Invalid."""
    try:
        size = path.stat().st_size
        if size > MAX_FILE:
            raise Invalid(f"{path} has {size} bytes; a configuration has at most {MAX_FILE}")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as exc:
        raise Invalid(f"{path} does not exist") from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise Invalid(f"cannot read {path}: {exc}") from exc
    return load_text(cls, text, api_version=api_version, kind=kind, source=str(path))


def load_text(cls: type[T], text: str, *, api_version: str, kind: str, source: str = "configuration") -> T:
    import yaml  # here: the running agent does not keep it

    try:
        # aliases are how a small file becomes a large tree; a configuration has no use for them
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
            raise Invalid(f"{source}: YAML aliases are not allowed")
        document = yaml.safe_load(text)
    except yaml.YAMLError as exc:
        raise Invalid(f"{source} is not YAML: {' '.join(str(exc).split())}") from exc
    except RecursionError as exc:
        raise Invalid(f"{source} is nested too deeply") from exc
    if document is None:
        document = {}
    if not isinstance(document, dict):
        raise Invalid(f"{source} holds {_type_name(document)} instead of a mapping")
    for key, expected in zip(_DOCUMENT_KEYS, (api_version, kind), strict=True):
        got = document.pop(key, expected)
        if got != expected:
            raise Invalid(f"{got!r} instead of {expected!r}", path=key)
    return build(cls, document)


def build(cls: type[T], values: dict[str, Any], path: str = "") -> T:
    """A dataclass from a mapping, recursively. Raises Invalid with the key's path."""
    hints = get_type_hints(cls)
    fields = {_camel(f.name): f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        where = f"{path}.{key}" if path else str(key)
        if not isinstance(key, str) or key not in fields:
            raise Invalid(f"unknown key{_suggestion(str(key), list(fields), path)}", path=where)
        arguments[fields[key].name] = _convert(hints[fields[key].name], value, where)
    missing = [
        name
        for name, f in fields.items()
        if f.name not in arguments and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise Invalid("required", path=f"{path}.{missing[0]}" if path else missing[0])
    return cls(**arguments)


def dump(config: Any, *, api_version: str, kind: str) -> str:
    """The configuration as YAML, every key with its value; the reasons are in the dataclasses."""
    import yaml

    text: str = yaml.safe_dump({"apiVersion": api_version, "kind": kind, **_plain(config)}, sort_keys=False)
    return text


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {_camel(f.name): _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def _convert(hint: Any, value: Any, path: str) -> Any:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        options = [o for o in get_args(hint) if o is not type(None)]
        if value is None and len(options) < len(get_args(hint)):
            return None
        return _convert(options[0], value, path)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, dict):
            raise Invalid(f"{_type_name(value)} instead of a mapping", path=path)
        return build(hint, value, path)
    if origin is tuple:
        if not isinstance(value, list):
            raise Invalid(f"{_type_name(value)} instead of a list", path=path)
        item = get_args(hint)[0]
        return tuple(_convert(item, v, f"{path}[{n}]") for n, v in enumerate(value))
    if origin is typing.Literal:
        if value not in get_args(hint):
            raise Invalid(f"{value!r} instead of one of {', '.join(map(str, get_args(hint)))}", path=path)
        return value
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise Invalid(f"{_type_name(value)} instead of {_NAMES.get(hint, hint.__name__)}", path=path)
    return value


_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false", Path: "a path"}


def _type_name(value: Any) -> str:
    if value is None:
        return "nothing"
    names = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "a mapping"}
    return f"{names.get(type(value), type(value).__name__)} ({value!r:.40})"


def _suggestion(key: str, known: list[str], path: str) -> str:
    near = difflib.get_close_matches(key, known, 1, 0.5)
    if near:
        return f"; did you mean {path + '.' if path else ''}{near[0]}?"
    return f"; known here: {', '.join(known)}"


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.upper() if part in ("ip", "cidr") else part.capitalize() for part in rest)
