"""HTTP/1.1 over any pair of asyncio streams: TCP, TLS, unix sockets, KubeBus connections. Parsing is h11's.

Server: `serve_connection(reader, writer, handler)`; a handler takes a Request and returns a Response, or an Upgrade.
Client: `Connection(reader, writer).request(...)`, one request after the other.

Bodies stream in both directions with back pressure; nothing is buffered beyond one chunk unless `read(limit)` asks for it. A streaming
response ends when the client goes away: the handler's iterator is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import ssl
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeAlias

import h11

from kubeedge.errors import Invalid, KubeEdgeError, PeerError

log = logging.getLogger("kubeedge.http")

Headers: TypeAlias = Sequence[tuple[str, str]]


_LINGER_SECONDS = 1.0
_LINGER_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    header_bytes: int = 32 * 1024  # request line and headers
    idle: float = 75.0  # seconds between two requests on a connection; nginx has the same
    head: float = 20.0  # seconds for a request's line and headers, once they began
    body_chunk: int = 64 * 1024  # bytes read at once


class BodyTooLarge(KubeEdgeError):
    def __init__(self, limit: int) -> None:
        super().__init__(f"body of more than {limit} bytes")
        self.limit = limit


@dataclass(slots=True)
class Request:
    method: str
    target: str  # as sent: path and query
    headers: list[tuple[str, str]]  # names in lower case
    extra: Callable[[str], Any]  # writer.get_extra_info: "ssl_object", "peername"
    _stream: AsyncIterator[bytes]

    @property
    def path(self) -> str:
        """Percent-decoded, without the query. Raises Invalid when it is not UTF-8 or has a zero byte."""
        raw = self.target.partition("?")[0]
        try:
            path = urllib.parse.unquote(raw, errors="strict")
        except UnicodeDecodeError as exc:
            raise Invalid(f"path {raw!r} is not UTF-8") from exc
        if "\0" in path or not path.startswith("/"):
            raise Invalid(f"path {raw!r} is not a path")
        return path

    @property
    def query(self) -> dict[str, list[str]]:
        raw = self.target.partition("?")[2]
        try:
            return urllib.parse.parse_qs(raw, keep_blank_values=True, max_num_fields=100)
        except ValueError as exc:
            raise Invalid(f"query: {exc}") from exc

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    def stream(self) -> AsyncIterator[bytes]:
        """The body as it comes; once."""
        return self._stream

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises BodyTooLarge (answered with 413) before more than `limit` is kept."""
        return await _gather(self._stream, limit)


@dataclass(slots=True)
class Response:
    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes | AsyncIterator[bytes] = b""


@dataclass(slots=True)
class Upgrade:
    """101: from here the connection belongs to `takeover(reader, writer, first)`; `first` are bytes that came already."""

    headers: list[tuple[str, str]]
    takeover: Callable[[asyncio.StreamReader, asyncio.StreamWriter, bytes], Awaitable[None]]


Handler: TypeAlias = Callable[[Request], Awaitable[Response | Upgrade]]


def json_response(status: int, obj: Any, headers: Headers = ()) -> Response:
    body = json.dumps(obj, separators=(",", ":")).encode()
    return Response(status, [("content-type", "application/json"), *headers], body)


def text_response(status: int, text: str, headers: Headers = ()) -> Response:
    return Response(status, [("content-type", "text/plain; charset=utf-8"), *headers], text.encode())


# -- server ------------------------------------------------------------------------------------------------------------------


async def serve_connection(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler, *, limits: Limits | None = None
) -> None:
    """Serve requests until the client goes away, breaks the protocol or is idle. Closes the writer."""
    connection = _ServerConnection(reader, writer, handler, limits or Limits())
    try:
        await connection.run()
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        pass
    finally:
        await close_writer(writer)


