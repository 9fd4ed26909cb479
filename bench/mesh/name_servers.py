"""The DNS servers of the bench: ours, dnsmasq and CoreDNS on one node, asked from a pod of it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from bench.mesh import services
from bench.mesh.clients import QUERY
from bench.peers import debian
from bench.report import Report
from tests.kit.topology import until
from tests.kit.upstream import build
from tests.netns.test_mesh import Node

TICK = os.sysconf("SC_CLK_TCK")
_COREDNS, _DNSMASQ = "169.254.20.11", "10.244.1.1"
_NAME = "web-7.default.svc.cluster.local"
_PASSES = 4
Server: TypeAlias = tuple[str, int]  # its address, its process


@contextlib.contextmanager
def theirs(at: Node) -> Iterator[dict[str, Server]]:
    """dnsmasq with a record for each Service; CoreDNS as a cluster has it, at the API server on 127.0.0.1:8001."""
    records = [f"--host-record=web-{n}.default.svc.cluster.local,{services.address(n)}" for n in range(100)]
    at.edge.spawn(
        debian.program("dnsmasq"), "-k", "-C", "/dev/null", "--no-resolv", "--no-hosts", "--bind-interfaces", "--user=root",
        "--pid-file=", f"--listen-address={_DNSMASQ}", "--except-interface=lo", *records,
        env={"LD_LIBRARY_PATH": debian.LIBRARIES}, log=at.directory / "dnsmasq.log",
    )  # fmt: skip
    at.edge.run("ip", "address", "add", f"{_COREDNS}/32", "dev", "lo")
    corefile = at.directory / "Corefile"
    corefile.write_text(
        f".:53 {{\n bind {_COREDNS}\n errors\n kubernetes cluster.local {{\n  endpoint http://127.0.0.1:8001\n }}\n cache 30\n}}\n"
    )
    at.edge.spawn(str(build.program("coredns")), "-conf", str(corefile), log=at.directory / "coredns.log")
    yield {
        "dnsmasq": (_DNSMASQ, at.edge.process(b"--listen-address")),
        "coredns": (_COREDNS, at.edge.process(str(corefile).encode())),
    }


def measure(report: Report, at: Node, servers: Mapping[str, Server], queries: int, cpu: Callable[[int], float]) -> None:
    """Each in turn, several times; `cpu`: seconds that a process has had."""

    def query(server: str, count: int) -> Any:
        words = (server, _NAME, str(count), "32")
        return json.loads(at.pods[0].run(sys.executable, "-c", QUERY, *words, timeout=300) or "null")

    for address, _ in servers.values():
        until(lambda address=address: _answers(lambda: query(address, 1)), timeout=120, what=address)
    times: dict[str, list[float]] = {name: [] for name in servers}
    spent, answered = dict.fromkeys(servers, 0.0), dict.fromkeys(servers, 0)
    for _ in range(_PASSES):
        for name, (address, process) in servers.items():
            before = cpu(process)
            single, many, _ = query(address, queries // _PASSES)
            spent[name] += cpu(process) - before
            times[name] += single
            answered[name] += many + len(single)
    found = {
        name: (
            _percentile(times[name], 0.5),
            _percentile(times[name], 0.99),
            answered[name] / max(spent[name], 1 / TICK),
        )
        for name in servers
    }
    for name, figures in found.items():
        for key, value, unit in zip(("p50", "p99", "per_core"), figures, ("s", "s", "1/s"), strict=True):
            report.add(f"dns_{key}_{name}", value, unit=unit)
    for other, suffix in (("dnsmasq", ""), ("coredns", "_against_coredns")):
        unit = f"x {other}"
        for index, key in enumerate(("p50", "p99")):
            report.add(f"dns_{key}{suffix}", found["ours"][index] / found[other][index], unit=unit, must=1, aim=0.5)
        rate = found["ours"][2] / found[other][2]
        report.add(f"dns_per_core{suffix}", rate, unit=unit, must=0.5, aim=1, higher=True)


def _percentile(values: list[float], part: float) -> float:
    return sorted(values)[min(int(len(values) * part), len(values) - 1)]


def _answers(function: Callable[[], object]) -> bool:
    try:
        return function() is not None
    except (RuntimeError, subprocess.SubprocessError, ValueError):
        return False
