"""HTTP/2 without TLS (RFC 9113): the frames, and the client's end of a connection with as much of it as gRPC needs. Pure.

Lives elsewhere: the server's end (http2_server.py).

    frame       u24 length, u8 type, u8 flags, u32 stream, payload

Requests of one message each, answers of any length, several at the same time. Windows: the peer may send WINDOW bytes of a stream that
nobody has taken yet, and CONNECTION_WINDOW of all together; what was taken is given back. What we send waits for the peer's windows.

A frame has at most FRAME bytes, which we announce and is the default; a block of headers BLOCK_BYTES of hpack.py in at most CONTINUATIONS frames.
"""

from __future__ import annotations

import abc
import struct
from collections.abc import Iterable
from typing import TypeAlias

from kubeedge.errors import PeerError
from kubeedge.kit import hpack
from kubeedge.kit.dataclasses import dataclass, field
from kubeedge.kit.headers import HeaderList

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 5, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
FRAME = 16384  # bytes
WINDOW = 256 * 1024
CONNECTION_WINDOW = 1024 * 1024
CONTINUATIONS = 8
_DEFAULT_WINDOW = 65535
_MOST = (1 << 31) - 1
_HEAD = struct.Struct("!BHBBI")
_ENABLE_PUSH, INITIAL_WINDOW_SIZE, _MAX_FRAME_SIZE = 2, 4, 5
NO_ERROR, PROTOCOL_ERROR, FLOW_CONTROL_ERROR, CANCEL = 0, 1, 3, 8


@dataclass(frozen=True, slots=True)
class HeadersReceived:
    """The head of a request or an answer, or its trailers."""

    stream: int
    headers: HeaderList


@dataclass(frozen=True, slots=True)
class Http2DataReceived:
    """A piece of a body, not empty. taken() gives its room back."""

    stream: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Http2StreamEnded:
    """The request or the answer is complete."""

    stream: int


@dataclass(frozen=True, slots=True)
class Http2StreamReset:
    """The peer ended the stream early; `code` is an error code of RFC 9113 section 7."""

    stream: int
    code: int


@dataclass(frozen=True, slots=True)
class Http2WentAway:
    """The peer takes no further requests on this connection; those up to `last` go on."""

    last: int
    code: int


Http2Event: TypeAlias = HeadersReceived | Http2DataReceived | Http2StreamEnded | Http2StreamReset | Http2WentAway


@dataclass(slots=True)
class Http2Stream:
    """One request and its answer, on either end."""

    room: int  # that the peer has left us
    unsent: bytearray = field(default_factory=bytearray)
    trailers: bytes = b""  # frames that end what we send; without them the last frame of data does
    sent: bool = False  # nothing more is to be sent
    received: bool = False  # nothing more may come
    owed: int = 0  # bytes that were taken, and not given back yet
    window: int = WINDOW  # that it may still use


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """One frame as bytes (RFC 9113 section 4.1)."""
    return _HEAD.pack(len(payload) >> 16, len(payload) & 0xFFFF, kind, flags, stream) + payload


def head(data: bytes | bytearray) -> tuple[int, int, int, int]:
    """Length, type, flags and stream, of 9 bytes. Raises PeerError for a frame that is too long, or none at all."""
    high, low, kind, flags, stream = _HEAD.unpack(data)
    if (length := high << 16 | low) > FRAME:
        raise PeerError("the server does not speak HTTP/2 without TLS")
    return length, kind, flags, stream & _MOST


def unpadded(flags: int, payload: bytes) -> bytes:
    """The payload without its padding. Raises PeerError."""
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise PeerError("a frame is all padding")
    return payload[1 : len(payload) - payload[0]]


def header_frames(stream: int, headers: Iterable[tuple[str, str]], flags: int = 0) -> bytes:
    """HEADERS, and CONTINUATION where one frame is not enough. `flags`: END_STREAM, or none."""
    block = hpack.encode(headers)
    pieces = [block[at : at + FRAME] for at in range(0, len(block), FRAME)]
    out = bytearray()
    for n, piece in enumerate(pieces):
        end = END_HEADERS if n == len(pieces) - 1 else 0
        out += frame(CONTINUATION if n else HEADERS, end | (0 if n else flags), stream, piece)
    return bytes(out)


