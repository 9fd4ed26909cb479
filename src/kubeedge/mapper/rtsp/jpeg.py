"""JPEG in RTP (RFC 2435): the headers of a file are made anew around what the camera sends. Pure."""

from __future__ import annotations

import struct

from kubeedge.errors import PeerError
from kubeedge.mapper.rtsp.frames import MAX_FRAME, RtpPacket, SequenceCheck, VideoFrame

_HEADER = 8  # bytes before the data of each packet
_RESTARTS = 4  # bytes of the header of restart intervals
_MAX_TABLES = 4  # sets of quantization tables that are kept, by Q

# ITU-T T.81, tables K.1 and K.2 in the order of a file (zigzag): how coarse each frequency may be, of brightness and of colour
_LUMA = bytes.fromhex(
    "100b0c0e0c0a100e0d0e1211101318281a181616183123251d283a333d3c3933"
    "383740485c4e404457453738506d51575f626768673e4d71797064785c656763"
)
_CHROMA = bytes.fromhex("1112121815182f1a1a2f63423842" + 50 * "63")

# tables K.3 to K.6: how many codes there are of each length, and what they mean
_DC_LUMA = bytes.fromhex("00010501010101010100000000000000" + "000102030405060708090a0b")
_DC_CHROMA = bytes.fromhex("00030101010101010101010000000000" + "000102030405060708090a0b")
_AC_LUMA = bytes.fromhex(
    "0002010303020403050504040000017d01020300041105122131410613516107227114328191a1082342b1c11552d1f02433627282090a16"
    "1718191a25262728292a3435363738393a434445464748494a535455565758595a636465666768696a737475767778797a83848586878889"
    "8a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9ea"
    "f1f2f3f4f5f6f7f8f9fa"
)
_AC_CHROMA = bytes.fromhex(
    "00020102040403040705040400010277000102031104052131061241510761711322328108144291a1b1c109233352f0156272d10a162434"
    "e125f11718191a262728292a35363738393a434445464748494a535455565758595a636465666768696a737475767778797a828384858687"
    "88898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae2e3e4e5e6e7e8e9"
    "eaf2f3f4f5f6f7f8f9fa"
)

# every component of a table's class and number (T.81, B.2.4.2)
_HUFFMAN = b"".join(
    struct.pack(">HHB", 0xFFC4, 3 + len(table), number) + table
    for number, table in ((0x00, _DC_LUMA), (0x10, _AC_LUMA), (0x01, _DC_CHROMA), (0x11, _AC_CHROMA))
)


class JpegAssembler:
    """A frame whose packets are not all there is left out. Memory: one frame."""

    codec = "image/jpeg"

    def __init__(self) -> None:
        self._check = SequenceCheck()
        self._tables: dict[int, bytes] = {}
        self._head = b""
        self._data = bytearray()  # not a list of parts: one of no bytes would cost memory, and no room of the frame
        self._is_whole = False

    def packet(self, packet: RtpPacket) -> VideoFrame | None:
        """The frame that this packet completes. Raises PeerError for what is no JPEG of RFC 2435."""
        payload = packet.payload
        if not self._check.follows(packet.sequence):
            self._is_whole = False
        if len(payload) < _HEADER:
            raise PeerError("a packet of JPEG ends within its header")
        offset = int.from_bytes(payload[1:4], "big")
        kind, quality, width, height = payload[4:8]
        at, restarts = _HEADER, b""
        if 64 <= kind <= 127:
            if len(payload) < at + _RESTARTS:
                raise PeerError("a packet of JPEG ends within its header")
            restarts = payload[at : at + 2]
            at += _RESTARTS
        if offset == 0:
            at = self._begin(payload, at, quality, kind, width, height, restarts)
        elif offset != len(self._data):
            self._is_whole = False
        if not self._is_whole:
            return None
        self._data += payload[at:]
        if len(self._data) > MAX_FRAME:
            raise PeerError(f"a frame of more than {MAX_FRAME} bytes")
        if not packet.is_last:
            return None
        data = self._head + bytes(self._data)
        self._is_whole = False
        return VideoFrame(data if data.endswith(b"\xff\xd9") else data + b"\xff\xd9", packet.time, True)

    def _begin(self, payload: bytes, at: int, quality: int, kind: int, width: int, height: int, restarts: bytes) -> int:
        """Where the data of a frame's first packet begin."""
        tables = b""
        if quality >= 128:
            if len(payload) < at + 4:
                raise PeerError("a packet of JPEG ends within its header")
            precision, length = payload[at + 1], int.from_bytes(payload[at + 2 : at + 4], "big")
            at += 4
            given, at = payload[at : at + length], at + length
            if len(given) != length:
                raise PeerError("a packet of JPEG ends within its tables")
            if length:
                tables = _quantization(given, precision)
                if quality != 255:  # those of 255 are another frame's never
                    self._tables.pop(quality, None)
                    self._tables[quality] = tables
                    while len(self._tables) > _MAX_TABLES:
                        del self._tables[next(iter(self._tables))]
            elif not (tables := self._tables.get(quality, b"")):
                self._is_whole = False
                return at
        elif 1 <= quality <= 99:
            tables = _quantization(_scaled(_LUMA, quality) + _scaled(_CHROMA, quality), 0)
        else:
            raise PeerError(f"JPEG of quality {quality}, which RFC 2435 does not know")
        if kind & 0x3F > 1 or not width or not height:
            raise PeerError(f"JPEG of type {kind}, {8 * width} x {8 * height}: RFC 2435 has no such picture")
        self._head = _head(kind & 1, 8 * width, 8 * height, tables, restarts)
        self._data, self._is_whole = bytearray(), True
        return at


def _scaled(table: bytes, quality: int) -> bytes:
    """RFC 2435 section 4.2, as libjpeg does it."""
    factor = 5000 // quality if quality < 50 else 200 - 2 * quality
    return bytes(min(255, max(1, (value * factor + 50) // 100)) for value in table)


def _quantization(given: bytes, precision: int) -> bytes:
    """The segments DQT of one table for all components, or of two or three: brightness, then colour."""
    found, at, number = b"", 0, 0
    while at < len(given) and number < 3:
        wide = precision >> number & 1
        size = 128 if wide else 64
        table = given[at : at + size]
        if len(table) != size:
            raise PeerError("a packet of JPEG has a table that ends too early")
        found += struct.pack(">HHB", 0xFFDB, 3 + size, wide << 4 | number) + table
        at, number = at + size, number + 1
    if number == 1:
        found += found[:4] + bytes((found[4] | 1,)) + found[5:]
    return found


def _head(kind: int, width: int, height: int, tables: bytes, restarts: bytes) -> bytes:
    """A file up to its data. `kind` 0: colour at half the width, 1: at half the width and height."""
    parts = [b"\xff\xd8", tables]
    if restarts:
        parts.append(struct.pack(">HH", 0xFFDD, 4) + restarts)
    sampling = 0x22 if kind else 0x21
    parts.append(struct.pack(">HHBHHB", 0xFFC0, 17, 8, height, width, 3))
    parts.append(bytes((1, sampling, 0, 2, 0x11, 1, 3, 0x11, 1)))
    parts.append(_HUFFMAN)
    parts.append(struct.pack(">HHB", 0xFFDA, 12, 3) + bytes((1, 0x00, 2, 0x11, 3, 0x11, 0, 63, 0)))
    return b"".join(parts)
