"""`make bench NAME=constrained`: what still holds with 32 MB of memory and a tenth of one core; the same command on a small board.

    python -m bench.constrained [--memory 32] [--cpu 0.1] [--modules all|default] [--patience 180] [--find]

The agent, its helpers and the programs that it starts are in one control group with these limits; pods are in groups of their own, as always.
It has a Python of its own (bench/budgets/installation.py), whose pages are not in memory when it starts: the group pays for each of them, and
without swap what does not fit is read from the disk again and again, as on a board. Each step is checked; a step that fails is said, and the
next one is tried, unless there is no node. The cloud runs beside it without limits. On a board with a device tree its name is printed.
`--find` goes on with less and less memory, and prints the smallest limit with which everything held.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.budgets import readings
from bench.budgets.__main__ import BUILD
from bench.budgets.installation import Installation
from bench.budgets.readings import MB
from bench.budgets.site import MODULES, BudgetSite, site
from bench.report import Report

_LESS = 2.0  # MB between two limits that are tried
_MODEL = Path("/proc/device-tree/model")


def board() -> str:
    """The name of this board; "" for a machine without a device tree."""
    return _MODEL.read_bytes().rstrip(b"\0").decode(errors="replace") if _MODEL.exists() else ""


class Constrained:
    """`patience`: seconds after which a step does not hold."""

    def __init__(self, report: Report, it: BudgetSite, patience: float) -> None:
        self.report, self.it, self.patience = report, it, patience
        self.failed: list[str] = []

    def step(self, name: str, do: Callable[[], object], must: float) -> bool:
        """Whether it held; seconds are reported."""
        began = time.monotonic()
        try:
            do()
        except (AssertionError, RuntimeError, OSError) as exc:
            self.failed.append(name)
            group = self.it.group
            print(f"  FAILED {name}, after {time.monotonic() - began:.1f} s: {str(exc).splitlines()[0]}")
            print(
                f"    {group.used() / MB:.1f} MB in use, {group.kills()} processes ended for want of memory", flush=True
            )
            for pid in group.pids():
                words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                used = readings.memory(pid)
                print(
                    f"    {used.anonymous / MB:5.1f} MB and {used.of_files / MB:.1f} MB of files: {words[-100:]}",
                    flush=True,
                )
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
        self.step("one pod running", lambda: it.pods(1, self.patience), 300)
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
        self.it.wait(self.it.ready, "Ready", timeout=self.patience)

    def _says(self, expected: str, *arguments: str) -> None:
        said = self.it.kubectl(*arguments)
        assert said == expected, said

    def _cut(self) -> None:
        self.it.cut()
        self.it.wait(lambda: not self.it.ready(), "NotReady", timeout=self.patience)
        assert self.it.containers() == 1, "the container has ended"

    def _heal(self) -> None:
        self.it.heal()
        self.it.wait(self.it.ready, "Ready", timeout=self.patience)
        self._says("here\n", "exec", "p0", "--", "echo", "here")

    def _restart(self) -> None:
        self.it.cut()
        self.it.stop()
        self.it.start()
        self.it.wait(self.it.is_up, "the agent", timeout=self.patience)
        assert self.it.containers() == 1, "the container has ended"
        self.it.heal()


def holds(installation: Installation, report: Report, memory: float, options: argparse.Namespace) -> bool:
    """Whether everything holds with so many MB."""
    installation.cold()
    print(f"{memory:g} MB, {options.cpu:g} of a core, modules: {options.modules}", flush=True)
    modules = MODULES if options.modules == "all" else {}
    with site(installation.command, modules=modules, limits=(round(memory * MB), options.cpu)) as it:
        return Constrained(report, it, options.patience).run()


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench NAME=constrained", description=__doc__)
    parser.add_argument("--memory", type=float, default=32, help="MB")
    parser.add_argument("--cpu", type=float, default=0.1, help="share of one core")
    parser.add_argument("--modules", choices=("all", "default"), default="default")
    parser.add_argument("--patience", type=float, default=180, help="seconds that a step may take")
    parser.add_argument("--find", action="store_true", help="the smallest limit with which everything holds")
    parser.add_argument("--keep", action="store_true", help="use the installation of the last run")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("this needs root: it makes network namespaces, control groups and runs containers")
        return 1
    installation = Installation(BUILD)
    installation.ensure(keep=options.keep)
    print(f"board: {board() or 'none, a machine without a device tree'}", flush=True)
    report = Report("constrained")
    report.versions["limits"] = f"{options.memory:g} MB, {options.cpu:g} of a core, modules: {options.modules}"
    if name := board():
        report.versions["board"] = name
    held = holds(installation, report, options.memory, options)
    if options.find and held:
        memory = options.memory
        while memory > _LESS and holds(installation, Report("constrained"), memory - _LESS, options):
            memory -= _LESS
        report.add("least memory with which everything held", memory, unit="MB")
    return 0 if report.finish() and held else 1


if __name__ == "__main__":
    sys.exit(main())
