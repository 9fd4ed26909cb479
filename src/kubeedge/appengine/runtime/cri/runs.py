"""The runs of containers behind a CRI socket, and how each of them ends."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from kubeedge.api.names import Object
from kubeedge.appengine.runtime.base import Exit, Found
from kubeedge.appengine.runtime.cri import configs, found
from kubeedge.appengine.runtime.cri.own import OwnObjects
from kubeedge.kit.dataclasses import dataclass, field

_MESSAGE_BYTES = 4096  # of a termination message, as in Kubernetes


@dataclass(slots=True)
class CriRun:
    """One container, from its start to its removal."""

    uid: str
    name: str
    sandbox: str
    tty: bool
    stdin: bool
    stop_signal: str = ""  # that the runtime does not know of
    exit_code: int | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)


class CriRuns:
    """The runs by container id. `files` is the directory below which our termination messages are."""

    def __init__(self, own: OwnObjects, files: Path) -> None:
        self._own = own
        self._files = files
        self._runs: dict[str, CriRun] = {}
        self.on_exit: Callable[[Exit], None] = lambda _: None

    def clear(self) -> None:
        """Forget all runs, before they are read from the runtime again."""
        self._runs.clear()

    def add(self, id: str, run: CriRun) -> None:
        """Keep the run of a container that was started."""
        self._runs[id] = run

    def of(self, uid: str, name: str) -> Iterator[str]:
        """The ids of a container of a pod; they are forgotten."""
        for id, run in list(self._runs.items()):
            if (run.uid, run.name) == (uid, name):
                self._runs.pop(id)
                yield id

    def end_pod(self, uid: str) -> None:
        """End the runs of a pod that is being removed, without an event."""
        for id, run in list(self._runs.items()):
            if run.uid == uid:
                self._runs.pop(id)
                run.over.set()

    def running(self, id: str) -> CriRun | None:
        """The run of a container; None when it has ended or is not ours."""
        run = self._runs.get(id)
        return None if run is None or run.over.is_set() else run

    def take_up(self, uid: str, sandbox: str, status: Object) -> Found:
        """A container that was there before this start."""
        annotations = status.get("annotations", {})
        run = self._runs[str(status["id"])] = CriRun(
            uid, found.label(status, configs.CONTAINER), sandbox, configs.TTY in annotations, configs.STDIN in annotations,
            "" if status.get("stop_signal") else str(annotations.get(configs.STOP_SIGNAL, "")),
        )  # fmt: skip
        container = found.container(status, self.message(status))
        if container.exit is not None:
            run.exit_code = container.exit.exit_code
            run.over.set()
        return container

    async def ended(self, id: str) -> None:
        """The run may be over. Raises GrpcError."""
        run = self._runs.get(id)
        if run is None or run.over.is_set():
            return
        status = await self._own.container(id)
        if run.over.is_set() or self._runs.get(id) is not run:
            return
        if status is None:
            exit = Exit(run.uid, run.name, id, 137, "ContainerStatusUnknown", "")
        elif found.has_ended(status):
            exit = found.exit_of(status, self.message(status))
        else:
            return
        run.exit_code = exit.exit_code
        run.over.set()
        self.on_exit(exit)

    async def relist(self) -> None:
        """Finds the ends of runs that no event told of. Raises GrpcError."""
        if not any(not run.over.is_set() for run in self._runs.values()):
            return
        running = {str(c["id"]) for c in await self._own.containers() if not found.has_ended(c)}
        for id, run in list(self._runs.items()):
            if not run.over.is_set() and id not in running:
                await self.ended(id)

    def message(self, status: Object) -> str:
        """The termination message that a container left; "" for none, and for a path that is not ours."""
        path = str(status.get("annotations", {}).get(configs.MESSAGE, ""))
        if not path or not Path(path).is_relative_to(self._files):
            return ""
        try:
            with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                return file.read(_MESSAGE_BYTES).decode(errors="replace")
        except OSError:
            return ""

    def look(self, id: str) -> None:
        """It ended before we knew its name."""
        task = asyncio.ensure_future(self.ended(id))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # the next list repairs it
