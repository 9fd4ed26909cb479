"""The listening socket of the hub: strangers may hold so many connections, and no more.

A connection costs memory from its first byte (TLS keeps buffers), long before a certificate says who it is. The door counts those
that nobody has vouched for yet; each is over after `patience` seconds, because the handshakes have deadlines. Beyond the limit a
connection is accepted and closed at once, which costs next to nothing and lets its owner try again.

Lives elsewhere: deadlines and identity (module.py).
"""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Callable


class Door(socket.socket):
    """Give it to an asyncio server as `sock`. Call admitted() for each connection whose owner is known."""

    def __init__(
        self, address: str, port: int, *, strangers: int, patience: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        self._most = strangers
        self._patience = patience
        self._clock = clock
        self._came: deque[float] = deque()
        self.turned_away = 0
        try:
            self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.bind((address, port))
            self.setblocking(False)
        except BaseException:
            self.close()
            raise

    def accept(self) -> tuple[socket.socket, object]:
        connection, peer = super().accept()
        now = self._clock()
        while self._came and self._came[0] <= now - self._patience:
            self._came.popleft()
        if len(self._came) >= self._most:
            connection.close()
            self.turned_away += 1
            raise ConnectionAbortedError("too many strangers")  # asyncio comes back for the next one
        self._came.append(now)
        return connection, peer

    def admitted(self) -> None:
        """One of them is no stranger any more; which one does not matter for counting."""
        if self._came:
            self._came.popleft()
