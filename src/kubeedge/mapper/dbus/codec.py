"""Values and messages of D-Bus (D-Bus Specification 0.43, "Type System" and "Message Protocol"). Pure.

    y b n q i u x t d   bool, int, float · s o g str · ay bytes · a list · a{..} dict · (..) tuple · v what is in it, without its type

What is written as a variant is a DbusVariant. Lengths are checked before anything is made: a message has 1 MiB at most, and 16 levels.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from kubeedge.errors import Misuse, PeerError
from kubeedge.kit.dataclasses import dataclass, field

CALL, RETURN, ERROR, SIGNAL = 1, 2, 3, 4
MAX_MESSAGE = 1024 * 1024  # bytes; of 128 MiB that D-Bus has
HEAD = 16  # bytes that say how long a message is
_MAX_DEPTH = 16
_FIXED = {"y": "B", "n": "h", "q": "H", "i": "i", "u": "I", "x": "q", "t": "Q", "d": "d", "b": "I", "h": "I"}
_ALIGNMENT = {"v": 1, "g": 1, "s": 4, "o": 4, "a": 4, "(": 8, "{": 8} | {
    k: struct.calcsize(v) for k, v in _FIXED.items()
}
_FIELDS = {
    1: "path",
    2: "interface",
    3: "member",
    4: "error",
    5: "reply_to",
    6: "destination",
    7: "sender",
    8: "signature",
}
_FIELD_TYPES = {"path": "o", "reply_to": "u", "signature": "g"}


@dataclass(frozen=True, slots=True)
class DbusVariant:
    """A value with its type."""

    signature: str
    value: Any


@dataclass(slots=True)
class DbusMessage:
    """`serial` numbers the messages of a sender; `reply_to` is that of the call that is answered."""

    kind: int
    path: str = ""
    interface: str = ""
    member: str = ""
    destination: str = ""
    sender: str = ""
    error: str = ""
    signature: str = ""
    body: Sequence[Any] = ()
    serial: int = 0
    reply_to: int = 0


def parts_of(signature: str) -> list[str]:
    """The complete types that a signature has. Raises PeerError for one that has an end missing or unknown letters."""
    found, at = [], 0
    while at < len(signature):
        end = _end(signature, at, 0)
        found.append(signature[at:end])
        at = end
    return found


def _end(signature: str, at: int, depth: int) -> int:
    """Where the type that begins at `at` ends."""
    if depth > _MAX_DEPTH or at >= len(signature):
        raise PeerError(f"a signature of D-Bus that is none: {signature[:64]!r}")
    kind = signature[at]
    if kind == "a":
        return _end(signature, at + 1, depth + 1)
    if kind in "({":
        close, at = {"(": ")", "{": "}"}[kind], at + 1
        while at < len(signature) and signature[at] != close:
            at = _end(signature, at, depth + 1)
        return at + 1 if at < len(signature) else _end(signature, at, depth)
    if kind not in _ALIGNMENT:
        raise PeerError(f"a signature of D-Bus that is none: {signature[:64]!r}")
    return at + 1


@dataclass(slots=True)
class _Writer:
    data: bytearray = field(default_factory=bytearray)

    def align(self, size: int) -> None:
        self.data += bytes(-len(self.data) % size)

    def put(self, kind: str, value: Any) -> None:
        first = kind[0]
        self.align(_ALIGNMENT[first])
        if first in _FIXED:
            self.data += struct.pack("<" + _FIXED[first], value)
        elif first in "so":
            raw = value.encode()
            self.data += struct.pack("<I", len(raw)) + raw + b"\0"
        elif first == "g":
            self.data += bytes((len(value),)) + value.encode() + b"\0"
        elif first == "v":
            self.put("g", value.signature)
            self.put(value.signature, value.value)
        elif first == "a":
            self._array(kind[1:], value)
        else:
            for part, one in zip(parts_of(kind[1:-1]), value, strict=True):
                self.put(part, one)

    def _array(self, kind: str, value: Any) -> None:
        at = len(self.data)
        self.data += bytes(4)
        self.align(_ALIGNMENT[kind[0]])
        start = len(self.data)
        if kind == "y":
            self.data += bytes(value)
        else:
            for one in value.items() if kind[0] == "{" else value:
                self.put(kind, one)
        struct.pack_into("<I", self.data, at, len(self.data) - start)


@dataclass(slots=True)
class _Reader:
    data: bytes
    order: str
    at: int = 0

    def align(self, size: int) -> None:
        self.at += -self.at % size

    def take(self, size: int) -> bytes:
        end = self.at + size
        if end > len(self.data):
            raise PeerError("a message of D-Bus ends too early")
        found, self.at = self.data[self.at : end], end
        return found

    def fixed(self, form: str) -> Any:
        return struct.unpack(self.order + form, self.take(struct.calcsize(form)))[0]

    def get(self, kind: str, depth: int = 0) -> Any:
        if depth > _MAX_DEPTH:
            raise PeerError(f"a message of D-Bus with more than {_MAX_DEPTH} levels")
        first = kind[0]
        self.align(_ALIGNMENT[first])
        if first in _FIXED:
            value = self.fixed(_FIXED[first])
            return bool(value) if first == "b" else value
        if first in "sog":
            size = self.fixed("B" if first == "g" else "I")
            text = self.take(size)
            self.take(1)
            return text.decode("utf-8", "replace")
        if first == "v":
            parts = parts_of(self.get("g"))
            if len(parts) != 1:
                raise PeerError("a variant of D-Bus with no type, or several")
            return self.get(parts[0], depth + 1)
        if first == "a":
            return self._array(kind[1:], depth)
        return tuple(self.get(part, depth + 1) for part in parts_of(kind[1:-1]))

    def _array(self, kind: str, depth: int) -> Any:
        size = self.fixed("I")
        self.align(_ALIGNMENT[kind[0]])
        end = self.at + size
        if end > len(self.data):
            raise PeerError("a message of D-Bus ends too early")
        if kind == "y":
            return self.take(size)
        found = []
        while self.at < end:
            before = self.at
            found.append(self.get(kind, depth + 1))
            if self.at == before:
                raise PeerError("an array of D-Bus of values that have no bytes")
        if self.at != end:
            raise PeerError("an array of D-Bus is longer than it says")
        if kind[0] == "{":
            if any(len(one) != 2 or isinstance(one[0], list | dict | tuple) for one in found):
                raise PeerError("a dictionary of D-Bus whose entries are none")
            return dict(found)
        return found


def encode(message: DbusMessage) -> bytes:
    """The bytes of a message. Raises Misuse for one that is too large."""
    body = _Writer()
    for part, value in zip(parts_of(message.signature), message.body, strict=True):
        body.put(part, value)
    fields = []
    for code, name in _FIELDS.items():
        if value := getattr(message, name):
            fields.append((code, DbusVariant(_FIELD_TYPES.get(name, "s"), value)))
    head = _Writer()
    head.data += struct.pack("<BBBBII", ord("l"), message.kind, 0, 1, len(body.data), message.serial)
    head.put("a(yv)", fields)
    head.align(8)
    if len(head.data) + len(body.data) > MAX_MESSAGE:
        raise Misuse(f"a message of D-Bus of more than {MAX_MESSAGE} bytes")
    return bytes(head.data + body.data)


def length_of(head: bytes) -> int:
    """Bytes of the message that begins with these HEAD ones. Raises PeerError for what is none, or is too large."""
    order = {0x6C: "<", 0x42: ">"}.get(head[0])
    if order is None or head[3] != 1:
        raise PeerError("this is no D-Bus")
    size, fields = struct.unpack_from(order + "I4xI", head, 4)
    total = HEAD + fields + -fields % 8 + size
    if total > MAX_MESSAGE:
        raise PeerError(f"a message of D-Bus of {total} bytes; {MAX_MESSAGE} are the most")
    return int(total)


def decode(data: bytes) -> DbusMessage:
    """A whole message. Raises PeerError."""
    order = "<" if data[0] == 0x6C else ">"
    message = DbusMessage(data[1], serial=struct.unpack_from(order + "I", data, 8)[0])
    reader = _Reader(data, order, 12)
    for code, value in reader.get("a(yv)"):
        if (name := _FIELDS.get(code)) is not None:
            if not isinstance(value, int if name == "reply_to" else str):
                raise PeerError(f"a message of D-Bus whose {name} is none")
            setattr(message, name, value)
    reader.align(8)
    message.body = tuple(reader.get(part) for part in parts_of(message.signature))
    return message
