"""The client side of kubeedge.kit.http1: one connection, one request after the other."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import h11

from kubeedge.errors import Invalid, PeerError
from kubeedge.kit.dataclasses import dataclass
from kubeedge.kit.headers import Headers
from kubeedge.kit.http1_limits import Limits
from kubeedge.kit.http1_messages import ClientGone, Inform, gather
from kubeedge.kit.streams import abort_writer, close_writer

_HEAD_END = re.compile(rb"\n\r?\n")
_SPACE_BEFORE_COLON = re.compile(rb"(?m)^([!#$%&'*+\-.^_`|~0-9A-Za-z]+)[ \t]+:")


@dataclass(slots=True)
class ClientResponse:
    """Status and headers of a response; its body is read once, by `stream` or by `read`."""

    status: int
    headers: list[tuple[str, str]]
    _stream: AsyncGenerator[bytes, None]
    reason: str = ""

    def header(self, name: str) -> str | None:
        """The first header of that name, which is in lower case; None: there is none."""
        return next((value for key, value in self.headers if key == name), None)

    def stream(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes; once. Raises PeerError when it breaks HTTP's rules, OSError when the connection breaks."""
        return self._stream

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises BodyTooLarge before more than `limit` bytes are kept."""
        return await gather(self._stream, limit)


class Connection:
    """A client on one pair of streams. Requests go one after the other; the body of one is read before the next is sent."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, limits: Limits | None = None
    ) -> None:
        self.reader = reader
        self.writer = writer
        self._limits = limits or Limits()
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=self._limits.header_bytes)
        self._sending: asyncio.Task[None] | None = None
        self._unread = bytearray()  # came behind a head, and is not h11's yet
        self._wanted = asyncio.Event()  # the other side asks for the body

    @property
    def reusable(self) -> bool:
        """The last exchange is complete and the other side keeps the connection open."""
        return (
            self._h11.our_state in (h11.DONE, h11.IDLE)
            and self._h11.their_state in (h11.DONE, h11.IDLE)
            and not self.reader.at_eof()
            and self.reader.exception() is None
            and self._h11.trailing_data == (b"", False)
            and not self._unread
            and not self.writer.is_closing()
        )

    async def request(
        self,
        method: str,
        target: str,
        headers: Headers = (),
        body: bytes | AsyncIterator[bytes] = b"",
        *,
        hold: float = 0.0,
        inform: Inform | None = None,
    ) -> ClientResponse:
        """Send and return at the response's head. Raises PeerError when the answer is not HTTP, OSError when the
        connection breaks. A body of unknown length goes chunked unless `headers` has its content-length.

        `hold`: seconds for which an iterated body waits for 100 Continue, which `headers` have asked for; with an answer before, it is never
        begun. `inform` hears of other interim answers."""
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
        if body and isinstance(body, bytes):
            self._write(h11.Data(data=body))
        self._wanted.clear()
        sending = self._sending = asyncio.create_task(self._send_body(body, hold), name="http request body")
        try:
            answer = await self._response(sending, inform)
            if hold and not self._wanted.is_set():
                await self._stop_sending()
            return answer
        except BaseException:
            await self._stop_sending()
            raise

    def trailing(self) -> bytes:
        """The bytes that came behind the head of a 101."""
        return bytes(self._h11.trailing_data[0]) + bytes(self._unread)

    async def close(self) -> None:
        """A response that was not read to its end is given up."""
        try:
            await self._stop_sending()
        finally:
            await close_writer(self.writer)

    def abort(self) -> None:
        """Cut the connection, whatever is on its way."""
        if self._sending is not None:
            self._sending.cancel()
        abort_writer(self.writer)

    async def _send_body(self, body: bytes | AsyncIterator[bytes], hold: float) -> None:
        try:
            if hold:
                await self.writer.drain()
                with contextlib.suppress(TimeoutError):  # it may not know of 100-continue (RFC 9110 section 10.1.1)
                    await asyncio.wait_for(self._wanted.wait(), hold)
                self._wanted.set()
            if not isinstance(body, bytes):
                async for chunk in body:
                    if chunk:
                        self._write(h11.Data(data=chunk))
                        await self.writer.drain()
            self._write(h11.EndOfMessage())
            await self.writer.drain()
        except ClientGone as exc:
            self.reader.set_exception(exc)  # whose body it was; an OSError too, and not of this connection
            raise
        except OSError:
            raise  # the other side does not listen any more; its answer may be here already, or come as an error
        except Exception as exc:
            self.reader.set_exception(exc)  # the body has failed: no answer is worth waiting for
            raise

    async def _stop_sending(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)
            self._sending = None

    async def _response(self, sending: asyncio.Task[None], inform: Inform | None) -> ClientResponse:
        interim = 0
        while True:
            event = await self._event(sending, head=True)
            if isinstance(event, h11.InformationalResponse) and event.status_code != 101:
                interim += 1
                if interim > self._limits.interim_most:
                    raise PeerError(f"more than {self._limits.interim_most} interim answers to one request")
                if event.status_code == 100:
                    self._wanted.set()
                elif inform is not None:
                    await inform(
                        event.status_code, [(k.decode("latin-1"), v.decode("latin-1")) for k, v in event.headers]
                    )
                continue
            if isinstance(event, h11.Response | h11.InformationalResponse):
                headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in event.headers]
                return ClientResponse(event.status_code, headers, self._body(sending), event.reason.decode("latin-1"))
            raise PeerError(f"{type(event).__name__} instead of a response")

    async def _event(self, sending: asyncio.Task[None], *, head: bool = False) -> Any:
        """The next one; `head`: of an answer, whose head h11 gets in one piece."""
        while True:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as exc:
                raise PeerError(f"the answer is not HTTP: {exc}") from exc
            if event is h11.NEED_DATA:
                self._h11.receive_data(await (self._head(sending) if head else self._more(sending)))
                continue
            if isinstance(event, h11.ConnectionClosed):
                raise ConnectionResetError("the connection was closed before the answer")
            return event

    async def _more(self, sending: asyncio.Task[None]) -> bytes:
        data = bytes(self._unread) or await self.reader.read(self._limits.body_chunk)
        self._unread.clear()
        if not data and sending.done() and not sending.cancelled() and (error := sending.exception()):
            raise error
        return data

    async def _head(self, sending: asyncio.Task[None]) -> bytes:
        """A head, without the white space before colons that a proxy has to remove (RFC 9112 section 5.1); or all there is, when it is
        too long or its connection has ended."""
        head = bytearray()
        while not (end := _HEAD_END.search(head)) and len(head) <= self._limits.header_bytes:
            if not (data := await self._more(sending)):
                return bytes(head)
            head += data
        if end is not None:
            self._unread[:] = head[end.end() :]
            del head[end.end() :]
        return _SPACE_BEFORE_COLON.sub(rb"\1:", head)

    async def _body(self, sending: asyncio.Task[None]) -> AsyncGenerator[bytes, None]:
        try:
            while True:
                event = await self._event(sending)
                if isinstance(event, h11.Data):
                    yield bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    break
                else:
                    raise PeerError(f"{type(event).__name__} in a body")
            # an answer may end before its request does: the rest of the request is not needed
            await asyncio.wait((sending,), timeout=0.05)
        finally:
            await self._stop_sending()

    def _write(self, event: h11.Event) -> None:
        data = self._h11.send(event)
        if data:
            self.writer.write(data)
