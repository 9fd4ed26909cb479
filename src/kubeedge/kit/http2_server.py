"""The server's end of an HTTP/2 connection without TLS (RFC 9113), with as much of it as gRPC needs. Pure.

Bounds: STREAMS requests at once, of which a client may give up RESETS more than it lets us answer; what they may send is bounded by the windows
of http2.py.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from kubeedge.errors import PeerError
from kubeedge.kit.http2 import (
    END_STREAM,
    PREFACE,
    RST_STREAM,
    Http2Connection,
    Http2Event,
    Http2Stream,
    Http2StreamReset,
    frame,
    header_frames,
)

STREAMS = 100  # that a client may have open; it is told
RESETS = 200
_MAX_CONCURRENT_STREAMS = 3
_REFUSED_STREAM = 7


class Http2Server(Http2Connection):
    """The end that answers: each request is to be answered, or reset."""

    def __init__(self) -> None:
        super().__init__(b"", [(_MAX_CONCURRENT_STREAMS, STREAMS)])
        self._greeting = PREFACE  # what of it has not come yet
        self._resets = 0

    @property
    def unsent(self) -> int:
        """Bytes of answers that wait for the client's windows."""
        return sum(len(found.unsent) for found in self._streams.values())

    def receive_data(self, data: bytes) -> list[Http2Event]:
        """Raises PeerError when the connection cannot go on."""
        if self._greeting:
            size = min(len(data), len(self._greeting))
            if data[:size] != self._greeting[:size]:
                self._broken = True
                raise PeerError("the client does not speak HTTP/2 without TLS")
            self._greeting, data = self._greeting[size:], data[size:]
        events = super().receive_data(data)
        self._resets += sum(isinstance(event, Http2StreamReset) for event in events)
        if self._resets > RESETS:
            self._broken = True
            raise PeerError(f"the client has given up {RESETS} requests more than it let us answer")
        return events

    def respond(
        self, stream: int, headers: Iterable[tuple[str, str]], body: bytes, trailers: Iterable[tuple[str, str]]
    ) -> None:
        """The whole answer; without effect once the client has given the request up."""
        found = self._streams.get(stream)
        if found is None or found.trailers:
            return
        self._resets = max(0, self._resets - 1)
        self._out += header_frames(stream, headers)
        found.unsent += body
        found.trailers = header_frames(stream, trailers, END_STREAM)
        self._send(stream)

    def _opened(self, stream: int, is_last: bool) -> None:
        if stream < self._next:
            if not stream % 2 or not is_last:  # trailers of a request end it
                raise PeerError(f"headers of stream {stream}, which has begun already")
            found = self._streams.get(stream)
            if found is not None and found.received:
                raise PeerError(f"headers of stream {stream} behind its end")
            return
        if not stream % 2:
            raise PeerError(f"a request on stream {stream}, which is not the client's")
        self._next = stream + 1
        if len(self._streams) < STREAMS:
            self._streams[stream] = Http2Stream(self._initial_room)
        else:
            self._out += frame(RST_STREAM, 0, stream, struct.pack("!I", _REFUSED_STREAM))

    def _moved_on(self, stream: int, found: Http2Stream) -> None:
        if not found.sent:
            return
        del self._streams[stream]
        if not found.received:  # the answer is complete: the client need not send the rest
            self._out += frame(RST_STREAM, 0, stream, struct.pack("!I", 0))
