"""DNS messages (RFC 1035, 2782, 3596, 6891), as much as a server of a cluster's names needs. Pure.

Every length is checked before it is used; a name is at most 255 bytes, in labels of at most 63, and a pointer leads backwards only.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from kubeedge.errors import PeerError
from kubeedge.kit.dataclasses import dataclass

MAX_UDP = 1232  # bytes that pass everywhere unfragmented (DNS flag day 2020)
MIN_UDP = 512  # what every client takes
MAX_QUERY = 1024  # bytes of a query: header, one name and EDNS options
IN = 1
Name: TypeAlias = tuple[bytes, ...]  # labels, without the root; compare them in small letters

_HEADER = struct.Struct("!HHHHHH")
_RECORD = struct.Struct("!HHIH")
_QR, _AA, _TC, _RD, _RA, _AD, _CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0020, 0x0010
_OPCODE = 0x7800


class Type(enum.IntEnum):
    """Types of records that we make or look into."""

    A = 1
    NS = 2
    CNAME = 5
    SOA = 6
    PTR = 12
    TXT = 16
    AAAA = 28
    SRV = 33
    OPT = 41
    ANY = 255


class Code(enum.IntEnum):
    """Response codes (RFC 1035 section 4.1.1, RFC 6895)."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    BADVERS = 16


class Malformed(PeerError):
    """The bytes are no DNS message that we take. `reply`: FORMERR may be answered to it."""


@dataclass(frozen=True, slots=True)
class Query:
    """One question. `payload`: bytes that the client takes over UDP; `edns`: it has an OPT record, and gets one."""

    id: int
    name: Name
    type: int
    klass: int
    question: bytes  # as it came: name in its spelling, type, class
    flags: int = _RD
    edns: bool = False
    edns_version: int = 0
    payload: int = MIN_UDP

    @property
    def opcode(self) -> int:
        """0 is a standard query."""
        return (self.flags & _OPCODE) >> 11


@dataclass(frozen=True, slots=True)
class Record:
    """One resource record of class IN."""

    name: Name
    type: int
    ttl: int
    data: bytes


def parse_query(data: bytes) -> Query:
    """The one question of a query. Raises Malformed for what is no query with one question."""
    if not _HEADER.size < len(data) <= MAX_QUERY:
        raise Malformed("a query of a wrong size")
    id, flags, questions, answers, authority, additional = _HEADER.unpack_from(data)
    if flags & _QR:
        raise Malformed("not a query")
    if questions != 1 or answers or authority or additional > 4:
        raise Malformed("a query has one question")
    name, at = _plain_name(data, _HEADER.size)
    if at + 4 > len(data):
        raise Malformed("cut off in its question")
    type, klass = struct.unpack_from("!HH", data, at)
    at += 4
    question, edns, version, payload = data[_HEADER.size : at], False, 0, MIN_UDP
    for _ in range(additional):
        at = skip_name(data, at)
        kind, size, ttl, length = _record(data, at)
        if kind == Type.OPT:
            if edns:
                raise Malformed("two OPT records")
            edns, version, payload = True, (ttl >> 16) & 0xFF, max(MIN_UDP, size)
        at += _RECORD.size + length
        if at > len(data):
            raise Malformed("cut off in a record")
    return Query(id, name, type, klass, question, flags, edns, version, payload)


def _plain_name(data: bytes, at: int) -> tuple[Name, int]:
    """A name without pointers, in small letters: the first name of a message has nothing to point to."""
    labels: list[bytes] = []
    total = 1
    while True:
        if at >= len(data):
            raise Malformed("cut off in a name")
        length = data[at]
        at += 1
        if length == 0:
            return tuple(labels), at
        total += length + 1
        if length > 63 or total > 255 or at + length > len(data):
            raise Malformed("a name that is too long")
        labels.append(data[at : at + length].lower())
        at += length


def skip_name(data: bytes, at: int) -> int:
    """Where it ends. A pointer ends it, and is not followed, so no loop of pointers is."""
    total = 0
    while at < len(data):
        length = data[at]
        if length == 0:
            return at + 1
        if length & 0xC0 == 0xC0:
            if at + 2 > len(data) or (length & 0x3F) << 8 | data[at + 1] >= at:
                raise Malformed("a pointer that does not lead backwards")
            return at + 2
        total += length + 1
        if length > 63 or total > 255:
            raise Malformed("a name that is too long")
        at += length + 1
    raise Malformed("cut off in a name")


def _record(data: bytes, at: int) -> tuple[int, int, int, int]:
    if at + _RECORD.size > len(data):
        raise Malformed("cut off in a record")
    type, klass, ttl, length = _RECORD.unpack_from(data, at)
    return type, klass, ttl, length


@dataclass(frozen=True, slots=True)
class UpstreamAnswer:
    """What an upstream said, as far as a cache needs to know. `lifetimes`: where the TTLs of its records are."""

    code: int
    truncated: bool
    ttl: int  # seconds that it may be kept
    lifetimes: tuple[int, ...]


