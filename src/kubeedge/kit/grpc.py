"""A gRPC client on a Unix socket: calls of one message, answers of one or many (grpc/grpc, doc/PROTOCOL-HTTP2.md).

Lives here:      connecting, time limits, messages and how a call ended.
Lives elsewhere: HTTP/2 (http2.py), what is in a message (kubeedge.api.protobuf).

Bounds: a message has at most MESSAGE bytes; an answer that is not read holds its stream back by HTTP/2's window; at most CALLS at once. A
connection that breaks fails its calls with UNAVAILABLE, and the next call connects again.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections import deque
from collections.abc import AsyncGenerator
from pathlib import Path
from urllib.parse import unquote

from kubeedge.errors import KubeEdgeError, PeerError
from kubeedge.kit.http2 import (
    HeadersReceived,
    Http2Client,
    Http2DataReceived,
    Http2Event,
    Http2StreamEnded,
    Http2StreamReset,
    Http2WentAway,
)
from kubeedge.kit.streams import abort_writer

MESSAGE = 16 * 1024 * 1024  # bytes; what the kubelet takes, too
CALLS = 256  # at the same time on one connection
CONNECT = 5.0  # seconds
_CHUNK = 64 * 1024
_PREFIX = struct.Struct("!BI")
_SAID = (":status", "grpc-status", "grpc-message")
OK, UNKNOWN, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND, ALREADY_EXISTS = 0, 2, 3, 4, 5, 6
RESOURCE_EXHAUSTED, FAILED_PRECONDITION, UNIMPLEMENTED, INTERNAL, UNAVAILABLE = 8, 9, 12, 13, 14


class GrpcError(KubeEdgeError):
    """A call that did not end with OK. `code` is gRPC's, `message` the server's own words or ours."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message or f"gRPC status {code}")
        self.code = code


