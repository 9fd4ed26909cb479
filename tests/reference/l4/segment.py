"""The L4 segment, behind the 8-byte address that the data plane routes by. Big endian.

0   source port       u16
2   destination port  u16
4   sequence          u32   of the first payload byte; SYN and FIN count as one byte each (RFC 9293, section 3.4)
8   acknowledgement   u32   next byte that is expected; valid with ACK
12  window            u32   bytes that may be sent beyond the acknowledgement
16  flags             u8    1 SYN  2 ACK  4 FIN  8 RST  16 CE  32 ECE (RFC 3168: a queue below marked it; the peer is told)
17  ranges            u8    how many selective acknowledgements follow, at most 8
18  ranges x (first u32, end u32)   received beyond the acknowledgement (RFC 2018)
    payload
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from kubeedge.api.names import L4Port
from kubeedge.errors import PeerError

SYN, ACK, FIN, RST, CE, ECE = 1, 2, 4, 8, 16, 32
MAX_PAYLOAD = 32 * 1024  # bytes; a link is a byte stream, so large segments cost nothing extra
MAX_RANGES = 8
_HEADER = struct.Struct("!HHIIIBB")
_RANGE = struct.Struct("!II")


@dataclass(frozen=True, slots=True)
class Segment:
    source_port: L4Port
    destination_port: L4Port
    sequence: int
    acknowledgement: int
    window: int
    flags: int
    ranges: tuple[tuple[int, int], ...] = ()
    payload: bytes = b""


def encode(s: Segment) -> bytes:
    head = _HEADER.pack(
        s.source_port, s.destination_port, s.sequence, s.acknowledgement, s.window, s.flags, len(s.ranges)
    )
    if not s.ranges:
        return head + s.payload
    return b"".join((head, *(_RANGE.pack(*r) for r in s.ranges), s.payload))


def decode(data: bytes) -> Segment:
    """Raises PeerError."""
    if len(data) < _HEADER.size:
        raise PeerError(f"segment of {len(data)} bytes")
    source, destination, sequence, acknowledgement, window, flags, count = _HEADER.unpack_from(data)
    start = _HEADER.size + count * _RANGE.size
    if count > MAX_RANGES or flags > 63 or len(data) < start or len(data) - start > MAX_PAYLOAD:
        raise PeerError(f"segment with flags {flags}, {count} ranges and {len(data)} bytes")
    ranges = tuple(_RANGE.unpack_from(data, _HEADER.size + n * _RANGE.size) for n in range(count)) if count else ()
    return Segment(source, destination, sequence, acknowledgement, window, flags, ranges, data[start:])


def before(a: int, b: int) -> bool:
    """a comes before b in sequence space, which wraps."""
    return a != b and (b - a) & 0xFFFFFFFF < 0x80000000


def distance(a: int, b: int) -> int:
    """Bytes from a to b, b not before a."""
    return (b - a) & 0xFFFFFFFF
