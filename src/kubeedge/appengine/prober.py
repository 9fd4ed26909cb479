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
from kubeedge.kit.dataclasses import replace


class Prober:
    """One task for each container with probes; the results go to its observation and wake the worker."""

    def __init__(self, runtime: Runtime, reports: Reports, host_ip: str) -> None:
        self._runtime = runtime
        self._reports = reports
        self._host_ip = host_ip

    def keep(self, worker: Worker) -> None:
        """Probes run for containers that run and have any; all of them, of one that goes on though it was told to end."""
        if worker.desired is None:
            return
        for name in list(worker.told_to_end):
            self.end(worker, name)
        for container in (*worker.desired.sidecars, *worker.desired.containers):
            state = worker.observed.of(container.name)
            has = container.liveness or container.readiness or container.startup
            if has and state.running and container.name not in worker.probes:
                self._begin(worker, container, state)

    def _begin(self, worker: Worker, container: Container, state: ContainerObservation) -> None:
        worker.probes[container.name] = asyncio.create_task(
            self._probe(worker, container, state), name=f"probes of {worker.name}/{container.name}"
        )

    async def _probe(self, worker: Worker, container: Container, state: ContainerObservation) -> None:
        async def exec(command: list[str], timeout: float) -> Any:
            return await self._runtime.exec_sync(state.id, command, timeout)

        def changed(message: str) -> None:
            worker.wake.set()
            if message:
                self._tell(worker, "Unhealthy", message, container.name)

        def warn(message: str) -> None:
            self._tell(worker, "ProbeWarning", message, container.name)

        pod = worker.desired or worker.last
        ip = self._host_ip if pod is not None and pod.host_network else worker.observed.ip
        counts = worker.probed.setdefault(container.name, {})

        def count(kind: str, success: bool) -> None:
            key = kind, "successful" if success else "failed"
            counts[key] = counts.get(key, 0) + 1

        await watch(container, state, ip, exec, changed, count, warn)

    def _tell(self, worker: Worker, reason: str, message: str, container: str) -> None:
        """In an event, which the probes do not wait for."""
        task = asyncio.get_running_loop().create_task(
            self._reports.event(worker, "Warning", reason, message, container)
        )
        task.add_done_callback(lambda t: t.exception() if not t.cancelled() else None)

    def only_readiness(self, worker: Worker, name: str) -> None:
        """The container is told to end: it may be unhealthy from now on, and is ready for as long as it says so."""
        self.end(worker, name)
        pod, state = worker.desired or worker.last, worker.observed.of(name)
        container = next((c for c in pod.all_containers if c.name == name), None) if pod is not None else None
        if container is not None and container.readiness is not None and state.running and state.started:
            self._begin(worker, replace(container, liveness=None, startup=None), state)
            worker.told_to_end.add(name)

    def end(self, worker: Worker, name: str) -> None:
        """Stops the probes of a container; nothing happens when it has none."""
        worker.told_to_end.discard(name)
        if task := worker.probes.pop(name, None):
            task.cancel()

    def end_all(self, worker: Worker) -> None:
        """Stops the probes of all containers of a pod, before it is ended."""
        for name in list(worker.probes):
            self.end(worker, name)
