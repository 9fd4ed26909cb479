"""One WebSocket (RFC 6455) over one TLS connection, on the event loop. The protocol is the sans-I/O one of the `websockets` library.

    Stream(...) ── await handshake() ──> client: await upgrade()    ──> send(), recv()
                                         server: await asked(), then accept() or refuse()

The first error ends a stream, and is raised in all that wait for it; the deadlines are the caller's. abort() at the end is the
caller's duty, too.

Lives elsewhere: TLS and bytes (tls_socket.py), deadlines and identity (module.py, kubeedge_cloud.cloudhub), when to send what (driver.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.uri import WebSocketURI

from kubeedge.errors import PeerError, Unavailable
from kubeedge.hub.core import MAX_MESSAGE
from kubeedge.hub.tls_socket import RECORD, WRITE_LIMIT, TlsSocket

if TYPE_CHECKING:
    from websockets.server import ServerProtocol

_READS = 16  # records that are read at once while there are more: others have their turn
_UNFINISHED = 64 * 1024  # bytes of a message without its end from which on they are told of
_QUEUED = 16  # messages that wait for recv() before nothing more is read
_CONTROL_LIMIT = (
    WRITE_LIMIT + MAX_MESSAGE + 64 * 1024
)  # bytes that may wait when answers to pings are added to what send() left
_MAX_HEAD = 8 * 1024  # bytes of a request or an answer before it is refused; a head of ours has some 250
_MAX_REFUSAL = 1024  # bytes of its text that are kept
_MAX_REASON = 123  # bytes of a close frame's reason (section 5.5)
_CLOSE_WAIT = 1.0  # seconds for the other end's close frame

_library_log = logging.getLogger("kubeedge.hub.websocket")
_library_log.setLevel(logging.ERROR)  # users of a stream report why it ended; the library would log every frame


class Rejected(Unavailable):
    """The server answers, or answered, the upgrade with another status than 101, and some text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"the upgrade was answered with {status}: {text}")
        self.status = status
        self.text = text


