"""How long clients may have the event loop: in one turn of it all of them together _TURN, and one packet. Who comes later waits for the next turn.

Whoever comes while nobody waits is served in the same turn of the loop, so that a message costs one wake-up and no more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

_TURN = 0.002  # seconds: thousands of packets come at once, and each may cost milliseconds
_SOME = (
    _TURN / 4
)  # seconds, after which it is looked at when a new turn begins: a call for each message would cost as much as the message


class LoopTurns:
    """Of one broker. A turn begins with `begin` and ends with `end`, which calls what is in `at_end`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Callable[[], None]] = deque()
        self._spent = 0.0
        self._is_asked = False
        self.is_running = False
        self.at_end: list[Callable[[], None]] = []

    @property
    def is_taken(self) -> bool:
        """Who comes now has to `wait`."""
        return bool(self._waiting) or self._spent >= _TURN

    def begin(self, now: float) -> float:
        """Until when the caller may work, by the loop's clock."""
        self.is_running = True
        return now + _TURN - self._spent

    def end(self, until: float) -> None:
        """The work is over. `until`: as `begin` has said."""
        self.is_running = False
        if self.at_end:
            calls, self.at_end = self.at_end, []
            for call in calls:
                call()
        self._spent = max(self._spent, _TURN - until + self._loop.time())
        if self._spent > _SOME and not self._is_asked:
            self._ask()

    def wait(self, work: Callable[[], None]) -> None:
        """It is called in a turn of its own, in the order of asking, and may begin then."""
        self._waiting.append(work)
        if not self._is_asked:
            self._ask()

    def _ask(self) -> None:
        self._is_asked = True
        self._loop.call_soon(self._next)

    def _next(self) -> None:
        self._is_asked, self._spent = False, 0.0
        waiting, self._waiting = self._waiting, deque()
        try:
            while waiting and self._spent < _TURN:
                waiting.popleft()()
        finally:  # those that ask again come after all who have waited
            waiting.extend(self._waiting)
            self._waiting = waiting
            if waiting and not self._is_asked:
                self._ask()
