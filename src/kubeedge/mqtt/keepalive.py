"""When a client has been silent for longer than it has promised (MQTT 5.0, 3.1.2.10). Its one timer is not moved with each packet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class KeepAlive:
    """`heard_at`, by the loop's clock, is the caller's to set."""

    __slots__ = ("_is_busy", "_loop", "_most", "_silent", "_timer", "heard_at")

    def __init__(self, is_busy: Callable[[], bool], silent: Callable[[], None]) -> None:
        """`is_busy`: the client may have said something that has not been looked at. `silent`: what is to be done."""
        self._is_busy, self._silent = is_busy, silent
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._most = self.heard_at = 0.0

    def begin(self, most: float) -> None:
        """From now on; `most` is in seconds, 0: it may be silent for ever."""
        self._most = most
        self.heard_at = self._loop.time()
        if most:
            self._look()

    def stop(self) -> None:
        """It is over. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        now = self._loop.time()
        if self._is_busy():
            self.heard_at = now
        if now >= self.heard_at + self._most:
            self._silent()
        else:
            self._timer = self._loop.call_at(self.heard_at + self._most, self._look)
