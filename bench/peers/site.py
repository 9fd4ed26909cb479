"""Three hosts in a row, edge1 - cloud - edge2, and what is measured between them.

The edges reach only the cloud; whatever joins them is the system under test. Every TCP socket, inside and outside of a tunnel, uses
the congestion control that the run asks for: routes carry `congctl`, iperf3 gets -C, and `ss` shows what was really used.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.demo.memory import pss
from bench.peers import debian
from tests.kit.certs import TestAuthority
from tests.kit.topology import Host, Topology, until
from tests.kit.wire import Conditions, LossyWire

HERTZ = os.sysconf("SC_CLK_TCK")
CLOUD1, EDGE1 = "10.11.1.1", "10.11.1.2"
CLOUD2, EDGE2 = "10.11.2.1", "10.11.2.2"


@dataclass
class Site:
    net: Topology
    cloud: Host
    edges: tuple[Host, Host]
    directory: Path
    authority: TestAuthority
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)  # of the system under test
    wire: LossyWire | None = None

    @property
    def hosts(self) -> tuple[Host, Host, Host]:
        return self.edges[0], self.cloud, self.edges[1]

    def spawn(self, host: Host, *argv: str) -> subprocess.Popen[bytes]:
        process = host.spawn(
            *argv,
            log=self.directory / f"{Path(argv[0]).name}-{host.name}.log",
            env={"LD_LIBRARY_PATH": debian.LIBRARIES},
        )
        self.processes.append(process)
        return process

    def tool(self, host: Host, *argv: str, input: str | None = None) -> str:
        return host.run("env", f"LD_LIBRARY_PATH={debian.LIBRARIES}", *argv, input=input)

    def write(self, name: str, text: str, mode: int = 0o600) -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def tunnel_pids(self) -> list[int]:
        """What runs in the hosts now: called while no measuring tool does."""
        return [pid for host in self.hosts for pid in host.processes()]


@contextlib.contextmanager
def site(directory: Path, *, conditions: Conditions | None = None, outer: str = "cubic") -> Iterator[Site]:
    """`conditions`: edge1 reaches the cloud over the user-space wire instead of a veth pair."""
    directory.mkdir(parents=True, exist_ok=True)
    with Topology() as net:
        edge1, cloud, edge2 = (net.host(name) for name in ("edge1", "cloud", "edge2"))
        found = Site(net, cloud, (edge1, edge2), directory, TestAuthority(directory))
        if conditions is None:
            net.wire(edge1, f"{EDGE1}/24", cloud, f"{CLOUD1}/24")
        else:
            found.wire = LossyWire(net, edge1, f"{EDGE1}/24", cloud, f"{CLOUD1}/24", conditions, fast=True)
        net.wire(edge2, f"{EDGE2}/24", cloud, f"{CLOUD2}/24")
        for host in found.hosts:
            host.ip("link", "set", "lo", "up")
            host.run("tee", "/proc/sys/net/ipv4/tcp_no_metrics_save", input="1")
            host.run("tee", "/proc/sys/net/ipv4/ip_forward", input="1" if host is cloud else "0")
            for line in host.ip("-o", "route", "show").splitlines():
                host.ip("route", "replace", *line.split(), "congctl", outer)
        yield found


@dataclass(frozen=True)
class Flow:
    gbits: float
    retransmits: int


def iperf(client: Host, server: Host, address: str, *, seconds: float, streams: int = 1, inner: str = "cubic") -> Flow:
    """One run; the server lives as long as the run. RuntimeError with what iperf3 said."""
    libraries = {"LD_LIBRARY_PATH": debian.LIBRARIES}
    listening = server.spawn(debian.program("iperf3"), "-s", "-1", env=libraries)
    until(lambda: ":5201" in server.run("ss", "-Htln"), timeout=5, what="iperf3's server")
    try:
        out = client.run(
            "env", f"LD_LIBRARY_PATH={debian.LIBRARIES}", debian.program("iperf3"), "-c", address, "-J", "-t", str(seconds), "-P", str(streams), "-C", inner, "-O", "0.5",
            timeout=seconds + 40,
        )  # fmt: skip
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            listening.wait(timeout=3)
        if listening.poll() is None:
            server.stop(listening)
        elif listening in server._processes:
            server._processes.remove(listening)
    answer: dict[str, Any] = json.loads(out)
    end = answer["end"]
    return Flow(end["sum_received"]["bits_per_second"] / 1e9, end["sum_sent"].get("retransmits", 0))


@dataclass(frozen=True)
class Pings:
    median: float  # ms
    mean: float
    p99: float
    maximum: float
    lost: int


def ping(host: Host, address: str, *, count: int, interval: float) -> Pings:
    out = host.run("ping", "-n", "-i", str(interval), "-c", str(count), "-W", "2", address, check=False, timeout=60)
    times = sorted(float(t) for t in re.findall(r"time=([0-9.]+) ms", out))
    if not times:
        raise RuntimeError(f"no answer to ping from {host.name} to {address}: {out}")
    at = lambda share: times[min(len(times) - 1, int(share * len(times)))]  # noqa: E731
    return Pings(at(0.5), sum(times) / len(times), at(0.99), times[-1], count - len(times))


def cpu(pids: list[int]) -> float:
    """Processor seconds, user and system, that these processes have used."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
    return total / HERTZ


def memory(pids: list[int]) -> float:
    """MB, PSS."""
    return sum(pss(pid) for pid in pids) / 1e6


def outer_control(host: Host) -> str:
    """The congestion controls of the TCP connections that leave this host, as `ss` shows them."""
    lines = host.run("ss", "-Htin", "state", "established").splitlines()
    found = {word for line in lines for word in line.split() if word in ("cubic", "bbr", "reno")}
    return "+".join(sorted(found)) or "-"


def machine_load(seconds: float = 0.5) -> float:
    """How many processors were busy with other work, while nothing of ours ran."""

    def busy() -> float:
        fields = [int(x) for x in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
        return (sum(fields[:8]) - fields[3] - fields[4]) / HERTZ

    before = busy()
    time.sleep(seconds)
    return (busy() - before) / seconds
