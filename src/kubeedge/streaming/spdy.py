"""SPDY/3.1 as Kubernetes uses it: frames, and the streams of one connection. Pure; one class for both ends.

    control frame   1 bit 1, 15 bits version (3), u16 type, u8 flags, u24 length, payload
    data frame      1 bit 0, 31 bits stream, u8 flags, u24 length, payload

    SYN_STREAM 1    u32 stream, u32 associated stream, u8 priority << 5, u8 slot, header block
    SYN_REPLY 2     u32 stream, header block
    RST_STREAM 3    u32 stream, u32 status
    SETTINGS 4      read over
    PING 6          u32 id: the other end's own ids come back as they are
    GOAWAY 7        u32 last stream, u32 status
    HEADERS 8       u32 stream, header block
    WINDOW_UPDATE 9 read over

A stream has two directions; FIN (flag 1) of a frame ends the sender's. It is over when both have ended, or after RST_STREAM.

Windows. Every peer in the field is Go's spdystream: it sends no WINDOW_UPDATE and takes none. Who waited for one would wait after 64 KiB for
ever. What bounds a stream is the connection below: whoever does not want more stops reading it (spdy_driver.py).

Payloads of data frames pass piece by piece as they come, whatever length the frame claims. A control frame is kept until it is whole; it has
at most CONTROL_BYTES.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import TypeAlias

from kubeedge.errors import PeerError
from kubeedge.kit.dataclasses import dataclass
from kubeedge.streaming.spdy_headers import HEADER_BYTES, HeaderDecoder, HeaderEncoder

_VERSION = 3
SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE = 1, 2, 3, 4, 6, 7, 8, 9
_FIN = 1
PROTOCOL_ERROR, INVALID_STREAM, REFUSED_STREAM, CANCEL, INTERNAL_ERROR = 1, 2, 3, 5, 6  # of RST_STREAM
CONTROL_BYTES = HEADER_BYTES + 1024  # what cannot be compressed grows a little
STREAMS = 256  # open at the same time: 128 connections of a port-forward
_ID = 0x7FFFFFFF


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """The other end has opened a stream (SYN_STREAM), which waits for reply() or reset()."""

    stream: int
    headers: Mapping[str, str]  # names in lower case


@dataclass(frozen=True, slots=True)
class StreamReplied:
    """The other end has accepted a stream that we opened (SYN_REPLY)."""

    stream: int
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class DataReceived:
    """A piece of a stream's data, never empty."""

    stream: int
    data: bytes


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """Nothing more comes; we may still send."""

    stream: int


@dataclass(frozen=True, slots=True)
class StreamReset:
    """The stream ended early; what was not received is lost."""

    stream: int
    status: int


@dataclass(frozen=True, slots=True)
class WentAway:
    """The other end opens no more streams."""


SpdyEvent: TypeAlias = StreamOpened | StreamReplied | DataReceived | StreamEnded | StreamReset | WentAway


@dataclass(slots=True)
class _Stream:
    ours_ended: bool = False
    theirs_ended: bool = False