class _Call:
    def __init__(self) -> None:
        self.messages: deque[bytes] = deque()
        self.changed = asyncio.Event()
        self.error: GrpcError | None = None
        self.over = False
        self.trailers: dict[str, str] = {}  # the few that say how it ended: a server may send headers without end
        self.owed = 0  # bytes behind a message that was not read: the server waits for their room
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Raises PeerError for what is no plain message, or too large."""
        self._buffer += data
        while len(self._buffer) >= _PREFIX.size:
            compressed, length = _PREFIX.unpack_from(self._buffer)
            if compressed or length > MESSAGE:
                raise PeerError(f"a message that is compressed, or larger than {MESSAGE} bytes")
            end = _PREFIX.size + length
            if len(self._buffer) < end:
                return
            self.messages.append(bytes(self._buffer[_PREFIX.size : end]))
            del self._buffer[:end]
            self.changed.set()

    def end(self, error: GrpcError | None = None) -> None:
        if not self.over:
            self.over, self.error = True, error or self._ended()
            self.changed.set()

    def _ended(self) -> GrpcError | None:
        code = self.trailers.get("grpc-status", "")
        if not code.isascii() or not code.isdigit() or len(code) > 4:
            status = self.trailers.get(":status", "none")[:16]
            return GrpcError(UNAVAILABLE, f"the server does not speak gRPC (HTTP status {status})")
        if int(code) != OK:
            return GrpcError(int(code), unquote(self.trailers.get("grpc-message", ""))[:4096])
        return GrpcError(INTERNAL, "an answer that is broken off") if self._buffer else None


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer
        self.http = Http2Client()
        self.calls: dict[int, _Call] = {}
        self.usable = True
        self.reading = asyncio.create_task(self._read(), name="gRPC answers")

    def flush(self) -> None:
        if data := self.http.data_to_send():
            self.writer.write(data)

    async def _read(self) -> None:
        problem = "the connection has ended"
        try:
            while data := await self._reader.read(_CHUNK):
                for event in self.http.receive_data(data):
                    self._take(event)
                self.flush()
                await self.writer.drain()
        except (OSError, PeerError) as exc:
            problem = str(exc)
        finally:
            self.usable = False
            for call in self.calls.values():
                call.end(GrpcError(UNAVAILABLE, problem))
            self.calls.clear()
            abort_writer(self.writer)

    def _take(self, event: Http2Event) -> None:
        if isinstance(event, Http2WentAway):
            self.usable = False
            return
        call = self.calls.get(event.stream)
        if call is None:
            if isinstance(event, Http2DataReceived):
                self.http.taken(event.stream, len(event.data))
            return
        match event:
            case HeadersReceived(_, headers):
                call.trailers.update(pair for pair in headers if pair[0] in _SAID)
            case Http2DataReceived(stream, data):
                try:
                    call.feed(data)
                except PeerError as exc:
                    self.http.reset(stream)
                    self._over(stream, GrpcError(RESOURCE_EXHAUSTED, str(exc)))
                call.owed += len(data)
                if not call.messages:
                    self.give_back(stream, call)
            case Http2StreamEnded(stream):
                self._over(stream, None)
            case Http2StreamReset(stream, code):
                self._over(stream, GrpcError(UNAVAILABLE, f"the server broke the call off (HTTP/2 code {code})"))

    def give_back(self, stream: int, call: _Call) -> None:
        self.http.taken(stream, call.owed)
        call.owed = 0
        if self.usable:
            self.flush()

    def _over(self, stream: int, error: GrpcError | None) -> None:
        self.calls.pop(stream).end(error)

    def forget(self, stream: int) -> None:
        if self.calls.pop(stream, None) is not None and self.usable:
            self.http.reset(stream)
            self.flush()


class GrpcChannel:
    """One connection, made by the first call that needs it."""

    def __init__(self, socket: Path, *, agent: str = "kubeedge") -> None:
        self._socket, self._agent = socket, agent
        self._connection: _Connection | None = None
        self._connecting = asyncio.Lock()

    async def call(self, method: str, message: bytes, timeout: float) -> bytes:
        """`method` as /package.Service/Method; `timeout` in seconds, also told to the server. Raises GrpcError."""
        try:
            async with (
                asyncio.timeout(timeout),
                contextlib.aclosing(self._answers(method, message, timeout)) as answers,
            ):
                found: bytes | None = None
                async for answer in answers:
                    if found is not None:
                        raise GrpcError(INTERNAL, "two answers to one call")
                    found = answer
        except TimeoutError as exc:
            raise GrpcError(DEADLINE_EXCEEDED, f"no answer to {method} within {timeout:g} s") from exc
        if found is None:
            raise GrpcError(INTERNAL, f"no answer to {method}")
        return found

    def stream(self, method: str, message: bytes) -> AsyncGenerator[bytes, None]:
        """Answers as they come, without a time limit. Raises GrpcError. aclose() gives the call up."""
        return self._answers(method, message, None)

    async def close(self) -> None:
        """Ends the connection; every call that is under way raises GrpcError."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.reading.cancel()
            await asyncio.gather(connection.reading, return_exceptions=True)

    async def _answers(self, method: str, message: bytes, timeout: float | None) -> AsyncGenerator[bytes, None]:
        connection = await self._connected()
        if len(connection.calls) >= CALLS:
            raise GrpcError(RESOURCE_EXHAUSTED, f"{CALLS} calls at once")
        headers = [
            (":method", "POST"), (":scheme", "http"), (":path", method), (":authority", "localhost"),
            ("content-type", "application/grpc"), ("te", "trailers"), ("user-agent", self._agent),
        ]  # fmt: skip
        if timeout is not None:
            headers.append(("grpc-timeout", f"{min(99_999_999, max(1, int(timeout * 1000)))}m"))
        stream = connection.http.request(headers, _PREFIX.pack(0, len(message)) + message)
        call = connection.calls[stream] = _Call()
        try:
            connection.flush()
            while True:
                while call.messages:
                    message = call.messages.popleft()
                    if not call.messages:
                        connection.give_back(stream, call)
                    yield message
                if call.over:
                    break
                call.changed.clear()
                await call.changed.wait()
            if call.error is not None:
                raise call.error
        finally:
            connection.give_back(stream, call)
            connection.forget(stream)

    async def _connected(self) -> _Connection:
        async with self._connecting:
            connection = self._connection
            if connection is None or not connection.usable:
                try:
                    async with asyncio.timeout(CONNECT):
                        pair = await asyncio.open_unix_connection(str(self._socket))
                except OSError as exc:  # TimeoutError is one
                    raise GrpcError(UNAVAILABLE, f"{self._socket}: {exc.strerror or exc or 'no answer'}") from exc
                connection = self._connection = _Connection(*pair)
            return connection
