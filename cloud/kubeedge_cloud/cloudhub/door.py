"""The listening socket of the hub: so many strangers are inside at once; the others wait outside, in the kernel's queue.

A connection costs memory from its first byte (TLS keeps buffers), long before a certificate says who it is. The door counts those
that nobody has vouched for yet; each is over soon, because the handshakes have deadlines. Who waits outside costs nothing but a place
in the listening socket's backlog, and need not try again: thousands of nodes that come back at once, after the cloud was restarted, are
taken in one after the other as fast as handshakes can be done.

Lives elsewhere: deadlines and identity (module.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

BACKLOG = 4096  # connections that the kernel keeps outside (net.core.somaxconn bounds it too)


class Door:
    """Use it as a context manager, inside a running loop. Who comes in is given to `visit`, with the address; of each, admitted() or
    left() has to be called with its file descriptor, left() before that is closed."""

    def __init__(self, address: str, port: int, *, strangers: int, visit: Callable[[socket.socket, str], None]) -> None:
        self._most = strangers
        self._visit = visit
        self._strangers: set[int] = set()  # file descriptors, while they are open
        self._open = False
        self._listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        try:
            self._listener.setblocking(False)
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind((address, port))
        except BaseException:
            self._listener.close()
            raise

    def __enter__(self) -> Door:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def strangers(self) -> int:
        """How many are inside."""
        return len(self._strangers)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def listen(self) -> None:
        self._listener.listen(BACKLOG)
        self._reopen()

    def admitted(self, descriptor: int) -> None:
        """The connection with this file descriptor is no stranger any more."""
        self.left(descriptor)

    def left(self, descriptor: int) -> None:
        """It is over, if it was a stranger's."""
        if descriptor in self._strangers:
            self._strangers.remove(descriptor)
            self._reopen()

    def close(self) -> None:
        """Nobody comes in any more. Idempotent."""
        self._shut()
        self._listener.close()

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
            self._strangers.add(connection.fileno())
            self._visit(connection, str(peer[0]))
        self._shut()
