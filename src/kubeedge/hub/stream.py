"""One WebSocket over one TLS connection, on the event loop. What is said is websocket.py's.

A cloud process has thousands of these, nearly all of them idle. So TLS reads and writes the socket itself (a non-blocking
ssl.SSLSocket and the loop's add_reader): no protocol and transport objects, no buffers in memory between OpenSSL and the kernel, no
task. OpenSSL gives its own buffers back when they are empty (SSL_MODE_RELEASE_BUFFERS, which Python sets).

    Stream(...) ── await handshake() ──> client: await upgrade()    ──> send(), recv()
                                         server: await asked(), then accept() or refuse()

The first error ends a stream, and everyone who waits for it hears of it; the deadlines are the caller's. abort() at the end is the
caller's duty, too.

Lives elsewhere: deadlines and identity (edgehub.py, kubeedge_cloud.cloudhub), when to say what (driver.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Callable
from typing import Any

from kubeedge.errors import PeerError
from kubeedge.hub import websocket as ws
from kubeedge.hub.core import MAX_MESSAGE

_RECORD = 16 * 1024  # bytes of a TLS record at most (RFC 8446 section 5.1): what one read can give
_READS = 16  # records that are read at once while there are more: others have their turn
_QUEUED = 16  # messages that wait for recv() before nothing more is read
_WRITE_LIMIT = 64 * 1024  # bytes that may wait for the socket before send() waits
_CONTROL_LIMIT = 256 * 1024  # bytes that may wait when answers to pings are added: who does not read them is sent away
_TLS, _UPGRADE, _OPEN = range(3)
_CLOSE_WAIT = 1.0  # seconds for the other end's close frame


class Stream:
    """`server_hostname`: we are the client, and this is whose certificate we want; None: we are the server.

    It takes the connected TCP socket, also when it raises OSError.
    """

    __slots__ = (
        "_close_sent", "_context", "_error", "_frames", "_hostname", "_loop", "_messages", "_on_end", "_out", "_paused", "_phase",
        "_reader", "_room", "_socket", "_writing", "head",
    )  # fmt: skip

    def __init__(
        self,
        tcp: socket.socket,
        context: ssl.SSLContext,
        *,
        server_hostname: str | None = None,
        on_end: Callable[[int], None] | None = None,
    ) -> None:
        """`on_end` hears of the file descriptor before it is closed."""
        self._loop = asyncio.get_running_loop()
        self._hostname = server_hostname
        self._on_end = on_end
        self._reader: asyncio.Future[None] | None = None  # who waits for what comes in
        self._room: asyncio.Future[None] | None = None  # who waits until less waits to be written
        self._error: BaseException | None = None
        self._messages: list[bytes] = []
        self._frames = ws.Frames(masked=server_hostname is None, limit=MAX_MESSAGE)
        self._out: bytearray | None = None  # what the socket had no room for
        self._phase = _TLS
        self._paused = self._writing = self._close_sent = False
        self.head: bytearray | None = None  # of the upgrade, while it comes in
        tcp.setblocking(False)
        with contextlib.suppress(OSError):  # small messages, each of which somebody waits for
            tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._socket = context.wrap_socket(
                tcp,
                server_side=server_hostname is None,
                server_hostname=server_hostname,
                do_handshake_on_connect=False,
            )
        except BaseException:
            tcp.close()
            raise

    # -- the beginning -------------------------------------------------------------------------------------------------

    async def handshake(self) -> None:
        """TLS. Raises OSError (ssl.SSLError is one)."""
        self._loop.add_reader(self._socket.fileno(), self._readable)
        if self._hostname is not None:
            self._readable()
        while self._phase == _TLS:
            await self._something()

    def peer_certificate(self) -> Any:
        """As ssl.SSLSocket.getpeercert."""
        return self._socket.getpeercert()

    @property
    def descriptor(self) -> int:
        return self._socket.fileno()

    async def upgrade(self, host: str, path: str) -> None:
        """Client. Raises Rejected, PeerError or OSError."""
        key = os.urandom(16)
        self._write(ws.request(host, path, key))
        head = await self._head()
        status, length = ws.read_answer(head, key)
        if status != 101:
            assert self.head is not None
            with contextlib.suppress(OSError):  # that is the end of the text, too
                while len(self.head) < length:
                    await self._something()
            raise ws.Rejected(status, bytes(self.head[:length]).decode(errors="replace").strip())
        self._open()

    async def asked(self) -> tuple[str, bytes]:
        """Server: path and answer of ws.read_request. Raises Rejected, PeerError or OSError."""
        return ws.read_request(await self._head())

    def accept(self, answer: bytes) -> None:
        self._write(answer)
        self._open()

    def refuse(self, status: int, text: str) -> None:
        """Server: no channel for this one. It reads why, if it reads."""
        self._write(ws.refusal(status, text))

    async def _head(self) -> bytes:
        if self.head is None:
            self.head = bytearray()
        while not (end := ws.end_of_head(self.head)):
            await self._something()
        head = bytes(self.head[:end])
        del self.head[:end]
        return head

    def _open(self) -> None:
        rest, self.head = self.head, None
        self._phase = _OPEN
        if rest:
            self._receive(bytes(rest))

    # -- a WebSocket, as driver.py sees it -----------------------------------------------------------------------------

    @property
    def transport(self) -> Stream:
        return self

    def get_extra_info(self, name: str) -> Any:
        """As asyncio's transports: "socket", None of anything else."""
        return self._socket if name == "socket" else None

    async def send(self, message: bytes) -> None:
        """Waits while much waits to be written. Raises OSError."""
        if self._error or self._close_sent:
            raise ConnectionResetError(str(self._error or "the connection is closing"))
        self._write(self._frame(ws.BINARY, message))
        while self._out is not None and len(self._out) > _WRITE_LIMIT and not self._error:
            self._room = self._loop.create_future()
            try:
                await self._room
            finally:
                self._room = None

    async def recv(self) -> bytes:
        """The next message. Raises PeerError when the other end broke the rules, OSError when it is gone."""
        while not self._messages:
            await self._something()
        message = self._messages.pop(0)
        if self._paused and not self._messages:
            self._paused = False
            if self._error is None:  # else there is no socket any more
                self._loop.add_reader(self._socket.fileno(), self._readable)
        return message

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Say so, and wait a moment for the other end to say the same."""
        if self._error or self._phase != _OPEN:
            return self.abort()
        if not self._close_sent:
            self._close_sent = True
            self._write(self._frame(ws.CLOSE, ws.closing(code, reason)))
        with contextlib.suppress(OSError, PeerError, TimeoutError):
            async with asyncio.timeout(_CLOSE_WAIT):
                while True:
                    await self.recv()
        self.abort()

    def abort(self) -> None:
        """The end, at once. Idempotent."""
        self._end(ConnectionAbortedError("the connection was closed"))

    # -- bytes ---------------------------------------------------------------------------------------------------------

    async def _something(self) -> None:
        """Until something has come in. Raises what the stream ended of."""
        if self._error:
            raise self._error
        self._reader = self._loop.create_future()
        try:
            await self._reader
        finally:
            self._reader = None
        if self._error and not self._messages:
            raise self._error

    def _readable(self) -> None:
        try:
            if self._phase == _OPEN:
                self._converse()
            elif self._phase == _UPGRADE:
                self._greet()
            else:
                self._shake()
        except (ssl.SSLWantReadError, BlockingIOError, InterruptedError):
            if self._phase == _TLS:
                self._want_write(False)  # a socket that can be written to would call us for ever
        except ssl.SSLWantWriteError:
            self._want_write(True)
        except (OSError, ValueError) as exc:  # ValueError: of a socket that was closed meanwhile
            self._end(exc if isinstance(exc, OSError) else ConnectionResetError(str(exc)))
        except PeerError as exc:
            if self._phase == _OPEN and not self._close_sent:
                self._write(self._frame(ws.CLOSE, ws.closing(exc.close_code, str(exc))))
            self._end(exc)

    def _shake(self) -> None:
        self._socket.do_handshake()
        self.head = bytearray()
        self._phase = _UPGRADE
        self._want_write(False)
        self._wake()

    def _greet(self) -> None:
        """The heads of the upgrade; what follows a request is none of our business before it is answered."""
        assert self.head is not None
        data = self._read()
        self.head += data
        if len(self.head) > ws.MAX_HEAD + _RECORD:
            raise PeerError(f"a head of more than {ws.MAX_HEAD} bytes", close_code=1009)
        self._wake()

    def _converse(self) -> None:
        for _ in range(_READS):
            data = self._read()
            self._receive(data)
            if len(data) < _RECORD or self._paused or self._error:
                return

    def _read(self) -> bytes:
        data = self._socket.recv(_RECORD)
        if not data:
            raise ConnectionResetError("the connection was closed")
        return data

    def _receive(self, data: bytes) -> None:
        for opcode, payload in self._frames.receive(data):
            if opcode == ws.BINARY:
                self._messages.append(payload)
            elif opcode == ws.PING:
                if not self._close_sent:
                    self._write(self._frame(ws.PONG, payload))
                    if self._out is not None and len(self._out) > _CONTROL_LIMIT:
                        raise PeerError("pings come faster than their answers are read", close_code=1008)
            elif opcode == ws.CLOSE:
                code, reason = ws.read_closing(payload)
                if not self._close_sent:
                    self._close_sent = True
                    self._write(self._frame(ws.CLOSE, payload[:2]))
                raise ConnectionResetError(f"the other end closed the connection ({code}): {reason}")
        if self._messages:
            self._wake()
            if len(self._messages) >= _QUEUED and not self._paused:
                self._paused = True
                self._loop.remove_reader(self._socket.fileno())

    def _frame(self, opcode: int, payload: bytes) -> bytes:
        return ws.encode(opcode, payload, os.urandom(4) if self._hostname is not None else b"")

    def _write(self, data: bytes) -> None:
        """Now, as far as the socket takes it; the rest when it can be written to."""
        if self._error:
            return
        if self._out is not None:
            self._out += data
            return
        sent = 0
        try:
            while sent < len(data):  # a record at a time
                sent += self._socket.send(data if not sent else memoryview(data)[sent:])
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError, InterruptedError):
            self._out = bytearray(memoryview(data)[sent:])
            self._want_write(True)
        except (OSError, ValueError) as exc:
            self._end(exc if isinstance(exc, OSError) else ConnectionResetError(str(exc)))

    def _writable(self) -> None:
        if self._phase == _TLS:
            return self._readable()
        out = self._out
        try:
            while out:
                sent = self._socket.send(out)
                del out[:sent]
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError, InterruptedError):
            pass
        except (OSError, ValueError) as exc:
            return self._end(exc if isinstance(exc, OSError) else ConnectionResetError(str(exc)))
        if not out:
            self._out = None
            self._want_write(False)
        if self._room is not None and not self._room.done() and len(out or b"") <= _WRITE_LIMIT:
            self._room.set_result(None)

    def _want_write(self, want: bool) -> None:
        if want is not self._writing:
            self._writing = want
            if want:
                self._loop.add_writer(self._socket.fileno(), self._writable)
            else:
                self._loop.remove_writer(self._socket.fileno())

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _end(self, error: BaseException) -> None:
        if self._error is not None:
            return
        self._error = error
        self._out = None
        descriptor = self._socket.fileno()
        if descriptor >= 0:
            self._loop.remove_reader(descriptor)
            self._loop.remove_writer(descriptor)
            if self._on_end is not None:
                self._on_end(descriptor)
        self._socket.close()
        self._wake()
        if self._room is not None and not self._room.done():
            self._room.set_result(None)


__all__ = ["Stream"]
