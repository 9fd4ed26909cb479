"""The event loop of a scenario: asyncio without a kernel. Time jumps to the next timer, which may fire late.

The product's tasks, futures, locks and timeouts are asyncio's own; only the loop under them is this one. It is what it is for speed: a
scenario is some thousand callbacks, and asyncio's general loop costs more for each than most of them do.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Any

STILL = 2_000_000  # callbacks without time going on: two tasks wake each other for ever


class _Handle:
    """A callback that may be cancelled."""

    __slots__ = ("_args", "_callback", "_when")

    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...], when: float) -> None:
        self._callback: Callable[..., object] | None = callback
        self._args = args
        self._when = when

    def cancel(self) -> None:
        self._callback = None
        self._args = ()

    def cancelled(self) -> bool:
        return self._callback is None

    def when(self) -> float:
        return self._when

    def __call__(self) -> None:
        if self._callback is not None:
            self._callback(*self._args)


class StoryLoop(asyncio.BaseEventLoop):
    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self._rng = rng
        self._now = 0.0
        self._soon: deque[tuple[Callable[..., object], tuple[Any, ...], Context | None]] = deque()
        self._timers: list[tuple[float, int, _Handle]] = []
        self._set = 0
        self._stopping = False
        self.lateness = 0.0  # seconds that a timer may fire late, and so in another order than it was set
        self.callbacks = 0

    def time(self) -> float:
        return self._now

    def get_debug(self) -> bool:
        return False

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> Any:
        if context is not None:  # a step of a task or what waits for a future: nobody cancels these
            self._soon.append((callback, args, context))
            return None
        handle = _Handle(callback, args, self._now)
        self._soon.append((handle, (), None))
        return handle

    call_soon_threadsafe = call_soon  # there are no threads in a scenario

    def call_later(self, delay: float, callback: Any, *args: Any, context: Context | None = None) -> Any:
        return self.call_at(self._now + delay, callback, *args)

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> Any:
        if self.lateness and self._rng.random() < 0.1:
            when += self._rng.uniform(0, self.lateness)
        handle = _Handle(callback, args, when)
        self._set += 1
        heapq.heappush(self._timers, (when, self._set, handle))
        return handle

    def _run_once(self) -> None:
        """Everything that can be done now, then the next moment."""
        soon = self._soon
        done = 0
        while soon:
            callback, args, context = soon.popleft()
            done += 1
            try:
                if context is None:
                    callback(*args)
                else:
                    context.run(callback, *args)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as exc:
                self.call_exception_handler({"message": f"in {callback!r}", "exception": exc})
            if done > STILL:
                raise RuntimeError("the scenario stands still: its tasks wake each other for ever")
        self.callbacks += done
        if self._stopping:
            return
        timers = self._timers
        while timers and timers[0][2].cancelled():
            heapq.heappop(timers)
        if not timers:
            raise RuntimeError("nothing to run and no timer: somebody waits for what cannot come")
        self._now = now = max(self._now, timers[0][0])
        while timers and timers[0][0] <= now:
            handle = heapq.heappop(timers)[2]
            if not handle.cancelled():
                soon.append((handle, (), None))

    def _write_to_self(self) -> None:
        pass

    def close(self) -> None:
        self._soon.clear()
        self._timers.clear()
        super().close()
