"""`make bench NAME=topologies`: latency in the paper's Figure 7, raw and through KubeBus, beside the paper's Figure 8.

                     WAN                     WAN
    edge1 ───────────────── cloud (relay) ───────────────── edge2
                              │ WAN
                    VM1 (virtual router) ── one subnet ── VM2
                     │ bridge                        bridge │
                  container1                         container2

The WAN is the user-space wire: 15 ms one way to the edges, 13 ms to the VMs, as the paper's own figures suggest. "Raw" is plain routing over the
same wires, to second addresses of the same machines; both are measured in turn.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from pathlib import Path

from bench.peers.site import machine_load, ping
from bench.report import Report
from tests.kit.bus_site import BusProcess
from tests.kit.certs import TestAuthority
from tests.kit.topology import Host, Topology, until
from tests.kit.wire import Conditions, LossyWire

EDGE, VM = Conditions(delay=0.015), Conditions(delay=0.013)
PAPER = {
    "e1 -> cloud": 30.66, "e1 -> e2": 61.24, "e1 -> VM1": 56.86, "e1 -> VM2": 55.88,
    "e1 -> container1": 60.68, "e1 -> container2": 66.78,
}  # fmt: skip
TO = {  # (raw address, address through KubeBus)
    "e1 -> cloud": ("10.1.1.1", "100.64.255.254"),
    "e1 -> e2": ("10.1.2.2", "100.64.0.2"),
    "e1 -> VM1": ("10.1.4.2", "100.64.0.4"),
    "e1 -> VM2": ("10.60.0.2", "10.50.0.2"),
    "e1 -> container1": ("10.61.1.2", "10.32.1.2"),
    "e1 -> container2": ("10.61.2.2", "10.32.2.2"),
}


class Figure7:
    def __init__(self, directory: Path, stack: contextlib.ExitStack) -> None:
        net = stack.enter_context(Topology())
        names = ("cloud", "edge1", "edge2", "vm1", "vm2", "container1", "container2")
        self.cloud, self.edge1, self.edge2, self.vm1, self.vm2, c1, c2 = hosts = [net.host(n) for n in names]
        for n, host, conditions in ((1, self.edge1, EDGE), (2, self.edge2, EDGE), (4, self.vm1, VM)):
            LossyWire(net, host, f"10.1.{n}.2/24", self.cloud, f"10.1.{n}.1/24", conditions, fast=True)
            host.ip("route", "add", "default", "via", f"10.1.{n}.1")
        for host in hosts:
            host.run("tee", "/proc/sys/net/ipv4/ip_forward", input="1")
        net.wire(self.vm1, "10.50.0.1/24", self.vm2, "10.50.0.2/24")
        net.bridge(self.vm1, "10.32.1.1/24", [(c1, "10.32.1.2/24")])
        net.bridge(self.vm2, "10.32.2.1/24", [(c2, "10.32.2.2/24")])
        for host, old, new in (
            (self.vm1, "10.50.0.1", "10.60.0.1/24"), (self.vm2, "10.50.0.2", "10.60.0.2/24"),
            (self.vm1, "10.32.1.1", "10.61.1.1/24"), (c1, "10.32.1.2", "10.61.1.2/24"),
            (self.vm2, "10.32.2.1", "10.61.2.1/24"), (c2, "10.32.2.2", "10.61.2.2/24"),
        ):  # fmt: skip
            host.ip("addr", "add", new, "dev", device(host, old))
        for network in ("10.60.0.0/24", "10.61.1.0/24", "10.61.2.0/24"):
            self.cloud.ip("route", "add", network, "via", "10.1.4.2")
        for network in ("10.32.2.0/24", "10.61.2.0/24"):
            self.vm1.ip("route", "add", network, "via", "10.50.0.2")
        self.vm2.ip("route", "add", "default", "via", "10.50.0.1")  # with it, what `kubeedge routes` asks for
        c1.ip("route", "add", "default", "via", "10.32.1.1")
        c2.ip("route", "add", "default", "via", "10.32.2.1")
        authority = TestAuthority(directory)
        subnets = ["10.50.0.0/24", "10.32.1.0/24", "10.32.2.0/24"]
        c = authority.issue("relay", uri="spiffe://kubeedge/cloud/cloud", hosts=["10.1.1.1", "10.1.2.1", "10.1.4.1"])
        relay = BusProcess(
            self.cloud, directory / "relay.log", role="relay", ca=c.ca, cert=c.cert, key=c.key, allowed={"vm1": subnets}
        )
        stack.callback(relay.close)
        for n, name, host in ((1, "edge1", self.edge1), (2, "edge2", self.edge2), (4, "vm1", self.vm1)):
            c = authority.issue(name, uri=f"spiffe://kubeedge/tenant/default/node/{name}")
            more = {"router": {"subnets": subnets}} if name == "vm1" else {}
            agent = BusProcess(
                host, directory / f"{name}.log", role="edge", number=n, node=name, relays=[f"10.1.{n}.1:7010"],
                ca=c.ca, cert=c.cert, key=c.key, **more,
            )  # fmt: skip
            stack.callback(agent.close)
        for what, addresses in TO.items():
            for address in addresses:
                until(lambda a=address: reaches(self.edge1, a), timeout=30, what=f"{what}: {address}", interval=0.1)


def reaches(host: Host, address: str) -> bool:
    return "1 received" in host.run("ping", "-c1", "-W1", address, check=False)


def device(host: Host, address: str) -> str:
    return next(line.split()[1] for line in host.ip("-o", "addr").splitlines() if f" {address}/" in line)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench NAME=topologies", description=__doc__)
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("ROUNDS", "3")))
    parser.add_argument("--count", type=int, default=40, help="pings of one measurement")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("make bench NAME=topologies needs root: it makes network namespaces")
        return 1
    report = Report("topologies")
    print(f"other work on this machine: {machine_load():.2f} processors")
    with tempfile.TemporaryDirectory(prefix="kbtop") as directory, contextlib.ExitStack() as stack:
        site = Figure7(Path(directory), stack)
        for _ in range(options.rounds):
            for what, (raw, ours) in TO.items():
                plain = ping(site.edge1, raw, count=options.count, interval=0.05).median
                through = ping(site.edge1, ours, count=options.count, interval=0.05).median
                report.add(f"{what}: paper", PAPER[what], unit="ms")
                report.add(f"{what}: raw", plain, unit="ms")
                report.add(f"{what}: KubeBus", through, unit="ms")
                report.add(f"{what}: added", through - plain, unit="ms", must=2.0, aim=0.5)
    print(f"\n{'':18} {'paper':>8} {'raw':>8} {'KubeBus':>8} {'added':>8}   ms, median")
    for what in TO:
        row = [report.figures[f"{what}: {key}"].median for key in ("paper", "raw", "KubeBus", "added")]
        print(f"{what:18} " + " ".join(f"{value:8.2f}" for value in row))
    return 0 if report.finish() else 1


if __name__ == "__main__":
    sys.exit(main())
