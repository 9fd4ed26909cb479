"""An asyncio event loop whose clock is virtual: when nothing is ready to run, time jumps to the next timer.

    def test_a_lease_expires():
        async def scenario():
            await asyncio.sleep(3600)            # takes no real time
        virtual_time.run(scenario())

For coroutines that use timers, tasks, queues and in-memory streams. Real sockets and threads do not know virtual time: the
loop then waits for them in real time only while no timer is pending.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _JumpingSelector(selectors.DefaultSelector):
    """Instead of waiting for a timer, moves the clock there."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            return super().select(5.0) or _stuck()
        ready = super().select(0) if self.loop.asks_the_kernel else []
        if not ready and timeout > 0:
            self.loop.advance(timeout)
        return ready


def _stuck() -> list[tuple[selectors.SelectorKey, int]]:
    raise RuntimeError("the virtual loop has nothing to run and no timer: a test waits for something that cannot come")


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        selector = _JumpingSelector()
        selector.loop = self
        self._now = 0.0
        self.asks_the_kernel = True
        super().__init__(selector)

    def time(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds


def run(scenario: Coroutine[Any, Any, T]) -> T:
    """asyncio.run on a virtual clock that starts at 0.0."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(scenario)