class Spdy:
    """One end of a SPDY/3.1 connection; what it sends comes from data_to_send()."""

    def __init__(self, *, client: bool = False, streams: int = STREAMS) -> None:
        """`streams`: how many the other end may have open at the same time; further ones are refused."""
        self._client = client
        self._limit = streams
        self._encoder, self._decoder = HeaderEncoder(), HeaderDecoder()
        self._next = 1 if client else 2
        self._last = 0  # of theirs
        self._streams: dict[int, _Stream] = {}
        self._theirs = 0  # of the open ones
        self._out = bytearray()
        self._buffer = bytearray()
        self._data_stream, self._data_left, self._data_fin = 0, 0, False  # of the data frame that is coming
        self._broken = False

    @property
    def streams(self) -> int:
        """The number of open streams."""
        return len(self._streams)

    def data_to_send(self) -> bytes:
        """Everything since the last call."""
        data = bytes(self._out)
        self._out.clear()
        return data

    # -- what we say ---------------------------------------------------------------------------------------------------

    def open(self, headers: Mapping[str, str]) -> int:
        """A stream of ours; its number."""
        stream, self._next = self._next, self._next + 2
        self._streams[stream] = _Stream()
        self._control(SYN_STREAM, 0, struct.pack(">IIBB", stream, 0, 0, 0) + self._encoder.encode(headers))
        return stream

    def reply(self, stream: int) -> None:
        """Accept a stream that the other end has opened (SYN_REPLY)."""
        if stream in self._streams:
            self._control(SYN_REPLY, 0, struct.pack(">I", stream) + self._encoder.encode({}))

    def send(self, stream: int, data: bytes) -> None:
        """One data frame. Of a stream that is over, or that we ended, it is dropped."""
        found = self._streams.get(stream)
        if found is not None and not found.ours_ended and data:
            self._out += struct.pack(">II", stream, len(data)) + data

    def end(self, stream: int) -> None:
        """Nothing more comes from us. Idempotent."""
        found = self._streams.get(stream)
        if found is not None and not found.ours_ended:
            found.ours_ended = True
            self._out += struct.pack(">II", stream, _FIN << 24)
            self._over_if_ended(stream)

    def reset(self, stream: int, status: int = CANCEL) -> None:
        """Ends a stream with RST_STREAM; one that is over already is left alone."""
        if stream in self._streams:
            self._forget(stream)
            self._control(RST_STREAM, 0, struct.pack(">II", stream, status))

    def go_away(self, status: int = 0) -> None:
        """No further streams; 0: all is well."""
        self._control(GOAWAY, 0, struct.pack(">II", self._last, status))

    # -- what they say -------------------------------------------------------------------------------------------------

    def receive_data(self, data: bytes) -> list[SpdyEvent]:
        """Raises PeerError when the connection cannot go on; a GOAWAY that says so waits to be sent then."""
        if self._broken:
            raise PeerError("the connection of SPDY is broken already")
        events: list[SpdyEvent] = []
        rest = memoryview(data)
        try:
            while rest or (self._data_stream and not self._data_left):
                rest = self._payload(rest, events) if self._data_stream else self._frame(rest, events)
        except PeerError:
            self._broken = True
            self.go_away(PROTOCOL_ERROR)
            raise
        return events

    def _payload(self, data: memoryview, events: list[SpdyEvent]) -> memoryview:
        """Take in the payload of the data frame whose head has come; returns what is behind it."""
        stream, piece = self._data_stream, data[: self._data_left]
        self._data_left -= len(piece)
        found = self._streams.get(stream)
        if piece and found is not None and not found.theirs_ended:
            events.append(DataReceived(stream, bytes(piece)))
        if not self._data_left:
            self._data_stream = 0
            if self._data_fin and found is not None:
                self._their_end(stream, found, events)
        return data[len(piece) :]

    def _frame(self, data: memoryview, events: list[SpdyEvent]) -> memoryview:
        """The head of a data frame, or a piece of a control frame."""
        missing = 8 - len(self._buffer)
        if missing > 0:
            self._buffer += data[:missing]
            data = data[missing:]
            if len(self._buffer) < 8:
                return data
        first, second = struct.unpack_from(">II", self._buffer)
        flags, length = second >> 24, second & 0xFFFFFF
        if not first >> 31:
            self._buffer.clear()
            self._begin_data(first, flags, length)
            return data
        if first >> 16 & 0x7FFF != _VERSION:
            raise PeerError(f"version {first >> 16 & 0x7FFF} of SPDY")
        if length > CONTROL_BYTES:
            raise PeerError(f"a control frame of {length} bytes: {CONTROL_BYTES} may be")
        missing = 8 + length - len(self._buffer)
        self._buffer += data[:missing]
        if len(self._buffer) == 8 + length:
            payload = bytes(self._buffer[8:])
            self._buffer.clear()
            self._received_control(first & 0xFFFF, flags, payload, events)
        return data[missing:]

    def _begin_data(self, stream: int, flags: int, length: int) -> None:
        if not stream:
            raise PeerError("a data frame of no stream")
        if stream not in self._streams and stream > self._last and self._is_theirs(stream):
            raise PeerError(f"data of stream {stream}, which was not opened")
        self._data_stream, self._data_left, self._data_fin = stream, length, bool(flags & _FIN)

    def _received_control(self, kind: int, flags: int, payload: bytes, events: list[SpdyEvent]) -> None:
        match kind:
            case 1:
                self._syn_stream(flags, payload, events)
            case 2 | 8:
                self._reply_or_headers(kind, flags, payload, events)
            case 3:
                stream, status = struct.unpack(">II", _exactly(payload, 8))
                if self._forget(stream & _ID):
                    events.append(StreamReset(stream & _ID, status))
            case 6:
                (ping,) = struct.unpack(">I", _exactly(payload, 4))
                if self._is_theirs(ping):
                    self._control(PING, 0, payload)
            case 7:
                _exactly(payload, 8)
                events.append(WentAway())
            case _:  # SETTINGS, WINDOW_UPDATE, and what we do not know
                pass

    def _syn_stream(self, flags: int, payload: bytes, events: list[SpdyEvent]) -> None:
        if len(payload) < 10:
            raise PeerError("a SYN_STREAM that is too short")
        stream = struct.unpack_from(">I", payload)[0] & _ID
        headers = self._decoder.decode(payload[10:])  # in any case: the next block builds on this one
        if not self._is_theirs(stream) or stream <= self._last:
            raise PeerError(f"stream {stream} after {self._last}")
        self._last = stream
        if self._theirs >= self._limit:
            self._control(RST_STREAM, 0, struct.pack(">II", stream, REFUSED_STREAM))
            return
        self._streams[stream] = opened = _Stream()
        self._theirs += 1
        events.append(StreamOpened(stream, headers))
        if flags & _FIN:
            self._their_end(stream, opened, events)

    def _reply_or_headers(self, kind: int, flags: int, payload: bytes, events: list[SpdyEvent]) -> None:
        if len(payload) < 4:
            raise PeerError("a frame that is too short")
        stream = struct.unpack_from(">I", payload)[0] & _ID
        headers = self._decoder.decode(payload[4:])
        found = self._streams.get(stream)
        if found is None:
            return
        if kind == SYN_REPLY and not self._is_theirs(stream):
            events.append(StreamReplied(stream, headers))
        if flags & _FIN:
            self._their_end(stream, found, events)

    def _their_end(self, stream: int, found: _Stream, events: list[SpdyEvent]) -> None:
        if not found.theirs_ended:
            found.theirs_ended = True
            events.append(StreamEnded(stream))
            self._over_if_ended(stream)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _is_theirs(self, number: int) -> bool:
        """A client's numbers are odd."""
        return bool(number) and number % 2 == (0 if self._client else 1)

    def _over_if_ended(self, stream: int) -> None:
        found = self._streams[stream]
        if found.ours_ended and found.theirs_ended:
            self._forget(stream)

    def _forget(self, stream: int) -> bool:
        if self._streams.pop(stream, None) is None:
            return False
        self._theirs -= self._is_theirs(stream)
        return True

    def _control(self, kind: int, flags: int, payload: bytes) -> None:
        self._out += struct.pack(">HHI", 0x8000 | _VERSION, kind, flags << 24 | len(payload)) + payload


def _exactly(payload: bytes, length: int) -> bytes:
    if len(payload) != length:
        raise PeerError(f"a frame of {len(payload)} bytes instead of {length}")
    return payload
