"""What asyncio.TaskGroup lacks: tasks that come and go without taking their neighbours down, and a certain end.

async with TaskSet("connections") as tasks:
    tasks.start(serve(...), "connection 7")      # logs its own failure
# here every one of them has ended
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, TypeVar

from kubeedge.errors import Misuse

T = TypeVar("T")
log = logging.getLogger("kubeedge.tasks")


async def cancel_and_wait(*tasks: asyncio.Task[Any]) -> None:
    """Cancel and wait until all have ended. Failures on the way out are logged, not raised."""
    for task in tasks:
        task.cancel()
    if not tasks:
        return
    await asyncio.wait(tasks)
    for task in tasks:
        _report(task)


async def first_of(*awaitables: asyncio.Future[Any] | Coroutine[Any, Any, Any]) -> None:
    """Until one of them is done. Coroutines among them are ended then; futures and tasks stay as they are."""
    made = [asyncio.ensure_future(one) for one in awaitables if not isinstance(one, asyncio.Future)]
    futures = [one for one in awaitables if isinstance(one, asyncio.Future)]
    try:
        await asyncio.wait([*futures, *made], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in made:
            task.cancel()
        await asyncio.gather(*made, return_exceptions=True)


async def until_one_ends(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Runs them side by side. Raises what the first to end raises, of a group its first exception; the others are cancelled."""
    tasks = [asyncio.ensure_future(each) for each in coroutines]
    try:
        (ended, *_), _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        await ended
    except BaseExceptionGroup as exc:
        raise exc.exceptions[0] from exc
    finally:
        await cancel_and_wait(*(task for task in tasks if not task.done()))


class TaskSet:
    """Named tasks of one owner. A task that fails is logged and forgotten; leaving the `async with` cancels the rest."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, coroutine: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Run a coroutine as a task of this set. Raises Misuse after the end, when the coroutine is closed."""
        if self._closed:
            coroutine.close()
            raise Misuse(f"{self.name} has ended: {name} cannot start")
        task = asyncio.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def aclose(self) -> None:
        """Cancel all and wait for them."""
        self._closed = True
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(set(self._tasks))

    async def __aenter__(self) -> TaskSet:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        _report(task)


def _report(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("task failed name=%s", task.get_name(), exc_info=error)
