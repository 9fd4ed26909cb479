"""Keeps the probes of running containers running."""

from __future__ import annotations

import asyncio
from typing import Any

from kubeedge.api.pod import Container
from kubeedge.appengine.core import ContainerObservation
from kubeedge.appengine.probes import watch
from kubeedge.appengine.reports import Reports
from kubeedge.appengine.runtime.base import Runtime
from kubeedge.appengine.worker import Worker


class Prober:
    """One task for each container with probes; the results go to its observation and wake the worker."""

    def __init__(self, runtime: Runtime, reports: Reports, host_ip: str) -> None:
        self._runtime = runtime
        self._reports = reports
        self._host_ip = host_ip

    def keep(self, worker: Worker) -> None:
        """Probes run for containers that run and have any."""
        if worker.desired is None:
            return
        for container in (*worker.desired.sidecars, *worker.desired.containers):
            state = worker.observed.of(container.name)
            has = container.liveness or container.readiness or container.startup
            if has and state.running and container.name not in worker.probes:
                worker.probes[container.name] = asyncio.create_task(
                    self._probe(worker, container, state), name=f"probes of {worker.name}/{container.name}"
                )

    async def _probe(self, worker: Worker, container: Container, state: ContainerObservation) -> None:
        loop = asyncio.get_running_loop()

        async def exec(command: list[str], timeout: float) -> Any:
            return await self._runtime.exec_sync(state.id, command, timeout)

        def changed(message: str) -> None:
            worker.wake.set()
            if message:
                task = loop.create_task(self._reports.event(worker, "Warning", "Unhealthy", message, container.name))
                task.add_done_callback(lambda t: t.exception() if not t.cancelled() else None)

        pod = worker.desired
        ip = self._host_ip if pod is not None and pod.host_network else worker.observed.ip
        counts = worker.probed.setdefault(container.name, {})

        def count(kind: str, success: bool) -> None:
            key = kind, "successful" if success else "failed"
            counts[key] = counts.get(key, 0) + 1

        await watch(container, state, ip, exec, changed, count)

    def end(self, worker: Worker, name: str) -> None:
        """Stops the probes of a container; nothing happens when it has none."""
        if task := worker.probes.pop(name, None):
            task.cancel()

    def end_all(self, worker: Worker) -> None:
        """Stops the probes of all containers of a pod, before it is ended."""
        for name in list(worker.probes):
            self.end(worker, name)