class Stream(TlsSocket):
    """A WebSocket over TLS, at either end. Constructed as a TlsSocket."""

    __slots__ = ("_greeted", "_held", "_is_open", "_listener", "_message", "_messages", "_paused", "_websocket")

    def __init__(self, tcp: socket.socket, context: ssl.SSLContext, *, server_hostname: str | None = None) -> None:
        self._messages: list[bytes] = []
        self._message: bytearray | None = None  # one that comes in pieces
        self._websocket: ClientProtocol | ServerProtocol | None = None  # after TLS
        self._is_open = self._paused = False
        self._greeted = 0  # bytes of the upgrade that came in
        self._listener: Callable[[int], None] | None = None
        self._held = 0  # as it was told last
        super().__init__(tcp, context, server_hostname=server_hostname)

    # -- the beginning -------------------------------------------------------------------------------------------------

    async def upgrade(self, endpoint: str, path: str) -> None:
        """Client. `endpoint` is host:port, that of an IPv6 address in brackets. Raises Rejected, PeerError or OSError."""
        host, _, port = endpoint.lower().rpartition(":")
        uri = WebSocketURI(True, host.strip("[]"), int(port), path, query="")  # what it is made of needs no parser
        client = ClientProtocol(uri, max_size=MAX_MESSAGE, logger=_library_log)
        self._websocket = client
        client.send_request(client.connect())
        self._flush()
        try:
            answer = await self._head()
        except OSError:
            client.receive_eof()  # that may be the end of the text of a refusal
            if not client.events:
                raise
            answer = client.events.pop(0)
        failure = client.handshake_exc
        if isinstance(failure, InvalidStatus):
            text = (failure.response.body or b"")[:_MAX_REFUSAL].decode(errors="replace").strip()
            raise Rejected(failure.response.status_code, text)
        if failure is not None or not isinstance(answer, Response):
            raise PeerError(f"the answer to the upgrade is not one to our request: {failure}")
        self._open()

    async def asked(self) -> tuple[str, Response]:
        """Server: the path of the request, and the answer that accepts it. Raises Rejected, PeerError or OSError."""
        server = self._server()
        request = await self._head()
        if not isinstance(request, Request):
            raise Rejected(400, str(server.handshake_exc))
        answer = server.accept(request)
        if answer.status_code != 101:
            raise Rejected(answer.status_code, (answer.body or b"").decode().strip())
        return request.path, answer

    def accept(self, answer: Response) -> None:
        """Server: answer with 101; from here on it is a WebSocket."""
        self._server().send_response(answer)
        self._open()

    def refuse(self, status: int, text: str) -> None:
        """Server: no channel for this one. It gets the reason, if it reads."""
        answer = self._server().reject(status, text[: _MAX_REFUSAL - 1] + "\n")
        if status == 426:  # RFC 9110 section 15.5.22
            answer.headers["Upgrade"] = "websocket"
        self._write(answer.serialize())

    def _server(self) -> ServerProtocol:
        assert self._websocket is not None and not isinstance(self._websocket, ClientProtocol)
        return self._websocket

    async def _head(self) -> object:
        """The request or the answer; None: what came is none."""
        websocket = self._websocket
        assert websocket is not None
        while not (websocket.events or websocket.handshake_exc):
            if self._greeted >= _MAX_HEAD:
                raise PeerError(f"a head of more than {_MAX_HEAD} bytes", close_code=1009)
            await self._input()
        return websocket.events.pop(0) if websocket.events else None

    def _open(self) -> None:
        self._is_open = True
        try:
            self._said()
        except PeerError as exc:
            self._broken(exc)
        except OSError as exc:
            self._end(exc)

    # -- a WebSocket, as driver.py sees it -----------------------------------------------------------------------------

    @property
    def transport(self) -> Stream:
        """The stream itself: it has no asyncio transport below it."""
        return self

    def get_extra_info(self, name: str) -> Any:
        """The "socket", as asyncio's transports give it; None for any other name."""
        return self._socket if name == "socket" else None

    async def send(self, message: bytes) -> None:
        """Waits while much waits to be written. Raises OSError."""
        websocket = self._websocket
        if self._error or websocket is None or websocket.state is not State.OPEN:
            raise ConnectionResetError(str(self._error or "the connection is closing"))
        websocket.send_binary(message)
        self._flush()
        await self._until_room()

    async def recv(self) -> bytes:
        """The next message. Raises PeerError when the other end broke the rules, OSError when it is gone."""
        while not self._messages:
            await self._input()
        message = self._messages.pop(0)
        if self._paused and not self._messages:
            self._paused = False
            if self._error is None:  # else there is no socket any more
                self._loop.add_reader(self._socket.fileno(), self._readable)
        return message

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Sends a close frame, and waits a moment for that of the other end."""
        websocket = self._websocket
        if self._error or not self._is_open or websocket is None:
            return self.abort()
        if websocket.state is State.OPEN:
            websocket.send_close(code, _fitting(reason))
            self._flush()
        with contextlib.suppress(OSError, PeerError, TimeoutError):
            async with asyncio.timeout(_CLOSE_WAIT):
                while True:
                    await self.recv()
        self.abort()

    def abort(self) -> None:
        """Ends it at once. Idempotent. No reference cycle is left: in a process with many nodes the garbage collector runs rarely."""
        self._end(ConnectionAbortedError("the connection was closed"))
        self._error = ConnectionAbortedError(str(self._error))  # the traceback of the first one leads back to us
        if self._websocket is not None:
            self._websocket.parser.close()  # a generator, whose frame leads back to its protocol, as those of its errors do
            self._websocket.parser_exc = self._websocket.handshake_exc = None

    def on_unfinished(self, listener: Callable[[int], None]) -> None:
        """As driver.ChannelSocket has it. Until the end of the stream, so that no cycle is left."""
        self._listener = listener

    # -- what comes in -------------------------------------------------------------------------------------------------

    def _secured(self, is_server: bool) -> None:
        if is_server:
            from websockets.server import ServerProtocol  # brings the email package, for a date; nodes are clients

            self._websocket = ServerProtocol(max_size=MAX_MESSAGE, logger=_library_log)

    def _take_in(self) -> None:
        if self._is_open:
            self._converse()
        else:
            self._greet()

    def _has_input(self) -> bool:
        return bool(self._messages)

    def _broken(self, exc: PeerError) -> None:
        """The other end hears which rule it broke."""
        if self._is_open and self._websocket is not None:
            self._websocket.fail(exc.close_code, _fitting(str(exc)))  # nothing, when the library has sent it itself
            self._flush()
        self._end(exc)

    def _greet(self) -> None:
        """The heads of the upgrade; what follows a request waits in the library until it is answered."""
        data = self._read()
        self._greeted += len(data)
        if self._greeted > _MAX_HEAD + RECORD or self._websocket is None:
            raise PeerError(f"a head of more than {_MAX_HEAD} bytes", close_code=1009)
        self._websocket.receive_data(data)
        self._wake()

    def _converse(self) -> None:
        for _ in range(_READS):
            data = self._read()
            self._receive(data)
            if len(data) < RECORD or self._paused or self._error:
                return

    def _receive(self, data: bytes) -> None:
        assert self._websocket is not None
        self._websocket.receive_data(data)
        self._said()

    def _said(self) -> None:
        """What the library has understood so far. Raises PeerError for a broken rule, OSError after a close frame."""
        websocket = self._websocket
        assert websocket is not None
        pinged = False
        for event in websocket.events_received():
            if isinstance(event, Frame):
                self._take(event)
                pinged = pinged or event.opcode is Opcode.PING
        self._tell(len(websocket.reader.buffer) + len(self._message or b""))
        self._flush()
        if pinged and self._out is not None and len(self._out) > _CONTROL_LIMIT:
            raise PeerError("pings come faster than their answers are read", close_code=1008)
        if self._messages:
            self._wake()
            if len(self._messages) >= _QUEUED and not self._paused:
                self._paused = True
                self._loop.remove_reader(self._socket.fileno())
        if websocket.parser_exc is not None:
            raise PeerError(str(websocket.parser_exc))
        if (close := websocket.close_rcvd) is not None:
            raise ConnectionResetError(f"the other end closed the connection ({close.code}): {close.reason}")

    def _tell(self, size: int) -> None:
        size = size if size > _UNFINISHED else 0
        if size != self._held and self._listener is not None:
            self._held = size
            self._listener(size)

    def _take(self, frame: Frame) -> None:
        if frame.opcode is Opcode.TEXT:
            raise PeerError("a text message; only binary ones are allowed", close_code=1003)
        if frame.opcode is Opcode.BINARY and frame.fin:
            self._messages.append(bytes(frame.data))
        elif frame.opcode is Opcode.BINARY:
            self._message = bytearray(frame.data)
        elif frame.opcode is Opcode.CONT and self._message is not None:
            self._message += frame.data
            if frame.fin:
                self._messages.append(bytes(self._message))
                self._message = None

    def _flush(self) -> None:
        assert self._websocket is not None
        for data in self._websocket.data_to_send():
            if data:  # b"" means the end, which is abort()'s
                self._write(data)

    def _end(self, error: BaseException) -> None:
        super()._end(error)
        self._listener = None


def _fitting(reason: str) -> str:
    return reason.encode()[:_MAX_REASON].decode(errors="ignore")


__all__ = ["Rejected", "Stream"]
