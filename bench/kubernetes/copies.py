"""kubectl exec and cp through the API server, a node's port and KubeBus: one key, and 100 MB beside a bare TCP stream on the same path.

Each copy has the processor time of every process on its way: on a fast path these are the limit, on a slow one the path is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from bench.fleet.__main__ import percentile
from bench.report import Report
from tests.kit.cluster.site import ADDRESS, Site
from tests.kit.topology import until
from tests.kit.upstream import build

Direction = Literal["to the pod", "from the pod"]
MEGABYTES = 100
_PORT = 7001
_KEYS = 200

#: "u" and bytes until the end: it says how many; "d" and a number: it sends so many
_SERVER = f"""
import socket, threading
def serve(c):
    kind = c.recv(1)
    if kind == b"u":
        n = 0
        while data := c.recv(1 << 18): n += len(data)
        c.sendall(b"%d" % n)
    else:
        left, piece = int(c.recv(100)), b"0123456789abcdef" * 16384
        while left > 0: left -= c.send(piece[:left])
    c.close()
with socket.create_server(("{ADDRESS}", {_PORT})) as s:
    while True: threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
"""
#: prints the seconds that so many bytes take, as the server sees the direction
_CLIENT = f"""
import socket, sys, time
kind, size = sys.argv[1], int(sys.argv[2])
c = socket.create_connection(("{ADDRESS}", {_PORT}))
begun = time.perf_counter()
if kind == "u":
    c.sendall(b"u"); c.sendall(b"0123456789abcdef" * (size // 16)); c.shutdown(socket.SHUT_WR)
    assert c.recv(100) == b"%d" % size
else:
    c.sendall(b"d%d" % size)
    n = 0
    while data := c.recv(1 << 18): n += len(data)
    assert n == size
print(time.perf_counter() - begun)
"""


class Copies:
    """`kubectl` in the host of the cloud, on a pod of edge1."""

    def __init__(self, site: Site, pod: dict[str, Any], out: Report, say: Callable[[str], None]) -> None:
        self.site, self.out, self.say = site, out, say
        self.name = pod["metadata"]["name"]
        site.cluster.apply({"apiVersion": "v1", "kind": "Pod", **pod})
        site.cluster.kubectl("wait", "--for=condition=Ready", f"pod/{self.name}", "--timeout=60s", timeout=90)
        self.file = site.directory / "large"
        self.file.write_bytes(b"0123456789abcdef" * (MEGABYTES * 62500))
        site.cloud.spawn(sys.executable, "-c", _SERVER)
        listening = f"{ADDRESS}:{_PORT}"
        until(lambda: listening in site.cloud.run("ss", "-Htln"), timeout=60, what="the bare server", interval=0.1)

    def _kubectl(self, *words: str) -> list[str]:
        program = [str(build.program("kubectl")), f"--kubeconfig={self.site.cluster.kubeconfig()}"]
        return self.site.cloud.command("env", f"HOME={self.site.directory}", *program, *words)

    def keys(self) -> None:
        """One key there and back, again and again in one session."""
        command, times = self._kubectl("exec", "-i", self.name, "--", "cat"), []
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as shell:
            assert shell.stdin is not None and shell.stdout is not None
            for _ in range(_KEYS + 20):
                begun = time.perf_counter()
                shell.stdin.write(b"k")
                assert shell.stdout.read(1) == b"k"
                times.append((time.perf_counter() - begun) * 1e3)
            shell.stdin.close()
        middle = percentile(times[20:], 0.5)
        self.out.add("kubectl exec, round trip of one key, p50", middle, unit="ms", must=10, aim=4)
        self.say(f"  key {middle:.2f} ms")

    def copy(self, path: str, direction: Direction, *, bounds: dict[str, float] | None = None) -> None:
        """One copy on that path, behind a bare stream in the same direction. Without `bounds` the processors are what limits it: each process
        has a figure then."""
        bare = self._bare(direction)
        taken, spent = self._copied(direction)
        what = f"kubectl cp {direction}, {path}"
        self.out.add(what, MEGABYTES / taken, unit="MB/s", higher=True)
        self.out.add(f"{what}, bare TCP there", MEGABYTES / bare, unit="MB/s", higher=True)
        self.out.add(f"{what}, of bare TCP", bare / taken, unit="x", higher=True, **(bounds or {}))
        for name, seconds in () if bounds else spent.items():
            self.out.add(f"{what}, processor of {name}", seconds / MEGABYTES * 1e3, unit="ms/MB")
        shares = {name: round(seconds, 2) for name, seconds in spent.items()}
        self.say(f"  {what}: {taken:.2f} s, bare {bare:.3f} s ({bare / taken:.3f}x); processor, s: {shares}")

    def _bare(self, direction: Direction) -> float:
        kind = "d" if direction == "to the pod" else "u"
        words = (sys.executable, "-c", _CLIENT, kind, str(MEGABYTES * 1_000_000))
        return float(self.site.edges["edge1"].run(*words, timeout=600))

    def _copied(self, direction: Direction) -> tuple[float, dict[str, float]]:
        here, there = str(self.file), f"{self.name}:/tmp/large"
        if direction == "from the pod":
            here, there = there, f"{self.file}.back"
        processes = self._processes()
        before, own = {name: processor_time(pid) for name, pid in processes.items()}, os.times()
        begun = time.perf_counter()
        subprocess.run(self._kubectl("cp", here, there), check=True, timeout=600, capture_output=True)
        taken, done = time.perf_counter() - begun, os.times()
        spent = {name: processor_time(pid) - before[name] for name, pid in processes.items()}
        spent["kubectl"] = done.children_user + done.children_system - own.children_user - own.children_system
        return taken, spent

    def _processes(self) -> dict[str, int]:
        cloud, edge = self.site.cloud, self.site.edges["edge1"]
        found = {
            "the API server": cloud.running(b"kube-apiserver\0--advertise"),
            "the cloud": cloud.running(b"kubeedge\0cloud\0"),
            "the agent": edge.running(b"kubeedge\0edge\0"),
        }
        return {name: pids[-1] for name, pids in found.items()}


def processor_time(pid: int) -> float:
    """Seconds of that process and its threads so far; proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
