"""`make bench NAME=isolation`: one tenant means harm, another works; what the second notices, and what the first one's memory is.

    python -m bench.isolation [--rounds 3] [--count 300] [--only "packets;L4 segments"] [--directory /dev/shm]

In each round every attack has an idle measurement of its own right before it, in the same processes. The victim's requests of the API and its pages are
made at a steady pace, on new connections; its pings go through KubeBus to the cloud. Ratios are p99 under attack to p99 idle, where an idle p99 below
FLOOR counts as FLOOR: below it the scheduler of a machine with two processors is what is measured. A link that is lost, a ping
that is lost and a request that fails are counted. Memory is the largest resident set in the time of the attack, above the one right before it; its bound is what the attacker's tenant may have of what the
attack aims at (attacks.py). The attacks on the API have a tenant of their own in each round, and what those may store stays: the cloud ends
larger than it began.

What the processes keep lies in memory unless --directory names a disk: a disk that others use too stalls by itself, now and then for longer
than any attack lasts, and an API that waits for its commits stalls with it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.isolation.attacks import ATTACKS, running
from bench.isolation.site import CLOUD, CLOUD_OVERLAY, PAGE, PYTHON, VICTIM, Growth, Site, site
from bench.peers.site import machine_load, ping
from bench.report import Report
from tests.kit.topology import Host

PACE = 0.02  # seconds between two requests, two pages, two pings
FLOOR = {"API": 10.0, "pages": 5.0, "pings": 5.0}  # ms
MUST, AIM = 3.0, 1.5  # p99 under attack / p99 idle
AGENT_BUDGET = 32.0  # MB of the attacker's own agent: its proxy's 16, and L4's windows
OTHERS = 8.0  # MB of the victim's agent, which has nothing to do with it


@dataclass(frozen=True, slots=True)
class Noticed:
    p50: dict[str, float]  # ms, of each kind
    p99: dict[str, float]
    failed: list[str]
    lost_pings: int


def measure(where: Site, count: int) -> Noticed:
    """What the victim notices in count * PACE seconds."""
    edge = where.edges[0]
    with ThreadPoolExecutor(3) as pool:
        api = pool.submit(_work, edge, "api", where.kubeconfig(VICTIM), CLOUD, str(count), str(PACE))
        pages = pool.submit(_work, where.internet, "pages", CLOUD, PAGE, str(count), str(PACE))
        pings = ping(edge, CLOUD_OVERLAY, count=count, interval=PACE)
        done = {"API": api.result(), "pages": pages.result()}
    return Noticed(
        {**{kind: _percentile(told["times"], 0.5) for kind, told in done.items()}, "pings": pings.median},
        {**{kind: _percentile(told["times"], 0.99) for kind, told in done.items()}, "pings": pings.p99},
        [text for told in done.values() for text in told["failed"]],
        pings.lost,
    )


def _work(host: Host, *argv: str) -> dict[str, Any]:
    out = host.run(*PYTHON, "-m", "bench.isolation.victim", *argv, timeout=600)
    found: dict[str, Any] = json.loads(out)
    return found


def _percentile(times: list[float], share: float) -> float:
    times = sorted(times)
    return times[min(len(times) - 1, int(share * len(times)))]


def ratio(kind: str, idle: float, attacked: float) -> float:
    """Of two p99 in ms, with the floor under both."""
    return max(attacked, FLOOR[kind]) / max(idle, FLOOR[kind])


def add(out: Report, name: str, idle: Noticed, attacked: Noticed, lost: list[str], growth: Growth) -> None:
    bounded = name != "nothing"
    for kind in FLOOR:
        out.add(f"{name}: {kind}, p50 idle", idle.p50[kind], unit="ms")
        out.add(f"{name}: {kind}, p50", attacked.p50[kind], unit="ms")
        out.add(f"{name}: {kind}, p99 idle", idle.p99[kind], unit="ms")
        out.add(f"{name}: {kind}, p99", attacked.p99[kind], unit="ms")
        times = ratio(kind, idle.p99[kind], attacked.p99[kind])
        must, aim = (MUST, AIM) if bounded else (None, None)
        out.add(f"{name}: {kind}, p99 / idle", times, unit="x", must=must, aim=aim)
    out.add(f"{name}: links lost", len(lost), unit="", must=0)
    out.add(f"{name}: pings lost", attacked.lost_pings, unit="", must=0)
    out.add(f"{name}: requests failed", len(attacked.failed), unit="", must=0)
    out.add(f"{name}: the cloud grew by", growth.cloud, unit="MB", must=ATTACKS[name].budget)
    out.add(f"{name}: the victim's agent grew by", growth.victim_agent, unit="MB", must=OTHERS)
    out.add(f"{name}: the attacker's agent grew by", growth.attacker_agent, unit="MB", must=AGENT_BUDGET)


def attacked_round(out: Report, where: Site, name: str, count: int) -> None:
    load = machine_load()
    idle = measure(where, count)
    before, log = where.resident(), len(where.log())
    with running(ATTACKS[name].start, where) as told:
        attacked = measure(where, count)
    lost, growth = where.lost(log), where.grown(before)
    add(out, name, idle, attacked, lost, growth)
    out.add("load of others before a measurement", load, unit="processors")
    print(
        f"  {name:28} "
        + "  ".join(f"{kind} {attacked.p99[kind]:.1f} ({idle.p99[kind]:.1f}) ms" for kind in FLOOR)
        + f"  lost {len(lost)} links, {attacked.lost_pings} pings, {len(attacked.failed)} requests"
        + f"  cloud +{growth.cloud:.0f} MB  {' '.join(told)[:100]}",
        flush=True,
    )
    for line in (*lost[:3], *attacked.failed[:3]):
        print(f"      {line}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench NAME=isolation", description=__doc__)
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("ROUNDS", "3")))
    parser.add_argument("--count", type=int, default=300, help="requests, pages and pings of each measurement")
    parser.add_argument("--only", default=os.environ.get("ONLY", ""), help="attacks, separated by semicolons")
    parser.add_argument(
        "--directory", default=os.environ.get("DIRECTORY", "/dev/shm"), help="where stores and logs are"
    )
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("make bench NAME=isolation needs root: it makes network namespaces")
        return 1
    names = options.only.split(";") if options.only else list(ATTACKS)
    out = Report("isolation")
    directory = Path(tempfile.mkdtemp(prefix="kbiso", dir=options.directory))
    try:
        with site(directory) as where:
            measure(where, options.count)  # what only the first ones cost
            for round_ in range(options.rounds):
                print(f"round {round_ + 1} of {options.rounds}: p99 under attack (idle)", flush=True)
                for name in names if round_ % 2 == 0 else reversed(names):
                    attacked_round(out, where, name, options.count)
            where.check_log()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return 0 if out.finish() else 1


if __name__ == "__main__":
    sys.exit(main())
