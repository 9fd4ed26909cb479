"""A work queue: each key at most once in line, one worker at a time a key, failures again after a growing delay.

A handler gets a key and makes the world fit what it finds now; what happened in between does not matter. It returns
the seconds after which it wants to look again, or None.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from kubeedge.errors import Conflict, Invalid, KubeEdgeError, NotFound, Refused, Unavailable
from kubeedge.kit.backoff import Backoff

log = logging.getLogger("kubeedge.controllers")

K = TypeVar("K", bound=Hashable)

_BACKOFF = Backoff(0.005, 30.0)


class WorkQueue(Generic[K]):
    """`workers` is how many keys are handled at once: their writes share the store's fsync."""

    def __init__(self, name: str, handle: Callable[[K], Awaitable[float | None]], *, workers: int = 8) -> None:
        self.name = name
        self._handle = handle
        self._workers = workers
        self._waiting: dict[K, None] = {}  # a dict for its order
        self._active: set[K] = set()
        self._again: set[K] = set()  # added while they were being handled
        self._failures: dict[K, int] = {}
        self._timers: dict[K, tuple[float, asyncio.TimerHandle]] = {}
        self._idle: list[asyncio.Future[None]] = []  # workers without a key

    def add(self, key: K) -> None:
        """A key that is being handled is handled once more after that."""
        if key in self._active:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting[key] = None
            self._wake_one()

    def _wake_one(self) -> None:
        """For one key: all of many workers cost more than what most keys have to do."""
        while self._idle:
            idle = self._idle.pop()
            if not idle.done():  # else it was cancelled
                idle.set_result(None)
                return

    def add_after(self, key: K, delay: float) -> None:
        """The earliest of the wishes for a key wins."""
        loop = asyncio.get_running_loop()
        at = loop.time() + delay
        planned = self._timers.get(key)
        if planned is not None:
            if planned[0] <= at:
                return
            planned[1].cancel()
        self._timers[key] = (at, loop.call_at(at, self._due, key))

    def _due(self, key: K) -> None:
        self._timers.pop(key, None)
        self.add(key)

    async def run(self) -> None:
        """Serve the queue until cancelled; keys that are waiting then stay in it."""
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(self._workers):
                    group.create_task(self._work(), name=f"{self.name} worker {number}")
        finally:
            for _, timer in self._timers.values():
                timer.cancel()
            self._timers.clear()
            self._idle.clear()

    async def _work(self) -> None:
        while True:
            while not self._waiting:
                idle = asyncio.get_running_loop().create_future()
                self._idle.append(idle)
                await idle
            key = next(iter(self._waiting))
            del self._waiting[key]
            self._active.add(key)
            try:
                await self._once(key)
            finally:
                self._active.discard(key)
            if key in self._again:
                self._again.discard(key)
                self.add(key)
            await asyncio.sleep(0)  # handlers that find nothing to do never wait: a long line must not hold the loop

    async def _once(self, key: K) -> None:
        try:
            delay = await self._handle(key)
        except (Conflict, NotFound) as exc:
            # another writer was faster; the cache will catch up in a moment
            log.debug("%s %s: %s", self.name, key, exc)
            self.add_after(key, self._backoff(key))
        except (Invalid, Refused) as exc:
            # the same input would fail the same way, but another part of the world may change: rarely again
            log.warning("%s %s: %s", self.name, key, exc)
            self._failures[key] = max(self._failures.get(key, 0), 10)
            self.add_after(key, self._backoff(key))
        except KubeEdgeError as exc:
            log.warning("%s %s: %s", self.name, key, exc)
            asked = exc.retry_after if isinstance(exc, Unavailable) else None
            self.add_after(key, max(self._backoff(key), asked or 0.0))
        except Exception:
            log.exception("%s %s failed", self.name, key)
            self.add_after(key, self._backoff(key))
        else:
            self._failures.pop(key, None)
            if delay is not None:
                self.add_after(key, delay)

    def _backoff(self, key: K) -> float:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        return _BACKOFF.delay(failures)
