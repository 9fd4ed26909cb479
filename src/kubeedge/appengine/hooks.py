"""Lifecycle hooks of containers (postStart, preStop): a command, a request, a connection, or some sleep.

Lives elsewhere: when a hook runs and what its failure means (driver.py, termination.py).
"""

from __future__ import annotations

import asyncio

from kubeedge.api.pod import Container, Hook
from kubeedge.appengine import probes
from kubeedge.appengine.runtime.base import ExecResult, Runtime
from kubeedge.appengine.worker import Worker
from kubeedge.kit.dataclasses import replace


class Hooks:
    """Performs them. `host_ip` is the address of pods on the network of the node."""

    def __init__(self, runtime: Runtime, host_ip: str) -> None:
        self._runtime = runtime
        self._host_ip = host_ip

    async def run(self, worker: Worker, container: Container, hook: Hook, timeout: float) -> str:
        """What went wrong within `timeout` seconds; "": nothing. A sleep that is longer ends with them, and is no failure."""
        id = worker.observed.of(container.name).id
        if hook.action is None:
            await asyncio.sleep(min(hook.sleep, timeout))
            return ""
        if hook.action.kind == "exec":
            result = await self._runtime.exec_sync(id, hook.action.command, timeout)
            return reason_of(result) if result.exit_code else ""

        async def no_exec(command: list[str], timeout: float) -> ExecResult:
            return await self._runtime.exec_sync(id, command, timeout)

        pod = worker.desired or worker.last
        ip = self._host_ip if pod is not None and pod.host_network else worker.observed.ip
        return await probes.ask(container, replace(hook.action, timeout=timeout), ip, no_exec)


def reason_of(result: ExecResult) -> str:
    """What a command that failed wrote, for an event."""
    return result.output.decode(errors="replace").strip()[:200] or f"exit status {result.exit_code}"
