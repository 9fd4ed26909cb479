"""YAML to dataclasses, strictly: an unknown key or a wrong value is refused with its path and what would be right.

Keys are camelCase in the file and snake_case in the dataclass. Durations are numbers of seconds, sizes numbers of bytes.

Lives here:      setting() and section() that declare a key with its reason and its limits, reading, checking, and the commented default file.
Lives elsewhere: which settings there are (edge.py, cloud.py), what a text must look like (forms.py).
"""

from __future__ import annotations

import json
import logging
import math
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from kubeedge.config.forms import Form
from kubeedge.errors import Invalid
from kubeedge.kit import dataclasses

T = TypeVar("T")

log = logging.getLogger("kubeedge.config")

MAX_FILE = 256 * 1024  # bytes; a configuration is a few kilobytes
_DOCUMENT_KEYS = ("apiVersion", "kind")
_PLAIN_TEXT = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*")  # needs no quotes in YAML, unless it is one of these:
_SPECIAL = re.compile(r"[^\x20-\x7e]")  # what JSON leaves as it is, and YAML might not
_YAML_WORDS = frozenset(("null", "true", "false", "yes", "no", "on", "off", "y", "n"))


def setting(
    default: T, doc: str, *, low: float | None = None, high: float | None = None, form: Form | None = None
) -> T:
    """A key: its default, why it is so and in which unit, the range of a number, the form of a text (or of each text of a list)."""
    return dataclasses.field(default=default, metadata={"doc": doc, "low": low, "high": high, "form": form})


def required(doc: str, *, low: float | None = None, high: float | None = None, form: Form | None = None) -> Any:
    """A key without a default."""
    return dataclasses.field(metadata={"doc": doc, "low": low, "high": high, "form": form})


def section(default: T, doc: str = "") -> T:
    """A mapping below a key. What a file leaves out of it is taken from this default."""
    return dataclasses.field(default=default, metadata={"doc": doc})


def renamed(keys: Mapping[str, str]) -> Callable[[type[T]], type[T]]:
    """For a section: old key -> the key of today, both as in the file. An old key is read, with a warning that names the new one."""

    def register(cls: type[T]) -> type[T]:
        _renamed[cls] = dict(keys)
        return cls

    return register


_renamed: dict[type[Any], Mapping[str, str]] = {}


