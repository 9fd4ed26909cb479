"""What a proxy between a client and a node has to say when the node falls silent in the middle of exec or attach over SPDY. Pure.

A client of SPDY takes the end of the connection without a Status for success: `kubectl exec` would end with 0 though the node was cut off. So
who passes the bytes on looks for the client's stream "error" (in the first frames), keeps whole frames together on the way to the client, and puts a
Status behind the last one. WebSocket needs nothing of that: a connection that ends without a close frame has failed.
"""

from __future__ import annotations

import struct

from kubeedge.errors import PeerError
from kubeedge.streaming.spdy import Spdy, StreamOpened
from kubeedge.streaming.status import encoded_status, failed, told_as_text

_HELD = (
    64 * 1024
)  # bytes of a frame that are held until it is whole; a larger one passes, and there are no last words then
_LOOKED_AT = 64 * 1024  # bytes of the client in which its stream is looked for


class LastWords:
    """The end of one session. `structured`: the client speaks v4.channel.k8s.io."""

    def __init__(self, *, structured: bool) -> None:
        self._structured = structured
        self._client: Spdy | None = Spdy()  # until the stream is found
        self._seen = 0
        self._error = 0  # number of the stream
        self._told = False  # the node has told how it ended
        self._held = bytearray()  # of the node: the beginning of a frame
        self._passing = 0  # bytes of a large frame that are still to come

    def from_client(self, data: bytes) -> None:
        """What passes from the client to the node."""
        if self._client is None:
            return
        self._seen += len(data)
        try:
            for event in self._client.receive_data(data):
                if isinstance(event, StreamOpened) and event.headers.get("streamtype") == "error":
                    self._error = event.stream
        except PeerError:
            self._client = None  # the node will say so
        if self._error or self._seen > _LOOKED_AT:
            self._client = None

    def from_node(self, data: bytes) -> bytes:
        """What of it may pass to the client now."""
        passed = bytearray()
        rest = memoryview(data)
        while rest:
            if self._passing:
                piece = rest[: self._passing]
                self._passing -= len(piece)
                passed += piece
            else:
                piece = rest[: self._missing()]
                self._held += piece
                self._pass_on(passed)
            rest = rest[len(piece) :]
        return bytes(passed)

    def _missing(self) -> int:
        """Bytes until the frame that is held is whole, or its head."""
        return (8 if len(self._held) < 8 else 8 + self._length()) - len(self._held)

    def _length(self) -> int:
        return int.from_bytes(self._held[5:8], "big")

    def _pass_on(self, passed: bytearray) -> None:
        if len(self._held) < 8:
            return
        if self._error and self._held[:4] == struct.pack(">I", self._error) and self._length():
            self._told = True
        length = 8 + self._length()
        if length > _HELD:
            self._passing = length - len(self._held)
        elif len(self._held) < length:
            return
        passed += self._held
        self._held.clear()

    def at_the_end(self, message: str) -> bytes:
        """For the client, when nothing more comes from the node; b"" when it has heard how it ended, or cannot be told."""
        if self._told or not self._error or self._passing:
            return b""
        status = failed(message)
        said = encoded_status(status) if self._structured else told_as_text(status)
        self._told = True
        return struct.pack(">II", self._error, 1 << 24 | len(said)) + said
