"""Probes over virtual time: when they ask, and what follows."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from kubeedge.api.pod import Container
from kubeedge.appengine import probes
from kubeedge.appengine.core import ContainerObservation
from kubeedge.appengine.runtime.base import ExecResult
from kubeedge.errors import Invalid
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


def test_an_initial_delay_begins_with_the_container_and_not_after_its_startup_probe() -> None:
    c = probed(
        startupProbe={**EXEC, "periodSeconds": 5, "failureThreshold": 10},
        readinessProbe={**EXEC, "periodSeconds": 5, "initialDelaySeconds": 30},
    )

    async def begin() -> list[tuple[float, bool, bool, str]]:
        await asyncio.sleep(1.0)
        state = running(asyncio.get_running_loop().time())
        state.ready = state.started = False
        return await follow(c, state, lambda t: t > 20, 60.0)

    # asked at 1, 6, ..., 21 (started), and at 31: 30 s of its life
    assert [(t, started, ready) for t, started, ready, _ in virtual_time.run(begin())] == [
        (21.0, True, False),
        (31.0, True, True),
    ]


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


async def served(answers: Callable[[str, str], bytes], **probe: Any) -> tuple[str, list[str]]:
    """What a probe says, and the requests that the server got. `answers` of the path and the port."""
    requests: list[str] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        requests.append(head)
        writer.write(answers(head.split()[1], str(port)))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    c = probed(livenessProbe={"httpGet": {"port": port, **probe}})
    assert c.liveness
    async with server:
        return await probes.ask(c, c.liveness, "127.0.0.1", _no_exec), requests


def answer(status: str, location: str = "") -> bytes:
    head = f"location: {location}\r\n" if location else ""
    return f"HTTP/1.1 {status}\r\n{head}content-length: 0\r\n\r\n".encode()


def test_the_user_s_host_and_user_agent_are_sent_once() -> None:
    headers = [
        {"name": "Host", "value": "shop.example"},
        {"name": "user-agent", "value": "mine"},
        {"name": "X", "value": "1"},
    ]
    problem, (request,) = asyncio.run(served(lambda _, __: answer("200 OK"), httpHeaders=headers))
    lines = [line.lower() for line in request.splitlines()]
    assert problem == ""
    assert [line for line in lines if line.startswith("host:")] == ["host: shop.example"]
    assert [line for line in lines if line.startswith("user-agent:")] == ["user-agent: mine"]
    _, (request,) = asyncio.run(
        served(lambda _, __: answer("200 OK"), httpHeaders=[{"name": "User-Agent", "value": ""}])
    )
    assert "user-agent" not in request.lower() and "host: 127.0.0.1:" in request.lower()


@pytest.mark.parametrize(
    ("target", "status", "problem"),
    [
        ("/bad", "500 No", "HTTP probe failed with statuscode: 500"),
        ("bad", "500 No", "HTTP probe failed with statuscode: 500"),
        ("http://127.0.0.1:PORT/bad?x=1", "404 No", "HTTP probe failed with statuscode: 404"),
        ("/good", "200 OK", ""),
        ("http://elsewhere.invalid/bad", "500 No", ""),  # another host is not asked
        ("ftp://127.0.0.1/", "500 No", ""),
    ],
)
def test_a_redirect_on_the_same_host_is_followed(target: str, status: str, problem: str) -> None:
    def answers(path: str, port: str) -> bytes:
        return answer("302 Found", target.replace("PORT", port)) if path == "/" else answer(status)

    assert asyncio.run(served(answers))[0] == problem


def test_redirects_without_end_are_a_failure() -> None:
    problem, requests = asyncio.run(served(lambda path, _: answer("302 Found", path + "x")))
    assert problem == "HTTP probe failed: stopped after 10 redirects" and len(requests) == 11


def test_a_container_that_never_was_ready_says_why_once() -> None:
    c = probed(readinessProbe={**EXEC, "periodSeconds": 1, "failureThreshold": 2})
    state = running()
    state.ready = False
    assert len(virtual_time.run(follow(c, state, lambda _: False, 60.0))) == 1


def test_a_failure_has_the_grace_of_its_probe() -> None:
    c = probed(livenessProbe={**EXEC, "periodSeconds": 1, "failureThreshold": 1, "terminationGracePeriodSeconds": 2})
    state = running()
    virtual_time.run(follow(c, state, lambda _: False, 5.0))
    assert state.unhealthy and state.unhealthy_grace == 2.0


@pytest.mark.parametrize(
    ("service", "said"),
    [("", ""), ("shop", "service unhealthy (responded with 'NOT_SERVING')"), ("x" * 300, "no health service")],
)
def test_a_grpc_probe_asks_a_real_server(service: str, said: str) -> None:
    grpc = pytest.importorskip("grpc.aio", reason="the cloud's own dependency")

    async def check(request: bytes, context: Any) -> bytes:
        if len(request) > 100:
            await context.abort(5, "unknown service")  # NOT_FOUND
        return b"\x08\x02" if request == b"\x0a\x04shop" else b"\x08\x01"

    async def ask() -> str:
        server = grpc.server()
        import grpc as plain

        handler = plain.unary_unary_rpc_method_handler(check)
        server.add_generic_rpc_handlers(
            (plain.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": handler}),)
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        c = probed(livenessProbe={"grpc": {"port": port, "service": service}, "timeoutSeconds": 10})
        assert c.liveness
        try:
            return await probes.ask(c, c.liveness, "127.0.0.1", _no_exec)
        finally:
            await server.stop(None)

    assert said in asyncio.run(ask()) if said else asyncio.run(ask()) == ""


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x00\x00\x00\x07\x00\x00\x00\x00\x00",  # GOAWAY
        b"\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x02",  # RST_STREAM
        b"\x00\x00\x02\x00\x09\x00\x00\x00\x01\x05x",  # all padding
        b"\x00\x00\x00\x04\x01\x00\x00\x00\x00" * 200,  # never to the point
        (b"\x00\x40\x00\x00\x00\x00\x00\x00\x01" + b"x" * 16384) * 4,  # endless data
        b"\x00\x00\x07\x00\x01\x00\x00\x00\x01\x01\x00\x00\x00\x02\x08\x01",  # compressed
        b"\x00\x00\x07\x00\x01\x00\x00\x00\x01\x00\xff\xff\xff\xff\x08\x01",  # another length than it says
        b"\xff" * 64,
        b"",
    ],
)
def test_a_server_that_speaks_no_grpc_is_unhealthy_and_no_more(said: bytes) -> None:
    async def ask() -> str:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(9)
            writer.write(said)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        c = probed(livenessProbe={"grpc": {"port": server.sockets[0].getsockname()[1]}, "timeoutSeconds": 10})
        assert c.liveness
        async with server:
            return await probes.ask(c, c.liveness, "127.0.0.1", _no_exec)

    assert asyncio.run(ask()) not in ("", "no answer within 10 s")


def test_a_path_or_header_can_end_no_line_of_the_request() -> None:
    """What has no place in a URL is escaped, as the kubelet does it; framing is HTTP's own business."""
    headers = [{"name": "Content-Length", "value": "9"}, {"name": "X-A", "value": "\tgrüße "}, {"name": "Host", "value": "a"}, {"name": "host", "value": "b"}]  # fmt: skip
    path = "/a b\r\nX-Injected: 1\r\n\r\nGET /other%20x?q=1&r=ä"
    problem, requests = asyncio.run(served(lambda _, __: answer("200 OK"), path=path, httpHeaders=headers))
    (request,) = requests
    lines = request.encode().decode().splitlines()
    assert (
        problem == ""
        and lines[0] == "GET /a%20b%0D%0AX-Injected:%201%0D%0A%0D%0AGET%20/other%20x?q=1&r=%C3%A4 HTTP/1.1"
    )
    assert "X-A: grüße" in lines and [line for line in lines if line.lower().startswith("host:")] == ["Host: a"]
    assert not any(line.lower().startswith(("content-length", "x-injected")) for line in lines)


