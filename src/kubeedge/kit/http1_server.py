"""The server side of kubeedge.kit.http1: one connection, requests in order, answers that stream."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NoReturn

import h11

from kubeedge.errors import Invalid, KubeEdgeError
from kubeedge.kit.headers import Headers
from kubeedge.kit.http1_limits import Limits
from kubeedge.kit.http1_messages import (
    BodyTooLarge,
    BrokenBody,
    ClientGone,
    Request,
    RequestHandler,
    Response,
    Upgrade,
    gather,
    json_response,
)
from kubeedge.kit.streams import close_writer, reset_writer, unix_listener

log = logging.getLogger("kubeedge.http")

# RFC 9112 lets a recipient take both; the next one in the chain may read them otherwise, which is how requests are smuggled
_LOOSE_LINE = re.compile(rb"(?<!\r)\n|\n[ \t]")

_LINGER_SECONDS = 1.0
_LINGER_BYTES = 8 * 1024 * 1024
_PIECE = 64 * 1024  # bytes of an answer that are written at once
_UNREAD_BYTES = 256 * 1024  # of a body that the handler did not want; with more to come the connection ends


async def serve_connection(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    handler: RequestHandler,
    *,
    limits: Limits | None = None,
    rests: Callable[[bool], None] = lambda resting: None,
) -> None:
    """Serve requests until the client goes away, breaks the protocol or is idle. Closes the writer. `rests` hears when the connection
    begins and ends to wait for a request."""
    connection = _ServerConnection(reader, writer, handler, limits or Limits(), rests)
    try:
        await connection.run()
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        pass
    finally:
        await close_writer(writer)


class _ServerConnection:
    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        handler: RequestHandler,
        limits: Limits,
        rests: Callable[[bool], None],
    ) -> None:
        self._rests = rests
        self._reader = reader
        self._writer = writer
        self._handler = handler
        self._limits = limits
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.header_bytes)
        self._body_read = asyncio.Event()
        self._lingers = True
        self._first = True  # no request has come yet
        self._interim = 0  # answers that may still be sent before the answer

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
            self._rests(True)
            try:
                head = await self._head()
                self._rests(False)
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
        raw = bytearray(self._h11.trailing_data[0])  # pipelined behind the request before
        began = bool(raw)
        quiet = min(self._limits.first, self._limits.idle) if self._first else self._limits.idle
        self._first = False
        try:
            async with asyncio.timeout(self._limits.head if began else quiet) as deadline:
                while True:
                    event = self._h11.next_event()
                    if event is not h11.NEED_DATA:
                        if not isinstance(event, h11.Request):
                            return None
                        if _LOOSE_LINE.search(raw, 0, len(raw) - len(self._h11.trailing_data[0])):
                            raise h11.RemoteProtocolError("a line of the head ends without CR LF, or is folded")
                        return event
                    # small reads: h11 checks its limit only while a head is incomplete
                    data = await self._reader.read(min(8 * 1024, self._limits.header_bytes))
                    if not began:  # the whole head must come in time, however many small pieces it has
                        began = True
                        deadline.reschedule(asyncio.get_running_loop().time() + self._limits.head)
                    raw += data  # at most header_bytes and one read: h11 raises when a head is longer
                    self._h11.receive_data(data)
        except TimeoutError:
            return None

    async def _answer(self, head: h11.Request) -> bool:
        """Run the handler and send what it returns; whether the connection may go on."""
        names = [name for name, _ in head.headers]
        if b"transfer-encoding" in names and b"content-length" in names:
            # RFC 9112 section 6.1: two opinions on where the body ends are how requests are smuggled
            await self._refuse(400, "content-length and transfer-encoding in one request")
            return False
        if b"transfer-encoding" in names and head.http_version < b"1.1":
            await self._refuse(400, "transfer-encoding in a request of HTTP/1.0")
            return False
        if len(names) > self._limits.headers:
            await self._refuse(431, f"more than {self._limits.headers} headers")
            return False
        if (
            len(head.target) + sum(len(name) + len(value) + 4 for name, value in head.headers)
            > self._limits.header_bytes
        ):
            await self._refuse(431, f"headers of more than {self._limits.header_bytes} bytes")  # that came in one piece
            return False
        self._body_read.clear()
        request = Request(
            head.method.decode("ascii"),
            head.target.decode("ascii", "replace"),
            [(k.decode("latin-1"), v.decode("latin-1")) for k, v in head.headers],
            self._writer.get_extra_info,
            self._body() if _has_body(head) else self._no_body(),
            self._until_gone,
            self._inform,
            lambda: reset_writer(self._writer),
        )
        self._interim = self._limits.interim if head.http_version >= b"1.1" else 0
        try:
            answer = await self._handle(request)
        except BrokenBody as exc:
            await self._refuse(400, str(exc))
            return False
        if isinstance(answer, Upgrade):
            self._lingers = False
            await self._upgrade(answer)
            return False
        await self._send(answer, head.method == b"HEAD")
        if self._h11.their_state is h11.SEND_BODY and self._h11.our_state is not h11.MUST_CLOSE:
            # the handler did not want the rest of the body; a little may be swallowed, more ends the connection
            with contextlib.suppress(BrokenBody, BodyTooLarge):
                await gather(request.stream(), _UNREAD_BYTES)
        return True

    async def _handle(self, request: Request) -> Response | Upgrade:
        try:
            return await self._handler(request)
        except BodyTooLarge as exc:
            return json_response(413, {"error": str(exc)})
        except Invalid as exc:
            return json_response(400, {"error": str(exc)})
        except (BrokenBody, ClientGone):
            raise
        except Exception:
            if self._reader.exception() is not None or self._writer.is_closing():
                raise ClientGone("the client hung up") from None
            log.exception("handler failed method=%s target=%.200s", request.method, request.target)
            return json_response(500, {"error": "internal error"})

    async def _body(self) -> AsyncIterator[bytes]:
        if self._h11.they_are_waiting_for_100_continue:
            self._write(h11.InformationalResponse(status_code=100, headers=[]))
            await self._drain()
        while True:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as exc:
                raise BrokenBody(f"body: {exc}") from exc
            if event is h11.NEED_DATA:
                try:
                    async with asyncio.timeout(self._limits.stall):
                        data = await self._reader.read(self._limits.body_chunk)
                except OSError as exc:
                    raise ClientGone(f"the body stopped: {exc}") from exc
                self._h11.receive_data(data)
            elif isinstance(event, h11.Data):
                yield bytes(event.data)
            else:
                self._body_read.set()
                return

    async def _inform(self, status: int, headers: Headers) -> None:
        if self._interim <= 0:
            return
        self._interim -= 1
        encoded = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in headers]
        waiting = self._h11.they_are_waiting_for_100_continue
        self._write(h11.InformationalResponse(status_code=status, headers=encoded, reason=_reason(status)))
        if waiting:  # h11 takes any interim answer for the one that was waited for
            self._h11.client_is_waiting_for_100_continue = True
        await self._drain()

    def _no_body(self) -> AsyncIterator[bytes]:
        """Takes the end of the message at once, so that what comes next is the next request, or the end."""
        self._h11.next_event()
        self._body_read.set()
        return _nothing()

    async def _send(self, response: Response, head_only: bool) -> None:
        body = response.body
        try:
            headers = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in response.headers]
            names = {name.lower() for name, _ in headers}
            if isinstance(body, bytes) and b"content-length" not in names and response.status not in (204, 304):
                headers.append((b"content-length", b"%d" % len(body)))
            if self._h11.they_are_waiting_for_100_continue:
                # answered before the body: whether it still comes is not known, so no request can follow (RFC 9110 section 10.1.1)
                headers = [(k, v) for k, v in headers if k.lower() != b"connection"] + [(b"connection", b"close")]
            # without a length h11 chooses chunked transfer coding, or the end of the connection for HTTP/1.0
            self._write(h11.Response(status_code=response.status, headers=headers, reason=_reason(response.status)))
            if isinstance(body, bytes):
                if not head_only:
                    await self._write_pieces(body)
            else:
                await self._drain()
                if not head_only:
                    await self._stream(body)
            self._write(h11.EndOfMessage())
            await self._drain()
        except (UnicodeEncodeError, h11.LocalProtocolError) as exc:
            # headers that cannot be sent, or a body that is not as long as its content-length says
            log.error("broken response status=%s error=%s", response.status, exc)
            self._cut(f"broken response: {exc}", exc)
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
                    self._cut("the client is gone")
                if (error := chunk.exception()) is not None:
                    if not isinstance(error, KubeEdgeError | OSError):
                        log.error("response body failed", exc_info=error)
                    self._cut(f"the response broke off: {error}", error)
                data = chunk.result()
                if data is None:
                    return
                del chunk
                await self._write_pieces(data)
                del data
        finally:
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)

    async def _write_pieces(self, data: bytes) -> None:
        """What a client does not read waits here once, and not in the buffers of TLS and of the transport, too."""
        rest = memoryview(data)
        while rest:
            self._write(h11.Data(data=bytes(rest[:_PIECE])))
            rest = rest[_PIECE:]
            await self._drain()

    def _cut(self, reason: str, cause: BaseException | None = None) -> NoReturn:
        """Reset the connection: after an orderly close a client could take half an answer for a whole one."""
        reset_writer(self._writer)
        raise ConnectionResetError(reason) from cause

    async def _drain(self) -> None:
        async with asyncio.timeout(self._limits.stall):
            await self._writer.drain()

    async def _until_gone(self) -> None:
        """Returns at the client's end of file. What it pipelines meanwhile is kept, up to the limit; the rest waits, and hides the end."""
        await self._body_read.wait()  # until then the handler reads, and notices
        while True:
            try:
                data = await self._reader.read(4096)
            except OSError:
                return
            if not data:
                return
            self._h11.receive_data(data)
            if len(self._h11.trailing_data[0]) > self._limits.header_bytes:
                await asyncio.get_running_loop().create_future()

    async def _upgrade(self, upgrade: Upgrade) -> None:
        headers = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in upgrade.headers]
        self._write(h11.InformationalResponse(status_code=101, headers=headers, reason=_reason(101)))
        first = bytes(self._h11.trailing_data[0])
        # nothing is awaited before this: what the handler holds for the takeover is in its hands in any case
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


async def start_unix_server(path: Path, handler: RequestHandler, *, mode: int = 0o600) -> asyncio.Server:
    """The socket file replaces one that a killed process left behind, and has its mode from the first moment on. Raises OSError."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serve_connection(reader, writer, handler)

    listener = unix_listener(path, mode)
    try:
        return await asyncio.start_unix_server(connected, sock=listener)
    except BaseException:
        listener.close()
        raise


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
    from http import HTTPStatus  # here: an agent that answers nothing does without its 60 kB

    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""
