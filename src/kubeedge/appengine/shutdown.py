"""The machine shuts down: pods end before it does, those of low priority first, and start again with it.

Unlike a kubelet's, such a pod has not failed: who comes back without the cloud would have nothing to run. What its containers did is reported, it
is not ready, and its volumes stay mounted until the kernel stops.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable

from kubeedge.appengine import core
from kubeedge.appengine.eviction import CRITICAL
from kubeedge.appengine.reports import Reports
from kubeedge.appengine.termination import Termination
from kubeedge.appengine.worker import Worker
from kubeedge.errors import KubeEdgeError
from kubeedge.kit.dataclasses import replace

log = logging.getLogger("kubeedge.appengine")

_REASON = "the machine shuts down"


def groups(workers: Iterable[Worker], grace: float, critical: float) -> list[tuple[list[Worker], float]]:
    """(pods, seconds that they have together): of low priority first. Critical ones have `critical` of the `grace` seconds, and are the last."""
    running = [worker for worker in workers if any(state.running for state in worker.observed.containers.values())]
    critical = min(critical, grace)
    of_priority: dict[bool, list[Worker]] = {False: [], True: []}
    for worker in running:
        of_priority[_priority(worker) >= CRITICAL].append(worker)
    return [
        (found, seconds)
        for found, seconds in ((of_priority[False], grace - critical), (of_priority[True], critical))
        if found
    ]


def _priority(worker: Worker) -> int:
    pod = worker.desired or worker.last
    return pod.priority if pod is not None else 0


class Shutdown:
    """Ends pods whose drivers have been stopped. `clock` is that of plan()."""

    def __init__(self, termination: Termination, reports: Reports, *, clock: Callable[[], float]) -> None:
        self._termination = termination
        self._reports = reports
        self._clock = clock

    async def run(self, workers: Iterable[Worker], grace: float, critical: float) -> None:
        """Returns when their containers have ended, or their seconds are over."""
        begun = time.monotonic()
        for pods, seconds in groups(workers, grace, critical):
            log.info("%s: %d pods have %g s to end", _REASON, len(pods), seconds)
            tasks = [asyncio.create_task(self._end(worker, seconds), name=f"end of {worker.name}") for worker in pods]
            await asyncio.wait(tasks)
        log.info("pods have ended after %.1f s", time.monotonic() - begun)

    async def _end(self, worker: Worker, seconds: float) -> None:
        """Its containers, then its sidecars, with its own grace period and no more than `seconds`."""
        over = self._clock() + seconds
        pod = worker.desired or worker.last
        worker.observed.ending_since = worker.observed.ending_since or self._clock()
        try:
            while stop := core.next_to_stop(pod, worker.observed, self._clock()):
                left = max(0.0, over - self._clock())
                stop = replace(stop, grace=min(stop.grace, left), why=_REASON)
                for name in stop.names:
                    await self._reports.event(
                        worker, "Normal", "Killing", f"Stopping container {name}: {_REASON}", name
                    )
                await self._termination.stop(worker, stop.names, stop.grace)
                await _noted(worker, stop.names)
            await self._reports.report(worker)
        except (KubeEdgeError, OSError) as exc:
            log.warning("pod %s/%s does not end: %s", worker.namespace, worker.name, exc)


async def _noted(worker: Worker, names: Iterable[str]) -> None:
    """Until their exits have been heard of, which follow at once."""
    while any(worker.observed.of(name).running for name in names):
        worker.wake.clear()
        try:
            async with asyncio.timeout(_EXIT):
                await worker.wake.wait()
        except TimeoutError as exc:
            raise KubeEdgeError("an exit was not reported") from exc


_EXIT = 5.0  # seconds
