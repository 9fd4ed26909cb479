"""Probes of one running container: when to ask (pure), and asking.

Lives elsewhere: what follows from the answers (a restart: core.py; readiness: status.py).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from kubeedge.appengine.core import ContainerObservation
from kubeedge.appengine.pod import Container, Probe
from kubeedge.appengine.runtime.base import ExecResult
from kubeedge.kit.http1 import Connection

_BODY = 10 * 1024  # bytes of an answer that are read


@dataclass(slots=True)
class Verdict:
    """Consecutive answers against the thresholds. Pure."""

    probe: Probe
    good: int = 0
    bad: int = 0
    healthy: bool = False

    def note(self, success: bool) -> bool | None:
        """True or False when the verdict was reached now (again), None while it is open."""
        if success:
            self.good, self.bad = self.good + 1, 0
            if self.good >= self.probe.success_threshold:
                self.healthy = True
                return True
        else:
            self.good, self.bad = 0, self.bad + 1
            if self.bad >= self.probe.failure_threshold:
                self.healthy = False
                return False
        return None


Exec = Callable[[list[str], float], Awaitable[ExecResult]]


async def watch(
    container: Container, state: ContainerObservation, ip: str, exec: Exec, changed: Callable[[str], None]
) -> None:
    """Keeps `ready`, `started` and `unhealthy` of one run. `changed(message)` after each change. Ends by cancellation.

    A run that was started and ready before the agent restarted stays so until a probe says otherwise: services do not flap.
    """
    if container.startup is not None and not state.started:
        if not await _startup(container, container.startup, state, ip, exec, changed):
            return
        state.started = True
        state.ready = container.readiness is None
        changed("")
    async with asyncio.TaskGroup() as group:
        if container.readiness is not None:
            group.create_task(_readiness(container, container.readiness, state, ip, exec, changed))
        if container.liveness is not None:
            group.create_task(_liveness(container, container.liveness, state, ip, exec, changed))


async def _startup(
    container: Container, probe: Probe, state: ContainerObservation, ip: str, exec: Exec, changed: Callable[[str], None]
) -> bool:
    verdict = Verdict(probe)
    await asyncio.sleep(probe.initial_delay)
    while True:
        problem = await ask(container, probe, ip, exec)
        match verdict.note(not problem):
            case True:
                return True
            case False:
                state.unhealthy = f"startup probe failed: {problem}"
                changed(f"Startup probe failed: {problem}")
                return False
        await asyncio.sleep(probe.period)


async def _readiness(
    container: Container, probe: Probe, state: ContainerObservation, ip: str, exec: Exec, changed: Callable[[str], None]
) -> None:
    verdict = Verdict(probe)
    await asyncio.sleep(probe.initial_delay)
    while True:
        problem = await ask(container, probe, ip, exec)
        reached = verdict.note(not problem)
        if reached is not None and reached != state.ready:
            state.ready = reached
            changed("" if reached else f"Readiness probe failed: {problem}")
        await asyncio.sleep(probe.period)


async def _liveness(
    container: Container, probe: Probe, state: ContainerObservation, ip: str, exec: Exec, changed: Callable[[str], None]
) -> None:
    verdict = Verdict(probe)
    await asyncio.sleep(probe.initial_delay)
    while True:
        problem = await ask(container, probe, ip, exec)
        if verdict.note(not problem) is False:
            state.unhealthy = f"liveness probe failed: {problem}"
            changed(f"Liveness probe failed: {problem}")
            return
        await asyncio.sleep(probe.period)


async def ask(container: Container, probe: Probe, ip: str, exec: Exec) -> str:
    """What is wrong, "" when nothing is."""
    if probe.kind == "exec":
        try:
            result = await exec(list(probe.command), probe.timeout)
        except OSError as exc:
            return str(exc)
        return (
            ""
            if result.exit_code == 0
            else result.output.decode(errors="replace").strip()[:200] or f"exit {result.exit_code}"
        )
    port = _port(container, probe.port)
    if not port:
        return f"port {probe.port!r} is not known"
    try:
        async with asyncio.timeout(probe.timeout):
            reader, writer = await asyncio.open_connection(probe.host or ip, port)
            try:
                if probe.kind == "tcp":
                    return ""
                headers = [("host", f"{probe.host or ip}:{port}"), ("user-agent", "kube-probe"), *probe.headers]
                answer = await Connection(reader, writer).request("GET", probe.path, headers)
                return "" if 200 <= answer.status < 400 else f"HTTP probe failed with statuscode: {answer.status}"
            finally:
                writer.transport.abort()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except TimeoutError:
        return f"no answer within {probe.timeout:g} s"
    except Exception as exc:  # whatever a workload answers with must not end the probe
        return str(exc) or type(exc).__name__


def _port(container: Container, port: int | str) -> int:
    if isinstance(port, int):
        return port
    if port.isdigit():
        return int(port)
    return next((p.container for p in container.ports if p.name == port), 0)
