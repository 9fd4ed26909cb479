"""`make bench NAME=mesh`: what Services at the edge cost, beside kube-proxy (nftables), dnsmasq and CoreDNS, all in namespaces of one machine.

    python -m bench.mesh [--rounds 3] [--services 5000] [--changes 8] [--only names]

*Memory*: PSS of a process with the store and all of the mesh, 100 Services and 500 endpoints, less that of the same process without the mesh.
*DNS*: a warm A query from a pod, one after the other (p50, p99); and queries for each second of processor time of the server, with 32 under way. Ours,
dnsmasq and CoreDNS (with its plugin `kubernetes`, at an API server, and a cache) in turn, four times each. *Connections*: from a pod to a pod elsewhere, by its address and by a cluster IP in turn, for each proxy. *Changes*: of one
endpoint among all Services: seconds from the write until the kernel has it, and processor seconds with all child processes. *Memory of Gateways*: of a mesh with 100 routes, less that of one without, in a process that has
what every agent has of HTTP. Ours are
measured from the write to the node's store, kube-proxy's from the write to an API server in the same namespace.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.demo.memory import pss
from bench.mesh import name_servers, services
from bench.mesh.clients import CONNECT, WATCH
from bench.peers import debian
from bench.report import ROOT, Report
from kubeedge.gateway import codec
from tests.kit.topology import Host, Topology, until
from tests.kit.upstream import build
from tests.netns.test_mesh import Node, ask

FAR = "10.244.2.2"  # a pod on the machine beside the node, with a server
TICK = os.sysconf("SC_CLK_TCK")
Change = Callable[[list[str]], None]


def cpu(pid: int) -> float:
    """Seconds that a process and its children that have ended have had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICK


def percentile(values: list[float], part: float) -> float:
    return sorted(values)[min(int(len(values) * part), len(values) - 1)]


@contextlib.contextmanager
def node() -> Iterator[Node]:
    directory = Path(tempfile.mkdtemp(prefix="kbmesh"))
    with Topology() as topology:
        made = Node(topology, directory)
        try:
            yield made
        finally:
            made.stop()
            shutil.rmtree(directory, ignore_errors=True)


def inner(host: Host, words: bytes) -> int:
    """The pid of the program itself, not of what entered the namespace."""
    return host.process(words)


class KernelWatch:
    """When the rules of a namespace changed."""

    def __init__(self, host: Host) -> None:
        self._process = subprocess.Popen(host.command(sys.executable, "-c", WATCH), stdout=subprocess.PIPE, text=True)
        self._times: queue.Queue[float] = queue.Queue()
        assert self._process.stdout and self._process.stdout.readline() == "ready\n"
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._times.put(float(line))

    def last(self, quiet: float) -> float:
        """The time of the last change, once there has been none for `quiet` seconds."""
        found = self._times.get(timeout=300)
        while True:
            try:
                found = self._times.get(timeout=quiet)
            except queue.Empty:
                return found

    def forget(self) -> None:
        while not self._times.empty():
            self._times.get()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def ours(at: Node, number: int, count: int) -> Iterator[tuple[int, Change]]:
    """Our proxy with that many Services; its process, and what gives the second one other endpoints."""
    at.start(pods="10.244.1.0/24")
    for rows in services.rows(number, count, FAR):
        at.say(put=rows)
    until(lambda: at.say(ask="counts")["services"] == number, timeout=300, what="the rules")
    pid = inner(at.edge, b"tests.kit.mesh_host")
    yield pid, lambda found: at.say(put={"/desired/endpointslices/default/web-1-a": services.endpoint_slice(1, found)})
    at.stop()


