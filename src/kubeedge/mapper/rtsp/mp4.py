"""Fragmented MP4 (ISO/IEC 14496-12 and -15) of H.264, as browsers play it: what comes first, then a fragment for each frame. Pure.

Frames are not changed: a fragment is a header of about a hundred bytes before the frame's own.
"""

from __future__ import annotations

import struct

from kubeedge.mapper.rtsp.frames import VideoFrame
from kubeedge.mapper.rtsp.h264 import H264Parameters
from kubeedge.mapper.rtsp.sps import size_of

_USUAL = 25  # frames a second, until two have come
_MOST = 10  # seconds of one frame; a longer pause is left out
_BACK = 10  # seconds that a frame may be shown before it is decoded, as a file's 32 bits have room for
_TRACK = 1
_MATRIX = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_KEY, _OTHER = (
    0x02000000,
    0x01010000,
)  # flags of a sample: depends on no other; depends on others, and is no place to begin at


def _box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def _full(kind: bytes, version: int, flags: int, *parts: bytes) -> bytes:
    return _box(kind, struct.pack(">I", version << 24 | flags), *parts)


def start_of(parameters: H264Parameters, clock: int) -> bytes:
    """What comes before the first fragment. `clock`: ticks a second of the frames' times. Raises PeerError for parameters that say no size."""
    width, height = size_of(parameters.sps)
    sps, pps = parameters.sps, parameters.pps
    configuration = _box(
        b"avcC",
        bytes((1, *sps[1:4], 0xFF, 0xE1)),  # lengths of 4 bytes, one sequence parameter set
        struct.pack(">H", len(sps)) + sps,
        struct.pack(">BH", 1, len(pps)) + pps,
    )
    entry = _box(
        b"avc1",
        struct.pack(">6xH16xHHIIIH32xHh", 1, width, height, 0x480000, 0x480000, 0, 1, 0x18, -1),
        configuration,
    )
    tables = _box(
        b"stbl",
        _full(b"stsd", 0, 0, struct.pack(">I", 1), entry),
        *(_full(kind, 0, 0, struct.pack(">I", 0)) for kind in (b"stts", b"stsc")),
        _full(b"stsz", 0, 0, struct.pack(">II", 0, 0)),
        _full(b"stco", 0, 0, struct.pack(">I", 0)),
    )
    place = _box(b"dinf", _full(b"dref", 0, 0, struct.pack(">I", 1), _full(b"url ", 0, 1)))
    media = _box(
        b"mdia",
        _full(b"mdhd", 0, 0, struct.pack(">IIIIHH", 0, 0, clock, 0, 0x55C4, 0)),  # language "und"
        _full(b"hdlr", 0, 0, struct.pack(">I4s12x", 0, b"vide"), b"video\0"),
        _box(b"minf", _full(b"vmhd", 0, 1, bytes(8)), place, tables),
    )
    header = (
        struct.pack(">IIIII8xHHHH", 0, 0, _TRACK, 0, 0, 0, 0, 0, 0)
        + _MATRIX
        + struct.pack(">II", width << 16, height << 16)
    )
    movie = _box(
        b"moov",
        _full(
            b"mvhd",
            0,
            0,
            struct.pack(">IIIIIH10x", 0, 0, clock, 0, 0x10000, 0x100),
            _MATRIX,
            bytes(24),
            struct.pack(">I", 2),
        ),
        _box(b"trak", _full(b"tkhd", 0, 3, header), media),
        _box(b"mvex", _full(b"trex", 0, 0, struct.pack(">IIIII", _TRACK, 1, 0, 0, 0))),
    )
    return _box(b"ftyp", b"iso5", struct.pack(">I", 512), b"iso5iso6mp41avc1") + movie


class Mp4Fragments:
    """The fragments of one viewer, whose time begins at 0. `clock`: ticks a second."""

    def __init__(self, clock: int) -> None:
        self._clock = clock
        self._number = 0
        self._last: int | None = None  # the time of the frame before
        self._shown = 0  # when the next frame is to be decoded at the earliest
        self._at = 0  # when the frame before is to be shown
        self._duration = max(1, clock // _USUAL)

    def head_of(self, frame: VideoFrame) -> bytes:
        """What comes before the frame's data."""
        if self._last is not None:
            step = (frame.time - self._last + 0x80000000 & 0xFFFFFFFF) - 0x80000000  # times begin again at 2^32
            if not -self._clock < step <= _MOST * self._clock:
                step = self._duration
            elif step > 0:
                self._duration = step
            self._at = max(0, self._at + step, self._shown - _BACK * self._clock)
        self._last = frame.time
        decoded = max(self._at, self._shown)  # frames that are shown before one that came earlier are decoded after it
        self._shown = decoded + 1
        self._number += 1
        size = len(frame.data)
        track = struct.pack(">IIIIi", 0, self._duration, size, _KEY if frame.is_key else _OTHER, self._at - decoded)
        run = struct.pack(">I", 1) + track  # its first number is where the data are, seen from the begin of the moof
        moof = self._moof(run, decoded)
        run = struct.pack(">II", 1, len(moof) + 8) + track[4:]
        return self._moof(run, decoded) + struct.pack(">I4s", 8 + size, b"mdat")

    def _moof(self, run: bytes, decoded: int) -> bytes:
        return _box(
            b"moof",
            _full(b"mfhd", 0, 0, struct.pack(">I", self._number & 0xFFFFFFFF)),
            _box(
                b"traf",
                _full(b"tfhd", 0, 0x020000, struct.pack(">I", _TRACK)),  # places are seen from the begin of the moof
                _full(b"tfdt", 1, 0, struct.pack(">Q", decoded)),
                _full(
                    b"trun", 1, 0x000F01, run
                ),  # place of the data; duration, size, flags and composition offset of each frame
            ),
        )
