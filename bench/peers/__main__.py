"""`make bench NAME=peers`: ours beside raw routing, the overlays of Debian and the newest of them, on veth pairs, interleaved.

    python -m bench.peers [--rounds 3] [--seconds 4] [--only "ours;raw;yggdrasil, newest"]

The yardstick is the best of the newest; where none was measured, the best of Debian's. Each sample has fresh hosts and fresh processes. Figures of one round are compared with the same round's peers: ratios count.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import threading
from pathlib import Path

from bench.peers import debian, newest
from bench.peers.site import cpu, iperf, machine_load, memory, outer_control, ping, site
from bench.peers.systems import END_TO_END, NEWEST, SYSTEMS, Addresses
from bench.report import Report
from tests.kit.topology import until

Sample = dict[str, float]


def measure(name: str, directory: Path, seconds: float) -> Sample:
    found: Sample = {"foreign load": machine_load()}
    with site(directory) as where:
        edge1, edge2 = where.edges
        to: Addresses = SYSTEMS[name](where)
        for host, address in ((edge1, to.edge2), (edge2, to.edge1), (edge1, to.cloud)):
            until(
                lambda h=host, a=address: " 0% packet loss" in h.run("ping", "-c1", "-W1", a, check=False),
                timeout=40, what=f"{name}: {host.name} reaches {address}", interval=0.2,
            )  # fmt: skip
        pids = where.tunnel_pids()
        found["PSS before"] = memory(pids)
        agent = memory(edge1.processes())
        quiet = ping(edge1, to.edge2, count=150, interval=0.01)
        found["RTT idle"] = quiet.median
        used = cpu(pids)
        one = iperf(edge1, edge2, to.edge2, seconds=seconds)
        found["one stream"] = one.gbits
        gigabytes = one.gbits * (seconds + 0.5) / 8  # with what iperf3 omits at the start
        found["CPU s/GB"] = (cpu(pids) - used) / gigabytes if gigabytes else 0.0
        found["four streams"] = iperf(edge1, edge2, to.edge2, seconds=seconds, streams=4).gbits
        found["to the cloud"] = iperf(edge1, where.cloud, to.cloud, seconds=seconds).gbits
        busy: list[float] = []
        load = threading.Thread(target=lambda: busy.append(iperf(edge1, edge2, to.edge2, seconds=seconds).gbits))
        load.start()
        until(lambda: ":5201" in edge2.run("ss", "-Htn", check=False), timeout=10, what="the load")
        loaded = ping(edge1, to.edge2, count=int((seconds - 0.5) * 100), interval=0.01)
        load.join()
        found |= {
            "ping under load, mean": loaded.mean,
            "ping under load, p99": loaded.p99,
            "goodput beside it": busy[0],
        }
        found["PSS after"] = memory(pids)
        found["PSS growth of edge1"] = memory(edge1.processes()) - agent
        where_tcp = outer_control(where.cloud)
    print(f"  {name:20} {found['one stream']:6.2f} {found['four streams']:6.2f} {found['to the cloud']:6.2f} Gbit/s  "
          f"RTT {found['RTT idle']:.2f} ms, loaded {loaded.mean:.1f}/{loaded.p99:.1f}  {found['CPU s/GB']:.1f} s/GB  "
          f"PSS {found['PSS before']:.0f}->{found['PSS after']:.0f} MB  outer {where_tcp}  load {found['foreign load']:.2f}",
          flush=True)  # fmt: skip
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench NAME=peers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("ROUNDS", "3")))
    parser.add_argument("--seconds", type=float, default=float(os.environ.get("SECONDS", "4")))
    parser.add_argument("--only", default=os.environ.get("ONLY", ""), help="names, separated by semicolons")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("make bench NAME=peers needs root: it makes network namespaces")
        return 1
    names = options.only.split(";") if options.only else list(SYSTEMS)
    debian.unpack()
    samples: dict[str, list[Sample]] = {name: [] for name in names}
    directory = Path(tempfile.mkdtemp(prefix="kbpeers"))
    try:
        for round_ in range(options.rounds):
            print(f"round {round_ + 1} of {options.rounds}: one stream, four, to the cloud", flush=True)
            for name in names if round_ % 2 == 0 else reversed(names):
                try:
                    samples[name].append(measure(name, directory / f"{round_}-{name}", options.seconds))
                except (RuntimeError, AssertionError) as exc:
                    if name in ("ours", "raw"):
                        raise
                    print(f"  {name:20} failed: {exc}", flush=True)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return 0 if report(samples) else 1


def report(samples: dict[str, list[Sample]]) -> bool:
    out = Report("peers")
    encrypted = [n for n in samples if n not in ("ours", "raw") and samples[n]]
    for name, rounds in samples.items():
        for sample in rounds:
            for key, value in sample.items():
                out.add(f"{name}: {key}", value, unit=_unit(key))

    def best(key: str) -> str:
        middle = {n: statistics.median(s[key] for s in samples[n]) for n in yardsticks(encrypted)}
        return max(middle, key=lambda n: middle[n])

    def ratio(key: str, peer: str, **bounds: float | bool) -> None:
        for mine, theirs in zip(samples["ours"], samples[peer], strict=False):
            out.add(f"ours / {peer}: {key}", mine[key] / theirs[key], unit="x", **bounds)  # type: ignore[arg-type]

    if samples.get("ours") and encrypted:
        ratio("one stream", best("one stream"), must=3, aim=4.5, higher=True)
        ratio("to the cloud", best("to the cloud"), must=3, aim=6, higher=True)
        if "openvpn-tcp" in encrypted:
            ratio("RTT idle", "openvpn-tcp", must=1.15, aim=0.5)
    if samples.get("ours") and samples.get("raw"):
        ratio("four streams", "raw", must=0.09, aim=0.13, higher=True)
    for mine in samples.get("ours", []):
        out.add("ours: ping under load, mean, bound", mine["ping under load, mean"], unit="ms", must=2, aim=1)
        out.add("ours: ping under load, p99, bound", mine["ping under load, p99"], unit="ms", must=10, aim=3)
        out.add("ours: CPU s/GB, bound", mine["CPU s/GB"], unit="s/GB", must=3.2, aim=2.0)
        out.add("ours: growth of the agent under load, bound", mine["PSS growth of edge1"], unit="MB", must=6, aim=3)
    how = {True: "end to end", False: "hop by hop"}
    out.versions |= {name: f"{version(name)}, {how[name in END_TO_END]}" for name in encrypted}
    return out.finish()


def yardsticks(measured: list[str]) -> list[str]:
    """The newest; of Debian's only where none of them was measured."""
    return [name for name in measured if name.endswith(NEWEST)] or measured


def version(name: str) -> str:
    if name.endswith(NEWEST):
        return newest.version(name.removesuffix(NEWEST))
    return f"Debian {debian.version(name.split('-tcp')[0].split('-udp')[0])}"


def _unit(key: str) -> str:
    for start, unit in (("RTT", "ms"), ("ping", "ms"), ("PSS", "MB"), ("CPU", "s/GB"), ("foreign", "processors")):
        if key.startswith(start):
            return unit
    return "Gbit/s"


if __name__ == "__main__":
    sys.exit(main())
