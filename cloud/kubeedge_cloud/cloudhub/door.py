"""The listening socket of the hub: so many strangers are inside at once; the others wait outside, in the kernel's queue.

A connection costs memory from its first byte (TLS keeps buffers), long before a certificate says who it is. The door counts those
that nobody has vouched for yet; each is over soon, because the handshakes have deadlines. Who waits outside costs nothing but a place
in the listening socket's backlog, and need not try again: thousands of nodes that come back at once, after the cloud was restarted, are
taken in one after the other as fast as handshakes can be done.

asyncio's servers cannot pause. So the server is given a socket pair in place of the listener: it is readable when a visitor may come
in, and its accept() hands out that visitor. All that is used is documented: accept, fileno, loop.add_reader.

Lives elsewhere: deadlines and identity (module.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque

BACKLOG = 4096  # connections that the kernel keeps outside (net.core.somaxconn bounds it too)


class Visitor(socket.socket):
    """A connection that tells its door when it is over."""

    door: Door | None = None

    def close(self) -> None:
        if self.door is not None:
            self.door.left(self)
        super().close()


class Door(socket.socket):
    """Give it to an asyncio server as `sock`. Call admitted() for each connection whose owner is known."""

    def __init__(self, address: str, port: int, *, strangers: int) -> None:
        pair = socket.socketpair()
        super().__init__(pair[0].family, pair[0].type, pair[0].proto, fileno=pair[0].detach())
        self._bell = pair[1]
        self._most = strangers
        self._arrived: deque[tuple[Visitor, object]] = deque()
        self._strangers: dict[int, Visitor] = {}  # by file descriptor, while it is open
        self._open = False
        self._listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        try:
            self.setblocking(False)
            self._listener.setblocking(False)
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind((address, port))
        except BaseException:
            self.close()
            raise

    @property
    def strangers(self) -> int:
        """How many are inside."""
        return len(self._strangers)

    def listen(self, backlog: int = BACKLOG, /) -> None:
        self._listener.listen(BACKLOG)
        self._reopen()

    def getsockname(self) -> object:
        return self._listener.getsockname()

    def accept(self) -> tuple[socket.socket, object]:
        """The next visitor who may come in. BlockingIOError when there is none."""
        self.recv(1)
        return self._arrived.popleft()

    def admitted(self, descriptor: int) -> None:
        """The connection with this file descriptor is no stranger any more."""
        if self._strangers.pop(descriptor, None):
            self._reopen()

    def left(self, visitor: Visitor) -> None:
        if self._strangers.get(visitor.fileno()) is visitor:
            del self._strangers[visitor.fileno()]
            self._reopen()

    def close(self) -> None:
        self._shut()
        while self._arrived:
            self._arrived.popleft()[0].close()
        self._shut()
        self._listener.close()
        self._bell.close()
        super().close()

    def _reopen(self) -> None:
        if not self._open and self._listener.fileno() >= 0 and len(self._strangers) < self._most:
            self._open = True
            asyncio.get_running_loop().add_reader(self._listener.fileno(), self._let_in)

    def _shut(self) -> None:
        if self._open:
            self._open = False
            with contextlib.suppress(RuntimeError):  # the loop has ended
                asyncio.get_running_loop().remove_reader(self._listener.fileno())

    def _let_in(self) -> None:
        while len(self._strangers) < self._most:
            try:
                connection, peer = self._listener.accept()
            except OSError:  # nobody is there any more, or it has left, or no descriptor is free
                return
            visitor = Visitor(connection.family, connection.type, connection.proto, fileno=connection.detach())
            visitor.door = self
            self._strangers[visitor.fileno()] = visitor
            self._arrived.append((visitor, peer))
            self._bell.send(b"\0")
        self._shut()
