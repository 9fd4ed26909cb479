"""Frames: how a link's byte stream is cut. The C data plane (_fastpath/link/frame.h) has a decoder of its own, with these rules.

    0        1                 4
    +--------+-----------------+---------------------------+
    | kind   | length, u24 BE  | payload of `length` bytes |
    +--------+-----------------+---------------------------+

    kind  name      payload                                                          bytes
    1     CONTROL   one JSON object of the L2 conversation                           0 to 16,384
    2     PACKET    virtio_net_hdr (10 bytes), then an IPv4 or IPv6 packet           30 to 65,546
    3     SEGMENT   destination u32 BE, source u32 BE (node numbers), L4 segment     8 to 65,544
    4     TENANT_PACKET    between relays: tenant number u32 BE, then as PACKET      34 to 65,550
    5     TENANT_SEGMENT   between relays: tenant number u32 BE, then as SEGMENT     12 to 65,548

A length outside of the kind's limits closes the link before memory is taken, and so does an unknown kind below 128. An unknown
kind from 128 up, of up to 1 MiB, is skipped without being stored: a newer peer may send what we do not know.
"""

from __future__ import annotations

import struct

from kubeedge.errors import Misuse, PeerError
from kubeedge.kit.dataclasses import dataclass

CONTROL = 1
PACKET = 2
SEGMENT = 3
TENANT_PACKET = 4
TENANT_SEGMENT = 5
FIRST_SKIPPABLE = 128

HEADER = 4  # bytes: kind u8, length u24
VNET_HEADER = 10  # bytes of Linux' struct virtio_net_hdr
ADDRESS = 8  # bytes of a segment's destination and source
TENANT = 4  # bytes of a tenant's number, between relays

MAX_CONTROL_BYTES = 16 * 1024
MAX_PACKET_BYTES = VNET_HEADER + 65_536
MAX_SEGMENT_BYTES = ADDRESS + 65_536
MAX_SKIPPED = 1 << 20

#: kind -> (least, most) bytes of payload
LIMITS = {
    CONTROL: (0, MAX_CONTROL_BYTES),
    PACKET: (VNET_HEADER + 20, MAX_PACKET_BYTES),
    SEGMENT: (ADDRESS, MAX_SEGMENT_BYTES),
    TENANT_PACKET: (TENANT + VNET_HEADER + 20, TENANT + MAX_PACKET_BYTES),
    TENANT_SEGMENT: (TENANT + ADDRESS, TENANT + MAX_SEGMENT_BYTES),
}

_WORD = struct.Struct("!I")
_ADDRESS = struct.Struct("!II")


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame without its header of 4 bytes."""

    kind: int
    payload: bytes


def limits(kind: int) -> tuple[int, int] | None:
    """(least, most) bytes of a payload; None: such a frame closes the link."""
    if kind >= FIRST_SKIPPABLE:
        return 0, MAX_SKIPPED
    return LIMITS.get(kind)


def encode(kind: int, payload: bytes) -> bytes:
    """Header and payload. Raises Misuse for an unknown kind, or a length outside its limits."""
    bounds = limits(kind)
    if bounds is None or not bounds[0] <= len(payload) <= bounds[1]:
        raise Misuse(f"a frame of kind {kind} cannot have {len(payload)} bytes")
    return _WORD.pack(kind << 24 | len(payload)) + payload


def encode_segment(destination: int, source: int, segment: bytes) -> bytes:
    """The payload of a SEGMENT frame."""
    return _ADDRESS.pack(destination, source) + segment


def decode_segment(payload: bytes) -> tuple[int, int, bytes]:
    """(destination, source, segment); the frame's limits guarantee the 8 bytes."""
    destination, source = _ADDRESS.unpack_from(payload)
    return destination, source, payload[ADDRESS:]


class Decoder:
    """Cuts a stream into frames, wherever the stream itself was cut.

    decoder.receive_data(bytes) and then decoder.maybe_next_frame() until it gives None. It holds at most one frame that is not
    whole yet and what the last receive_data brought. After a PeerError the stream is lost for good: every further call raises it.
    """

    __slots__ = ("_buffer", "_failed", "_skip")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._skip = 0  # bytes of an unknown frame that are still to come
        self._failed = ""

    def receive_data(self, data: bytes) -> None:
        """Bytes as they come from the link, in pieces of any size. Frames are taken out with maybe_next_frame()."""
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        self._buffer += data

    def maybe_next_frame(self) -> Frame | None:
        """None until more bytes come. Frames of skippable kinds are passed over. Raises PeerError for a length or kind outside the
        rules, and then at each call: the link is to be closed."""
        buffer = self._buffer
        while not self._failed and len(buffer) >= HEADER:
            (word,) = _WORD.unpack_from(buffer)
            kind, length = word >> 24, word & 0xFFFFFF
            bounds = limits(kind)
            if bounds is None or not bounds[0] <= length <= bounds[1]:
                self._failed = f"frame of kind {kind} with {length} bytes"
                buffer.clear()
                break
            whole = HEADER + length
            if kind >= FIRST_SKIPPABLE:
                self._skip = max(0, whole - len(buffer))
                del buffer[:whole]
                continue
            if len(buffer) < whole:
                return None
            payload = bytes(buffer[HEADER:whole])
            del buffer[:whole]
            return Frame(kind, payload)
        if self._failed:
            raise PeerError(self._failed)
        return None

    @property
    def idle(self) -> bool:
        """Whether the last byte received was the last one of its frame."""
        return not self._buffer and not self._skip
