"""Messages of protobuf by the tables of their fields, to and from the objects that JSON would give (protobuf.dev, "Encoding"). Pure.

    Type
      number  name  kind

kind            str, int, bool, num (double), bytes (base64 in JSON), raw (bytes), or another type; [kind] list, {kind} map of texts
-               as a name: its fields are those of the type around it
* before it     a zero is a value
&[kind]         a message that is a list

Kubernetes' own kinds are quantity, time, microtime, intorstr and json. Sizes are checked before anything is made, and the number of values
is bounded. A field that the table does not have is newer than the table, and is skipped.
"""

from __future__ import annotations

import base64
import datetime
import struct
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from kubeedge.api.json_bounds import MAX_DEPTH, MAX_VALUES, JsonBounds, TooManyValues
from kubeedge.api.names import Object
from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass
from kubeedge.kit.varint import varint

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


@dataclass(frozen=True, slots=True)
class ProtoField:
    """A field of a message: its JSON name and its kind, as the tables write it."""

    name: str  # "-": its fields are those of the type around it
    kind: str
    pointer: bool

    @property
    def inner(self) -> str:
        """The kind of the values of a list or a map."""
        return self.kind[1:-1]


ProtoTypes: TypeAlias = Mapping[str, Mapping[int, ProtoField]]


def parsed(table: str) -> ProtoTypes:
    """The types in the text of a table."""
    types: dict[str, dict[int, ProtoField]] = {}
    fields: dict[int, ProtoField] = {}
    for line in table.strip().splitlines():
        if not line.startswith(" "):
            fields = types.setdefault(line, {})
            continue
        number, name, kind = line.split()
        fields[int(number)] = ProtoField(name, kind.removeprefix("*"), kind.startswith("*"))
    return types


class ProtoReader:
    """Reads one body, whose values it counts."""

    def __init__(self, types: ProtoTypes, *, values: int = MAX_VALUES) -> None:
        self._types, self._left, self._most = types, values, values

    def fields(self, data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
        """Number and value of each field, without a type. Raises Invalid."""
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
            raise TooManyValues(f"the body has more than {self._most} values")

    def message(self, fields: Mapping[int, ProtoField], data: memoryview, depth: int = 0) -> Object:
        """A message of these fields. Raises Invalid."""
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
                elif field.pointer or value not in (None, "", b"", 0, {}):
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
                key = text(part)
            elif number == 2:
                value = self.value(kind, part, depth)
        return key, _EMPTY.get(kind) if value is None else value

    def value(self, kind: str, raw: int | memoryview, depth: int) -> Any:
        """Read one value of a kind. Raises Invalid."""
        match kind:
            case "str":
                return text(raw)
            case "int":
                return _signed(raw)
            case "bool":
                return bool(_signed(raw))
            case "num":
                return _number(raw)
            case "raw":
                return bytes(_bytes(raw))
            case "bytes":
                return base64.b64encode(_bytes(raw)).decode()
            case "quantity":
                return next((text(v) for n, v in self.fields(_bytes(raw)) if n == 1), "0") or "0"
            case "time" | "microtime":
                return _time({n: _signed(v) for n, v in self.fields(_bytes(raw)) if n in (1, 2)}, kind)
            case "intorstr":
                parts = dict(self.fields(_bytes(raw)))
                return text(parts.get(3, memoryview(b""))) if parts.get(1) == 1 else _signed(parts.get(2, 0))
            case "json":
                return self._json(raw)
        if kind[0] == "&":
            return [self.value(kind[2:-1], part, depth) for number, part in self.fields(_bytes(raw)) if number == 1]
        return self.message(self._types[kind], _bytes(raw), depth + 1)

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


_EMPTY: Mapping[str, Any] = {"str": "", "int": 0, "bool": False, "bytes": "", "raw": b"", "quantity": "0"}


def _values_in(value: Any) -> int:
    """The number of values in JSON whose depth was bounded."""
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


def text(raw: int | memoryview) -> str:
    """A text in UTF-8. Raises Invalid."""
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


def encode(types: ProtoTypes, kind: str, message: Mapping[str, Any]) -> bytes:
    """A message of proto3. Zeros are left out, but an empty message is there; a name that the kind does not have is our own mistake."""
    numbers = {field.name: (number, field) for number, field in types[kind].items()}
    out = bytearray()
    for name, value in message.items():
        number, field = numbers[name]
        if field.kind[0] == "[":
            for item in value:
                out += _encoded(types, number, field.inner, item)
        elif field.kind[0] == "{":
            for key, item in value.items():
                entry = _encoded(types, 1, "str", key) + _encoded(types, 2, field.inner, item)
                out += _tag(number, 2) + varint(len(entry)) + entry
        elif value or (value is not None and field.kind not in _EMPTY):
            out += _encoded(types, number, field.kind, value)
    return bytes(out)


def _encoded(types: ProtoTypes, number: int, kind: str, value: Any) -> bytes:
    if kind in ("int", "bool"):
        return _tag(number, 0) + varint(int(value) & (1 << 64) - 1)
    if kind == "str":
        data = str(value).encode()
    elif kind == "raw":
        data = value.encode() if isinstance(value, str) else bytes(value)
    else:
        data = encode(types, kind, value)
    return _tag(number, 2) + varint(len(data)) + data


def _tag(number: int, wire: int) -> bytes:
    return varint(number << 3 | wire)
