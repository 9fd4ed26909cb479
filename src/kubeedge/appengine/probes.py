"""Probes of one running container: when to ask (pure), and asking.

Lives elsewhere: what follows from the answers (a restart: core.py; readiness: status.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from kubeedge.api.pod import Container, Probe
from kubeedge.appengine import grpc_health, http_probe
from kubeedge.appengine.core import ContainerObservation
from kubeedge.appengine.runtime.base import ExecResult
from kubeedge.kit.dataclasses import dataclass, field


@dataclass(slots=True)
class ProbeResult:
    """Consecutive answers against the thresholds. Pure."""

    probe: Probe
    good: int = 0
    bad: int = 0
    healthy: bool = False

    def note(self, success: bool) -> bool | None:
        """True or False when the result was reached now (again), None while it is open."""
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


CountProbe = Callable[[str, bool], None]


Warn = Callable[[str], None]


def _uncounted(kind: str, success: bool) -> None:
    pass


def _unheard(warning: str) -> None:
    pass


async def watch(
    container: Container,
    state: ContainerObservation,
    ip: str,
    exec: Exec,
    changed: Callable[[str], None],
    count: CountProbe = _uncounted,
    warn: Warn = _unheard,
) -> None:
    """Keeps `ready`, `started` and `unhealthy` of one run. `changed(message)` after each change, `count(kind, success)` after each answer,
    with the kind as the kubelet writes it, `warn(message)` when a probe that succeeds says something new. Ends by cancellation.

    A run that was started and ready before the agent restarted stays so until a probe says otherwise: services do not flap.
    """
    run = _ProbedRun(container, state, ip, exec, changed, count, warn)
    if container.startup is not None and not state.started:
        if not await run.start_up(container.startup):
            return
        state.started = True
        state.ready = container.readiness is None
        changed("")
    async with asyncio.TaskGroup() as group:
        if container.readiness is not None:
            group.create_task(run.follow_readiness(container.readiness))
        if container.liveness is not None:
            group.create_task(run.follow_liveness(container.liveness))


@dataclass(frozen=True, slots=True)
class _ProbedRun:
    """One run of a container, and whom its probes tell."""

    container: Container
    state: ContainerObservation
    ip: str
    exec: Exec
    changed: Callable[[str], None]
    count: CountProbe
    warn: Warn
    warned: dict[str, str] = field(default_factory=dict)  # by kind of probe: the same is not said with each answer

    async def start_up(self, probe: Probe) -> bool:
        """Whether it has; it is unhealthy otherwise."""
        result = ProbeResult(probe)
        await asyncio.sleep(self._initial_delay(probe))
        while True:
            problem = await self._ask("Startup", probe)
            match result.note(not problem):
                case True:
                    return True
                case False:
                    self._fail("startup", probe, problem)
                    return False
            await asyncio.sleep(probe.period)

    async def follow_readiness(self, probe: Probe) -> None:
        """Until it is cancelled."""
        result, told, state = ProbeResult(probe), "", self.state
        await asyncio.sleep(self._initial_delay(probe))
        while True:
            problem = await self._ask("Readiness", probe)
            reached = result.note(not problem)
            changed_reason = (
                reached is False and problem != told
            )  # also of a container that was never ready: its reason must be visible
            if reached is not None and (reached != state.ready or changed_reason):
                state.ready, told = reached, problem
                self.changed("" if reached else f"Readiness probe failed: {problem}")
            await asyncio.sleep(probe.period)

    async def follow_liveness(self, probe: Probe) -> None:
        """Until it is unhealthy."""
        result = ProbeResult(probe)
        await asyncio.sleep(self._initial_delay(probe))
        while True:
            problem = await self._ask("Liveness", probe)
            if result.note(not problem) is False:
                self._fail("liveness", probe, problem)
                return
            await asyncio.sleep(probe.period)

    async def _ask(self, kind: str, probe: Probe) -> str:
        def warn(text: str) -> None:
            if self.warned.get(kind) != text:
                self.warned[kind] = text
                self.warn(f"{kind} probe warning: {text}")

        problem = await ask(self.container, probe, self.ip, self.exec, warn)
        self.count(kind, not problem)
        return problem

    def _fail(self, kind: str, probe: Probe, problem: str) -> None:
        self.state.unhealthy, self.state.unhealthy_grace = f"{kind} probe failed: {problem}", probe.grace
        self.changed(f"{kind.capitalize()} probe failed: {problem}")

    def _initial_delay(self, probe: Probe) -> float:
        """What is left of it: it begins with the run, not when its startup probe has succeeded. Of a run from before the agent it is all."""
        begun = self.state.begun
        lived = asyncio.get_running_loop().time() - begun if begun else 0.0
        return max(0.0, probe.initial_delay - lived)


async def ask(container: Container, probe: Probe, ip: str, exec: Exec, warn: Warn = _unheard) -> str:
    """What is wrong with a container; "" when the probe succeeds, though it may have something to `warn` of."""
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
    host = probe.host or ip
    try:
        async with asyncio.timeout(probe.timeout):
            match probe.kind:
                case "http":
                    return await http_probe.ask(host, port, probe.path, probe.headers, warn, tls=probe.tls)
                case "grpc":
                    async with http_probe.connected(host, port) as (reader, writer):
                        status = await grpc_health.check(reader, writer, f"{host}:{port}", probe.service)
                        return "" if status == "SERVING" else f"service unhealthy (responded with {status!r})"
            async with http_probe.connected(host, port):
                return ""
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
