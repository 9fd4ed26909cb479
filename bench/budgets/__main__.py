"""`make bench NAME=budgets`: what the agent costs a small machine, each figure with its ceiling.

    python -m bench.budgets [--rounds 3] [--idle 60] [--keep]

The agent is installed from a wheel that is built here, with bytecode, and has a Python of its own (installation.py). Memory is RSS and private
dirty pages of its process, not PSS, which counts on others to share the interpreter (readings.py says why). All modules are on: KubeBus, channel,
AppEngine, services and DNS, publishing, the node's API, devices and MQTT. The cloud is a process beside it, on a wire, and its cost is not in
these figures. *Peak*: everything of ours, from `exec` of the agent until three pods run without the cloud, above what is left of it when it
is idle. *Idle*: nothing changes, three pods sleep. *Load*: four exec streams of 16 MB at once, and twenty execs one after the other.

Processor time, wake-ups and times want an otherwise idle machine; bytes do not care.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from bench.budgets import readings
from bench.budgets.installation import Installation
from bench.budgets.readings import MB
from bench.budgets.site import BudgetSite, site
from bench.demo.memory import peak, reset_peak
from bench.report import ROOT, Report
from kubeedge.agent import footprint

BUILD = ROOT / "build" / "budgets"
#: what edgecore loads when every module is on; the first of them brings the supervisor, the store and the configuration
LOADED = (
    *("kubeedge.edgecore", "kubeedge.config.edge", "kubeedge.networkwatch.module", "kubeedge.pki.module"),
    *("kubeedge.kubebus.module", "kubeedge.hub.module", "kubeedge.sync.driver", "kubeedge.agent.runtimes"),
    *("kubeedge.appengine.module", "kubeedge.appengine.runtime.embedded", "kubeedge.appengine.server"),
    *("kubeedge.mesh.module", "kubeedge.publishing.module", "kubeedge.publishing.servicetable.module"),
    *("kubeedge.metaserver.module", "kubeedge.metaserver.edgewrites.module", "kubeedge.metaserver.gateway"),
    *("kubeedge.devices.module", "kubeedge.devices.eventbus.module", "kubeedge.conditions.module"),
    *("kubeedge.agent.mesh_modules", "kubeedge.agent.device_modules", "kubeedge.devices.methods.driver"),
    *("kubeedge.devices.scans.module", "kubeedge.devices.upstream.module", "kubeedge.devices.upstream.queue"),
)
MORE = 17  # pods beyond three
STREAM = 16  # MB of each exec stream under load


class Budgets:
    def __init__(self, report: Report, installation: Installation, *, rounds: int, idle: float) -> None:
        self.report, self.installation = report, installation
        self.rounds, self.idle = rounds, idle

    def sizes(self) -> None:
        """What a disk must hold."""
        add, installed = self.report.add, self.installation
        add("wheel", installed.wheel.stat().st_size / MB, unit="MB", must=2.0, aim=1.5)
        add("installed, with dependencies and bytecode", installed.size() / MB, unit="MB", must=20, aim=12)
        for name, size in sorted(installed.sizes().items(), key=lambda item: -item[1])[:8]:
            print(f"  {size / MB:6.2f} MB  {name}")

    def imports(self) -> None:
        """What is loaded before anything runs, of the bytecode that the agent of this installation uses."""
        *environment, python, _, _ = self.installation.command()
        flags = ["-OO"] if self.installation.without_docstrings else []
        script = Path(__file__).with_name("imports.py")
        said = subprocess.run(
            [*environment, python, *flags, str(script), *LOADED], capture_output=True, text=True, check=True
        ).stdout
        *modules, total = map(json.loads, said.splitlines())
        for one in modules[:15]:
            print(f"  {one['kB']:7.1f} kB {one['ms']:7.2f} ms  {one['module']}")
        self.report.add("imports of all modules: modules", total["modules"], unit="")
        self.report.add("imports of all modules", total["kB"] / 1024, unit="MB", must=14, aim=10)

    def memory(self, it: BudgetSite) -> None:
        """At rest, with more and more pods; under load; and what it does meanwhile."""
        it.join()
        it.start()
        it.wait(it.ready, "the node Ready")
        self._at_rest(it, 0)
        it.pods(3)
        with_three = self._at_rest(it, 3)
        self._idle(it)
        self._load(it)
        it.pods(3 + MORE)
        with_more = self._at_rest(it, 3 + MORE)
        monitors = [readings.memory(pid).private for pid in it.monitors()]
        agent = (with_more.private_dirty - with_three.private_dirty) / MORE
        each = (agent + sum(monitors) / len(monitors)) / MB
        self.report.add("each further pod: agent and conmon, private", each, unit="MB", must=1.0, aim=0.6)
        names = [f"p{n}" for n in range(3, 3 + MORE)]
        it.kubectl("delete", "pod", *names)
        it.wait(lambda: it.containers() == 3, "3 containers")

    def _at_rest(self, it: BudgetSite, pods: int) -> readings.ProcessMemory:
        before = -1
        time.sleep(footprint.SETTLED)
        for _ in range(20):  # until what it was given to do is done, and its pages are settled
            time.sleep(1)
            now = readings.memory(it.pid).rss
            if abs(now - before) < 64 * 1024:
                break
            before = now
        used = readings.memory(it.pid)
        more = pods - 3 if pods > 3 else 0
        self.report.add(f"RSS, idle, {pods} pods", used.rss / MB, unit="MB", must=36 + more, aim=30 + 0.6 * more)
        self.report.add(
            f"private dirty, idle, {pods} pods", used.private_dirty / MB, unit="MB", must=23 + more, aim=17 + 0.6 * more
        )
        self.report.add(f"charged to our control group, {pods} pods", it.group.used() / MB, unit="MB")
        return used

    def _idle(self, it: BudgetSite) -> None:
        seen = readings.idleness(it.pid, self.idle)
        for name, count in sorted(seen.wakeups.items(), key=lambda item: -item[1]):
            print(f"  {count:7.1f} wake-ups a minute  {name}")
        self.report.add("idle, 3 pods: of one core", seen.cpu * 100, unit="%", must=0.3, aim=0.1)
        self.report.add("idle, 3 pods: wake-ups a minute", seen.wakeups_a_minute, unit="", must=300, aim=60)

    def _load(self, it: BudgetSite) -> None:
        reset_peak(it.pid)
        before = readings.memory(it.pid).rss

        def stream(_: int) -> int:
            words = ("exec", "p0", "--", "sh", "-c", f"dd if=/dev/zero bs=1M count={STREAM} 2>/dev/null")
            return len(it.kubectl(*words))

        with concurrent.futures.ThreadPoolExecutor(4) as together:
            assert set(together.map(stream, range(4))) == {STREAM * MB}
        for _ in range(20):
            assert it.kubectl("exec", "p1", "--", "echo", "here") == "here\n"
        assert "started" in it.kubectl("logs", "p2")
        self.report.add("under load: growth of RSS", (peak(it.pid) - before) / MB, unit="MB", must=16, aim=8)

    def by_default(self, it: BudgetSite) -> None:
        """The modules that are on without a word in kubeedge.yaml, and three pods."""
        it.join()
        it.start()
        it.pods(3)
        it.stop()
        it.start()
        it.wait(it.is_up, "the agent's modules")
        time.sleep(footprint.SETTLED + 5)
        used = readings.memory(it.pid)
        self.report.add("RSS, idle, 3 pods, modules by default", used.rss / MB, unit="MB", must=36, aim=30)
        self.report.add(
            "private dirty, idle, 3 pods, modules by default", used.private_dirty / MB, unit="MB", must=23, aim=17
        )

    def starts(self, it: BudgetSite) -> None:
        """Without a cloud, after a power cut: pods come from the local store."""
        it.cut()
        for _ in range(self.rounds):
            it.power_cut()
            began = time.time()
            it.start()
            it.wait(lambda since=began: bool(it.first_lines(3, since)), "3 pods without the cloud")
            first, _, last = (at - began for at in it.first_lines(3, began))
            self.report.add("start without cloud -> first pod running", first, unit="s", must=1.2, aim=0.7)
            self.report.add("start without cloud -> 3 pods running", last, unit="s", must=1.2, aim=0.7)
        for _ in range(self.rounds):
            it.power_cut()
            began = time.time()
            with readings.PeakMemory(it.ours) as seen:
                it.start()
                it.wait(lambda since=began: bool(it.first_lines(3, since)), "3 pods without the cloud")
                time.sleep(1)
            time.sleep(5)
            above = (seen.bytes - readings.together(it.ours())) / MB
            print(f"  peak of {seen.bytes / MB:.1f} MB in {seen.samples} samples, {above:.1f} MB above what stays")
            self.report.add("peak of everything ours while starting, above idle", above, unit="MB", must=8, aim=2)
        it.heal()


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench NAME=budgets", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="starts of the agent")
    parser.add_argument("--idle", type=float, default=60.0, help="seconds for which nothing happens")
    parser.add_argument("--keep", action="store_true", help="use the installation of the last run")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("the budgets need root: they make network namespaces and run containers")
        return 1
    installation = Installation(BUILD)
    installation.ensure(keep=options.keep)
    budgets = Budgets(Report("budgets"), installation, rounds=options.rounds, idle=options.idle)
    budgets.sizes()
    budgets.imports()
    with site(installation.command, modules={}) as it:
        budgets.by_default(it)
    with site(installation.command) as it:
        budgets.memory(it)
        budgets.starts(it)
    return 0 if budgets.report.finish() else 1


if __name__ == "__main__":
    sys.exit(main())