def check_answer(data: bytes, id: int, question: bytes) -> UpstreamAnswer:
    """Of an upstream, to a question of ours. Raises Malformed for anything that is not exactly that."""
    if len(data) < _HEADER.size:
        raise Malformed("cut off")
    got, flags, questions, *counts = _HEADER.unpack_from(data)
    end = _HEADER.size + len(question)
    if got != id or not flags & _QR or questions != 1 or data[_HEADER.size : end].lower() != question.lower():
        raise Malformed("an answer to another question")
    code, lifetimes, ttls = flags & 0xF, [], []
    at = end
    for section, count in enumerate(counts):
        for _ in range(count):
            at = skip_name(data, at)
            kind, _, ttl, length = _record(data, at)
            if at + _RECORD.size + length > len(data):
                raise Malformed("cut off in a record")
            if kind != Type.OPT:
                ttl = ttl if ttl < 1 << 31 else 0
                if section == 1 and kind == Type.SOA and length >= 4:  # RFC 2308: how long a "no" holds
                    (minimum,) = struct.unpack_from("!I", data, at + _RECORD.size + length - 4)
                    ttl = min(ttl, minimum)
                lifetimes.append(at + 4)
                ttls.append(ttl)
            at += _RECORD.size + length
    nothing = code not in (Code.NOERROR, Code.NXDOMAIN) or not ttls
    return UpstreamAnswer(code, bool(flags & _TC), 0 if nothing else min(ttls), tuple(lifetimes))


def ask(id: int, question: bytes, *, edns: bool) -> bytes:
    """The query for an upstream."""
    opt = b"\0" + _RECORD.pack(Type.OPT, MAX_UDP, 0, 0) if edns else b""
    return _HEADER.pack(id, _RD, 1, 0, 0, int(edns)) + question + opt


def reply(
    query: Query,
    code: int,
    answers: Sequence[Record] = (),
    authority: Sequence[Record] = (),
    *,
    authoritative: bool = True,
    limit: int = 0,
) -> bytes:
    """`limit`: bytes; what does not fit makes a truncated message without records, and the client comes back over TCP. 0: 64 KiB."""
    flags = _QR | (query.flags & (_RD | _CD | _OPCODE)) | _RA | (_AA if authoritative else 0) | (code & 0xF)
    opt = b"\0" + _RECORD.pack(Type.OPT, MAX_UDP, (code >> 4) << 24, 0) if query.edns else b""
    known = {query.name: _HEADER.size}
    body = bytearray(query.question)
    for record in (*answers, *authority):
        if len(body) > 65_000:
            break
        body += _encoded(record, known, _HEADER.size + len(body))
    counts = len(answers), len(authority)
    if _HEADER.size + len(body) + len(opt) > (limit or 65_535):
        flags, body, counts = flags | _TC, bytearray(query.question), (0, 0)
    return _HEADER.pack(query.id, flags, 1, *counts, int(query.edns)) + bytes(body) + opt


def refusal(data: bytes, code: int) -> bytes:
    """To what could not be read; b"" when not even its header could, or it is an answer: such messages are not answered."""
    if len(data) < _HEADER.size:
        return b""
    id, flags, *_ = _HEADER.unpack_from(data)
    return b"" if flags & _QR else _HEADER.pack(id, _QR | (flags & (_OPCODE | _RD)) | code, 0, 0, 0, 0)


def _encoded(record: Record, known: dict[Name, int], at: int) -> bytes:
    name = bytearray()
    labels = record.name
    while labels:
        if (pointer := known.get(labels)) is not None:
            name += struct.pack("!H", 0xC000 | pointer)
            break
        if at + len(name) < 0x3FFF:
            known[labels] = at + len(name)
        name += bytes((len(labels[0]),)) + labels[0]
        labels = labels[1:]
    else:
        name += b"\0"
    return bytes(name) + _RECORD.pack(record.type, IN, record.ttl, len(record.data)) + record.data


def encode_name(name: Name) -> bytes:
    """Without pointers, as data of records has it."""
    return b"".join(bytes((len(label),)) + label for label in name) + b"\0"


def name_of(text: str) -> Name:
    """ "a.example." -> (b"a", b"example"). Raises ValueError for what is no name."""
    labels = tuple(label.encode("ascii").lower() for label in text.rstrip(".").split(".") if text.strip("."))
    if any(not 0 < len(label) < 64 for label in labels) or sum(len(label) + 1 for label in labels) > 254:
        raise ValueError(f"{text[:80]!r} is no name")
    return labels


def text_of(name: Name) -> str:
    """A name with dots, as logs and commands show it; bytes that are not printable are escaped."""
    return ".".join(label.decode("ascii", "backslashreplace") for label in name) + "."


def records(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, data) of the answers in a message. Raises Malformed."""
    if len(data) < _HEADER.size:
        raise Malformed("cut off")
    _, _, questions, answers, _, _ = _HEADER.unpack_from(data)
    at = _HEADER.size
    for _ in range(questions):
        at = skip_name(data, at) + 4
    for _ in range(answers):
        at = skip_name(data, at)
        kind, _, _, length = _record(data, at)
        at += _RECORD.size
        if at + length > len(data):
            raise Malformed("cut off in a record")
        yield kind, data[at : at + length]
        at += length
