"""A gRPC server on Unix sockets, for unary calls: one message and one answer (grpc/grpc, doc/PROTOCOL-HTTP2.md).

Lives here:      connections, their bounds, messages and how a call ended.
Lives elsewhere: HTTP/2 (http2_server.py), what is in a message (kubeedge.api.protobuf), who may open the socket (the mode of its file).

Bounds: a request has at most REQUEST bytes, all that have not been answered HELD together, a connection 100 calls at once, the server
CONNECTIONS, of which the one that has been idle longest gives way. A connection without a call ends after IDLE seconds. A request that has not
come as a whole is no call.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote

from kubeedge.errors import Misuse, PeerError
from kubeedge.kit.grpc import INTERNAL, INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNIMPLEMENTED, GrpcError
from kubeedge.kit.http2 import (
    HeadersReceived,
    Http2DataReceived,
    Http2Event,
    Http2StreamEnded,
    Http2StreamReset,
)
from kubeedge.kit.http2_server import Http2Server
from kubeedge.kit.streams import abort_writer, unix_listener
from kubeedge.kit.tasks import TaskSet

#: gets the method as /package.Service/Method and the message, and returns the answer. Raises GrpcError
GrpcHandler: TypeAlias = Callable[[str, bytes], Awaitable[bytes]]
#: gets the message of its method. Raises GrpcError
GrpcMethod: TypeAlias = Callable[[bytes], Awaitable[bytes]]

REQUEST = 1024 * 1024  # bytes
HELD = 8 * 1024 * 1024
CONNECTIONS = 64
IDLE = 300.0  # seconds
_CHUNK = 64 * 1024
_SMALL = 4 * 1024  # bytes of an answer that is made whatever waits to be sent
_METHOD = 256  # characters of a method's path that are kept
_PREFIX = struct.Struct("!BI")
_HEAD = ((":status", "200"), ("content-type", "application/grpc"))
_WORDS = 1000  # characters of what an error says


class _Request:
    def __init__(self, method: str) -> None:
        self.method = method
        self.body = bytearray()
        self.task: asyncio.Task[None] | None = None


class _ServedConnection:
    def __init__(self, server: GrpcServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests: dict[int, _Request] = {}
        self.idle_since = asyncio.get_running_loop().time()
        self.writer = writer
        self._server, self._reader = server, reader
        self._http = Http2Server()

    async def serve(self) -> None:
        try:
            while (
                data := await self._read()
            ):  # our greeting goes out with the first answer: mappers make a connection for each call
                for event in self._http.receive_data(data):
                    self._take(event)
                self._flush()
                await self.writer.drain()
        except (OSError, PeerError):
            with contextlib.suppress(OSError):
                self._flush()
        finally:
            for stream in list(self.requests):
                self._forget(stream)
            abort_writer(self.writer)

    async def _read(self) -> bytes:
        """b"" at the end, and when it has been idle for too long."""
        while True:
            try:
                async with asyncio.timeout(IDLE):
                    return await self._reader.read(_CHUNK)
            except TimeoutError:
                if not self.has_calls:
                    return b""

    @property
    def has_calls(self) -> bool:
        """A call is being answered."""
        return any(request.task is not None for request in self.requests.values())

    @property
    def unsent(self) -> int:
        """Bytes of answers that the client has not read."""
        return self._http.unsent + self.writer.transport.get_write_buffer_size()

    def _flush(self) -> None:
        if data := self._http.data_to_send():
            self.writer.write(data)

    def _take(self, event: Http2Event) -> None:
        match event:
            case HeadersReceived(stream, headers):
                if stream not in self.requests:
                    self.requests[stream] = _Request(dict(headers).get(":path", "")[:_METHOD])
            case Http2DataReceived(stream, data):
                self._http.taken(stream, len(data))
                if (request := self.requests.get(stream)) is not None:
                    self._grow(stream, request, data)
            case Http2StreamEnded(stream):
                if (request := self.requests.get(stream)) is not None:
                    request.task = self._server.tasks.start(self._answer(stream, request), "gRPC call")
            case Http2StreamReset(stream):
                self._forget(stream)

    def _grow(self, stream: int, request: _Request, data: bytes) -> None:
        if len(request.body) + len(data) > REQUEST + _PREFIX.size or self._server.held + len(data) > HELD:
            self._respond(
                stream,
                b"",
                GrpcError(RESOURCE_EXHAUSTED, f"a request of more than {REQUEST} bytes, or too many at once"),
            )
            return
        request.body += data
        self._server.held += len(data)

    async def _answer(self, stream: int, request: _Request) -> None:
        try:
            body = request.body
            if len(body) < _PREFIX.size or _PREFIX.unpack_from(body) != (0, len(body) - _PREFIX.size):
                raise GrpcError(INVALID_ARGUMENT, "the request is compressed, or is not a single message")
            answer, error = await self._server.handler(request.method, bytes(body[_PREFIX.size :])), None
        except GrpcError as exc:
            answer, error = b"", exc
        except Exception:
            self._respond(stream, b"", GrpcError(INTERNAL, "the call failed; the agent's log says why"))
            raise
        self._respond(stream, answer, error)

    def _respond(self, stream: int, answer: bytes, error: GrpcError | None) -> None:
        if stream not in self.requests:
            return
        status, text = (error.code, quote(str(error)[:_WORDS], safe=" !#$&'()*+,/:;<=>?@[]{}")) if error else (0, "")
        trailers = [("grpc-status", str(status)), *([("grpc-message", text)] if text else [])]
        body = b"" if error else _PREFIX.pack(0, len(answer)) + answer
        if len(answer) > _SMALL and self._server.unsent() + len(answer) > HELD:
            error, body = GrpcError(RESOURCE_EXHAUSTED, "the client does not read its answers"), b""
            trailers = [("grpc-status", str(error.code)), ("grpc-message", str(error))]
        self._http.respond(stream, _HEAD, body, trailers)
        self._forget(stream, answered=True)
        self._flush()

    def _forget(self, stream: int, *, answered: bool = False) -> None:
        request = self.requests.pop(stream, None)
        if request is None:
            return
        self._server.held -= len(request.body)
        if request.task is not None and not answered:
            request.task.cancel()
        if not self.has_calls:
            self.idle_since = asyncio.get_running_loop().time()


class GrpcServer:
    """`handler` is asked once for each call, for many at a time."""

    def __init__(self, handler: GrpcHandler) -> None:
        self.handler = handler
        self.tasks = TaskSet("gRPC calls")  # of one run
        self.held = 0  # bytes of requests that are not answered
        self._connections: set[_ServedConnection] = set()

    async def run(self, path: Path, started: Callable[[], None], *, mode: int = 0o600) -> None:
        """Serves on a socket of its own until it is cancelled, and removes it then. Raises OSError when it cannot be made."""
        listener = unix_listener(path, mode)
        try:
            await self.serve([listener], started)
        finally:
            path.unlink(missing_ok=True)

    async def serve(self, listeners: Collection[socket.socket], started: Callable[[], None] = lambda: None) -> None:
        """Serves on bound sockets until it is cancelled, and closes them then."""
        self.tasks = TaskSet("gRPC calls")
        try:
            async with contextlib.AsyncExitStack() as stack:
                await stack.enter_async_context(self.tasks)
                for listener in listeners:
                    server = await asyncio.start_unix_server(self._connected, sock=listener)
                    stack.callback(server.close)
                started()
                await asyncio.get_running_loop().create_future()
        finally:
            for listener in listeners:
                listener.close()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= CONNECTIONS:
            idle = [one for one in self._connections if not one.has_calls]
            if not idle:
                abort_writer(writer)
                return
            oldest = min(idle, key=lambda one: one.idle_since)
            self._connections.discard(oldest)
            abort_writer(oldest.writer)
        connection = _ServedConnection(self, reader, writer)

        def ended(_: object) -> None:
            self._connections.discard(connection)
            abort_writer(writer)  # also where it was cancelled before its first step

        try:
            task = self.tasks.start(connection.serve(), "gRPC connection")
        except Misuse:  # accepted while the server ended
            abort_writer(writer)
            return
        self._connections.add(connection)
        task.add_done_callback(ended)

    def unsent(self) -> int:
        """Bytes of answers that clients have not read."""
        return sum(one.unsent for one in self._connections)


def unimplemented(method: str) -> GrpcError:
    """The answer to a method that the server does not have."""
    return GrpcError(UNIMPLEMENTED, f"no method {method[:200]} here")


def by_method(methods: Mapping[str, GrpcMethod]) -> GrpcHandler:
    """One handler of several methods, by their paths: /package.Service/Method."""

    async def asked(method: str, message: bytes) -> bytes:
        found = methods.get(method)
        if found is None:
            raise unimplemented(method)
        return await found(message)

    return asked
