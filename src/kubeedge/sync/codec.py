"""Sync messages as bytes. Numbers are unsigned LEB128 varints; every length is checked before anything is taken.

Both ends know:

FETCH     1 | id | after                          sink -> source: what came after `after` of history `id`? id "" = nothing known
START     2 | id | revision | mode                source -> sink: the answer begins (0 delta, 1 snapshot of this revision, 2 its ranges)
BATCH     3 | revision | flags | body             changes; with them the sink is at `revision`; flags: 1 compressed
END       4                                       the snapshot is complete: what it did not name is gone
ACK       5 | revision                            sink -> source: durable up to here

Ends that have both said "sync2" in their HELLO (kubeedge.hub.core.FEATURES):

FETCH     6 | id | after | digest                 and this is what the sink has below its prefix: 16 bytes (delta.Content)
BATCH     7 | revision | packed                   with patches
RANGES    8 | packed count, then each: end, digest    source -> sink: my keys after the range before, up to and with `end`: 8 bytes
WANT      9 | count, then each: index             sink -> source: these ranges of the message are different here
FILL     10 | packed                              all items of the next range that was wanted

Ends that have both said "bounds":

REFUSED  11 | count | keys | bytes                sink -> source: so many of your keys are not taken; a node may have that many keys and bytes

id        varint length (at most 64), ASCII
body      varint count, then each: varint key length << 1 | deleted, key (UTF-8, without the prefix), [varint length, value]
          compressed: varint size when unpacked, then a zlib stream (RFC 1950)
packed    0 | bytes, or 1 | varint size when unpacked | raw DEFLATE (RFC 1951) with the preset dictionary of dictionary.py;
          of a BATCH or FILL: varint count, then each: varint key length << 2 | kind, key, and for kind
          0 value: varint length, value   1 deleted: nothing   2 patch: digest of the result (8 bytes), varint length, patch (delta.py)
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, TypeAlias, TypeVar

from kubeedge.api.names import Revision
from kubeedge.errors import PeerError
from kubeedge.kit.dataclasses import dataclass
from kubeedge.kit.varint import varint
from kubeedge.store.model import MAX_KEY, MAX_VALUE
from kubeedge.sync import delta
from kubeedge.sync.dictionary import KUBERNETES
from kubeedge.sync.reader import MAX_VARINT, Reader

TARGET_BODY = 256 * 1024  # bytes: a batch is split here, unless one value alone is larger
MAX_BODY = MAX_VALUE + MAX_KEY + TARGET_BODY
MAX_ITEMS = 2_000  # in one batch: fewer than a transaction takes
MAX_RANGES = 2_000  # in one message
_WORTH_COMPRESSING = 200  # bytes
_SHARED = 8 * 1024  # bytes: a body up to that size is remembered for the next node that gets the same
_WORTH_PACKING = 40  # bytes, with the preset dictionary


class Item(NamedTuple):
    """A change without its history: the newest value of a key, or None when it was deleted."""

    key: str
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Patch:
    """A change as its difference from the value that the sink has."""

    key: str
    digest: bytes  # of the result
    patch: bytes


@dataclass(frozen=True, slots=True)
class Range:
    """All keys after the end of the range before, up to and with `end`."""

    end: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class Fetch:
    """Sink: what it has, and from where it wants to go on."""

    store_id: str
    after: Revision
    digest: bytes = b""  # of what the sink has; empty: an end that does not speak "sync2"


@dataclass(frozen=True, slots=True)
class Start:
    """Source: changes follow, or a snapshot."""

    store_id: str
    revision: Revision
    snapshot: bool
    ranges: bool = False  # the snapshot comes as ranges, of which the sink says what it wants


@dataclass(frozen=True, slots=True)
class Batch:
    """Source: changes up to a revision."""

    revision: Revision
    items: Sequence[Item | Patch]


@dataclass(frozen=True, slots=True)
class Ranges:
    """Source: digests of ranges of keys, in order, each up to its `end`."""

    ranges: Sequence[Range]


@dataclass(frozen=True, slots=True)
class Want:
    """Sink: the indexes of ranges that it has otherwise."""

    indexes: Sequence[int]


@dataclass(frozen=True, slots=True)
class Fill:
    """Source: all keys of a range that was wanted."""

    items: Sequence[Item]


@dataclass(frozen=True, slots=True)
class End:
    """Source: the snapshot is complete."""


@dataclass(frozen=True, slots=True)
class Ack:
    """Sink: durable up to a revision."""

    revision: Revision


@dataclass(frozen=True, slots=True)
class KeysRefused:
    """Sink: how many keys it does not take, and what it takes at most."""

    count: int  # keys that are not taken, or not with their newest value; a lower bound when they are very many
    keys: int  # the bounds (bounds.py)
    bytes: int


_AnyItem = TypeVar("_AnyItem", Item, Item | Patch)
#: how encoded messages reach the other end, and how they come from there
Send: TypeAlias = Callable[[bytes], Awaitable[None]]
Receive: TypeAlias = Callable[[], Awaitable[bytes]]

Message: TypeAlias = Fetch | Start | Batch | End | Ack | Ranges | Want | Fill | KeysRefused


def encode(message: Message, *, rich: bool = False) -> bytes:
    """`rich`: for a peer that speaks "sync2". Patches, ranges and their answers go to no other."""
    match message:
        case Fetch(store_id, after, b""):
            return b"\x01" + _id(store_id) + varint(after)
        case Fetch(store_id, after, digest):
            return b"\x06" + _id(store_id) + varint(after) + digest
        case Start(store_id, revision, snapshot, ranges):
            return b"\x02" + _id(store_id) + varint(revision) + bytes((2 if ranges else snapshot,))
        case Batch(revision, items) if rich:
            return b"\x07" + varint(revision) + _pack(_rich_body(items))
        case Batch(revision, items):
            body = _body(items)
            if len(body) >= _WORTH_COMPRESSING:
                packed = varint(len(body)) + zlib.compress(body, 6)
                if len(packed) < len(body):
                    return b"\x03" + varint(revision) + b"\x01" + packed
            return b"\x03" + varint(revision) + b"\x00" + body
        case End():
            return b"\x04"
        case Ack(revision):
            return b"\x05" + varint(revision)
        case Ranges(entries):
            parts = [varint(len(entries))]
            for entry in entries:
                end = entry.end.encode()
                parts += (varint(len(end)), end, entry.digest)
            return b"\x08" + _pack(b"".join(parts))
        case Want(indexes):
            return b"\x09" + varint(len(indexes)) + b"".join(map(varint, indexes))
        case Fill(items):
            return b"\x0a" + _pack(_rich_body(items))
        case KeysRefused(count, most, size):
            return b"\x0b" + varint(count) + varint(most) + varint(size)


def decode(data: bytes) -> Message:
    """Raises PeerError for anything that encode would not have made."""
    reader = Reader(data)
    match reader.byte():
        case 1:
            message: Message = Fetch(reader.id(), Revision(reader.varint()))
        case 2:
            message = _start(reader)
        case 3:
            revision, compressed = Revision(reader.varint()), _flag(reader.byte())
            body = _unpack(reader) if compressed else reader
            message = Batch(revision, _items(body))
            body.end()
        case 4:
            message = End()
        case 5:
            message = Ack(Revision(reader.varint()))
        case 6:
            message = Fetch(reader.id(), Revision(reader.varint()), reader.take(delta.CONTENT))
        case 7:
            message = Batch(Revision(reader.varint()), _rich_items(_unpacked(reader)))
        case 8:
            message = _ranges(_unpacked(reader))
        case 9:
            message = Want(_indexes(reader))
        case 10:
            items = _rich_items(_unpacked(reader))
            message = Fill([item for item in items if isinstance(item, Item) and item.value is not None])
            if len(message.items) < len(items):
                raise PeerError("a range is filled with what is no value")
        case 11:
            message = KeysRefused(reader.varint(), reader.varint(), reader.varint())
        case other:
            raise PeerError(f"unknown sync message {other}")
    reader.end()
    return message


def size(item: Item) -> int:
    """Bytes that an item takes in a body, at most."""
    return 2 * MAX_VARINT + 4 * len(item.key) + len(item.value or b"")


def _id(store_id: str) -> bytes:
    return bytes((len(store_id),)) + store_id.encode("ascii")


def _flag(value: int) -> bool:
    if value > 1:
        raise PeerError(f"flag {value}")
    return value == 1


def _start(reader: Reader) -> Start:
    store_id, revision, mode = reader.id(), Revision(reader.varint()), reader.byte()
    if mode > 2:
        raise PeerError(f"answer of mode {mode}")
    return Start(store_id, revision, mode > 0, mode == 2)


def _body(items: Sequence[Item | Patch]) -> bytes:
    parts = [varint(len(items))]
    for item in items:
        assert isinstance(item, Item), "patches are for peers that know them"
        key = item.key.encode()
        parts += (varint(len(key) << 1 | (item.value is None)), key)
        if item.value is not None:
            parts += (varint(len(item.value)), item.value)
    return b"".join(parts)


def _unpack(reader: Reader) -> Reader:
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
    return Reader(body)


def _items(reader: Reader) -> Sequence[Item]:
    items = []
    for _ in range(_count(reader, MAX_ITEMS)):
        head = reader.varint()
        key = _key(reader, head >> 1)
        items.append(Item(key, None if head & 1 else _value(reader)))
    return _once(items)


def _rich_body(items: Sequence[Item | Patch]) -> bytes:
    parts = [varint(len(items))]
    for item in items:
        key = item.key.encode()
        match item:
            case Item(value=None):
                parts += (varint(len(key) << 2 | 1), key)
            case Item(value=bytes() as value):
                parts += (varint(len(key) << 2), key, varint(len(value)), value)
            case Patch(_, digest, patch):
                parts += (varint(len(key) << 2 | 2), key, digest, varint(len(patch)), patch)
    return b"".join(parts)


def _rich_items(reader: Reader) -> Sequence[Item | Patch]:
    items: list[Item | Patch] = []
    for _ in range(_count(reader, MAX_ITEMS)):
        head = reader.varint()
        key = _key(reader, head >> 2)
        kind = head & 3
        if kind == 0:
            items.append(Item(key, _value(reader)))
        elif kind == 1:
            items.append(Item(key, None))
        elif kind == 2:
            items.append(Patch(key, reader.take(delta.DIGEST), _value(reader)))
        else:
            raise PeerError(f"item of kind {kind}")
    reader.end()
    return _once(items)


def _ranges(reader: Reader) -> Ranges:
    ranges = []
    for _ in range(_count(reader, MAX_RANGES)):
        ranges.append(Range(_key(reader, reader.varint()), reader.take(delta.DIGEST)))
    reader.end()
    return Ranges(ranges)


def _indexes(reader: Reader) -> Sequence[int]:
    return [reader.varint() for _ in range(_count(reader, MAX_RANGES))]


def _pack(body: bytes) -> bytes:
    return _packed_before(body) if len(body) <= _SHARED else _packed(body)


def _packed(body: bytes) -> bytes:
    if len(body) >= _WORTH_PACKING:
        packed = varint(len(body)) + delta.deflate(body, KUBERNETES)
        if len(packed) < len(body):
            return b"\x01" + packed
    return b"\x00" + body


#: one change of a ConfigMap is the same body for a thousand nodes, one after the other
_packed_before = functools.lru_cache(maxsize=8)(_packed)


def _unpacked(reader: Reader) -> Reader:
    if not _flag(reader.byte()):
        return Reader(reader.rest())
    length = reader.varint()
    if not 0 < length <= MAX_BODY:
        raise PeerError(f"body of {length} bytes; it must be above 0 and at most {MAX_BODY}", close_code=1009)
    return Reader(delta.inflate(reader.rest(), length, KUBERNETES))


def _count(reader: Reader, most: int) -> int:
    count = reader.varint()
    if count > min(most, reader.remaining):
        raise PeerError(f"{count} entries in {reader.remaining} bytes; {most} are the most")
    return count


def _key(reader: Reader, length: int) -> str:
    if length > MAX_KEY:
        raise PeerError(f"key of {length} bytes exceeds {MAX_KEY}")
    try:
        return reader.take(length).decode()
    except UnicodeDecodeError as exc:
        raise PeerError("key is not UTF-8") from exc


def _value(reader: Reader) -> bytes:
    length = reader.varint()
    if length > MAX_VALUE:
        raise PeerError(f"value of {length} bytes exceeds {MAX_VALUE}", close_code=1009)
    return reader.take(length)


def _once(items: Sequence[_AnyItem]) -> Sequence[_AnyItem]:
    if len({item.key for item in items}) < len(items):
        raise PeerError("a key is twice in one batch")
    return items
