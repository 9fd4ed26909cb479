"""Kubernetes' protobuf, decoded into the objects that its JSON would have given. Pure; nothing is encoded.

    6b 38 73 00                        "k8s" and a zero, then runtime.Unknown:
      1 typeMeta {1 apiVersion, 2 kind}  2 raw: the object  3 contentEncoding  4 contentType

kubectl and Helm create in this form. Numbers and names come from a table that is generated from Kubernetes' types (proto_table.py). Go
writes a zero of a field that is no pointer, and leaves it out of its JSON: so does this. A field that the table does not have is newer than
the table, and is skipped.

Encoding: protobuf.dev, "Encoding". Sizes are checked before anything is made, and the number of values is bounded.
"""

from __future__ import annotations

import base64
import datetime
import functools
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kubeedge.api.json_bounds import MAX_DEPTH, MAX_VALUES, JsonBounds, TooManyValues
from kubeedge.api.names import Object
from kubeedge.errors import Invalid

MAGIC = b"k8s\0"
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_PREFIXED = ("coordination.k8s.io", "policy", "autoscaling", "authorization.k8s.io", "authentication.k8s.io")


@dataclass(frozen=True, slots=True)
class _Field:
    name: str  # "-": its fields are those of the type around it
    kind: str
    pointer: bool

    @property
    def inner(self) -> str:
        return self.kind[1:-1]


@functools.cache
def _types() -> Mapping[str, Mapping[int, _Field]]:
    from kubeedge.api.proto_table import TABLE  # most processes never need it

    table: dict[str, dict[int, _Field]] = {}
    fields: dict[int, _Field] = {}
    for line in TABLE.strip().splitlines():
        if not line.startswith(" "):
            fields = table.setdefault(line, {})
            continue
        number, name, kind = line.split()
        fields[int(number)] = _Field(name, kind.removeprefix("*"), kind.startswith("*"))
    return table


def decode(data: bytes) -> Object:
    """The object with its apiVersion and kind. Raises Invalid."""
    if not data.startswith(MAGIC):
        raise Invalid("it does not begin as Kubernetes' protobuf does")
    reader = _Reader()
    version = kind = ""
    raw: memoryview = memoryview(b"")
    for number, value in reader.fields(memoryview(data)[len(MAGIC) :]):
        match number, value:
            case 1, memoryview():
                texts = {n: _text(v) for n, v in reader.fields(value) if n in (1, 2)}
                version, kind = texts.get(1, ""), texts.get(2, "")
            case 2, memoryview():
                raw = value
            case ((3 | 4), memoryview()) if len(value):
                raise Invalid(f"content of the encoding or type {_text(value)[:64]!r} is not known")
    fields = _types().get(_type_of(version, kind))
    if fields is None:
        raise Invalid(f"{kind[:64]!r} in version {version[:64]!r} is not known in protobuf; send JSON")
    return {"kind": kind, "apiVersion": version, **reader.message(fields, raw, 0)}


def _type_of(version: str, kind: str) -> str:
    group, slash, _ = version.rpartition("/")
    if slash and group in _PREFIXED and kind != "DeleteOptions":
        return f"{group.partition('.')[0]}_{kind}"
    return kind


