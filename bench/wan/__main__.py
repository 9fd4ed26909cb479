"""`make bench NAME=wan`: goodput and delay from edge1 to the cloud over a slow, lossy, far wire; fresh hosts for each sample.

    python -m bench.wan [--rounds 3] [--seconds 8] [--only "ours, bbr outside,raw cubic"]

The wire is tests/kit/wire.c: rate, one-way delay, random loss, a drop-tail queue. `inner` is the congestion control of the stream
that an application opens, `outer` that of the tunnel's own TCP connections; both are set and read back with `ss`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.peers import debian
from bench.peers.site import Site, iperf, machine_load, outer_control, ping, site
from bench.peers.systems import Addresses, openvpn, ours, raw, wireguard_go
from bench.report import Report
from tests.kit.topology import until
from tests.kit.wire import Conditions

LOSSY = Conditions(rate=200e6, delay=0.010, loss=0.01, queue=1_000_000)
UPLINK = Conditions(rate=100e6, delay=0.010, loss=0.0, queue=500_000)


@dataclass(frozen=True)
class Case:
    start: Callable[[Site], Addresses]
    outer: str
    inner: str = "cubic"


def our(outer: str) -> Callable[[Site], Addresses]:
    return lambda where: ours(where, congestion=outer)


CASES = {
    "ours, bbr outside": Case(our("bbr"), "bbr"),
    "ours, cubic outside": Case(our("cubic"), "cubic"),
    "bare cubic": Case(raw, "cubic", "cubic"),
    "bare bbr": Case(raw, "bbr", "bbr"),
    "openvpn-udp": Case(openvpn("udp"), "cubic"),
    "openvpn-tcp, bbr outside": Case(openvpn("tcp"), "bbr"),
    "openvpn-tcp, cubic outside": Case(openvpn("tcp"), "cubic"),
    "wireguard-go": Case(wireguard_go, "cubic"),
}


def measure(name: str, case: Case, directory: Path, seconds: float, kind: str) -> dict[str, float]:
    conditions = UPLINK if kind == "uplink" else LOSSY
    found = {"foreign load": machine_load(0.3)}
    with site(directory, conditions=Conditions(delay=conditions.delay), outer=case.outer) as where:
        edge1, cloud = where.edges[0], where.cloud
        to = case.start(where)
        until(
            lambda: " 0% packet loss" in edge1.run("ping", "-c1", "-W1", to.cloud, check=False),
            timeout=40, what=f"{name}: the cloud answers", interval=0.2,
        )  # fmt: skip
        assert where.wire
        where.wire.change(conditions)
        if kind == "uplink":
            found["idle ping"] = ping(edge1, to.cloud, count=20, interval=0.1).mean
            goodput: list[float] = []
            load = threading.Thread(
                target=lambda: goodput.append(iperf(edge1, cloud, to.cloud, seconds=seconds, inner=case.inner).gbits)
            )
            load.start()
            until(lambda: ":5201" in cloud.run("ss", "-Htn", check=False), timeout=10, what="the load")
            loaded = ping(edge1, to.cloud, count=int((seconds - 1) * 20), interval=0.05)
            found["outer seen"] = 1.0 if case.outer in outer_control(edge1) else 0.0
            load.join()
            found |= {"ping": loaded.mean, "ping max": loaded.maximum, "goodput": goodput[0] * 1000}
        else:
            found["one stream"] = 1000 * iperf(edge1, cloud, to.cloud, seconds=seconds, inner=case.inner).gbits
            found["four streams"] = (
                1000 * iperf(edge1, cloud, to.cloud, seconds=seconds, inner=case.inner, streams=4).gbits
            )
            found["outer seen"] = 1.0 if case.outer in outer_control(edge1) else 0.0
    print(f"  {name:28} " + "  ".join(f"{k} {v:.1f}" for k, v in found.items()), flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench NAME=wan", description=__doc__)
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("ROUNDS", "3")))
    parser.add_argument("--seconds", type=float, default=float(os.environ.get("SECONDS", "8")))
    parser.add_argument("--only", default=os.environ.get("ONLY", ""), help="names of cases, separated by ;")
    parser.add_argument("--kind", default="lossy,uplink")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("make bench NAME=wan needs root: it makes network namespaces")
        return 1
    debian.unpack()
    names = options.only.split(";") if options.only else list(CASES)
    samples: dict[str, dict[str, list[dict[str, float]]]] = {}
    directory = Path(tempfile.mkdtemp(prefix="kbwan"))
    try:
        for kind in options.kind.split(","):
            samples[kind] = {name: [] for name in names}
            for round_ in range(options.rounds):
                print(f"{kind}, round {round_ + 1} of {options.rounds}", flush=True)
                for name in names if round_ % 2 == 0 else reversed(names):
                    path = directory / f"{kind}{round_}{names.index(name)}"
                    samples[kind][name].append(measure(name, CASES[name], path, options.seconds, kind))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return 0 if report(samples) else 1


def report(samples: dict[str, dict[str, list[dict[str, float]]]]) -> bool:
    out = Report("wan")
    for kind, cases in samples.items():
        for name, rounds in cases.items():
            for sample in rounds:
                for key, value in sample.items():
                    unit = "ms" if "ping" in key else "" if key in ("foreign load", "outer seen") else "Mbit/s"
                    out.add(f"{kind}: {name}: {key}", value, unit=unit)

    def middle(kind: str, name: str, key: str) -> float | None:
        rounds = samples.get(kind, {}).get(name)
        return statistics.median(s[key] for s in rounds) if rounds else None

    def ratio(kind: str, mine: str, key: str, peer: str, must: float | None, aim: float | None) -> None:
        theirs = middle(kind, peer, key)
        for sample in samples.get(kind, {}).get(mine, []):
            if theirs:
                out.add(
                    f"{kind}: {mine} / {peer}: {key}", sample[key] / theirs, unit="x", must=must, aim=aim, higher=True
                )

    best, plain = "ours, bbr outside", "ours, cubic outside"
    for peer in ("openvpn-udp", "wireguard-go"):
        ratio("lossy", best, "one stream", peer, 15, None)
    ratio("lossy", best, "one stream", "openvpn-tcp, bbr outside", 1, None)
    ratio("lossy", best, "one stream", "bare bbr", None, 0.95)
    ratio("lossy", best, "four streams", "openvpn-udp", 5, None)
    ratio("lossy", best, "four streams", "openvpn-tcp, bbr outside", 1.25, None)
    ratio("lossy", best, "four streams", "bare bbr", None, 0.95)
    ratio("lossy", plain, "four streams", "bare cubic", 0.5, 1)
    for sample in samples.get("uplink", {}).get(best, []):
        out.add("uplink: ours: ping beside a bulk upload", sample["ping"], unit="ms", must=60, aim=35)
        out.add("uplink: ours: goodput of the same run", sample["goodput"], unit="Mbit/s", must=90, aim=94, higher=True)
    return out.finish()


if __name__ == "__main__":
    sys.exit(main())