@pytest.mark.parametrize("value", ["a\r\nX: 1", "a\rb", "a\nb", "a\x7fb", "a\x01"])
def test_a_header_s_value_has_no_control_characters(value: str) -> None:
    with pytest.raises(Invalid, match="is not the value of a header"):
        probed(livenessProbe={"httpGet": {"port": 80, "httpHeaders": [{"name": "X", "value": value}]}})


def test_every_answer_is_counted_by_its_kind() -> None:
    c = probed(
        startupProbe={**EXEC, "periodSeconds": 1, "failureThreshold": 9},
        readinessProbe={**EXEC, "periodSeconds": 2},
        livenessProbe={**EXEC, "periodSeconds": 3, "failureThreshold": 9},
    )
    counted: Counter[tuple[str, bool]] = Counter()

    async def scenario() -> None:
        loop = asyncio.get_running_loop()

        async def exec(command: list[str], timeout: float) -> ExecResult:
            return ExecResult(0 if 3 <= loop.time() < 10 else 1, b"")

        state = running()
        state.started = state.ready = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(12.5):
                await probes.watch(
                    c, state, "", exec, lambda _: None, lambda kind, good: counted.update([(kind, good)])
                )

    virtual_time.run(scenario())
    # startup at 0, 1, 2 (bad), 3; then readiness at 3, 5, 7, 9, 11 and liveness at 3, 6, 9, 12
    assert counted == {
        ("Startup", False): 3, ("Startup", True): 1,
        ("Readiness", True): 4, ("Readiness", False): 1, ("Liveness", True): 3, ("Liveness", False): 1,
    }  # fmt: skip
