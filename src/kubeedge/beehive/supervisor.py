"""Runs modules in levels: bottom first up, top first down; a module that crashes is started again, alone.

Lives here:      start and stop order, tasks, signals, the state of each module for `kubeedge status`.
Lives elsewhere: when a crashed module starts again (core.py); what modules do; which there are (kubeedge.edgecore, kubeedge_cloud.cloudcore).

A level is up when all its modules are ready, or when its time is over: a module that fails delays the levels above it, and does not stop them. They
find out by themselves what does not work yet. Stopping is the reverse; a module that does not release what it holds in time is named in the
log and in the result of run(), with the line it hangs at.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from kubeedge.beehive.core import RestartPolicy, Restarts
from kubeedge.beehive.module import Module
from kubeedge.errors import KubeEdgeError, Misuse
from kubeedge.kit import dataclasses
from kubeedge.kit.dataclasses import dataclass

if TYPE_CHECKING:
    from kubeedge.kit.metrics import ModulePhase

__all__ = ["ModuleState", "RestartPolicy", "Supervisor"]

log = logging.getLogger("kubeedge.beehive")


@dataclass(slots=True)
class ModuleState:
    """A module, for `kubeedge status` and the metrics."""

    name: str
    state: ModulePhase = "stopped"
    restarts: int = 0
    last_error: str = ""


class Supervisor:
    """run() returns after SIGTERM, SIGINT or stop(); it does not return because a module fails."""

    def __init__(
        self,
        levels: Sequence[Sequence[Module]],
        *,
        policy: RestartPolicy | None = None,
        ready_timeout: float = 10.0,  # seconds that a level may take before the next one starts all the same
        stop_timeout: float = 10.0,  # seconds that the modules of a level may take to release what they hold
        before_stop: Callable[[], Awaitable[None]] | None = None,  # while all modules still run
    ) -> None:
        names = [module.name for level in levels for module in level]
        if len(set(names)) != len(names):
            raise Misuse(f"two modules have one name: {sorted(names)}")
        self._levels = levels
        self._policy = policy or RestartPolicy()
        self._ready_timeout = ready_timeout
        self._stop_timeout = stop_timeout
        self._before_stop = before_stop
        self._stop = asyncio.Event()
        self._force = asyncio.Event()
        self.signalled = False  # the process is to end
        self._states = {name: ModuleState(name) for name in names}

    def states(self) -> list[ModuleState]:
        """A snapshot, bottom level first."""
        return [dataclasses.replace(state) for state in self._states.values()]

    def stop(self) -> None:
        """run() stops all modules, top level first, and returns. Idempotent."""
        self._stop.set()

    async def run(self) -> tuple[str, ...]:
        """The names of modules that would not stop: their tasks still exist, so the process should end with os._exit."""
        loop = asyncio.get_running_loop()
        restore = [_on_signal(loop, number, self._signalled) for number in (signal.SIGTERM, signal.SIGINT)]
        running: list[list[asyncio.Task[None]]] = []
        stuck: list[str] = []
        try:
            for level in self._levels:
                if self._stop.is_set():
                    break
                readies = [asyncio.Event() for _ in level]
                running.append(
                    [
                        asyncio.create_task(self._keep(module, ready), name=f"module {module.name}")
                        for module, ready in zip(level, readies, strict=True)
                    ]
                )
                await self._until_ready({m.name: ready for m, ready in zip(level, readies, strict=True)})
            await self._stop.wait()
            if self._before_stop is not None:
                await self._prepare_to_stop(self._before_stop())
        finally:
            for tasks in reversed(running):
                stuck += await self._end(tasks)
            for undo in restore:
                undo()
        return tuple(stuck)

    async def _prepare_to_stop(self, work: Awaitable[None]) -> None:
        """Given up when a second signal comes; its failure is no reason to go on."""
        preparing = asyncio.ensure_future(work)
        force = asyncio.create_task(self._force.wait(), name="until force")
        await asyncio.wait((preparing, force), return_when=asyncio.FIRST_COMPLETED)
        for task in (preparing, force):
            task.cancel()
        found = (await asyncio.gather(preparing, force, return_exceptions=True))[0]
        if isinstance(found, Exception):
            log.error("before the stop: %s", found, exc_info=found)

    def _signalled(self) -> None:
        """The second signal means it: what does not stop at once is left behind."""
        self.signalled = True
        if self._stop.is_set():
            self._force.set()
        self._stop.set()

    async def _until_ready(self, readies: dict[str, asyncio.Event]) -> None:
        waiting = [asyncio.create_task(ready.wait(), name=f"until {name} is ready") for name, ready in readies.items()]
        stop = asyncio.create_task(self._stop.wait(), name="until stop")
        all_ready = asyncio.gather(*waiting)
        try:
            await asyncio.wait((all_ready, stop), timeout=self._ready_timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (stop, *waiting):
                task.cancel()
            await asyncio.gather(all_ready, stop, *waiting, return_exceptions=True)
        late = [name for name, ready in readies.items() if not ready.is_set()]
        if late and not self._stop.is_set():
            log.warning("not ready after %g s, going on without: %s", self._ready_timeout, ", ".join(late))

    async def _keep(self, module: Module, first_ready: asyncio.Event) -> None:
        """Run one module for ever, again after each crash."""
        state = self._states[module.name]
        restarts = Restarts(self._policy)
        clock = asyncio.get_running_loop().time
        try:
            while True:
                state.state = "starting"
                restarts.started(clock())
                error = await self._run_once(module, state, first_ready)
                delay = restarts.ended(clock())
                state.state, state.last_error, state.restarts = "backing off", error, restarts.total
                log.info("module=%s starts again in %g s", module.name, delay)
                await asyncio.sleep(delay)
        finally:
            state.state = "stopped"

    async def _run_once(self, module: Module, state: ModuleState, first_ready: asyncio.Event) -> str:
        """Why it ended. Raises CancelledError when it ended because it was told to, however it put that."""
        ready = asyncio.Event()
        watch = asyncio.create_task(_note_ready(ready, state, first_ready), name=f"until {module.name} is ready")
        error: BaseException | None = None
        try:
            await module.run(ready)
        except (Exception, asyncio.CancelledError) as exc:  # a cancellation may also be a stray one, from inside
            error = exc
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        text = "returned without being told to stop" if error is None else _text(error)
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            if isinstance(error, Exception):
                log.error("module=%s failed while it stopped: %s", module.name, text, exc_info=error)
            raise asyncio.CancelledError
        if error is not None and _says_enough(error):
            log.error("module=%s failed: %s", module.name, text)
            return text
        again = text == state.last_error  # the same crash in a row needs no second traceback
        log.error("module=%s crashed: %s", module.name, text, exc_info=None if again else error)
        return text

    async def _end(self, tasks: Sequence[asyncio.Task[None]]) -> list[str]:
        """Cancel a level and wait; the names of what is left."""
        for task in tasks:
            task.cancel()
        force = asyncio.create_task(self._force.wait(), name="until force")
        gone = asyncio.create_task(asyncio.wait(tasks), name="until the level is empty")
        await asyncio.wait((gone, force), timeout=self._stop_timeout, return_when=asyncio.FIRST_COMPLETED)
        force.cancel()
        gone.cancel()
        await asyncio.gather(force, gone, return_exceptions=True)
        stuck = [task for task in tasks if not task.done()]
        for task in stuck:
            log.error("%s does not stop; it hangs %s", task.get_name(), _where(task))
        return [task.get_name().removeprefix("module ") for task in stuck]


def _on_signal(
    loop: asyncio.AbstractEventLoop, number: signal.Signals, action: Callable[[], None]
) -> Callable[[], None]:
    """Call `action` on a signal; returns what undoes that."""
    try:
        loop.add_signal_handler(number, action)
    except (ValueError, NotImplementedError, RuntimeError):  # not the main thread: a test
        return lambda: None
    return lambda: _ignore(loop.remove_signal_handler(number))


def _ignore(_: object) -> None:
    return None


async def _note_ready(ready: asyncio.Event, state: ModuleState, first_ready: asyncio.Event) -> None:
    await ready.wait()
    state.state = "ready"
    first_ready.set()


def _where(task: asyncio.Task[None]) -> str:
    """The innermost line that an await of the task stands at."""
    awaited: object = task.get_coro()
    where = "nowhere"
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "ag_frame", None)
        if frame is not None:
            where = f"at {frame.f_code.co_filename}:{frame.f_lineno}"
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "ag_await", None)
    return where


def _text(error: BaseException) -> str:
    error = _innermost(error)
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return f"{error.strerror}; is another agent or cloud running here? Otherwise choose another port"
    return str(error) or type(error).__name__


def _says_enough(error: BaseException) -> bool:
    """It is about this machine, and its message is for its administrator: a traceback would add nothing."""
    error = _innermost(error)
    if isinstance(error, OSError):
        return error.errno in (errno.EADDRINUSE, errno.EADDRNOTAVAIL)
    return isinstance(error, KubeEdgeError) and not isinstance(error, Misuse)


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
