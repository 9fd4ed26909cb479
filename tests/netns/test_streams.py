"""exec, attach, cp and port-forward with real kubectl (Debian's speaks SPDY/3.1, today's WebSocket), real containers, and KubeBus between."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from kubeedge.appengine.runtime import cgroups
from tests.kit import images
from tests.kit.topology import DEFAULT_TIMEOUT, Topology, until
from tests.kit.upstream import build
from tests.netns.test_join import KUBECTL, KUBEEDGE, PREFIX, Site
from tests.netns.test_node_conditions import uplink_of

pytestmark = pytest.mark.root

#: it listens while it serves: between two servers nobody would
SERVER = "exec nc -ll -p 8080 -e cat"
#: while /tmp/go is there: a piece of output, and a line in /tmp/beats that says when it was taken
FLOOD = """
line=0123456789abcdef; for _ in 1 2 3 4 5 6 7 8 9 10; do line=$line$line; done
while :; do
    if [ -e /tmp/go ]; then echo $line; date +%s >> /tmp/beats; else sleep 0.1; fi
done
"""
PODS = [
    {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "box"},
        "spec": {"nodeName": "edge1", "terminationGracePeriodSeconds": 0, "containers": [
            {"name": "main", "image": "demo:1", "command": ["sh", "-c", "sleep 100000"]},
            {"name": "echo", "image": "demo:1", "command": ["sh", "-c", SERVER]},
            {"name": "reader", "image": "demo:1", "stdin": True,
             "command": ["sh", "-c", "while read line; do echo \"got $line\"; echo \"err $line\" >&2; done; sleep 100000"]},
            {"name": "flood", "image": "demo:1", "command": ["sh", "-c", FLOOD]},
        ]},
    },
]  # fmt: skip


class StreamSite(Site):
    """One node with a pod, and a kubectl of each generation."""

    def begin(self) -> None:
        self.join()
        config = self.root / "etc/kubeedge/kubeedge.yaml"
        head, name, tail = config.read_text().partition("metaserver:")
        config.write_text(head + name + tail.replace("enable: false", "enable: true", 1))
        self.start_agent()
        archive = images.build(self.directory / "demo.tar", "demo:1")
        socket = str(self.root / "run/kubeedge/edge.sock")
        self.machine.run(*KUBEEDGE, "image", "import", str(archive), "demo:1", "--socket", socket)
        for pod in PODS:
            self.kubectl("apply", "-f", "-", input=json.dumps(pod))
        until(lambda: "4/4" in self.kubectl("get", "pod", "box"), what="the pod runs")

    def command(self, program: str, *arguments: str, at: str = "cloud") -> list[str]:
        config = self.directory / "state/kubeconfig-default"
        host = self.cloud
        if at == "edge":
            config, host = self.root / "etc/kubeedge/kubeconfig", self.machine
        return host.command("env", f"HOME={self.directory}", program, "--kubeconfig", str(config), *arguments)

    def spawn_agent(self) -> None:
        self.agent = self.machine.spawn(
            *KUBEEDGE, "edge", "--root-dir", str(self.root), log=self.directory / "edge.log", env=self.agent_env
        )

    def end(self, process: subprocess.Popen[Any]) -> None:
        """Of what command() started: the process itself is nsenter, which waits outside."""
        if process.poll() is None:
            self.cloud.signal(process, signal.SIGKILL)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        process.wait(90)

    def ask(
        self, program: str, *arguments: str, input: bytes | None = None, at: str = "cloud"
    ) -> subprocess.CompletedProcess[bytes]:
        command = self.command(program, *arguments, at=at)
        if input is None:
            return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False)
        return subprocess.run(command, input=input, capture_output=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def site() -> Iterator[StreamSite]:
    directory = Path(tempfile.mkdtemp(prefix=PREFIX))  # not tmp_path: the path of a socket must be short
    with Topology() as net:
        try:
            site = StreamSite(net, directory)
            site.begin()
            yield site
        finally:
            net.__exit__()
            cgroups.kill_and_remove(PREFIX)
            shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module", params=["debian", "newest"])
def kubectl(request: pytest.FixtureRequest) -> str:
    return KUBECTL if request.param == "debian" else str(build.program("kubectl"))


def test_exec_keeps_the_streams_apart_and_tells_the_exit_status(site: StreamSite, kubectl: str) -> None:
    done = site.ask(kubectl, "exec", "box", "-c", "main", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.stdout, done.returncode) == (b"out\n", 7)
    assert done.stderr.startswith(b"err\n") and b"exit code 7" in done.stderr
    assert site.ask(kubectl, "exec", "box", "-c", "main", "--", "true").returncode == 0
    done = site.ask(kubectl, "exec", "box", "-c", "nobody", "--", "true")
    assert done.returncode != 0 and b"nobody" in done.stderr


def test_input_ends_and_large_streams_arrive_whole(site: StreamSite, kubectl: str) -> None:
    data = os.urandom(8 * 1024 * 1024)
    done = site.ask(kubectl, "exec", "-i", "box", "-c", "main", "--", "cat", input=data)
    assert done.returncode == 0, done.stderr
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()
    # who does not read its input does not keep the client
    done = site.ask(kubectl, "exec", "-i", "box", "-c", "main", "--", "head", "-c", "3", input=data)
    assert (done.returncode, done.stdout) == (0, data[:3])


def test_files_are_copied_there_and_back(site: StreamSite, kubectl: str) -> None:
    data = os.urandom(20 * 1024 * 1024)
    there, back = site.directory / "there", site.directory / "back"
    there.write_bytes(data)
    back.unlink(missing_ok=True)
    done = site.ask(kubectl, "cp", str(there), "box:/tmp/copied", "-c", "main")
    assert done.returncode == 0, done.stderr
    done = site.ask(kubectl, "cp", "box:/tmp/copied", str(back), "-c", "main")
    assert done.returncode == 0, done.stderr
    assert back.read_bytes() == data


def test_the_node_s_own_api_execs_too(site: StreamSite, kubectl: str) -> None:
    done = site.ask(kubectl, "exec", "-i", "box", "-c", "main", "--", "cat", input=b"at the edge", at="edge")
    assert (done.returncode, done.stdout) == (0, b"at the edge"), done.stderr


def test_top_shows_the_node_and_the_pod(site: StreamSite, kubectl: str) -> None:
    def rows(*what: str, at: str = "cloud") -> list[list[bytes]]:
        """Of what is measured: usage of a processor is that between two looks."""
        return [line.split() for line in site.ask(kubectl, "top", *what, "--no-headers", at=at).stdout.splitlines()]

    until(lambda: [row[0] for row in rows("node")] == [b"edge1"], what="the node")
    for at in ("cloud", "edge"):
        seen: list[list[bytes]] = []

        def all_there(at: str = at, seen: list[list[bytes]] = seen) -> bool:
            seen[:] = rows("pod", "box", "--containers", at=at)
            return sorted(row[1] for row in seen) == [b"echo", b"flood", b"main", b"reader"]

        until(all_there, what=f"its containers, at the {at}")
        assert all(row[2].endswith(b"m") and row[3].endswith(b"Mi") for row in seen)


def lines_until(pipe: IO[bytes], wanted: bytes) -> bytes:
    """What came, up to the line that has `wanted` in it."""
    seen, deadline = b"", time.monotonic() + DEFAULT_TIMEOUT
    while not (seen.endswith(b"\n") and wanted in seen.splitlines()[-1]):
        assert select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0], seen
        byte = os.read(pipe.fileno(), 1)
        assert byte, seen
        seen += byte
    return seen


class Terminal:
    """A kubectl on a pseudo-terminal of ours."""

    def __init__(self, command: list[str], rows: int, columns: int) -> None:
        self._master, slave = pty.openpty()
        termios.tcsetwinsize(self._master, (rows, columns))
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(slave)
        self.seen = b""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def resize(self, rows: int, columns: int) -> None:
        termios.tcsetwinsize(self._master, (rows, columns))  # the kernel tells kubectl by SIGWINCH

    def until(self, text: bytes) -> None:
        deadline = time.monotonic() + DEFAULT_TIMEOUT
        while text not in self.seen:
            assert select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))[0], self.seen
            try:
                data = os.read(self._master, 65536)
            except OSError:  # it hung up
                data = b""
            assert data, self.seen
            self.seen += data

    def close(self) -> None:
        os.close(self._master)  # kubectl hangs up
        self.process.wait(90)


@contextlib.contextmanager
def terminal(command: list[str], rows: int, columns: int) -> Iterator[Terminal]:
    made = Terminal(command, rows, columns)
    try:
        yield made
    finally:
        made.close()


def test_a_terminal_has_a_size_that_changes_and_an_exit_status(site: StreamSite, kubectl: str) -> None:
    command = site.command(kubectl, "exec", "-it", "box", "-c", "main", "--", "sh", "-c", "echo be''gun; exec sh -i")
    with terminal(command, 44, 55) as shell:
        shell.until(b"begun")
        until_size(shell, b"44 55")
        shell.resize(33, 101)
        until_size(shell, b"33 101")
        shell.type("exit 5\n")
        assert shell.process.wait(90) == 5


def until_size(shell: Terminal, wanted: bytes) -> None:
    """The size reaches the terminal in the container some time after it was set here."""
    deadline = time.monotonic() + DEFAULT_TIMEOUT
    while time.monotonic() < deadline:
        shell.seen = b""
        shell.type("stty size; echo do''ne\n")
        shell.until(b"done")
        if wanted in shell.seen:
            return
    raise AssertionError(shell.seen)


def test_attach_shares_the_streams_and_leaves_the_container_running(site: StreamSite, kubectl: str) -> None:
    attached = subprocess.Popen(
        site.command(kubectl, "attach", "-i", "box", "-c", "reader"),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert attached.stdin and attached.stdout and attached.stderr
        attached.stdin.write(b"one\n")
        attached.stdin.flush()
        lines_until(attached.stdout, b"got one")
        lines_until(attached.stderr, b"err one")
    finally:
        site.end(attached)
    assert "4/4" in site.kubectl("get", "pod", "box")


def test_a_client_of_attach_that_does_not_read_holds_the_container_up_for_a_moment(
    site: StreamSite, kubectl: str
) -> None:
    def flood(script: str) -> str:
        done = site.ask(kubectl, "exec", "box", "-c", "flood", "--", "sh", "-c", script)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()

    def gap() -> int:
        """Whole seconds for which nothing was taken from it."""
        return int(flood("echo $(($(date +%s) - $(tail -n 1 /tmp/beats)))"))

    attached = subprocess.Popen(
        site.command(kubectl, "attach", "box", "-c", "flood"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert attached.stdout
        flood("rm -f /tmp/beats; touch /tmp/go")
        lines_until(attached.stdout, b"0123")
        for process in site.cloud.running(b"attach\0box"):
            os.kill(process, signal.SIGSTOP)  # with all buffers on its way full, it takes nothing
        until(lambda: gap() >= 4, timeout=90, what="the client holds the container up")
        until(lambda: gap() < 2, timeout=90, what="the container goes on without the client")
    finally:
        flood("rm -f /tmp/go")
        attached.send_signal(signal.SIGCONT)  # nsenter stops with its child, and goes on with it
        site.end(attached)


def test_ports_of_a_pod_are_forwarded(site: StreamSite, kubectl: str) -> None:
    forward = subprocess.Popen(
        site.command(kubectl, "port-forward", "pod/box", ":8080", ":8081"),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        assert forward.stdout
        ports = {}
        for _ in range(2):
            line = lines_until(forward.stdout, b"127.0.0.1:").decode()
            last = line.splitlines()[-1]
            ports[last.split()[-1]] = int(last.split("127.0.0.1:")[1].split()[0])
        assert set(ports) == {"8080", "8081"}
        data = os.urandom(1024 * 1024)
        script = (
            "import socket,sys,threading\n"
            "c=socket.create_connection(('127.0.0.1',int(sys.argv[1])),20); c.settimeout(60)\n"
            "d=sys.stdin.buffer.read()\n"
            "threading.Thread(target=lambda:(c.sendall(d),c.shutdown(1))).start()\n"
            "while b:=c.recv(65536): sys.stdout.buffer.write(b)\n"
        )
        for _ in range(3):
            done = subprocess.run(
                site.cloud.command("/usr/bin/python3", "-c", script, str(ports["8080"])),
                input=data, capture_output=True, timeout=60, check=False,
            )  # fmt: skip
            assert done.stdout == data, done.stderr
        # nobody listens there
        done = subprocess.run(
            site.cloud.command("/usr/bin/python3", "-c", script, str(ports["8081"])),
            input=b"x", capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.stdout == b""
        lines_until(forward.stdout, b"Connection refused")
    finally:
        site.end(forward)


def test_pods_logs_and_exec_on_the_node_itself(site: StreamSite) -> None:
    def ask(*arguments: str, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        socket = str(site.root / "run/kubeedge/edge.sock")
        verb, *rest = arguments
        command = site.machine.command(*KUBEEDGE, verb, "--socket", socket, *rest)
        return subprocess.run(command, input=input, capture_output=True, timeout=120, check=False)

    listed = ask("pods").stdout.decode().splitlines()
    assert [line.split()[:4] for line in listed[1:]] == [["default", "box", "4/4", "Running"]]
    assert ask("pods", "-o", "name").stdout == b"pod/box\n" and ask("pods", "-n", "other", "box").returncode == 1
    ask("exec", "box", "-c", "main", "--", "sh", "-c", "for n in 1 2 3; do echo line $n; done > /proc/1/fd/1")
    until(lambda: ask("logs", "box", "-c", "main", "--tail", "2").stdout == b"line 2\nline 3\n", what="its log")
    done = ask("exec", "box", "-c", "main", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.stdout, done.returncode) == (b"out\n", 7) and done.stderr.startswith(b"err\n")
    data = os.urandom(1024 * 1024)
    assert ask("exec", "-i", "box", "-c", "main", "--", "cat", input=data).stdout == data
    done = ask("exec", "box", "-c", "main", "--", "/no/such/program")
    assert done.returncode not in (0, None) and b"Defaulted container" not in done.stderr


#: Kubernetes' Python client speaks the channels of a WebSocket, without SPDY in them
BY_CHANNELS = """
import json, sys, time
from kubernetes import client, config, stream
config.load_kube_config(sys.argv[1])
pods = client.CoreV1Api()
forward = stream.portforward(pods.connect_get_namespaced_pod_portforward, "box", "default", ports="8080,8081")
open, closed = forward.socket(8080), forward.socket(8081)
open.settimeout(60), closed.settimeout(60)
open.sendall(b"hello\\n")
said = open.makefile("rb").readline().decode()
refused = closed.recv(10).decode()
print(json.dumps([said, refused, forward.error(8081)]))
"""


def test_so_they_are_in_channels_of_a_websocket(site: StreamSite) -> None:
    config = str(site.directory / "state/kubeconfig-default")
    done = subprocess.run(
        site.cloud.command(sys.executable, "-c", BY_CHANNELS, config), capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    said, refused, why = json.loads(done.stdout)
    assert (said, refused) == ("hello\n", "") and why.startswith("error forwarding port 8081: ")


@contextlib.contextmanager
def sleeping(site: StreamSite, kubectl: str) -> Iterator[subprocess.Popen[bytes]]:
    """kubectl with a process of its own in the container."""
    running = subprocess.Popen(
        site.command(kubectl, "exec", "-i", "box", "-c", "main", "--", "sh", "-c", "echo begun; exec sleep 54321"),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert running.stdout
        lines_until(running.stdout, b"begun")
        yield running
    finally:
        site.end(running)


def test_a_process_ends_with_its_client(site: StreamSite, kubectl: str) -> None:
    with sleeping(site, kubectl) as running:
        until(lambda: bool(site.machine.running(b"sleep\x0054321")), what="it runs")
        site.end(running)
        until(lambda: not site.machine.running(b"sleep\x0054321"), what="the process of exec ends")


def test_a_cut_of_some_seconds_ends_no_exec(site: StreamSite) -> None:
    running = subprocess.Popen(
        site.command(KUBECTL, "exec", "-i", "box", "-c", "main", "--", "sh", "-c", "echo begun; exec cat"),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert running.stdin and running.stdout
        lines_until(running.stdout, b"begun")
        uplink = uplink_of(site.machine)
        site.machine.ip("link", "set", uplink, "down")
        time.sleep(6)  # the length of the cut
        site.machine.ip("link", "set", uplink, "up")
        for n in range(3):
            running.stdin.write(b"line %d\n" % n)
            running.stdin.flush()
            lines_until(running.stdout, b"line %d" % n)
            time.sleep(8)  # longer than what a connection is asked after
        assert running.poll() is None
    finally:
        site.end(running)


@pytest.mark.parametrize("when", ["at once", "later"])
def test_an_agent_that_is_killed_is_no_success_and_leaves_no_process(site: StreamSite, kubectl: str, when: str) -> None:
    with sleeping(site, kubectl) as running:
        site.machine.signal(site.agent, signal.SIGKILL)
        site.agent.wait(90)
        killed = time.monotonic()
        if when == "at once":  # a new session: its peer is asked whether it is still the same process
            site.spawn_agent()
        assert running.stderr and running.wait(300) == 1
        took = time.monotonic() - killed
        print(f"exec ended {took:.0f} s after its agent was killed")
        assert took < 110, "L4's keep-alives alone take two minutes"
        if when == "later":
            site.spawn_agent()
        said = running.stderr.read()
        assert b"broke off" in said or b"unexpected EOF" in said, said
        until(lambda: not site.machine.running(b"sleep\x0054321"), what="the process of exec ends")
    until(
        lambda: site.ask(kubectl, "exec", "box", "-c", "main", "--", "true").returncode == 0,
        what="the node is back",
    )  # fmt: skip