class _ServerConnection:
    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler, limits: Limits
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._handler = handler
        self._limits = limits
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.header_bytes)
        self._lingers = True

    async def run(self) -> None:
        await self._serve()
        if self._lingers:
            await self._linger()

    async def _linger(self) -> None:
        """Say that we are done and swallow what the client still sends, for a while: closing a socket with unread bytes
        would reset the connection before the client has read our answer."""
        if self._writer.can_write_eof():
            self._writer.write_eof()
        left = _LINGER_BYTES
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                while left > 0 and (data := await self._reader.read(self._limits.body_chunk)):
                    left -= len(data)

    async def _serve(self) -> None:
        while True:
            try:
                head = await self._head()
            except h11.RemoteProtocolError as exc:
                await self._refuse(exc.error_status_hint, str(exc))
                return
            if head is None or not await self._answer(head):
                return
            if self._h11.our_state is not h11.DONE or self._h11.their_state is not h11.DONE:
                return
            self._h11.start_next_cycle()

    async def _head(self) -> h11.Request | None:
        """The next request; None when the client is gone or idle."""
        began = False
        while True:
            event = self._h11.next_event()
            if isinstance(event, h11.Request):
                return event
            if event is h11.NEED_DATA:
                try:
                    async with asyncio.timeout(self._limits.head if began else self._limits.idle):
                        # small reads: h11 checks its limit only while a head is incomplete
                        data = await self._reader.read(min(8 * 1024, self._limits.header_bytes))
                except TimeoutError:
                    return None
                began = True
                self._h11.receive_data(data)
                continue
            return None  # ConnectionClosed

    async def _answer(self, head: h11.Request) -> bool:
        """Run the handler and send what it returns; whether the connection may go on."""
        request = Request(
            head.method.decode("ascii"),
            head.target.decode("ascii", "replace"),
            [(k.decode("latin-1"), v.decode("latin-1")) for k, v in head.headers],
            self._writer.get_extra_info,
            self._body() if _has_body(head) else self._no_body(),
        )
        try:
            answer = await self._handle(request)
        except h11.RemoteProtocolError as exc:
            await self._refuse(exc.error_status_hint, str(exc))
            return False
        if isinstance(answer, Upgrade):
            self._lingers = False
            await self._upgrade(answer)
            return False
        await self._send(answer, head.method == b"HEAD")
        if self._h11.their_state is h11.SEND_BODY:
            # the handler did not want the rest of the body; a little may be swallowed, more ends the connection
            with contextlib.suppress(h11.RemoteProtocolError, BodyTooLarge):
                await _gather(request.stream(), 256 * 1024)
        return True

    async def _handle(self, request: Request) -> Response | Upgrade:
        try:
            return await self._handler(request)
        except BodyTooLarge as exc:
            return json_response(413, {"error": str(exc)})
        except Invalid as exc:
            return json_response(400, {"error": str(exc)})
        except (h11.RemoteProtocolError, OSError):
            raise
        except Exception:
            log.exception("handler failed method=%s target=%.200s", request.method, request.target)
            return json_response(500, {"error": "internal error"})

    async def _body(self) -> AsyncIterator[bytes]:
        if self._h11.they_are_waiting_for_100_continue:
            self._write(h11.InformationalResponse(status_code=100, headers=[]))
            await self._writer.drain()
        while True:
            event = self._h11.next_event()
            if event is h11.NEED_DATA:
                self._h11.receive_data(await self._reader.read(self._limits.body_chunk))
            elif isinstance(event, h11.Data):
                yield bytes(event.data)
            else:
                return

    def _no_body(self) -> AsyncIterator[bytes]:
        """Takes the end of the message at once, so that what comes next is the next request, or the end."""
        self._h11.next_event()
        return _nothing()

    async def _send(self, response: Response, head_only: bool) -> None:
        headers = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in response.headers]
        names = {name.lower() for name, _ in headers}
        body = response.body
        if isinstance(body, bytes):
            if b"content-length" not in names and response.status >= 200 and response.status not in (204, 304):
                headers.append((b"content-length", b"%d" % len(body)))
            self._write(h11.Response(status_code=response.status, headers=headers, reason=_reason(response.status)))
            if body and not head_only:
                self._write(h11.Data(data=body))
            self._write(h11.EndOfMessage())
            await self._writer.drain()
            return
        # without a length h11 chooses chunked transfer coding, or the end of the connection for HTTP/1.0
        self._write(h11.Response(status_code=response.status, headers=headers, reason=_reason(response.status)))
        await self._writer.drain()
        try:
            if not head_only:
                await self._stream(body)
            self._write(h11.EndOfMessage())
            await self._writer.drain()
        except h11.LocalProtocolError as exc:  # the body was not as long as its content-length said
            raise ConnectionResetError(str(exc)) from exc
        finally:
            closing = getattr(body, "aclose", None)
            if closing:
                await closing()

    async def _stream(self, body: AsyncIterator[bytes]) -> None:
        """Send chunks as they come; stop when the client goes away while the body has nothing to say."""
        gone = asyncio.create_task(self._until_gone(), name="http client gone")
        try:
            while True:
                chunk = asyncio.ensure_future(_next(body))
                try:
                    await asyncio.wait((chunk, gone), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    if not chunk.done():
                        chunk.cancel()
                        await asyncio.gather(chunk, return_exceptions=True)
                if chunk.cancelled():
                    raise ConnectionResetError("the client is gone")
                data = chunk.result()
                if data is None:
                    return
                if data:
                    self._write(h11.Data(data=data))
                    await self._writer.drain()
        finally:
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)

    async def _until_gone(self) -> None:
        """Returns at the client's end of file. What it pipelines meanwhile is kept, up to the limit."""
        while True:
            if self._h11.their_state is not h11.DONE:
                await asyncio.get_running_loop().create_future()  # a body is still read by the handler
            data = await self._reader.read(4096)
            if not data:
                return
            self._h11.receive_data(data)
            if len(self._h11.trailing_data[0]) > self._limits.header_bytes:
                return

    async def _upgrade(self, upgrade: Upgrade) -> None:
        headers = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in upgrade.headers]
        self._write(h11.InformationalResponse(status_code=101, headers=headers, reason=_reason(101)))
        await self._writer.drain()
        first = bytes(self._h11.trailing_data[0])
        await upgrade.takeover(self._reader, self._writer, first)

    async def _refuse(self, status: int, text: str) -> None:
        if self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            response = json_response(status or 400, {"error": text})
            with contextlib.suppress(h11.LocalProtocolError, OSError):
                await self._send(
                    Response(response.status, [*response.headers, ("connection", "close")], response.body), False
                )

    def _write(self, event: h11.Event) -> None:
        data = self._h11.send(event)
        if data:
            self._writer.write(data)


