"""H.264 in RTP (RFC 6184): NAL units alone, several in a packet (STAP-A), and one in several packets (FU-A). Pure."""

from __future__ import annotations

from collections.abc import Iterable

from kubeedge.errors import PeerError
from kubeedge.kit.dataclasses import dataclass
from kubeedge.mapper.rtsp.frames import MAX_FRAME, RtpPacket, SequenceCheck, VideoFrame

_SLICE, _IDR, _SPS, _PPS, _DELIMITER = 1, 5, 7, 8, 9  # types of NAL units (H.264, table 7-1)
_STAP_A, _FU_A = 24, 28
_MAX_UNITS = 512  # of a frame
_MAX_SET = 1024  # bytes of a parameter set


@dataclass(frozen=True, slots=True)
class H264Parameters:
    """What a decoder has to know before the first frame: a sequence and a picture parameter set, as NAL units."""

    sps: bytes = b""
    pps: bytes = b""

    @property
    def is_known(self) -> bool:
        """Both sets are there."""
        return len(self.sps) >= 4 and bool(self.pps)

    @property
    def codec(self) -> str:
        """As RFC 6381 has it: "avc1.42c01f"."""
        return f"avc1.{self.sps[1:4].hex()}" if self.is_known else ""


class H264Assembler:
    """A frame whose packets are not all there is left out, and so are those after it up to the next key frame. Memory: one frame."""

    def __init__(self, parameter_sets: Iterable[bytes] = ()) -> None:
        self.parameters = H264Parameters()
        self._check = SequenceCheck()
        self._units: list[bytes] = []
        self._fragment: bytearray | None = None
        self._size = 0
        self._time: int | None = None
        self._is_broken = False
        self._waits = True  # for a key frame
        for unit in parameter_sets:
            self._parameter(unit)

    @property
    def codec(self) -> str:
        """For the header Content-Type; "" until the parameters have come."""
        return f'video/mp4; codecs="{self.parameters.codec}"' if self.parameters.is_known else ""

    def packet(self, packet: RtpPacket) -> VideoFrame | None:
        """The frame that this packet completes: it is its last one, or begins another. Raises PeerError for what is no H.264 of RFC 6184."""
        found = None
        if self._time is not None and packet.time != self._time and (self._units or self._is_broken):
            found = self._frame()  # a camera that marks no last packets
        if not self._check.follows(packet.sequence):
            self._is_broken, self._fragment = True, None
        self._time = packet.time
        self._take(packet.payload)
        if not packet.is_last or found is not None:
            return found
        return self._frame()

    def _take(self, payload: bytes) -> None:
        if not payload:
            return
        match payload[0] & 0x1F:
            case kind if 1 <= kind <= 23:
                self._unit(payload)
            case 24:
                at = 1
                while at + 2 <= len(payload):
                    size = int.from_bytes(payload[at : at + 2], "big")
                    unit = payload[at + 2 : at + 2 + size]
                    if not size or len(unit) != size:
                        raise PeerError("a packet of H.264 ends within a NAL unit")
                    self._unit(unit)
                    at += 2 + size
            case 28:
                self._part(payload)
            case kind:
                raise PeerError(f"a packet of H.264 of type {kind}, which nobody has asked for")

    def _part(self, payload: bytes) -> None:
        if len(payload) < 2:
            raise PeerError("a packet of H.264 ends within its header")
        head = payload[1]
        if head & 0x80:
            self._fragment = bytearray((payload[0] & 0xE0 | head & 0x1F,))
        if self._fragment is None:  # its begin is missing
            self._is_broken = True
            return
        self._fragment += payload[2:]
        if self._size + len(self._fragment) > MAX_FRAME:
            raise PeerError(f"a frame of more than {MAX_FRAME} bytes")
        if head & 0x40:
            unit, self._fragment = bytes(self._fragment), None
            self._unit(unit)

    def _unit(self, unit: bytes) -> None:
        kind = unit[0] & 0x1F
        if kind in (_SPS, _PPS):
            self._parameter(unit)
            return
        if kind == _DELIMITER:
            return
        self._size += len(unit)
        self._units.append(unit)
        if self._size > MAX_FRAME or len(self._units) > _MAX_UNITS:
            raise PeerError(f"a frame of more than {MAX_FRAME} bytes or {_MAX_UNITS} NAL units")

    def _parameter(self, unit: bytes) -> None:
        if not unit or len(unit) > _MAX_SET:
            return
        if unit[0] & 0x1F == _SPS:
            self.parameters = H264Parameters(unit, self.parameters.pps)
        elif unit[0] & 0x1F == _PPS:
            self.parameters = H264Parameters(self.parameters.sps, unit)

    def _frame(self) -> VideoFrame | None:
        units, is_broken, time = self._units, self._is_broken or self._fragment is not None, self._time
        self._units, self._fragment, self._size, self._is_broken = [], None, 0, False
        kinds = {unit[0] & 0x1F for unit in units}
        is_key = _IDR in kinds
        if is_broken:
            self._waits = True
            return None
        if not kinds & {_SLICE, 2, _IDR} or time is None:
            return None
        if self._waits and not (is_key and self.parameters.is_known):
            return None
        self._waits = False
        return VideoFrame(b"".join(len(unit).to_bytes(4, "big") + unit for unit in units), time, is_key)
