"""Runs modules in floors: bottom first up, top first down; a module that crashes is started again, alone.

Lives here:      start and stop order, restart with back-off, the state of each module for `status`.
Lives elsewhere: what modules do; which modules there are (kubeedge.edgecore, kubeedge_cloud.cloudcore).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from kubeedge.beehive.module import Module

log = logging.getLogger("kubeedge.beehive")


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    first: float = 0.5  # seconds before the first restart, doubling
    last: float = 30.0
    healthy_after: float = 60.0  # seconds of life after which a crash counts as the first again

    def delay(self, crashes: int) -> float:
        """Before the restart after the n-th crash in a row (1, 2, ...)."""
        return float(min(self.last, self.first * 2 ** min(crashes - 1, 20)))


@dataclass(slots=True)
class ModuleState:
    name: str
    state: Literal["starting", "ready", "backing off", "stopped"] = "starting"
    restarts: int = 0
    last_error: str = ""


class Supervisor:
    """run() returns after SIGTERM, SIGINT or stop(); it does not return because a module is in trouble."""

    def __init__(
        self,
        floors: Sequence[Sequence[Module]],
        *,
        policy: RestartPolicy | None = None,
        ready_patience: float = 10.0,  # seconds that a floor may take before the next one starts all the same
        stop_patience: float = 10.0,  # seconds that a module may take to release what it holds
    ) -> None:
        self._floors = floors
        self._policy = policy or RestartPolicy()
        self._ready_patience = ready_patience
        self._stop_patience = stop_patience
        self._stop = asyncio.Event()
        self._states = {module.name: ModuleState(module.name) for floor in floors for module in floor}

    def states(self) -> list[ModuleState]:
        return list(self._states.values())

    def stop(self) -> None:
        self._stop.set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(ValueError, NotImplementedError, RuntimeError):  # not the main thread: a test
                loop.add_signal_handler(number, self._stop.set)
        running: list[list[asyncio.Task[None]]] = []
        try:
            for floor in self._floors:
                running.append(await self._start(floor))
                if self._stop.is_set():
                    break
            await self._stop.wait()
        finally:
            for tasks in reversed(running):
                await self._end(tasks)

    async def _start(self, floor: Sequence[Module]) -> list[asyncio.Task[None]]:
        readies = {module.name: asyncio.Event() for module in floor}
        tasks = [asyncio.create_task(self._keep(m, readies[m.name]), name=f"module {m.name}") for m in floor]
        waiting = [asyncio.create_task(ready.wait()) for ready in readies.values()]
        stop = asyncio.create_task(self._stop.wait())
        try:
            all_ready = asyncio.gather(*waiting)
            await asyncio.wait((all_ready, stop), timeout=self._ready_patience, return_when=asyncio.FIRST_COMPLETED)
            late = [name for name, ready in readies.items() if not ready.is_set()]
            if late and not self._stop.is_set():
                log.warning("not ready after %g s, going on without: %s", self._ready_patience, ", ".join(late))
        finally:
            stop.cancel()
            for task in waiting:
                task.cancel()
            await asyncio.gather(stop, *waiting, return_exceptions=True)
            with contextlib.suppress(asyncio.CancelledError):
                await all_ready
        return tasks

    async def _keep(self, module: Module, ready: asyncio.Event) -> None:
        """One module, for ever: run, and run again after a crash."""
        loop = asyncio.get_running_loop()
        state = self._states[module.name]
        crashes = 0
        while True:
            state.state = "starting"
            began = loop.time()
            watch = asyncio.create_task(_note_ready(ready, state))
            try:
                await module.run(ready)
                error = "returned without being told to stop"
            except asyncio.CancelledError:
                state.state = "stopped"
                raise
            except Exception as exc:
                error = _text(exc)
                log.error("module=%s crashed: %s", module.name, error, exc_info=exc)
            finally:
                watch.cancel()
                await asyncio.gather(watch, return_exceptions=True)
            crashes = 1 if loop.time() - began >= self._policy.healthy_after else crashes + 1
            state.state, state.last_error, state.restarts = "backing off", error, state.restarts + 1
            delay = self._policy.delay(crashes)
            log.info("module=%s starts again in %g s", module.name, delay)
            await asyncio.sleep(delay)

    async def _end(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        _, stuck = await asyncio.wait(tasks, timeout=self._stop_patience)
        for task in stuck:
            log.error("%s does not stop within %g s", task.get_name(), self._stop_patience)


async def _note_ready(ready: asyncio.Event, state: ModuleState) -> None:
    await ready.wait()
    state.state = "ready"


def _text(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__
