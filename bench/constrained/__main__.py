"""`make bench NAME=constrained`: what still holds with 32 MB of memory and a tenth of one core; the same command on a small board.

    python -m bench.constrained [--memory 32] [--cpu 0.1] [--modules all|default]

The agent, its helpers and the programs that it starts are in one control group with these limits; pods are in groups of their own, as always.
It has a Python of its own (bench/budgets/installation.py), whose pages are not in memory when it starts: the group pays for each of them, and
without swap what does not fit is read from the disk again and again, as on a board. Each step is checked; a step that fails is said, and the
next one is tried, unless there is no node. The cloud runs beside it without limits. On a board with a device tree its name is printed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.budgets.__main__ import BUILD
from bench.budgets.installation import Installation
from bench.budgets.readings import MB
from bench.budgets.site import MODULES, BudgetSite, site
from bench.report import Report

_MODEL = Path("/proc/device-tree/model")


def board() -> str:
    """The name of this board; "" for a machine without a device tree."""
    return _MODEL.read_bytes().rstrip(b"\0").decode(errors="replace") if _MODEL.exists() else ""


class Constrained:
    def __init__(self, report: Report, it: BudgetSite) -> None:
        self.report, self.it = report, it
        self.failed: list[str] = []

    def step(self, name: str, do: Callable[[], object], must: float) -> bool:
        """Whether it held; seconds are reported."""
        began = time.monotonic()
        try:
            do()
        except (AssertionError, RuntimeError, OSError) as exc:
            self.failed.append(name)
            killed = f"; {self.it.group.kills()} processes ended for want of memory"
            print(f"  FAILED {name}: {str(exc).splitlines()[0]}{killed}", flush=True)
            return False
        took = time.monotonic() - began
        print(f"  holds: {name}, after {took:.1f} s; {self.it.group.used() / MB:.1f} MB in use", flush=True)
        self.report.add(name, took, unit="s", must=must)
        return True

    def run(self) -> bool:
        """Every step in order."""
        it = self.it
        if not self.step("join", it.join, 300) or not self.step("start to Ready", self._start, 300):
            return False  # nothing else can hold
        self.step("one pod running", lambda: it.pods(1), 300)
        self.step("kubectl logs", lambda: self._says("started\n", "logs", "p0"), 60)
        self.step("kubectl exec", lambda: self._says("here\n", "exec", "p0", "--", "echo", "here"), 60)
        self.step("a cut link: the pod goes on", self._cut, 120)
        self.step("the link returns: Ready, exec", self._heal, 300)
        self.step("restart without the cloud: the pod is kept", self._restart, 300)
        self.report.add("peak of the control group", it.group.peak() / MB, unit="MB")
        self.report.add("processes ended for want of memory", it.group.kills(), unit="", must=0)
        return not self.failed

    def _start(self) -> None:
        self.it.start()
        self.it.wait(self.it.ready, "Ready", timeout=600)

    def _says(self, expected: str, *arguments: str) -> None:
        said = self.it.kubectl(*arguments)
        assert said == expected, said

    def _cut(self) -> None:
        self.it.cut()
        self.it.wait(lambda: not self.it.ready(), "NotReady", timeout=300)
        assert self.it.containers() == 1, "the container has ended"

    def _heal(self) -> None:
        self.it.heal()
        self.it.wait(self.it.ready, "Ready", timeout=600)
        self._says("here\n", "exec", "p0", "--", "echo", "here")

    def _restart(self) -> None:
        self.it.cut()
        self.it.stop()
        self.it.start()
        self.it.wait(self.it.is_up, "the agent", timeout=600)
        assert self.it.containers() == 1, "the container has ended"
        self.it.heal()


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench NAME=constrained", description=__doc__)
    parser.add_argument("--memory", type=float, default=32, help="MB")
    parser.add_argument("--cpu", type=float, default=0.1, help="share of one core")
    parser.add_argument("--modules", choices=("all", "default"), default="default")
    parser.add_argument("--keep", action="store_true", help="use the installation of the last run")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("this needs root: it makes network namespaces, control groups and runs containers")
        return 1
    installation = Installation(BUILD)
    installation.ensure(keep=options.keep)
    installation.cold()
    print(f"board: {board() or 'none, a machine without a device tree'}", flush=True)
    report = Report("constrained")
    report.versions["limits"] = f"{options.memory:g} MB, {options.cpu:g} of a core, modules: {options.modules}"
    if name := board():
        report.versions["board"] = name
    modules = MODULES if options.modules == "all" else {}
    limits = (round(options.memory * MB), options.cpu)
    with site(installation.command, modules=modules, limits=limits) as it:
        holds = Constrained(report, it).run()
    return 0 if report.finish() and holds else 1


if __name__ == "__main__":
    sys.exit(main())