@contextlib.contextmanager
def api_server(at: Node, number: int, count: int) -> Iterator[Callable[..., None]]:
    """An API server in the node's namespace with that many Services; what gives it orders."""
    api = subprocess.Popen(
        at.edge.command(sys.executable, "-m", "bench.mesh.cluster_host", "8001"),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert api.stdin and api.stdout and api.stdout.readline() == "ready\n"

    def say(**order: Any) -> None:
        assert api.stdin and api.stdout
        api.stdin.write(json.dumps(order) + "\n")
        api.stdin.flush()
        assert api.stdout.readline(), "the API server ended"

    try:
        say(services=number, endpoints=count, first=FAR)
        yield say
    finally:
        api.stdin.close()
        api.wait(30)


@contextlib.contextmanager
def theirs(at: Node, number: int, count: int) -> Iterator[tuple[int, Change]]:
    """kube-proxy, with an API server of its own."""
    with api_server(at, number, count) as say:
        yield from _kube_proxy(at, say)


def _kube_proxy(at: Node, say: Callable[..., None]) -> Iterator[tuple[int, Change]]:
    at.edge.run("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=1", check=False)
    log = at.directory / "kube-proxy.log"
    at.edge.spawn(
        str(build.program("kube-proxy")), "--master=http://127.0.0.1:8001", "--proxy-mode=nftables", "--hostname-override=edge1",
        "--cluster-cidr=10.244.0.0/16", "--conntrack-max-per-core=0", "--healthz-bind-address=127.0.0.1:10256",
        "--kube-api-content-type=application/json", log=log,
    )  # fmt: skip
    try:
        until(lambda: "far1" in ask(at.pods[0], services.address(0), 80), timeout=300, what="kube-proxy")
        yield inner(at.edge, b"--proxy-mode=nftables"), lambda found: say(slice=1, addresses=found)
    except AssertionError:
        print(log.read_text()[-3000:], file=sys.stderr)
        raise


def memory(report: Report) -> None:
    with node() as at:
        for bare in (True, False):
            at.start(pods="10.244.1.0/24", bare=bare)
            for rows in services.rows(100, 5):
                at.say(put=rows)
            pid = inner(at.edge, b"tests.kit.mesh_host")
            if bare:
                without = pss(pid)
            else:
                until(lambda: at.say(ask="counts")["services"] == 100, what="the rules")
                until(lambda: at.say(ask="problem") == "", what="all of it")
                report.add("memory_of_mesh", (pss(pid) - without) / 1e6, unit="MB", must=4, aim=2)
            at.stop()
        without = 0
        for gateways in ("", "192.168.9.1"):
            at.start(pods="10.244.1.0/24", published=True, gateways=gateways)
            at.say(put={f"/desired/{codec.ROW}": json.loads(codec.encoded(services.routes(100)))})
            if gateways:
                until(lambda: at.lan.run("curl", "-s", "http://192.168.9.1/s99/", check=False), what="an answer")
            found = pss(inner(at.edge, b"tests.kit.mesh_host"))
            if gateways:
                report.add("memory_of_gateways", (found - without) / 1e6, unit="MB", must=1.5, aim=1)
            without = found
            at.stop()


def names(report: Report, queries: int) -> None:
    """The DNS servers of one node in turn, from a pod."""
    with node() as at, ours(at, 100, 5) as (pid, _), api_server(at, 100, 5), name_servers.theirs(at) as others:
        name_servers.measure(report, at, {"ours": ("169.254.20.10", pid), **others}, queries, cpu)


def proxies(report: Report, number: int, changes: int, connections: int) -> None:
    """Each proxy alone in a namespace of its own, with all Services."""
    seen: dict[str, dict[str, float]] = {}
    for name, proxy in (("ours", ours), ("kube-proxy", theirs)):
        with node() as at, proxy(at, number, 5) as (pid, change):
            watch = KernelWatch(at.edge)
            time.sleep(5)  # until what a start brings with it has passed
            words = (FAR, "8080", services.address(0), "80", str(connections))
            direct, through = json.loads(at.pods[0].run(sys.executable, "-c", CONNECT, *words, timeout=300))
            times, before = [], cpu(pid)
            for n in range(changes):
                watch.forget()
                begun = time.monotonic()
                change(services.endpoints(1, 4 + n % 2))
                times.append(watch.last(quiet=3.0) - begun)
            seen[name] = {
                "change_time": statistics.median(times),
                "change_cpu": (cpu(pid) - before) / changes,
                "connect": statistics.median(through) / statistics.median(direct),
                "memory": pss(pid) / 1e6,
            }
            watch.close()
        units = {"change_time": "s", "change_cpu": "s", "connect": "x the pod's address", "memory": "MB"}
        for key, value in seen[name].items():
            must, aim = (1.1, 1.0) if key == "connect" and name == "ours" else (None, None)
            report.add(f"{key}_{name}", value, unit=units[key], must=must, aim=aim)
    for key in ("change_time", "change_cpu"):
        report.add(key, seen["ours"][key] / seen["kube-proxy"][key], unit="x kube-proxy", must=1, aim=0.3)


def first_connections(report: Report, changes: int) -> None:
    """From a row in the node's store to a connection that a pod gets: the node's part of what a new endpoint takes."""
    with node() as at, ours(at, 100, 5) as (_, change):
        watch, times = KernelWatch(at.edge), []
        for n in range(changes):
            watch.forget()
            begun = time.monotonic()
            change(services.endpoints(1, 4 + n % 2))
            times.append(watch.last(quiet=0.5) - begun)
        watch.close()
        report.add("endpoint_p50", percentile(times, 0.5), unit="s", must=0.15, aim=0.05)
        report.add("endpoint_p99", percentile(times, 0.99), unit="s", must=0.5, aim=0.2)


def main() -> int:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--services", type=int, default=5000)
    arguments.add_argument("--changes", type=int, default=8)
    arguments.add_argument("--queries", type=int, default=5000)
    arguments.add_argument(
        "--only",
        choices=("memory", "names", "endpoints", "proxies"),
        help="one part, written to bench/results/mesh-PART.json",
    )
    options = arguments.parse_args()
    debian.unpack(("dnsmasq-base",))
    report = Report(f"mesh-{options.only}" if options.only else "mesh")
    report.versions["dnsmasq"] = debian.version("dnsmasq-base")
    kube_proxy = subprocess.run([str(build.program("kube-proxy")), "--version"], capture_output=True, text=True).stdout
    report.versions["coredns"] = build.version("coredns", "github.com/coredns/coredns")
    report.versions["kube-proxy"] = kube_proxy.strip().removeprefix("Kubernetes ")
    parts: dict[str, Callable[[], None]] = {
        "memory": lambda: memory(report),
        "names": lambda: names(report, options.queries),
        "endpoints": lambda: first_connections(report, 5 * options.changes),
        "proxies": lambda: proxies(report, options.services, options.changes, 2000),
    }
    for _ in range(options.rounds):
        for part in [options.only] if options.only else parts:
            parts[part]()
    return 0 if report.finish() else 1


if __name__ == "__main__":
    sys.exit(main())