def load_file(cls: type[T], path: Path, *, api_version: str, kind: str) -> T:
    """Read and check one configuration file. Raises Invalid."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
        if len(data) > MAX_FILE:
            raise Invalid(f"{path} is too long; a configuration has at most {MAX_FILE} bytes")
        text = data.decode()
    except FileNotFoundError as exc:
        raise Invalid(f"{path} does not exist") from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise Invalid(f"cannot read {path}: {exc}") from exc
    return load_text(cls, text, api_version=api_version, kind=kind, source=str(path))


def load_text(cls: type[T], text: str, *, api_version: str, kind: str, source: str = "configuration") -> T:
    """The settings in a text, as load_file reads them; `source` names it in errors. Raises Invalid."""
    document = _parse(text, source)
    if document is None:
        document = {}
    if not isinstance(document, dict):
        raise Invalid(f"{source} holds {_type_name(document)} instead of a mapping")
    try:
        for key, expected in zip(_DOCUMENT_KEYS, (api_version, kind), strict=True):
            got = document.pop(key, expected)
            if got != expected:
                raise Invalid(f"{got!r:.80} instead of {expected!r}", path=key)
        return build(cls, document)
    except Invalid as exc:
        exc.args = (f"{source}: {exc}",)
        raise


def build(cls: type[T], values: dict[str, Any], path: str = "", base: T | None = None) -> T:
    """A dataclass from a mapping, recursively; what is left out comes from `base`. Raises Invalid with the key's path."""
    hints = get_type_hints(cls)
    fields = {_camel(f.name): f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    arguments: dict[str, Any] = {}
    for key, value in _with_todays_keys(cls, values, path).items():
        where = _join(path, str(key))
        if not isinstance(key, str) or key not in fields:
            raise Invalid(f"unknown key{_suggestion(str(key), list(fields), path)}", path=where)
        field = fields[key]
        converted = _convert(hints[field.name], value, where, getattr(base, field.name, field.default))
        _check(field, converted, where)
        arguments[field.name] = converted
    if base is not None:
        return dataclasses.replace(base, **arguments)  # type: ignore[type-var]
    for name, field in fields.items():
        if field.name not in arguments and field.default is field.default_factory is dataclasses.MISSING:
            raise Invalid("required", path=_join(path, name))
    return cls(**arguments)


def _with_todays_keys(cls: type[Any], values: dict[str, Any], path: str) -> dict[str, Any]:
    renamed_keys, result = _renamed.get(cls, {}), dict[str, Any]()
    for key, value in values.items():
        new = renamed_keys.get(key, key) if isinstance(key, str) else key
        if new != key:
            if new in values:
                raise Invalid(
                    f"is deprecated, and {new}, which replaces it, is set too; remove this one", path=_join(path, key)
                )
            log.warning("%s is deprecated; use %s instead", _join(path, key), _join(path, new))
        result[new] = value
    return result


def dump(config: Any, *, api_version: str, kind: str) -> str:
    """The configuration as YAML: every key with its value, and above it what it is for."""
    lines = [f"apiVersion: {api_version}", f"kind: {kind}", *_dump(config, "")]
    return "\n".join(lines) + "\n"


def as_document(settings: Any) -> dict[str, Any]:
    """A mapping from which build() makes equal settings; JSON can carry it."""
    return {_camel(field.name): _plain(getattr(settings, field.name)) for field in dataclasses.fields(settings)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return as_document(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _dump(config: Any, indent: str) -> Iterator[str]:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        name = _camel(field.name)
        if doc := field.metadata.get("doc"):
            yield f"{indent}# {doc}"
        if dataclasses.is_dataclass(value):
            yield f"{indent}{name}:"
            yield from _dump(value, indent + "  ")
        elif isinstance(value, tuple) and value:
            yield f"{indent}{name}:"
            yield from (f"{indent}- {_item(item)}" for item in value)
        else:
            yield f"{indent}{name}: {'[]' if value == () else _scalar(value)}"


def _item(value: Any) -> str:
    """An item of a list as YAML; a mapping goes into one line."""
    if not dataclasses.is_dataclass(value):
        return _scalar(value)
    return json.dumps({_camel(f.name): getattr(value, f.name) for f in dataclasses.fields(value)})


def _scalar(value: Any) -> str:
    """JSON is YAML, too; plain words go without their quotes."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, str | Path):
        text = str(value)
        if _PLAIN_TEXT.fullmatch(text) and text.lower() not in _YAML_WORDS:
            return text
        return _SPECIAL.sub(_escape, json.dumps(text, ensure_ascii=False))
    return json.dumps(value)


def _escape(match: re.Match[str]) -> str:
    """As YAML writes it: JSON would make two surrogates of what is beyond 16 bits."""
    return f"\\U{ord(match[0]):08x}"


def _parse(text: str, source: str) -> Any:
    import yaml  # here: the running agent does not keep it

    class Loader(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            # aliases are how a small file becomes a large tree; a configuration has no use for them
            if self.check_event(yaml.AliasEvent):
                line = self.peek_event().start_mark.line + 1  # type: ignore[no-untyped-call]
                raise Invalid(f"{source}: line {line}: YAML aliases are not allowed")
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen: set[str] = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value in seen:
                    raise Invalid(f"{source}: line {key.start_mark.line + 1}: {key.value!r:.80} is here a second time")
                seen.add(str(key.value))
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as exc:
        raise Invalid(f"{source} is not YAML: {' '.join(str(exc).split())}") from exc
    except RecursionError as exc:
        raise Invalid(f"{source} is nested too deeply") from exc
    except ValueError as exc:  # a number of thousands of digits, the 31st of February
        raise Invalid(f"{source} has a value that cannot be: {exc}") from exc


def _convert(hint: Any, value: Any, path: str, base: Any) -> Any:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        options = [o for o in get_args(hint) if o is not type(None)]
        if value is None and len(options) < len(get_args(hint)):
            return None
        return _convert(_option(options, value), value, path, base)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if value is None:
            value = {}  # "hub:" with everything below it commented out
        if not isinstance(value, dict):
            raise Invalid(f"{_type_name(value)} instead of a mapping", path=path)
        return build(hint, value, path, base if isinstance(base, hint) else None)
    if origin is tuple:
        if not isinstance(value, list):
            raise Invalid(f"{_type_name(value)} instead of a list", path=path)
        item = get_args(hint)[0]
        return tuple(_convert(item, v, f"{path}[{n}]", None) for n, v in enumerate(value))
    if origin is typing.Literal:
        if value not in get_args(hint):
            raise Invalid(f"{value!r:.80} instead of one of {', '.join(map(str, get_args(hint)))}", path=path)
        return value
    if hint is Path and isinstance(value, str):
        if not value.startswith("/"):
            raise Invalid(f"{value!r:.80} is not an absolute path", path=path)
        return Path(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(min(value, 10**300))
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise Invalid(f"{_type_name(value)} instead of {_NAMES.get(hint, hint.__name__)}", path=path)
    return value


def _option(options: list[Any], value: Any) -> Any:
    """Of several types of one key (true, or a mapping) the one that the value can be; else the first, which reports the error."""
    for option in options:
        wanted = dict if dataclasses.is_dataclass(option) else option
        if isinstance(wanted, type) and isinstance(value, wanted) and isinstance(value, bool) == (option is bool):
            return option
    return options[0]


def _check(field: dataclasses.Field[Any], value: Any, path: str) -> None:
    """Check the range and the form of a setting. Raises Invalid."""
    low, high, form = (field.metadata.get(name) for name in ("low", "high", "form"))
    if isinstance(value, int | float) and not isinstance(value, bool):
        if isinstance(value, float) and not math.isfinite(value):
            raise Invalid(f"{value} is not a number that can be used", path=path)
        if (low is not None and value < low) or (high is not None and value > high):
            limits = f"from {low:g} to {high:g}" if None not in (low, high) else (
                f"at least {low:g}" if high is None else f"at most {high:g}")  # fmt: skip
            raise Invalid(f"{value!r:.40}; it must be {limits}", path=path)
    if form is not None:
        several = isinstance(value, tuple)
        for n, text in enumerate(value if several else (value,)):
            try:
                form(text)
            except ValueError as exc:
                raise Invalid(f"{text!r:.80} {exc}", path=f"{path}[{n}]" if several else path) from exc


_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false", Path: "a path"}


def _type_name(value: Any) -> str:
    if value is None:
        return "nothing"
    names = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "a mapping"}
    return f"{names.get(type(value), type(value).__name__)} ({value!r:.40})"


def _suggestion(key: str, known: list[str], path: str) -> str:
    import difflib  # here: only a wrong file needs it

    near = difflib.get_close_matches(key, known, 1, 0.5)
    if near:
        return f"; did you mean {_join(path, near[0])}?"
    return f"; known here: {', '.join(known)}"


def _join(path: str, key: str) -> str:
    return f"{path}.{key:.80}" if path else f"{key:.80}"


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.upper() if part in ("ip", "cidr") else part.capitalize() for part in rest)