class _Reader:
    def __init__(self) -> None:
        self._left = MAX_VALUES

    def fields(self, data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
        at, end = 0, len(data)
        while at < end:
            tag, at = _varint(data, at)
            self._count()
            match tag & 7:
                case 0:
                    value, at = _varint(data, at)
                    yield tag >> 3, value
                    continue
                case 1:
                    size = 8
                case 2:
                    size, at = _varint(data, at)
                case 5:
                    size = 4
                case other:
                    raise Invalid(f"wire type {other} is not known")
            if size > end - at:
                raise Invalid("a field is longer than what it is in")
            yield tag >> 3, data[at : at + size]
            at += size

    def _count(self, values: int = 1) -> None:
        self._left -= values
        if self._left < 0:
            raise TooManyValues(f"the body has more than {MAX_VALUES} values")

    def message(self, fields: Mapping[int, _Field], data: memoryview, depth: int) -> Object:
        if depth > MAX_DEPTH:
            raise Invalid(f"it is nested deeper than {MAX_DEPTH} levels")
        found: Object = {}
        for number, raw in self.fields(data):
            field = fields.get(number)
            if field is None:
                continue
            kind, name = field.kind, field.name
            if kind[0] == "[":
                items = found.setdefault(name, [])
                if isinstance(raw, memoryview) and field.inner == "int":  # packed
                    items.extend(self._packed(raw))
                else:
                    items.append(self.value(field.inner, raw, depth))
            elif kind[0] == "{":
                key, value = self._entry(field.inner, raw, depth)
                found.setdefault(name, {})[key] = value
            else:
                value = self.value(kind, raw, depth)
                if name == "-":
                    found.update(value)
                elif field.pointer or value not in (None, "", 0, {}):
                    found[name] = value
        return found

    def _packed(self, raw: memoryview) -> Iterator[int]:
        at = 0
        while at < len(raw):
            value, at = _varint(raw, at)
            self._count()
            yield _signed(value)

    def _entry(self, kind: str, raw: int | memoryview, depth: int) -> tuple[str, Any]:
        key, value = "", None
        for number, part in self.fields(_bytes(raw)):
            if number == 1:
                key = _text(part)
            elif number == 2:
                value = self.value(kind, part, depth)
        return key, _EMPTY.get(kind) if value is None else value

    def value(self, kind: str, raw: int | memoryview, depth: int) -> Any:
        match kind:
            case "str":
                return _text(raw)
            case "int":
                return _signed(raw)
            case "bool":
                return bool(_signed(raw))
            case "num":
                return _number(raw)
            case "bytes":
                return base64.b64encode(_bytes(raw)).decode()
            case "quantity":
                return next((_text(v) for n, v in self.fields(_bytes(raw)) if n == 1), "0") or "0"
            case "time" | "microtime":
                return _time({n: _signed(v) for n, v in self.fields(_bytes(raw)) if n in (1, 2)}, kind)
            case "intorstr":
                parts = dict(self.fields(_bytes(raw)))
                return _text(parts.get(3, memoryview(b""))) if parts.get(1) == 1 else _signed(parts.get(2, 0))
            case "json":
                return self._json(raw)
        if kind[0] == "&":
            return [self.value(kind[2:-1], part, depth) for number, part in self.fields(_bytes(raw)) if number == 1]
        return self.message(_types()[kind], _bytes(raw), depth + 1)

    def _json(self, raw: int | memoryview) -> Any:
        """FieldsV1 and RawExtension: JSON inside."""
        from kubeedge.api import strict_json

        text = next((bytes(v) for n, v in self.fields(_bytes(raw)) if n == 1 and isinstance(v, memoryview)), b"")
        if not text:
            return {}
        # many small texts may hold no more than one large one
        value = strict_json.loads(text, what="JSON in the body", bounds=JsonBounds(values=self._left))
        self._count(_values_in(value))
        return value


_EMPTY: Mapping[str, Any] = {"str": "", "int": 0, "bool": False, "bytes": "", "quantity": "0"}


def _values_in(value: Any) -> int:
    """Of JSON whose depth was bounded."""
    match value:
        case dict():
            return 1 + sum(map(_values_in, value.values()))
        case list():
            return 1 + sum(map(_values_in, value))
    return 1


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise Invalid("a number does not end")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (1 << 64) - 1, at
        shift += 7


def _signed(raw: int | memoryview) -> int:
    if isinstance(raw, memoryview):
        raise Invalid("bytes where a number belongs")
    return raw - (1 << 64) if raw >> 63 else raw


def _number(raw: int | memoryview) -> float:
    if not isinstance(raw, memoryview) or len(raw) != 8:
        raise Invalid("no double where one belongs")
    value: float = struct.unpack("<d", raw)[0]
    if value != value or value in (float("inf"), float("-inf")):
        raise Invalid("a number that JSON does not have")
    return value


def _bytes(raw: int | memoryview) -> memoryview:
    if not isinstance(raw, memoryview):
        raise Invalid("a number where bytes belong")
    return raw


def _text(raw: int | memoryview) -> str:
    try:
        return str(_bytes(raw), "utf-8")
    except UnicodeDecodeError as exc:
        raise Invalid("a text is not UTF-8") from exc


def _time(parts: Mapping[int, int], kind: str) -> str | None:
    """Go's zero time, of the year 1, is null."""
    if not parts:
        return None
    try:
        moment = _EPOCH + datetime.timedelta(seconds=parts.get(1, 0), microseconds=parts.get(2, 0) // 1000)
    except OverflowError as exc:
        raise Invalid("a time that no clock shows") from exc
    if moment.year == 1:
        return None
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ" if kind == "microtime" else "%Y-%m-%dT%H:%M:%SZ")
