"""Ending containers: preStop hooks, the grace that they share with their containers, deletions that become more urgent meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Sequence

from kubeedge.appengine.hooks import Hooks
from kubeedge.appengine.reports import Reports
from kubeedge.appengine.runtime.base import Runtime
from kubeedge.appengine.worker import Worker
from kubeedge.errors import KubeEdgeError

_AFTER_HOOK = 2.0  # seconds that a container has for SIGTERM, at least, after its preStop hook


class Termination:
    """Ends the containers of a pod as the API promises it: preStop first, then the stop signal, SIGKILL when the grace period is over."""

    def __init__(self, runtime: Runtime, reports: Reports, hooks: Hooks) -> None:
        self._runtime = runtime
        self._reports = reports
        self._hooks = hooks

    async def stop(self, worker: Worker, names: Sequence[str], grace: float) -> None:
        """Together. A deletion that becomes more urgent meanwhile shortens what is left; what else changes is reported as it happens: a
        container that is not ready any more gets no new clients."""
        hooked: set[str] = set()
        while True:
            stopping = asyncio.create_task(self._stop_all(worker, names, grace, hooked))
            following = asyncio.create_task(self._follow(worker, grace))
            try:
                await asyncio.wait((stopping, following), return_when=asyncio.FIRST_COMPLETED)
            finally:
                following.cancel()
                stopping.cancel()
                await asyncio.gather(stopping, following, return_exceptions=True)
            if not stopping.cancelled():
                return stopping.result()
            grace = _deletion_grace(worker)

    async def _follow(self, worker: Worker, grace: float) -> None:
        """Returns when its deletion leaves it less than `grace` seconds."""
        while _deletion_grace(worker) >= grace:
            worker.wake.clear()  # everything else is looked at after this action
            if worker.probes:
                with contextlib.suppress(KubeEdgeError, OSError):  # it is tried again; what ends goes on
                    await self._reports.report(worker)
            await worker.wake.wait()

    async def _stop_all(self, worker: Worker, names: Sequence[str], grace: float, hooked: set[str]) -> None:
        """A task for it, not a gather(): that one is not cancelled() when it was cancelled, and has the cancellation for a result."""
        tasks = [asyncio.create_task(self._stop_one(worker, name, grace, hooked)) for name in names]
        try:
            await asyncio.wait(tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in tasks:
            task.result()

    async def _stop_one(self, worker: Worker, name: str, grace: float, hooked: set[str]) -> None:
        begun = time.monotonic()
        pod, id = worker.desired or worker.last, worker.observed.of(name).id
        container = next((c for c in pod.all_containers if c.name == name), None) if pod else None
        if container and container.pre_stop and grace > 0 and name not in hooked:
            hooked.add(name)
            if problem := await self._hooks.run(worker, container, container.pre_stop, grace):
                await self._reports.event(
                    worker, "Warning", "FailedPreStopHook", f"preStop hook failed: {problem}", name
                )
            grace = max(_AFTER_HOOK, grace - (time.monotonic() - begun))
        await self._runtime.stop_container(id, grace)


def _deletion_grace(worker: Worker) -> float:
    """Seconds that its deletion leaves the pod; infinite for one that is not deleted."""
    if worker.desired is None:
        return worker.observed.grace
    return worker.desired.grace if worker.desired.deleting else math.inf
