"""`kubeedge pods`, `logs` and `exec` as processes, at an agent's control socket with a kubelet of this test behind it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from kubeedge.appengine.streaming_sessions import converse
from kubeedge.cli.errors import UsageError
from kubeedge.cli.pod_logs import _seconds
from kubeedge.control.module import ControlServer
from kubeedge.errors import NotFound
from kubeedge.kit.http1 import Request, Response, Upgrade, json_response, start_unix_server, text_response
from kubeedge.streaming import negotiation
from kubeedge.streaming.byte_stream import SocketStream
from kubeedge.streaming.channels import ChannelCommand
from kubeedge.streaming.command import CommandOptions
from tests.unit.streaming.test_streaming_sessions import Process

COMMAND = [sys.executable, "-m", "kubeedge"]


def pod(name: str, namespace: str = "default", *containers: str, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": namespace, "uid": f"{namespace}-{name}"},
        "spec": {"nodeName": "edge1", "containers": [{"name": c, "image": f"{c}:1"} for c in containers]},
        "status": {
            "phase": "Running", "podIP": "10.244.1.2",
            "containerStatuses": [{"name": c, "ready": True, "restartCount": 2, "state": {"running": {}}} for c in containers],
            "conditions": [{"type": "Ready", "status": "True"}], **status,
        },
    }  # fmt: skip


PODS = [
    pod("web", "default", "app", "log"),
    pod("db", "default", "db"),
    pod("web2", "prod", "app"),
    pod("db", "prod", "db"),
]


class Kubelet:
    """What it was asked, and a process for exec."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, list[str]]]] = []
        self.process: Process | None = None

    async def answer(self, request: Request) -> Response | Upgrade:
        self.asked.append((request.path, request.query))
        match request.path.strip("/").split("/"):
            case ["pods"]:
                return json_response(200, {"kind": "PodList", "items": PODS})
            case ["containerLogs", _, _, container] if "previous" in request.query:
                return json_response(400, {"message": f"previous terminated container {container} not found"})
            case ["containerLogs", _, _, container]:
                return Response(200, [("content-type", "text/plain")], self._log(container))
            case ["exec", _, _, "log"]:
                return text_response(404, 'container not found ("log")\n')
            case ["exec", *_]:
                return self._exec(request)
        raise NotFound("nothing of that kind")

    async def _log(self, container: str) -> AsyncIterator[bytes]:
        yield f"{container} one\n{container} ".encode()
        await asyncio.sleep(0.01)
        yield b"two\n"

    def _exec(self, request: Request) -> Upgrade:
        choice = negotiation.negotiate(request, (), negotiation.COMMAND_WEBSOCKET)
        query = request.query
        options = CommandOptions(stdin="input" in query, stdout=True, stderr="error" in query, tty="tty" in query)
        self.process = process = Process()

        async def start() -> Any:
            return process

        async def takeover(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes) -> None:
            client = ChannelCommand(SocketStream(reader, writer, first), choice.protocol, options)
            if not options.stdin:
                await process.end_input()
            await converse(client, start, timeout=None)

        return Upgrade(choice.headers, takeover)


@contextlib.asynccontextmanager
async def agent(path: Path) -> AsyncIterator[Kubelet]:
    kubelet = Kubelet()

    async def routes(request: Request) -> dict[str, Any] | None:
        return None

    control = ControlServer(path, routes, str, kubelet.answer)
    async with await start_unix_server(path, control.handle):
        yield kubelet


Asking = Callable[..., Awaitable[subprocess.CompletedProcess[bytes]]]


