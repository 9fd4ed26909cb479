"""Sync messages as bytes. Numbers are unsigned LEB128 varints; every length is checked before anything is taken.

FETCH     1 | id | after                          sink -> source: what came after `after` of history `id`? id "" = nothing known
START     2 | id | revision | mode (0 delta, 1 snapshot)   source -> sink: the answer begins; for a snapshot: of this revision
BATCH     3 | revision | flags | body             changes; with them the sink is at `revision`; flags: 1 compressed
END       4                                       the snapshot is complete: what it did not name is gone
ACK       5 | revision                            sink -> source: durable up to here

id        varint length (at most 64), ASCII
body      varint count, then each: varint key length << 1 | deleted, key (UTF-8, without the prefix), [varint length, value]
          compressed: varint size when unpacked, then a zlib stream (RFC 1950)
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from kubeedge.api.names import Revision
from kubeedge.errors import PeerError
from kubeedge.store.model import MAX_KEY, MAX_VALUE

TARGET_BODY = 256 * 1024  # bytes: a batch is split here, unless one value alone is larger
MAX_BODY = MAX_VALUE + MAX_KEY + TARGET_BODY
MAX_ITEMS = 2_000  # in one batch: fewer than a transaction takes
_WORTH_COMPRESSING = 200  # bytes
_MAX_VARINT = 10


@dataclass(frozen=True, slots=True)
class Item:
    """A change without its history: the newest value of a key, or None when it was deleted."""

    key: str
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Fetch:
    store_id: str
    after: Revision


@dataclass(frozen=True, slots=True)
class Start:
    store_id: str
    revision: Revision
    snapshot: bool


@dataclass(frozen=True, slots=True)
class Batch:
    revision: Revision
    items: Sequence[Item]


@dataclass(frozen=True, slots=True)
class End:
    pass


@dataclass(frozen=True, slots=True)
class Ack:
    revision: Revision


Message: TypeAlias = Fetch | Start | Batch | End | Ack


def encode(message: Message) -> bytes:
    match message:
        case Fetch(store_id, after):
            return b"\x01" + _id(store_id) + _varint(after)
        case Start(store_id, revision, snapshot):
            return b"\x02" + _id(store_id) + _varint(revision) + (b"\x01" if snapshot else b"\x00")
        case Batch(revision, items):
            body = _body(items)
            if len(body) >= _WORTH_COMPRESSING:
                packed = _varint(len(body)) + zlib.compress(body, 6)
                if len(packed) < len(body):
                    return b"\x03" + _varint(revision) + b"\x01" + packed
            return b"\x03" + _varint(revision) + b"\x00" + body
        case End():
            return b"\x04"
        case Ack(revision):
            return b"\x05" + _varint(revision)


def decode(data: bytes) -> Message:
    """Raises PeerError for anything that encode would not have made."""
    reader = _Reader(data)
    match reader.byte():
        case 1:
            message: Message = Fetch(reader.id(), Revision(reader.varint()))
        case 2:
            message = Start(reader.id(), Revision(reader.varint()), _flag(reader.byte()))
        case 3:
            revision, compressed = Revision(reader.varint()), _flag(reader.byte())
            body = _unpack(reader) if compressed else reader
            message = Batch(revision, _items(body))
            body.end()
        case 4:
            message = End()
        case 5:
            message = Ack(Revision(reader.varint()))
        case other:
            raise PeerError(f"unknown sync message {other}")
    reader.end()
    return message


def size(item: Item) -> int:
    """Bytes that an item takes in a body, at most."""
    return 2 * _MAX_VARINT + 4 * len(item.key) + len(item.value or b"")


def _id(store_id: str) -> bytes:
    return bytes((len(store_id),)) + store_id.encode("ascii")


def _flag(value: int) -> bool:
    if value > 1:
        raise PeerError(f"flag {value}")
    return value == 1


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _body(items: Sequence[Item]) -> bytes:
    parts = [_varint(len(items))]
    for item in items:
        key = item.key.encode()
        parts += (_varint(len(key) << 1 | (item.value is None)), key)
        if item.value is not None:
            parts += (_varint(len(item.value)), item.value)
    return b"".join(parts)


def _unpack(reader: _Reader) -> _Reader:
    length = reader.varint()
    if not 0 < length <= MAX_BODY:  # to zlib, a limit of 0 is no limit
        raise PeerError(f"body of {length} bytes; it must be above 0 and at most {MAX_BODY}", close_code=1009)
    unpacker = zlib.decompressobj()
    try:
        body = unpacker.decompress(reader.rest(), length + 1)  # one more, so that the end of the stream is reached
    except zlib.error as exc:
        raise PeerError("body does not unpack") from exc
    if len(body) != length or not unpacker.eof or unpacker.unused_data:
        raise PeerError("body has another size than it says")
    return _Reader(body)


def _items(reader: _Reader) -> Sequence[Item]:
    count = reader.varint()
    if count > min(MAX_ITEMS, reader.remaining // 2 + 1):
        raise PeerError(f"{count} items in {reader.remaining} bytes; {MAX_ITEMS} are the most")
    items = []
    for _ in range(count):
        head = reader.varint()
        if head >> 1 > MAX_KEY:
            raise PeerError(f"key of {head >> 1} bytes exceeds {MAX_KEY}")
        try:
            key = reader.take(head >> 1).decode()
        except UnicodeDecodeError as exc:
            raise PeerError("key is not UTF-8") from exc
        value = None
        if not head & 1:
            length = reader.varint()
            if length > MAX_VALUE:
                raise PeerError(f"value of {length} bytes exceeds {MAX_VALUE}", close_code=1009)
            value = reader.take(length)
        items.append(Item(key, value))
    if len({item.key for item in items}) < count:
        raise PeerError("a key is twice in one batch")
    return items


class _Reader:
    __slots__ = ("_data", "_position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def remaining(self) -> int:
        return len(self._data) - self._position

    def byte(self) -> int:
        return self.take(1)[0]

    def take(self, length: int) -> bytes:
        if length > self.remaining:
            raise PeerError(f"{length} bytes wanted, {self.remaining} there")
        start, self._position = self._position, self._position + length
        return self._data[start : self._position]

    def rest(self) -> bytes:
        return self.take(self.remaining)

    def varint(self) -> int:
        value = shift = 0
        for _ in range(_MAX_VARINT):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value >= 1 << 63:
                    raise PeerError("number of 64 bits or more")
                return value
            shift += 7
        raise PeerError("number of more than 64 bits")

    def id(self) -> str:
        length = self.byte()
        if length > 64:
            raise PeerError(f"store identity of {length} bytes")
        try:
            return self.take(length).decode("ascii")
        except UnicodeDecodeError as exc:
            raise PeerError("store identity is not ASCII") from exc

    def end(self) -> None:
        if self.remaining:
            raise PeerError(f"{self.remaining} bytes after the message")
