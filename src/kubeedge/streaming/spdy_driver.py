"""A connection of SPDY/3.1 over a byte stream, at either end. All decisions on frames are spdy.py's.

What streams have received and was not read yet is bounded for the whole connection: above UNREAD bytes nothing more is read from the byte stream, and
the other end has to wait. It cannot be told to hold a single stream back (spdy.py, Windows). A stream counts until its user has forgotten it, also when
the client has reset it: who opens and resets without end (CVE-2023-44487) is refused. Of its headers only those that are used are kept.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping

from kubeedge.kit.tasks import first_of
from kubeedge.streaming.byte_stream import ByteStream, cost
from kubeedge.streaming.spdy import (
    REFUSED_STREAM,
    STREAMS,
    DataReceived,
    Spdy,
    SpdyEvent,
    StreamEnded,
    StreamOpened,
    StreamReset,
)

UNREAD = 256 * 1024  # bytes of all streams of a connection
_FRAME = 32 * 1024  # bytes of data in one frame of ours
_HEADERS = ("streamtype", "port", "requestid")
_HEADER = 256  # characters of each


class SpdyStream:
    """One stream; "the client" is the other end."""

    def __init__(self, session: SpdySession, number: int, headers: Mapping[str, str]) -> None:
        self._session, self.number, self.headers = session, number, headers
        self._pieces: deque[bytes] = deque()
        self._changed = asyncio.Event()
        self._ended = False
        self.was_reset = False  # also: the connection is gone

    async def read(self) -> bytes:
        """What the client sent next; b"" when it has ended its direction, or the stream, or the connection."""
        while not self._pieces:
            if self._ended:
                return b""
            self._changed.clear()
            await self._changed.wait()
        piece = self._pieces.popleft()
        self._session.taken(cost(piece))
        return piece

    async def write(self, data: bytes) -> None:
        """Waits while the client does not read. Raises OSError, also when the client has reset the stream."""
        for at in range(0, len(data), _FRAME):
            if self.was_reset:
                raise ConnectionResetError("the client does not want the stream any more")
            self._session.core.send(self.number, data[at : at + _FRAME])
            await self._session.flush()

    async def end(self) -> None:
        """Nothing more comes from us."""
        self._session.core.end(self.number)
        await self._session.flush()

    def received(self, data: bytes) -> None:
        """The session has received data for this stream."""
        self._pieces.append(data)
        self._changed.set()

    def ended(self) -> None:
        """Called by the session: nothing more comes."""
        self._ended = True
        self._changed.set()

    def lost(self) -> None:
        """For the session: the connection is gone; what came before can still be read."""
        self.was_reset = True
        self.ended()

    def over(self) -> None:
        """Called by the session: what was not read is dropped."""
        self._session.taken(sum(map(cost, self._pieces)))
        self._pieces.clear()
        self.was_reset = True
        self.ended()


class SpdySession:
    """The streams of one connection. `opened` hears of each new one, and has accepted it when it returns without reset()."""

    def __init__(
        self,
        byte_stream: ByteStream,
        opened: Callable[[SpdyStream], None],
        *,
        streams: int = STREAMS,
        client: bool = False,
    ) -> None:
        self.core = Spdy(streams=streams, client=client)
        self._most = streams
        self._byte_stream, self._opened, self._is_client = byte_stream, opened, client
        self._streams: dict[int, SpdyStream] = {}
        self._unread = 0
        self._room = asyncio.Event()

    async def run(self) -> None:
        """Serve the session until the client ends the connection. Raises OSError or PeerError."""
        try:
            while data := await self._byte_stream.read():
                try:
                    for event in self.core.receive_data(data):
                        self._take(event)
                finally:
                    await self.flush()
                if self._unread > UNREAD and not await self._wait_for_room():
                    return
        finally:
            for stream in self._streams.values():
                self._over(stream)

    async def open(self, headers: Mapping[str, str]) -> SpdyStream:
        """A stream of ours. It does not wait for the other end to accept it. Raises OSError."""
        number = self.core.open(headers)
        stream = self._streams[number] = SpdyStream(self, number, headers)
        await self.flush()
        return stream

    async def flush(self) -> None:
        """Everything that the core has to say. Raises OSError."""
        if data := self.core.data_to_send():
            self._byte_stream.write(data)
        await self._byte_stream.drain()

    def taken(self, size: int) -> None:
        """For the streams: so many bytes do not wait any more."""
        self._unread -= size
        if self._unread <= UNREAD:
            self._room.set()

    async def _wait_for_room(self) -> bool:
        """Whether the connection is still there then."""
        self._room.clear()
        await first_of(self._room.wait(), self._byte_stream.lost())
        return self._unread <= UNREAD

    def _take(self, event: SpdyEvent) -> None:
        match event:
            case StreamOpened(number, headers):
                if len(self._streams) >= self._most:
                    self.core.reset(number, REFUSED_STREAM)
                    return
                kept = {name: headers[name][:_HEADER] for name in _HEADERS if name in headers}
                stream = self._streams[number] = SpdyStream(self, number, kept)
                self.core.reply(number)
                self._opened(stream)
            case DataReceived(number, data):
                if (found := self._streams.get(number)) is not None:
                    self._unread += cost(data)
                    found.received(data)
            case StreamEnded(number):
                if (found := self._streams.get(number)) is not None:
                    found.ended()
            case StreamReset(number, _):
                if (found := self._streams.get(number)) is not None:
                    self._over(found)
            case _:
                pass

    def _over(self, stream: SpdyStream) -> None:
        if self._is_client:  # Go's server says how it ended and resets everything at once: the word still counts
            stream.lost()
        else:
            stream.over()

    def forget(self, stream: SpdyStream) -> None:
        """It is not used any more; a direction that has not ended is reset, of which the client hears with the next flush."""
        stream.over()
        self.core.reset(stream.number)
        self._streams.pop(stream.number, None)