def scenario(tmp_path: Path, steps: Callable[[Kubelet, Asking], Awaitable[None]]) -> None:
    path = tmp_path / "edge.sock"

    async def ask(verb: str, *arguments: str, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        command = [*COMMAND, verb, "--socket", str(path), *arguments]
        return await asyncio.to_thread(subprocess.run, command, input=input, capture_output=True, timeout=120)

    async def run() -> None:
        async with agent(path) as kubelet:
            await steps(kubelet, ask)

    asyncio.run(run())


def test_pods_are_listed_in_the_columns_of_kubectl(tmp_path: Path) -> None:
    async def steps(kubelet: Kubelet, ask: Asking) -> None:
        rows = [line.split() for line in (await ask("pods")).stdout.decode().splitlines()]
        assert rows[0] == ["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE"]
        assert rows[1][:5] == ["default", "db", "1/1", "Running", "2"] and len(rows) == 5
        wide = (await ask("pods", "-n", "default", "web", "-o", "wide")).stdout.decode().splitlines()
        assert wide[1].split()[-3:] == ["10.244.1.2", "edge1", "app:1,log:1"]
        assert (await ask("pods", "db", "-o", "name")).stdout == b"pod/db\npod/db\n"
        assert json.loads((await ask("pods", "pod/web", "-o", "json")).stdout) == PODS[0]
        nothing = await ask("pods", "none")
        assert nothing.returncode == 1 and b"no pod none is on this node" in nothing.stderr

    scenario(tmp_path, steps)


def test_logs_take_the_options_of_kubectl(tmp_path: Path) -> None:
    async def steps(kubelet: Kubelet, ask: Asking) -> None:
        done = await ask("logs", "web")
        assert done.stdout == b"app one\napp two\n" and done.stderr == b'Defaulted container "app" out of: app, log\n'
        done = await ask(
            "logs", "-f", "pod/web", "log", "--tail=5", "--since", "1h30m", "--timestamps", "--limit-bytes=9"
        )
        assert done.stdout == b"log one\nlog two\n" and done.stderr == b""
        path, query = kubelet.asked[-1]
        assert path == "/containerLogs/default/web/log"
        assert query == {"follow": ["true"], "timestamps": ["true"], "tailLines": ["5"], "limitBytes": ["9"],
                         "sinceSeconds": ["5400"]}  # fmt: skip
        done = await ask("logs", "web", "--all-containers", "--prefix")
        assert done.stdout == (
            b"[pod/web/app] app one\n[pod/web/app] app two\n[pod/web/log] log one\n[pod/web/log] log two\n"
        )
        done = await ask("logs", "web", "--all-containers", "-f")
        assert sorted(done.stdout.split(b"\n")) == [b"", b"app one", b"app two", b"log one", b"log two"]
        done = await ask("logs", "web", "-p")
        assert done.returncode == 1 and b"previous terminated container app not found" in done.stderr
        done = await ask("logs", "db")
        assert done.returncode == 1 and b"default, prod" in done.stderr and b"-n" in done.stderr
        assert (await ask("logs", "db", "-n", "prod", "--since-time", "2026-01-01T00:00:00Z")).returncode == 0
        assert kubelet.asked[-1] == ("/containerLogs/prod/db/db", {"sinceTime": ["2026-01-01T00:00:00Z"]})
        assert (await ask("logs", "web", "-c", "nobody")).returncode == 1
        assert (await ask("logs", "web", "--since", "soon")).returncode == 2

    scenario(tmp_path, steps)


@pytest.mark.parametrize(("text", "seconds"), [("5s", 5), ("90", 90), ("2m", 120), ("1h30m", 5400), ("0s", 1)])
def test_times_are_written_as_for_kubectl(text: str, seconds: int) -> None:
    assert _seconds(text) == seconds


@pytest.mark.parametrize("text", ["s", "5x", "m5", "-5s", "1" * 20, "1.5h"])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        _seconds(text)


def test_exec_has_the_streams_and_the_exit_status_of_the_command(tmp_path: Path) -> None:
    async def steps(kubelet: Kubelet, ask: Asking) -> None:
        done = await ask(
            "exec", "web", "-c", "app", "-i", "--", "tr", "-d", "a b", input=b"hello" * 500_000
        )  # more than all buffers
        assert done.stdout == b"HELLO" * 500_000 and done.returncode == 3
        assert done.stderr == b"byecommand terminated with exit code 3\n"
        path, query = kubelet.asked[-1]
        assert path == "/exec/default/web/app" and query["command"] == ["tr", "-d", "a b"] and query["error"] == ["1"]
        done = await ask("exec", "web", "--", "-x")  # without -i it has no input
        assert (
            done.returncode == 3 and "input" not in kubelet.asked[-1][1] and kubelet.asked[-1][1]["command"] == ["-x"]
        )
        done = await ask("exec", "web", "-c", "log", "--", "true")
        assert done.returncode == 1 and b'container not found ("log")' in done.stderr
        assert (await ask("exec", "web")).returncode == 2

    scenario(tmp_path, steps)


def test_exec_with_a_terminal_tells_its_size_and_gives_it_back_as_it_was(tmp_path: Path) -> None:
    async def steps(kubelet: Kubelet, ask: Asking) -> None:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 155, 0, 0))
        before = termios.tcgetattr(theirs)
        command = [*COMMAND, "exec", "--socket", str(tmp_path / "edge.sock"), "-it", "web", "-c", "app", "--", "sh"]
        with await asyncio.to_thread(
            subprocess.Popen, command, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE
        ) as client:
            async with asyncio.timeout(60):
                while kubelet.process is None or not kubelet.process.sizes:
                    await asyncio.sleep(0.02)
                os.write(ours, b"a\x03\x04")  # keys that a terminal would take for itself
                said = b""
                while b"A\x03\x04" not in said:
                    said += await asyncio.to_thread(os.read, ours, 100)
                await kubelet.process.end_input()
                assert await asyncio.to_thread(client.wait) == 3
            assert client.stderr is not None and b"exit code 3" in client.stderr.read()
        assert kubelet.process.sizes == [(44, 155)] and termios.tcgetattr(theirs) == before
        os.close(ours)
        os.close(theirs)

    scenario(tmp_path, steps)


def test_without_an_agent_all_of_them_say_so(tmp_path: Path) -> None:
    for arguments in (["pods"], ["logs", "web"], ["exec", "web", "--", "true"]):
        command = [*COMMAND, arguments[0], "--socket", str(tmp_path / "none.sock"), *arguments[1:]]
        done = subprocess.run(command, capture_output=True, timeout=120)
        assert done.returncode == 1 and b"the agent does not run here" in done.stderr
