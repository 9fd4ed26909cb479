"""Packets of RTP (RFC 3550) in, frames of video out: what all formats share. Pure."""

from __future__ import annotations

import struct
from typing import Protocol

from kubeedge.errors import PeerError
from kubeedge.kit.dataclasses import dataclass

MAX_FRAME = 2 * 1024 * 1024  # bytes
_HEADER = 12


@dataclass(frozen=True, slots=True)
class RtpPacket:
    """`time` in ticks of the video's clock, from 0 to 2^32 - 1; `is_last`: of its frame."""

    payload_type: int
    sequence: int
    time: int
    is_last: bool
    payload: bytes


@dataclass(frozen=True, slots=True)
class VideoFrame:
    """One picture. `data`: a whole JPEG file, or the NAL units of H.264 each behind its length in 4 bytes. `is_key`: it can be shown without those
    before it."""

    data: bytes
    time: int
    is_key: bool


class FrameAssembler(Protocol):
    """Puts frames together out of the packets of one video."""

    @property
    def codec(self) -> str:
        """For the header Content-Type of what shows the frames; "": not known before more has come."""
        ...

    def packet(self, packet: RtpPacket) -> VideoFrame | None:
        """The frame that this packet completes. Raises PeerError for what no camera sends."""
        ...


def rtp_of(data: bytes) -> RtpPacket:
    """Raises PeerError for what is no packet of RTP."""
    if len(data) < _HEADER or data[0] >> 6 != 2:
        raise PeerError("this is no RTP")
    flags, kind, sequence, time = struct.unpack_from(">BBHI", data)
    start = _HEADER + 4 * (flags & 0x0F)
    if flags & 0x10:
        if len(data) < start + 4:
            raise PeerError("a packet of RTP ends within its header")
        start += 4 + 4 * struct.unpack_from(">H", data, start + 2)[0]
    end = len(data) - (data[-1] if flags & 0x20 else 0)
    if start > end:
        raise PeerError("a packet of RTP ends within its header")
    return RtpPacket(kind & 0x7F, sequence, time, bool(kind & 0x80), data[start:end])


class SequenceCheck:
    """Whether packets are missing: over TCP only those that a camera has left out because we were slow."""

    def __init__(self) -> None:
        self._next: int | None = None
        self.lost = 0

    def follows(self, sequence: int) -> bool:
        """The packet is the next one, or the first one."""
        expected, self._next = self._next, (sequence + 1) & 0xFFFF
        if expected is None or expected == sequence:
            return True
        self.lost += (sequence - expected) & 0xFFFF
        return False
