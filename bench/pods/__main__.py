"""`make bench NAME=pods`: how soon a pod runs, fifty at once beside containerd, a hundred that do nothing, exec; and what a pod costs.

    python -m bench.pods [--rounds 3] [--one 40] [--execs 30] [--idle 60] [--keep]

The agent is that of bench/budgets: installed from a wheel, a Python of its own, every module on; the cloud is a process beside it on a wire. *Bind to
running* is from the request that creates the pod, bound to the node, to the first line of its process, so the API, the channel and the store
are in it. *Fifty at once*: until the last process runs, and until the API calls all of them Running. Beside it, in turn, fifty of the same by a kubelet and
containerd (peer.py), until the last process runs: it has no API server to feed. *exec* is through API server and KubeBus.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

from bench.budgets import readings
from bench.budgets.__main__ import BUILD
from bench.budgets.installation import Installation
from bench.budgets.readings import MB
from bench.budgets.site import BudgetSite, site
from bench.pods.peer import Peer, peer
from bench.report import ROOT, Report
from kubeedge.agent import footprint
from kubeedge.config import edge
from tests.kit.topology import Host

_AT_ONCE, _IDLE, _EXEC_ROUNDS, _PEER_ROUNDS = 50, 100, 3, 5
_TIMEOUT = 1800.0  # seconds: of a step on a machine that has much else to do


class Pods:
    """One run."""

    def __init__(self, it: BudgetSite, peer: Peer, report: Report) -> None:
        self.it, self.peer, self.report = it, peer, report
        self._few = readings.memory(it.pid)

    def client(self, step: str, count: int) -> Any:
        """What a step of bench/pods/client.py has seen."""
        pki = self.it.directory / "state/pki"
        config = {
            "step": step, "count": count, "ca": str(pki / "ca.crt"), "cert": str(pki / "admin-default.crt"),
            "key": str(pki / "admin-default.key"), "logs": str(edge.at_root(self.it.root).logs),
        }  # fmt: skip
        return self._json(self.it.cloud, "bench.pods.client", config)

    def one_by_one(self, count: int) -> None:
        """The image is there since the agent started. Beside it the kubelet's, from the file to the process."""
        seconds = sorted(self.client("one_by_one", count)["seconds"])
        last = seconds[min(len(seconds) - 1, round(0.99 * len(seconds)))]
        self.report.add("bind -> running, one pod, p50", statistics.median(seconds), unit="s", must=0.25, aim=0.12)
        self.report.add("bind -> running, one pod, p99", last, unit="s", must=0.6, aim=0.3)
        for _ in range(_PEER_ROUNDS):
            self.report.add("kubelet and containerd, one pod", self.peer.at_once(1), unit="s")

    def at_once(self) -> None:
        """Ours and the kubelet's, one after the other."""
        ours = self.client("at_once", _AT_ONCE)
        theirs = self.peer.at_once(_AT_ONCE)
        add = self.report.add
        add(f"{_AT_ONCE} at once: all processes run", ours["processes"], unit="s")
        add(f"{_AT_ONCE} at once: all Running in the API", ours["running"], unit="s")
        add(f"{_AT_ONCE} at once, kubelet and containerd: all processes run", theirs, unit="s")
        ratio = ours["running"] / theirs
        add(f"{_AT_ONCE} at once: all Running, to kubelet and containerd", ratio, unit="x", must=1.0, aim=0.5)

    def exec(self, count: int) -> None:
        """Beside crun in the same container, in turn."""
        root = edge.at_root(self.it.root).run / "oci"
        (container, *_) = self.it.machine.run("crun", f"--root={root}", "list", "-q").split()
        program = (
            "import subprocess,sys,time,statistics\nt=[]\n"
            f"for _ in range({count}):\n b=time.perf_counter(); subprocess.run(sys.argv[1:],check=True); t.append(time.perf_counter()-b)\n"
            "print(statistics.median(t))\n"
        )
        words = ("crun", f"--root={root}", "exec", container, "true")
        for _ in range(_EXEC_ROUNDS):
            through_api = statistics.median(self.client("execs", count)["seconds"])
            own = float(self.it.machine.run(sys.executable, "-c", program, *words, timeout=_TIMEOUT))
            self.report.add("crun exec true, p50", own * 1e3, unit="ms")
            self.report.add("exec of true, above crun exec, p50", (through_api - own) * 1e3, unit="ms", must=15, aim=5)

    def few(self) -> None:
        """Before anything else has left something behind."""
        self.client("keep", 3)
        self._few = self._settled()
        self.report.add("RSS, idle, 3 pods", self._few.rss / MB, unit="MB", must=40, aim=32)
        self.report.add("private dirty, idle, 3 pods", self._few.private_dirty / MB, unit="MB", must=26, aim=18)

    def many(self, seconds: float) -> None:
        """A hundred that do nothing."""
        before = self._settled()
        grown = (before.private_dirty - self._few.private_dirty) / MB
        self.report.add("private dirty, idle, 3 pods: more after all that came and went", grown, unit="MB")
        self.client("keep", _IDLE)
        after = self._settled()
        monitors = statistics.mean(readings.memory(pid).private for pid in self.it.monitors())
        each = ((after.private_dirty - before.private_dirty) / (_IDLE - 3) + monitors) / MB
        self.report.add("each further pod: agent and conmon, private", each, unit="MB", must=1.2, aim=0.7)
        seen = readings.idleness(self.it.pid, seconds)
        self.report.add(f"{_IDLE} idle pods: of one core", seen.cpu * 100, unit="%", must=2, aim=0.5)
        self.report.add(f"{_IDLE} idle pods: wake-ups a minute", seen.wakeups_a_minute, unit="", must=600, aim=120)

    def _settled(self) -> readings.ProcessMemory:
        time.sleep(footprint.SETTLED)
        before = -1
        while abs((now := readings.memory(self.it.pid)).rss - before) > 64 * 1024:
            before = now.rss
            time.sleep(2)
        return now

    def _json(self, host: Host, module: str, config: dict[str, Any]) -> Any:
        command = host.command("env", f"PYTHONPATH={ROOT}", sys.executable, "-m", module, json.dumps(config))
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT)
        if done.returncode:
            raise RuntimeError(f"{module} {config}: {done.stderr[-3000:]}\n{self.it.log()[-3000:]}")
        return json.loads(done.stdout)


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="make bench NAME=pods", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of fifty at once")
    parser.add_argument("--one", type=int, default=40, help="pods that start alone")
    parser.add_argument("--execs", type=int, default=30, help="of each of three rounds")
    parser.add_argument("--idle", type=float, default=60.0, help="seconds for which nothing happens")
    parser.add_argument("--keep", action="store_true", help="use the installation of the last run")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("this bench needs root: it makes network namespaces and runs containers")
        return 1
    installation = Installation(BUILD)
    installation.ensure(keep=options.keep)
    report = Report("pods")
    with site(installation.command) as it, peer(it.net, it.directory / "peer") as other:
        it.join()
        it.start()
        it.wait(it.ready, "the node Ready")
        pods = Pods(it, other, report)
        pods.few()
        pods.one_by_one(options.one)
        for _ in range(options.rounds):
            pods.at_once()
        pods.exec(options.execs)
        pods.many(options.idle)
    return 0 if report.finish() else 1


if __name__ == "__main__":
    sys.exit(main())
