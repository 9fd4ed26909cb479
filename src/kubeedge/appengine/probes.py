"""Probes of one running container: when to ask (pure), and asking.

Lives elsewhere: what follows from the answers (a restart: core.py; readiness: status.py).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from urllib.parse import quote, urljoin, urlsplit

from kubeedge.api.pod import Container, Probe
from kubeedge.appengine import grpc_health
from kubeedge.appengine.core import ContainerObservation
from kubeedge.appengine.runtime.base import ExecResult
from kubeedge.kit.http1 import Connection

_REDIRECTS = 10
_FRAMING = ("content-length", "transfer-encoding", "trailer")
_BODY = 10 * 1024  # bytes of an answer that are read


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


def _uncounted(kind: str, success: bool) -> None:
    pass


async def watch(
    container: Container,
    state: ContainerObservation,
    ip: str,
    exec: Exec,
    changed: Callable[[str], None],
    count: CountProbe = _uncounted,
) -> None:
    """Keeps `ready`, `started` and `unhealthy` of one run. `changed(message)` after each change, `count(kind, success)` after each answer,
    with the kind as the kubelet writes it. Ends by cancellation.

    A run that was started and ready before the agent restarted stays so until a probe says otherwise: services do not flap.
    """
    if container.startup is not None and not state.started:
        if not await _startup(container, container.startup, state, ip, exec, changed, count):
            return
        state.started = True
        state.ready = container.readiness is None
        changed("")
    async with asyncio.TaskGroup() as group:
        if container.readiness is not None:
            group.create_task(_readiness(container, container.readiness, state, ip, exec, changed, count))
        if container.liveness is not None:
            group.create_task(_liveness(container, container.liveness, state, ip, exec, changed, count))


def _initial_delay(probe: Probe, state: ContainerObservation) -> float:
    """What is left of it: it begins with the run, not when its startup probe has succeeded. Of a run from before the agent it is all."""
    lived = asyncio.get_running_loop().time() - state.begun if state.begun else 0.0
    return max(0.0, probe.initial_delay - lived)


async def _startup(
    container: Container,
    probe: Probe,
    state: ContainerObservation,
    ip: str,
    exec: Exec,
    changed: Callable[[str], None],
    count: CountProbe,
) -> bool:
    result = ProbeResult(probe)
    await asyncio.sleep(_initial_delay(probe, state))
    while True:
        problem = await ask(container, probe, ip, exec)
        count("Startup", not problem)
        match result.note(not problem):
            case True:
                return True
            case False:
                state.unhealthy, state.unhealthy_grace = f"startup probe failed: {problem}", probe.grace
                changed(f"Startup probe failed: {problem}")
                return False
        await asyncio.sleep(probe.period)


async def _readiness(
    container: Container,
    probe: Probe,
    state: ContainerObservation,
    ip: str,
    exec: Exec,
    changed: Callable[[str], None],
    count: CountProbe,
) -> None:
    result, told = ProbeResult(probe), ""
    await asyncio.sleep(_initial_delay(probe, state))
    while True:
        problem = await ask(container, probe, ip, exec)
        count("Readiness", not problem)
        reached = result.note(not problem)
        changed_reason = (
            reached is False and problem != told
        )  # also of a container that was never ready: its reason must be visible
        if reached is not None and (reached != state.ready or changed_reason):
            state.ready, told = reached, problem
            changed("" if reached else f"Readiness probe failed: {problem}")
        await asyncio.sleep(probe.period)


async def _liveness(
    container: Container,
    probe: Probe,
    state: ContainerObservation,
    ip: str,
    exec: Exec,
    changed: Callable[[str], None],
    count: CountProbe,
) -> None:
    result = ProbeResult(probe)
    await asyncio.sleep(_initial_delay(probe, state))
    while True:
        problem = await ask(container, probe, ip, exec)
        count("Liveness", not problem)
        if result.note(not problem) is False:
            state.unhealthy, state.unhealthy_grace = f"liveness probe failed: {problem}", probe.grace
            changed(f"Liveness probe failed: {problem}")
            return
        await asyncio.sleep(probe.period)


async def ask(container: Container, probe: Probe, ip: str, exec: Exec) -> str:
    """What is wrong with a container; "" when the probe succeeds."""
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
                    return await _ask_http(host, port, probe.path, probe.headers)
                case "grpc":
                    async with _connected(host, port) as (reader, writer):
                        status = await grpc_health.check(reader, writer, f"{host}:{port}", probe.service)
                        return "" if status == "SERVING" else f"service unhealthy (responded with {status!r})"
            async with _connected(host, port):
                return ""
    except TimeoutError:
        return f"no answer within {probe.timeout:g} s"
    except Exception as exc:  # whatever a workload answers with must not end the probe
        return str(exc) or type(exc).__name__


@contextlib.asynccontextmanager
async def _connected(host: str, port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _ask_http(host: str, port: int, target: str, headers: Sequence[tuple[str, str]]) -> str:
    """A redirect to the same host is followed, as the kubelet does; one to another host counts as success."""
    url = f"http://{_in_url(host)}:{port}{_escaped(target if target.startswith('/') else '/' + target)}"
    for _ in range(_REDIRECTS + 1):
        parts = urlsplit(url)
        at = parts.port or (443 if parts.scheme == "https" else 80)
        async with _connected(host, at) as (reader, writer):
            if parts.scheme == "https":  # the certificate to expect is not known: an open port is enough
                return ""
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            answer = await Connection(reader, writer).request("GET", path, _request_headers(host, at, headers))
        if not 200 <= answer.status < 400:
            return f"HTTP probe failed with statuscode: {answer.status}"
        location = next((value for name, value in answer.headers if name.lower() == "location"), "")
        if answer.status not in (301, 302, 303, 307, 308) or not location:
            return ""
        url = urljoin(url, location)
        if urlsplit(url).hostname != parts.hostname or urlsplit(url).scheme not in ("http", "https"):
            return ""
    return f"HTTP probe failed: stopped after {_REDIRECTS} redirects"


def _escaped(target: str) -> str:
    """What may not stand in a URL is escaped, as the kubelet does it: urlsplit() would take line breaks out, and a request line ends at one."""
    return quote(target, safe="%/:?#[]@!$&'()*+,;=-._~")


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _request_headers(host: str, port: int, own: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The user's go before ours; an empty User-Agent or Accept says that there shall be none. Those of the message's framing are HTTP's own."""
    own = [(name, value.encode().decode("latin-1")) for name, value in own if name.lower() not in _FRAMING]
    own = [
        (n, v) for i, (n, v) in enumerate(own) if n.lower() != "host" or all(k.lower() != n.lower() for k, _ in own[:i])
    ]
    ours = (("host", f"{_in_url(host)}:{port}"), ("user-agent", "kube-probe"), ("accept", "*/*"))
    named = {name.lower() for name, _ in own}
    kept = [(n, v) for n, v in own if v or n.lower() not in ("host", "user-agent", "accept")]
    return [
        *((n, v) for n, v in ours if n not in named or (n == "host" and not any(k.lower() == n for k, _ in kept))),
        *kept,
    ]


def _port(container: Container, port: int | str) -> int:
    if isinstance(port, int):
        return port
    if port.isdigit():
        return int(port)
    return next((p.container for p in container.ports if p.name == port), 0)