# -- client ------------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class ClientResponse:
    status: int
    headers: list[tuple[str, str]]
    _stream: AsyncIterator[bytes]
    reason: str = ""

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    def stream(self) -> AsyncIterator[bytes]:
        return self._stream

    async def read(self, limit: int) -> bytes:
        return await _gather(self._stream, limit)


class Connection:
    """A client on one pair of streams. Requests go one after the other; the body of one is read before the next is sent."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, limits: Limits | None = None
    ) -> None:
        self.reader = reader
        self.writer = writer
        self._limits = limits or Limits()
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=self._limits.header_bytes)

    @property
    def reusable(self) -> bool:
        """The last exchange is complete and the other side keeps the connection open."""
        return (
            self._h11.our_state in (h11.DONE, h11.IDLE)
            and self._h11.their_state in (h11.DONE, h11.IDLE)
            and not self.reader.at_eof()
            and not self.writer.is_closing()
        )

    async def request(
        self, method: str, target: str, headers: Headers = (), body: bytes | AsyncIterator[bytes] = b""
    ) -> ClientResponse:
        """Send and return at the response's head. Raises PeerError when the answer is not HTTP, OSError when the
        connection breaks. A body of unknown length goes chunked unless `headers` has its content-length."""
        if self._h11.our_state is h11.DONE:
            self._h11.start_next_cycle()
        sent = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in headers]
        names = {name.lower() for name, _ in sent}
        if isinstance(body, bytes):
            if (body or method in ("POST", "PUT", "PATCH")) and b"content-length" not in names:
                sent.append((b"content-length", b"%d" % len(body)))
        elif b"content-length" not in names and b"transfer-encoding" not in names:
            sent.append((b"transfer-encoding", b"chunked"))
        if b"host" not in names:
            sent.insert(0, (b"host", b"localhost"))
        try:
            self._write(h11.Request(method=method, target=target, headers=sent))
        except h11.LocalProtocolError as exc:
            raise Invalid(f"request: {exc}") from exc
        sending = asyncio.create_task(self._send_body(body), name="http request body")
        try:
            return await self._response(sending)
        except BaseException:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            raise

    def trailing(self) -> bytes:
        """After a 101: bytes that came behind it."""
        return bytes(self._h11.trailing_data[0])

    async def close(self) -> None:
        await close_writer(self.writer)

    async def _send_body(self, body: bytes | AsyncIterator[bytes]) -> None:
        if isinstance(body, bytes):
            if body:
                self._write(h11.Data(data=body))
        else:
            async for chunk in body:
                if chunk:
                    self._write(h11.Data(data=chunk))
                    await self.writer.drain()
        self._write(h11.EndOfMessage())
        await self.writer.drain()

    async def _response(self, sending: asyncio.Task[None]) -> ClientResponse:
        while True:
            event = await self._event(sending)
            if isinstance(event, h11.InformationalResponse) and event.status_code != 101:
                continue
            if isinstance(event, h11.Response | h11.InformationalResponse):
                headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in event.headers]
                return ClientResponse(event.status_code, headers, self._body(sending), event.reason.decode("latin-1"))
            raise PeerError(f"{type(event).__name__} instead of a response")

    async def _event(self, sending: asyncio.Task[None]) -> Any:
        while True:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as exc:
                raise PeerError(f"the answer is not HTTP: {exc}") from exc
            if event is h11.NEED_DATA:
                data = await self.reader.read(self._limits.body_chunk)
                if not data and sending.done() and not sending.cancelled() and (error := sending.exception()):
                    raise error
                self._h11.receive_data(data)
                continue
            if isinstance(event, h11.ConnectionClosed):
                raise ConnectionResetError("the connection was closed before the answer")
            return event

    async def _body(self, sending: asyncio.Task[None]) -> AsyncIterator[bytes]:
        try:
            while True:
                event = await self._event(sending)
                if isinstance(event, h11.Data):
                    yield bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    break
                else:
                    raise PeerError(f"{type(event).__name__} in a body")
            await sending
        finally:
            if not sending.done():
                sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    def _write(self, event: h11.Event) -> None:
        data = self._h11.send(event)
        if data:
            self.writer.write(data)


# -- servers -----------------------------------------------------------------------------------------------------------------


async def start_tcp_server(
    host: str, port: int, handler: Handler, *, tls: ssl.SSLContext | None = None, limits: Limits | None = None
) -> asyncio.Server:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serve_connection(reader, writer, handler, limits=limits)

    extra: dict[str, Any] = {"ssl_handshake_timeout": 10.0, "ssl_shutdown_timeout": 1.0} if tls else {}
    return await asyncio.start_server(connected, host, port, ssl=tls, limit=256 * 1024, **extra)


async def start_unix_server(path: Path, handler: Handler, *, mode: int = 0o600) -> asyncio.Server:
    """The socket file replaces one that a killed process left behind."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serve_connection(reader, writer, handler)

    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    mask = os.umask(0o777 & ~mode)
    try:
        return await asyncio.start_unix_server(connected, path)
    finally:
        os.umask(mask)


async def close_writer(writer: asyncio.StreamWriter) -> None:
    """Close and wait a little; a peer that does not answer is cut off."""
    writer.close()
    try:
        async with asyncio.timeout(2.0):
            await writer.wait_closed()
    except (OSError, TimeoutError, ssl.SSLError):
        abort_writer(writer)
    except asyncio.CancelledError:
        abort_writer(writer)
        raise


def abort_writer(writer: asyncio.StreamWriter) -> None:
    """Cut off at once. Python 3.11's TLS transport fails when the connection was lost already."""
    with contextlib.suppress(AttributeError):
        writer.transport.abort()


async def _gather(stream: AsyncIterator[bytes], limit: int) -> bytes:
    parts: list[bytes] = []
    total = 0
    async for chunk in stream:
        total += len(chunk)
        if total > limit:
            raise BodyTooLarge(limit)
        parts.append(chunk)
    return b"".join(parts)


def _has_body(head: h11.Request) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0") for name, value in head.headers
    )


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


async def _next(body: AsyncIterator[bytes]) -> bytes | None:
    try:
        return await anext(body)
    except StopAsyncIteration:
        return None


def _reason(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""