class Http2Connection(abc.ABC):
    """What both ends have in common. What it has to say comes from data_to_send()."""

    def __init__(self, greeting: bytes, settings: Iterable[tuple[int, int]]) -> None:
        more = struct.pack("!I", CONNECTION_WINDOW - _DEFAULT_WINDOW)
        announced = ((INITIAL_WINDOW_SIZE, WINDOW), (_MAX_FRAME_SIZE, FRAME), *settings)
        self._out = bytearray(
            greeting
            + frame(SETTINGS, payload=b"".join(struct.pack("!HI", *pair) for pair in announced))
            + frame(WINDOW_UPDATE, payload=more)
        )
        self._in = bytearray()
        self._decoder = hpack.HpackDecoder()
        self._streams: dict[int, Http2Stream] = {}
        self._next = 1  # the first stream that neither end has named yet
        self._room, self._initial_room, self._frame = _DEFAULT_WINDOW, _DEFAULT_WINDOW, FRAME
        self._window, self._owed = CONNECTION_WINDOW, 0
        self._block: tuple[int, int, bytearray, int] | None = None  # stream, flags, what came, frames
        self._broken = False
        self._more_room = False  # since the last look at what waits to be sent

    @property
    def streams(self) -> int:
        """The number of requests that are not over."""
        return len(self._streams)

    def data_to_send(self) -> bytes:
        """Everything since the last call."""
        data = bytes(self._out)
        self._out.clear()
        return data

    # -- what we say ---------------------------------------------------------------------------------------------------

    def reset(self, stream: int, code: int = CANCEL) -> None:
        """We are done with this stream. Idempotent."""
        if self._streams.pop(stream, None) is not None:
            self._out += frame(RST_STREAM, 0, stream, struct.pack("!I", code))

    def taken(self, stream: int, size: int) -> None:
        """So many bytes of a body do not wait any more."""
        self._owed += size
        if self._owed >= CONNECTION_WINDOW // 2:
            self._out += frame(WINDOW_UPDATE, payload=struct.pack("!I", self._owed))
            self._window, self._owed = self._window + self._owed, 0
        found = self._streams.get(stream)
        if found is not None:
            found.owed += size
            if found.owed >= WINDOW // 2:
                self._out += frame(WINDOW_UPDATE, 0, stream, struct.pack("!I", found.owed))
                found.window, found.owed = found.window + found.owed, 0

    def _send(self, stream: int) -> None:
        """Send as much as the peer's windows allow."""
        found = self._streams[stream]
        while not found.sent:
            size = max(
                0, min(len(found.unsent), found.room, self._room, self._frame)
            )  # a window may be less than nothing
            is_last = size == len(found.unsent)
            if not size and not is_last:
                return
            piece = bytes(found.unsent[:size])
            del found.unsent[:size]
            found.room, self._room = found.room - size, self._room - size
            if piece or not found.trailers:
                self._out += frame(DATA, END_STREAM if is_last and not found.trailers else 0, stream, piece)
            if is_last:
                self._out += found.trailers
                found.sent = True
                self._moved_on(stream, found)

    @abc.abstractmethod
    def _moved_on(self, stream: int, found: Http2Stream) -> None:
        """One direction of the stream has ended."""

    # -- what the peer says ------------------------------------------------------------------------------------------

    def receive_data(self, data: bytes) -> list[Http2Event]:
        """Raises PeerError when the connection cannot go on."""
        if self._broken:
            raise PeerError("the connection of HTTP/2 is broken already")
        self._in += data
        events: list[Http2Event] = []
        try:
            while len(self._in) >= _HEAD.size:
                length, kind, flags, stream = head(self._in[: _HEAD.size])
                end = _HEAD.size + length
                if len(self._in) < end:
                    break
                payload = bytes(self._in[_HEAD.size : end])
                del self._in[:end]
                self._received(kind, flags, stream, payload, events)
        except PeerError:
            self._broken = True
            self._out += frame(GOAWAY, payload=struct.pack("!II", 0, PROTOCOL_ERROR))
            raise
        if self._more_room:  # once, however many frames have said so
            self._more_room = False
            self._send_all()
        return events

    def _received(self, kind: int, flags: int, stream: int, payload: bytes, events: list[Http2Event]) -> None:
        if (self._block is not None) != (kind == CONTINUATION):
            raise PeerError("a block of headers is broken off, or goes on without a begin")
        match kind:
            case 0:
                self._received_data(flags, stream, payload, events)
            case 1:
                fragment = unpadded(flags, payload)
                if flags & PRIORITY:
                    fragment = fragment[5:]
                self._fragment(stream, flags, fragment, events)
            case 9:
                self._fragment(stream, flags, payload, events)
            case 3:
                (code,) = struct.unpack("!I", _exactly(payload, 4))
                if self._streams.pop(stream, None) is not None:
                    events.append(Http2StreamReset(stream, code))
            case 4 if not flags & ACK:
                self._settings(payload)
            case 5:
                raise PeerError("a push, which we have forbidden")
            case 6 if not flags & ACK:
                self._out += frame(PING, ACK, payload=_exactly(payload, 8))
            case 7:
                if len(payload) < 8:
                    raise PeerError("a GOAWAY that is too short")
                last, code = struct.unpack_from("!II", payload)
                events.append(Http2WentAway(last & _MOST, code))
            case 8:
                self._window_update(stream, struct.unpack("!I", _exactly(payload, 4))[0] & _MOST)
            case _:  # PRIORITY, acknowledgements, and what we do not know
                pass

    def _received_data(self, flags: int, stream: int, payload: bytes, events: list[Http2Event]) -> None:
        self._window -= len(payload)
        found = self._streams.get(stream)
        if found is not None:
            found.window -= len(payload)
        if self._window < 0 or (found is not None and found.window < 0):
            raise PeerError("more data than the window has room for")
        data = unpadded(flags, payload)
        if found is None:
            if not stream or stream >= self._next:
                raise PeerError(f"data of stream {stream}, which is not open")
            self.taken(stream, len(payload))  # of one that we have given up
            return
        if found.received:
            raise PeerError(f"data of stream {stream} behind its end")
        self.taken(stream, len(payload) - len(data))
        if data:
            events.append(Http2DataReceived(stream, data))
        if flags & END_STREAM:
            self._ended(stream, found, events)

    def _ended(self, stream: int, found: Http2Stream, events: list[Http2Event]) -> None:
        found.received = True
        events.append(Http2StreamEnded(stream))
        self._moved_on(stream, found)

    @abc.abstractmethod
    def _opened(self, stream: int, is_last: bool) -> None:
        """Headers begin on this stream. Raises PeerError where none may be."""

    def _fragment(self, stream: int, flags: int, fragment: bytes, events: list[Http2Event]) -> None:
        if self._block is None:
            self._opened(stream, bool(flags & END_STREAM))
            self._block = stream, flags, bytearray(fragment), 1
        else:
            first, begun, block, frames = self._block
            if first != stream or frames >= CONTINUATIONS:
                raise PeerError("a block of headers goes on in another stream, or without an end")
            self._block = first, begun | flags & END_HEADERS, block + fragment, frames + 1
        stream, flags, block, _ = self._block
        if not flags & END_HEADERS:
            return
        self._block = None
        headers = self._decoder.decode(bytes(block))  # in any case: the next block builds on this one
        found = self._streams.get(stream)
        if found is None:
            return
        events.append(HeadersReceived(stream, headers))
        if flags & END_STREAM:
            self._ended(stream, found, events)

    def _settings(self, payload: bytes) -> None:
        if len(payload) % 6:
            raise PeerError("settings that are none")
        for at in range(0, len(payload), 6):
            name, value = struct.unpack_from("!HI", payload, at)
            if name == INITIAL_WINDOW_SIZE:
                if value > _MOST:
                    raise PeerError(f"a window of {value} bytes")
                for found in self._streams.values():
                    if not found.sent:
                        found.room += value - self._initial_room
                self._initial_room = value
            elif name == _MAX_FRAME_SIZE and value < FRAME:
                raise PeerError(f"frames of {value} bytes at most")
        self._out += frame(SETTINGS, ACK)
        self._more_room = True

    def _window_update(self, stream: int, size: int) -> None:
        found = self._streams.get(stream)
        if not stream:
            self._room += size
        elif found is not None and not found.sent:
            found.room += size
        if self._room > _MOST or (found is not None and found.room > _MOST):
            raise PeerError("a window without an end")
        self._more_room = True

    def _send_all(self) -> None:
        for stream, found in list(self._streams.items()):
            if found.unsent:
                self._send(stream)


class Http2Client(Http2Connection):
    """The end that asks, and is answered."""

    def __init__(self) -> None:
        super().__init__(PREFACE, [(_ENABLE_PUSH, 0)])

    def request(self, headers: Iterable[tuple[str, str]], body: bytes) -> int:
        """Pseudo-header fields come first; the number of its stream."""
        stream, self._next = self._next, self._next + 2
        self._streams[stream] = Http2Stream(self._initial_room, bytearray(body))
        self._out += header_frames(stream, headers)
        self._send(stream)
        return stream

    def _opened(self, stream: int, is_last: bool) -> None:
        if not stream % 2 or stream >= self._next:
            raise PeerError(f"headers of stream {stream}, which is not open")

    def _moved_on(self, stream: int, found: Http2Stream) -> None:
        if found.received:  # whatever of the request was not sent yet: nobody waits for it
            del self._streams[stream]


def _exactly(payload: bytes, length: int) -> bytes:
    if len(payload) != length:
        raise PeerError(f"a frame of {len(payload)} bytes instead of {length}")
    return payload
