"""OPC-UA's binary encoding (OPC 10000-6, 5.2): the built-in types that a client meets. Pure.

Every length is compared with the bytes that are there before anything is taken of them; arrays and what nests have bounds of their own.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from kubeedge.errors import Invalid, PeerError
from kubeedge.kit.dataclasses import dataclass

MAX_ITEMS = 4096  # of an array
_MAX_ALL = (
    32 * 1024
)  # of all arrays of a message but those of numbers: they are read one by one, and other devices wait meanwhile
_MAX_DEPTH = 8  # of what nests: variants in variants, diagnostics in diagnostics

BOOLEAN, SBYTE, BYTE, INT16, UINT16, INT32, UINT32, INT64, UINT64, FLOAT, DOUBLE, STRING = range(1, 13)
(
    DATETIME,
    GUID,
    BYTESTRING,
    XML,
    NODEID,
    EXPANDED,
    STATUS,
    QUALIFIED,
    LOCALIZED,
    EXTENSION,
    DATAVALUE,
    VARIANT,
    DIAGNOSTIC,
) = range(13, 26)

_NUMBERS = {
    BOOLEAN: struct.Struct("<?"), SBYTE: struct.Struct("<b"), BYTE: struct.Struct("<B"), INT16: struct.Struct("<h"),
    UINT16: struct.Struct("<H"), INT32: struct.Struct("<i"), UINT32: struct.Struct("<I"), INT64: struct.Struct("<q"),
    UINT64: struct.Struct("<Q"), FLOAT: struct.Struct("<f"), DOUBLE: struct.Struct("<d"), DATETIME: struct.Struct("<q"),
    STATUS: struct.Struct("<I"),
}  # fmt: skip
#: built-in types that a mapper reads and writes, by the names that a visitor may give them
TYPE_NAMES = {
    "Boolean": BOOLEAN, "SByte": SBYTE, "Byte": BYTE, "Int16": INT16, "UInt16": UINT16, "Int32": INT32, "UInt32": UINT32,
    "Int64": INT64, "UInt64": UINT64, "Float": FLOAT, "Double": DOUBLE, "String": STRING, "ByteString": BYTESTRING,
}  # fmt: skip
_GUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_NODE_ID = re.compile(r"(?:ns=([0-9]{1,5});)?([isgb])=(.{1,512})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Guid:
    """16 bytes, as they are sent: the first three parts have their lowest byte first."""

    raw: bytes

    @staticmethod
    def parse(text: str) -> Guid:
        """Of 8-4-4-4-12 hexadecimal digits. Raises ValueError."""
        if _GUID.fullmatch(text) is None:
            raise ValueError(text)
        found = bytes.fromhex(text.replace("-", ""))
        return Guid(found[3::-1] + found[5:3:-1] + found[7:5:-1] + found[8:])

    def __str__(self) -> str:
        raw = self.raw
        parts = (raw[3::-1], raw[5:3:-1], raw[7:5:-1], raw[8:10], raw[10:])
        return "-".join(part.hex() for part in parts)


Identifier: TypeAlias = int | str | bytes | Guid


@dataclass(frozen=True, slots=True)
class NodeId:
    """Of a node of a server."""

    namespace: int
    identifier: Identifier

    @staticmethod
    def parse(text: str) -> NodeId:
        """Of "ns=2;s=Boiler.Temperature", "i=2258", "ns=1;g=GUID", "ns=1;b=HEX". Raises Invalid."""
        match = _NODE_ID.fullmatch(text)
        if match is None or int(match[1] or 0) > 0xFFFF:
            raise Invalid(f"{text[:80]!r} is no node id, like ns=2;s=Boiler.Temperature")
        try:
            namespace, kind, rest = int(match[1] or 0), match[2], match[3]
            if kind == "i":
                number = int(rest)
                if not 0 <= number <= 0xFFFFFFFF:
                    raise ValueError
                return NodeId(namespace, number)
            if kind == "g":
                return NodeId(namespace, Guid.parse(rest))
            return NodeId(namespace, bytes.fromhex(rest) if kind == "b" else rest)
        except ValueError as exc:
            raise Invalid(f"{text[:80]!r} is no node id, like ns=2;s=Boiler.Temperature") from exc


@dataclass(frozen=True, slots=True)
class TypedVariant:
    """A value with its built-in type; `value` is a list for an array, None for null."""

    type: int
    value: Any


@dataclass(frozen=True, slots=True)
class DataValue:
    """A value of a node, or why there is none: `status` is 0 for a good one."""

    variant: TypedVariant | None
    status: int = 0


class OpcuaEncoder:
    """What is written, in order."""

    def __init__(self) -> None:
        self.data = bytearray()

    def pack(self, layout: str, *values: Any) -> OpcuaEncoder:
        """Numbers in the layout of `struct`, the lowest byte first."""
        self.data += struct.pack("<" + layout, *values)
        return self

    def blob(self, value: bytes | None) -> OpcuaEncoder:
        """A ByteString; None: null."""
        self.pack("i", -1 if value is None else len(value))
        self.data += value or b""
        return self

    def text(self, value: str | None) -> OpcuaEncoder:
        """A String; None: null."""
        return self.blob(None if value is None else value.encode("utf-8", "replace"))

    def node(self, node: NodeId) -> OpcuaEncoder:
        """A NodeId, in the shortest form that it has."""
        match node.identifier:
            case int(number) if node.namespace == 0 and number < 256:
                return self.pack("BB", 0, number)
            case int(number):
                return self.pack("BHI", 2, node.namespace, number)
            case str(text):
                return self.pack("BH", 3, node.namespace).text(text)
            case bytes(opaque):
                return self.pack("BH", 5, node.namespace).blob(opaque)
            case guid:
                self.pack("BH", 4, node.namespace)
                self.data += guid.raw
                return self

    def variant(self, variant: TypedVariant) -> OpcuaEncoder:
        """A number, text or bytes, or an array of them. Raises Invalid for a value that does not fit into its type."""
        values = variant.value if isinstance(variant.value, list) else [variant.value]
        self.pack("B", variant.type | (0x80 if isinstance(variant.value, list) else 0))
        if isinstance(variant.value, list):
            self.pack("i", len(values))
        for value in values:
            self._scalar(variant.type, value)
        return self

    def _scalar(self, kind: int, value: Any) -> None:
        if kind == STRING and isinstance(value, str):
            self.text(value)
        elif kind == BYTESTRING and isinstance(value, bytes):
            self.blob(value)
        else:
            try:
                self.data += _NUMBERS[kind].pack(value)
            except (KeyError, OverflowError, struct.error) as exc:
                raise Invalid(f"{str(value)[:40]!r} does not fit into the type of the node") from exc


class OpcuaDecoder:
    """Reads what a server has sent. Raises PeerError for what is cut off, or larger than it may be."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._room = [_MAX_ALL]  # shared with what is decoded within

    def within(self, data: bytes) -> OpcuaDecoder:
        """For a part of this message, such as the body of an extension."""
        found = OpcuaDecoder(data)
        found._room = self._room
        return found

    @property
    def left(self) -> int:
        """Bytes that were not read."""
        return len(self._data) - self._at

    def take(self, size: int) -> bytes:
        """The next so many bytes. Raises PeerError where they are not there."""
        if not 0 <= size <= self.left:
            raise PeerError("a message of the server ends too early")
        found = self._data[self._at : self._at + size]
        self._at += size
        return found

    def unpack(self, layout: str) -> tuple[Any, ...]:
        """Numbers in the layout of `struct`, the lowest byte first. Raises PeerError."""
        return struct.unpack("<" + layout, self.take(struct.calcsize("<" + layout)))

    def number(self, layout: str = "I") -> int:
        """One number of that layout. Raises PeerError."""
        found: int = self.unpack(layout)[0]
        return found

    def blob(self) -> bytes | None:
        """A ByteString; None: null. Raises PeerError."""
        size = self.number("i")
        return None if size < 0 else self.take(size)

    def text(self) -> str:
        """A String; "" for null."""
        return (self.blob() or b"").decode("utf-8", "replace")

    def count(self) -> int:
        """How many items an array has."""
        size = self._size()
        self._room[0] -= size
        if self._room[0] < 0:
            raise PeerError(f"arrays of more than {_MAX_ALL} items in a message")
        return size

    def _size(self) -> int:
        size = self.number("i")
        if size > min(MAX_ITEMS, self.left):
            raise PeerError(f"an array of {size} items in {self.left} bytes")
        return max(0, size)

    def items(self, one: Callable[[], Any]) -> list[Any]:
        """An array, each of whose items `one` reads. Raises PeerError."""
        return [one() for _ in range(self.count())]

    def node(self) -> NodeId:
        """A NodeId, or an ExpandedNodeId without what expands it."""
        kind = self.number("B")
        match kind & 0x3F:
            case 0:
                found = NodeId(0, self.number("B"))
            case 1:
                found = NodeId(*self.unpack("BH"))
            case 2:
                found = NodeId(*self.unpack("HI"))
            case 3:
                found = NodeId(self.number("H"), self.text())
            case 4:
                found = NodeId(self.number("H"), Guid(self.take(16)))
            case 5:
                found = NodeId(self.number("H"), self.blob() or b"")
            case _:
                raise PeerError("a node id of no kind")
        if kind & 0x80:
            self.blob()
        if kind & 0x40:
            self.number()
        return found

    def extension(self) -> tuple[NodeId, bytes]:
        """(type, body) of an ExtensionObject."""
        kind = self.node()
        return kind, (self.blob() or b"") if self.number("B") else b""

    def diagnostic(self, depth: int = 0) -> None:
        """A DiagnosticInfo, which nobody needs."""
        if depth > _MAX_DEPTH:
            raise PeerError("diagnostics within diagnostics")
        mask = self.number("B")
        for bit in (1, 2, 8, 4):
            if mask & bit:
                self.number()
        if mask & 0x10:
            self.blob()
        if mask & 0x20:
            self.number()
        if mask & 0x40:
            self.diagnostic(depth + 1)

    def localized(self) -> str:
        """The text of a LocalizedText."""
        mask = self.number("B")
        if mask & 1:
            self.blob()
        return self.text() if mask & 2 else ""

    def data_value(self, depth: int = 0) -> DataValue:
        """Without its times: the node stamps what is reported."""
        mask = self.number("B")
        variant = self.variant(depth + 1) if mask & 1 else None
        status = self.number() if mask & 2 else 0
        for bit, layout in ((4, "q"), (16, "H"), (8, "q"), (32, "H")):
            if mask & bit:
                self.unpack(layout)
        return DataValue(variant, status)

    def variant(self, depth: int = 0) -> TypedVariant:
        """Any value; of types that no property has it is None."""
        if depth > _MAX_DEPTH:
            raise PeerError("variants within variants")
        mask = self.number("B")
        kind = mask & 0x3F
        if not mask & 0x80:
            return TypedVariant(kind, self._scalar(kind, depth) if kind else None)
        if (number := _NUMBERS.get(kind)) is not None:
            values = list(self.unpack(f"{self._size()}{number.format[1:]}"))
        else:
            values = self.items(lambda: self._scalar(kind, depth))
        if mask & 0x40:
            self.items(lambda: self.number("i"))
        return TypedVariant(kind, values)

    def _scalar(self, kind: int, depth: int) -> Any:
        if (number := _NUMBERS.get(kind)) is not None:
            return number.unpack(self.take(number.size))[0]
        match kind:
            case 12:
                return self.text()
            case 14:
                return str(Guid(self.take(16)))
            case 15 | 16:
                return self.blob() or b""
            case 17 | 18:
                node = self.node()  # the number of a node of OPC-UA's own, such as a type
                return node.identifier if node.namespace == 0 and isinstance(node.identifier, int) else None
            case 20:
                self.number("H")
                return self.text()
            case 21:
                return self.localized()
            case 22:
                self.extension()
            case 23:
                return self.data_value(depth + 1).variant
            case 24:
                return self.variant(depth + 1).value
            case 25:
                self.diagnostic()
            case _:
                raise PeerError(f"a value of type {kind}, which there is not")
        return None


def texts(values: Sequence[str]) -> bytes:
    """An array of Strings."""
    encoder = OpcuaEncoder().pack("i", len(values))
    for value in values:
        encoder.text(value)
    return bytes(encoder.data)
