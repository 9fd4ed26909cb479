"""What goes to one client: what is written while somebody has a turn is sent when that is over, in one system call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kubeedge.mqtt.turns import LoopTurns

_TOGETHER = 8 * 1024  # bytes to a client in one system call, unless a message is larger


class Outgoing:
    """Of one connection, once it has a transport. `held` is called when the client has not taken all, and when it has again."""

    __slots__ = ("_data", "_has_waited", "_held", "_size", "_turns", "transport")

    def __init__(self, turns: LoopTurns, held: Callable[[], None]) -> None:
        self._turns, self._held = turns, held
        self._has_waited = False
        self._data: list[bytes] = []
        self._size = 0
        self.transport: asyncio.Transport | None = None  # None: there is no connection, or none any more

    @property
    def waiting(self) -> int:
        """Bytes that the client has not taken."""
        return self.transport.get_write_buffer_size() if self.transport is not None else 0

    def write(self, data: bytes) -> None:
        """Now, or at the end of the turn."""
        self._data.append(data)
        self._size += len(data)
        if not self._turns.is_running or self._size >= _TOGETHER:
            self.flush()
        elif len(self._data) == 1:
            self._turns.at_end.append(self.flush)

    def flush(self) -> None:
        """All that was written, before the turn is over."""
        data, self._size = b"".join(self._data), 0
        self._data.clear()
        if data and self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)
            before, self._has_waited = self._has_waited, bool(self.transport.get_write_buffer_size())
            if before or self._has_waited:
                self._held()
