"""Acknowledgements of what a client has sent: in the order of arrival, each when its message is on the disk."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from kubeedge.mqtt import answers

Durable: TypeAlias = "asyncio.Future[None] | None"  # done when the message may be acknowledged; None: at once


class Acknowledgements:
    """Of one connection. `write` sends them; `lost`: a message is not durable, and its client has to send it again; `has_room`: there are fewer than
    RECEIVE_MAX again."""

    __slots__ = ("_has_room", "_lost", "_waiting", "_write")

    def __init__(self, write: Callable[[bytes], None], lost: Callable[[], None], has_room: Callable[[], None]) -> None:
        self._write, self._lost, self._has_room = write, lost, has_room
        self._waiting: deque[tuple[bytes, Durable]] = deque()

    @property
    def is_full(self) -> bool:
        """The client may have no more in flight."""
        return len(self._waiting) >= answers.RECEIVE_MAX

    def add(self, packet: bytes, durable: Durable) -> None:
        """The answer to a message; it is sent at once where nothing has to be waited for."""
        if durable is None and not self._waiting:
            self._write(packet)
            return
        self._waiting.append((packet, durable))
        if len(self._waiting) == 1 and durable is not None:
            durable.add_done_callback(self._done)

    def clear(self) -> None:
        """There is nobody to send them to."""
        self._waiting.clear()

    def _done(self, _: object) -> None:
        """Those that one commit has made durable go out together: a system call for each costs more than the rest."""
        was_full, ready, lost = self.is_full, bytearray(), False
        while self._waiting:
            packet, durable = self._waiting[0]
            if durable is not None:
                if not durable.done():
                    durable.add_done_callback(self._done)
                    break
                if lost := durable.cancelled():
                    self.clear()
                    break
            self._waiting.popleft()
            ready += packet
        if ready:
            self._write(bytes(ready))
        if lost:
            self._lost()
        elif was_full and not self.is_full:
            self._has_room()
