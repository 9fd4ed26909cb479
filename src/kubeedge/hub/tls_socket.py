"""Bytes over one TLS connection, on the event loop.

A cloud process has thousands of these, nearly all of them idle. So TLS reads and writes the socket itself (a non-blocking
ssl.SSLSocket and the loop's add_reader): no protocol and transport objects of asyncio, no buffers in memory between OpenSSL and the
kernel, no task. OpenSSL gives its own buffers back when they are empty (SSL_MODE_RELEASE_BUFFERS, which Python sets).

Lives elsewhere: what the bytes mean (stream.py), which subclasses TlsSocket: an object for each would cost memory, and be a cycle.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import Any

from kubeedge.errors import PeerError
from kubeedge.kit.tcp import hostname

RECORD = 16 * 1024  # bytes of a TLS record at most (RFC 8446 section 5.1): what one read can give
WRITE_LIMIT = 64 * 1024  # bytes that may wait for the socket before a writer waits


class TlsSocket:
    """`server_hostname`: we are the client, and this is whose certificate we want; None: we are the server.

    It takes the connected TCP socket, also when it raises OSError. The first error ends it, and is raised in all that wait for it.
    """

    __slots__ = ("_error", "_hostname", "_is_secure", "_loop", "_out", "_reader", "_room", "_socket", "_writing")

    def __init__(
        self,
        tcp: socket.socket,
        context: ssl.SSLContext,
        *,
        server_hostname: str | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._hostname = server_hostname
        self._reader: asyncio.Future[None] | None = None  # who waits for what comes in
        self._room: asyncio.Future[None] | None = None  # who waits until less waits to be written
        self._error: BaseException | None = None
        self._out: bytearray | None = None  # what the socket had no room for
        self._is_secure = self._writing = False
        tcp.setblocking(False)
        with contextlib.suppress(OSError):  # small messages, each of which the peer waits for
            tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._socket = context.wrap_socket(
                tcp,
                server_side=server_hostname is None,
                server_hostname=None if server_hostname is None else hostname(server_hostname),
                do_handshake_on_connect=False,
            )
        except BaseException:
            tcp.close()
            raise

    async def handshake(self) -> None:
        """TLS. Raises OSError (ssl.SSLError is one)."""
        self._loop.add_reader(self._socket.fileno(), self._readable)
        if self._hostname is not None:
            self._readable()
        while not self._is_secure:
            await self._input()

    def peer_certificate(self) -> Any:
        """The peer's certificate as ssl.SSLSocket.getpeercert() gives it."""
        return self._socket.getpeercert()

    # -- of a subclass -------------------------------------------------------------------------------------------------

    def _secured(self, is_server: bool) -> None:
        """Called when the TLS handshake is complete."""
        raise NotImplementedError

    def _take_in(self) -> None:
        """There is something to read, after the handshake. Raises PeerError for a broken rule, and what _read() raises."""
        raise NotImplementedError

    def _has_input(self) -> bool:
        """Whether input that came before an error is still to be read."""
        raise NotImplementedError

    def _broken(self, exc: PeerError) -> None:
        """The other end broke a rule."""
        raise NotImplementedError

    # -- bytes ---------------------------------------------------------------------------------------------------------

    async def _input(self) -> None:
        """Until something has come in. Raises the error that ended the stream."""
        if self._error:
            raise self._error
        self._reader = self._loop.create_future()
        try:
            await self._reader
        finally:
            self._reader = None
        if self._error and not self._has_input():
            raise self._error

    def _readable(self) -> None:
        try:
            if self._is_secure:
                self._take_in()
            else:
                self._shake()
        except (ssl.SSLWantReadError, BlockingIOError, InterruptedError):
            if not self._is_secure:
                self._want_write(False)  # a socket that can be written to would call us for ever
        except ssl.SSLWantWriteError:
            self._want_write(True)
        except (OSError, ValueError) as exc:  # ValueError: of a socket that was closed meanwhile
            self._end(exc if isinstance(exc, OSError) else ConnectionResetError(str(exc)))
        except PeerError as exc:
            self._broken(exc)

    def _shake(self) -> None:
        self._socket.do_handshake()
        self._is_secure = True
        self._secured(self._hostname is None)
        self._want_write(False)
        self._wake()

    def _read(self) -> bytes:
        data = self._socket.recv(RECORD)
        if not data:
            raise ConnectionResetError("the connection was closed")
        return data

    async def _until_room(self) -> None:
        """Waits while much waits to be written."""
        while self._out is not None and len(self._out) > WRITE_LIMIT and not self._error:
            self._room = self._loop.create_future()
            try:
                await self._room
            finally:
                self._room = None

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
        if not self._is_secure:
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
        if self._room is not None and not self._room.done() and len(out or b"") <= WRITE_LIMIT:
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
        self._socket.close()
        self._wake()
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
