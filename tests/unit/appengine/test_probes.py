"""Probes over virtual time: when they ask, and what follows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from kubeedge.appengine import probes
from kubeedge.appengine.core import ContainerObservation
from kubeedge.appengine.pod import Container
from kubeedge.appengine.runtime.base import ExecResult
from tests.kit import virtual_time
from tests.unit.appengine.world import container, pod, running

EXEC = {"exec": {"command": ["check"]}}


def probed(**fields: Any) -> Container:
    return pod(containers=[container(**fields)]).containers[0]


async def follow(
    c: Container, state: ContainerObservation, healthy: Callable[[float], bool], until: float
) -> list[tuple[float, bool, bool, str]]:
    """(time, started, ready, unhealthy) after each change."""
    loop, seen = asyncio.get_running_loop(), []

    async def exec(command: list[str], timeout: float) -> ExecResult:
        assert command == ["check"]
        return ExecResult(0 if healthy(loop.time()) else 1, b"not well")

    def changed(_: str) -> None:
        seen.append((loop.time(), state.started, state.ready, state.unhealthy))

    try:
        async with asyncio.timeout(until):
            await probes.watch(c, state, "10.0.0.1", exec, changed)
    except TimeoutError:
        pass
    return seen


def test_readiness_follows_its_thresholds_and_comes_back() -> None:
    c = probed(readinessProbe={**EXEC, "periodSeconds": 5, "initialDelaySeconds": 2, "failureThreshold": 2})
    state = running()
    state.ready = False
    seen = virtual_time.run(follow(c, state, lambda t: t < 10 or t > 30, 50.0))
    # asked at 2, 7, 12 (bad), 17 (bad: the second), ..., 32 (good)
    assert seen == [(2.0, True, True, ""), (17.0, True, False, ""), (32.0, True, True, "")]


def test_liveness_kills_after_its_threshold_of_failures_in_a_row() -> None:
    c = probed(livenessProbe={**EXEC, "periodSeconds": 1, "failureThreshold": 3})
    seen = virtual_time.run(follow(c, running(), lambda t: t < 5 or t in (6.0,), 60.0))
    # 5 bad, 6 good again, 7 8 9 bad
    assert seen == [(9.0, True, True, "liveness probe failed: not well")]


def test_nothing_else_is_asked_before_the_startup_probe_succeeded() -> None:
    c = probed(
        startupProbe={**EXEC, "periodSeconds": 10, "failureThreshold": 3}, livenessProbe={**EXEC, "periodSeconds": 1,
                                                                                         "failureThreshold": 1},
    )  # fmt: skip
    state = running()
    state.started = state.ready = False
    assert virtual_time.run(follow(c, state, lambda t: t >= 20, 25.0)) == [(20.0, True, True, "")]
    state = running()
    state.started = state.ready = False
    seen = virtual_time.run(follow(c, state, lambda _: False, 60.0))
    assert seen == [(20.0, False, False, "startup probe failed: not well")]


def test_a_run_that_was_ready_before_the_agent_restarted_stays_ready() -> None:
    c = probed(startupProbe=EXEC, readinessProbe={**EXEC, "periodSeconds": 5})
    state = running()
    assert virtual_time.run(follow(c, state, lambda _: True, 20.0)) == []
    assert state.ready and state.started


def test_http_and_tcp_probes_ask_a_real_server() -> None:
    async def serve(answer: bytes) -> tuple[str, str]:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            writer.write(answer)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        c = probed(
            livenessProbe={"httpGet": {"port": "web", "path": "/h"}},
            readinessProbe={"tcpSocket": {"port": port}},
            ports=[{"name": "web", "containerPort": port}],
        )
        assert c.liveness and c.readiness
        async with server:
            http = await probes.ask(c, c.liveness, "127.0.0.1", _no_exec)
            tcp = await probes.ask(c, c.readiness, "127.0.0.1", _no_exec)
        return http, tcp

    assert asyncio.run(serve(b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n")) == ("", "")
    http, tcp = asyncio.run(serve(b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n"))
    assert (http, tcp) == ("HTTP probe failed with statuscode: 500", "")
    http, _ = asyncio.run(serve(b"\x16\x03 garbage\r\n\r\n"))
    assert http


@pytest.mark.parametrize("probe", [{"httpGet": {"port": "nowhere"}}, {"tcpSocket": {"port": "nowhere"}}])
def test_a_port_of_an_unknown_name_is_a_failure_with_its_name(probe: dict[str, Any]) -> None:
    c = probed(livenessProbe=probe)
    assert c.liveness
    assert "nowhere" in asyncio.run(probes.ask(c, c.liveness, "127.0.0.1", _no_exec))


def test_no_answer_in_time_and_a_missing_runtime_are_failures() -> None:
    async def broken(command: list[str], timeout: float) -> ExecResult:
        raise OSError("crun is not here")

    c = probed(livenessProbe=EXEC)
    assert c.liveness
    assert asyncio.run(probes.ask(c, c.liveness, "127.0.0.1", broken)) == "crun is not here"

    async def silent() -> str:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        c = probed(livenessProbe={"httpGet": {"port": port}})
        assert c.liveness
        async with server:
            return await probes.ask(c, c.liveness, "127.0.0.1", _no_exec)

    assert asyncio.run(silent()) == "no answer within 1 s"


async def _no_exec(command: list[str], timeout: float) -> ExecResult:
    raise AssertionError("not an exec probe")
