"""Questions and records of DNS, as far as multicast DNS and its services need them (RFC 1035, 2782, 6762, 6763). Pure.

Every offset is checked before it is used, and a message may have so many records and no more.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Sequence

from kubeedge.errors import PeerError
from kubeedge.kit.dataclasses import dataclass

A, PTR, TXT, AAAA, SRV = 1, 12, 16, 28, 33
_IN = 1
_UNIQUE = 0x8000  # of a class: the record is the only one of its name (RFC 6762, 10.2)
_MAX_RECORDS = 128
_MAX_NAME = 255
_MAX_JUMPS = 16  # pointers of one name
_MAX_TEXTS = 16


@dataclass(frozen=True, slots=True)
class DnsRecord:
    """`value`: a name (PTR), an address, (port, host) of SRV, or key -> text of TXT."""

    name: str
    kind: int
    value: str | tuple[int, str] | dict[str, str]


def question(names: Sequence[tuple[str, int]]) -> bytes:
    """A query for (name, kind) each. Raises ValueError for a label that is too long."""
    found = struct.pack(">6H", 0, 0, len(names), 0, 0, 0)
    for name, kind in names:
        for label in split_name(name):
            raw = label.encode()
            if not 0 < len(raw) < 64:
                raise ValueError(f"{label[:80]!r} is no label of a name")
            found += bytes((len(raw),)) + raw
        found += b"\0" + struct.pack(">2H", kind, _IN)
    return found


def split_name(name: str) -> list[str]:
    """The labels of a name; a dot within a label has a backslash before it."""
    labels, current, escaped = [], "", False
    for c in name:
        if escaped:
            current, escaped = current + c, False
        elif c == "\\":
            escaped = True
        elif c == ".":
            labels.append(current)
            current = ""
        else:
            current += c
    return [label for label in (*labels, current) if label]


def records(message: bytes) -> list[DnsRecord]:
    """All records of an answer that are of the kinds above. Raises PeerError for what is no answer."""
    if len(message) < 12:
        raise PeerError("this is no message of DNS")
    _, flags, questions, *counts = struct.unpack_from(">6H", message)
    if not flags & 0x8000:
        raise PeerError("this is a question")
    if questions + sum(counts) > _MAX_RECORDS:
        raise PeerError(f"a message of more than {_MAX_RECORDS} records")
    position = 12
    for _ in range(questions):
        position = _name(message, position)[1] + 4
    found = []
    for _ in range(sum(counts)):
        name, position = _name(message, position)
        if position + 10 > len(message):
            raise PeerError("the message ends within a record")
        kind, group, _, size = struct.unpack_from(">HHIH", message, position)
        position += 10
        if position + size > len(message):
            raise PeerError("the message ends within a record")
        value = _value(message, kind, position, size)
        if value is not None and group & ~_UNIQUE == _IN:
            found.append(DnsRecord(name, kind, value))
        position += size
    return found


def _value(message: bytes, kind: int, at: int, size: int) -> str | tuple[int, str] | dict[str, str] | None:
    if kind == PTR:
        return _name(message, at)[0]
    if kind == SRV and size > 6:
        return struct.unpack_from(">H", message, at + 4)[0], _name(message, at + 6)[0]
    if (kind, size) in ((A, 4), (AAAA, 16)):
        return str(ipaddress.ip_address(message[at : at + size]))
    if kind == TXT:
        return _texts(message[at : at + size])
    return None


def _texts(data: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    at = 0
    while at < len(data) and len(found) < _MAX_TEXTS:
        size = data[at]
        key, _, text = data[at + 1 : at + 1 + size].decode("utf-8", "replace").partition("=")
        if key:
            found.setdefault(key.lower(), text)
        at += 1 + size
    return found


def _name(message: bytes, at: int) -> tuple[str, int]:
    """(name, position behind it)."""
    labels: list[str] = []
    end, length, jumps = 0, 0, 0
    while True:
        if at >= len(message):
            raise PeerError("the message ends within a name")
        size = message[at]
        if size >= 0xC0:
            jumps += 1
            if at + 2 > len(message) or jumps > _MAX_JUMPS:
                raise PeerError("a name goes in a circle")
            end = end or at + 2
            at = (size & 0x3F) << 8 | message[at + 1]
        elif size >= 0x40:
            raise PeerError("a name has a label of no kind")
        elif size == 0:
            return ".".join(labels), end or at + 1
        else:
            length += size + 1
            if at + 1 + size > len(message) or length > _MAX_NAME:
                raise PeerError("a name is too long")
            label = message[at + 1 : at + 1 + size].decode("utf-8", "replace")
            labels.append(label.replace("\\", "\\\\").replace(".", "\\."))
            at += 1 + size
