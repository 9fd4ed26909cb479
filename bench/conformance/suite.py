"""Upstream's e2e binary: which specs there are, and what comes of them.

A run that is interrupted says which spec it was in and runs no other; the others are then run by another one.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.kit.topology import Host
from tests.kit.upstream import build

#: a line between two specs in ginkgo's verbose output
_BETWEEN = b"\n------------------------------\n"
_SPECIAL = re.compile(r"([\\.+*?()|\[\]{}^$])")
_LOOK = 1.0  # seconds between two looks at the output
_CLEAN_UP = 300.0  # seconds for what an interrupted spec has to take down


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one spec; `state` is passed, failed or skipped, `message` what the suite said."""

    spec: str
    state: str
    message: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Suite:
    """`kubeconfig` of an administrator, `nodes` to run on, at most `timeout` seconds for one spec; files go to `directory`."""

    host: Host
    kubeconfig: Path
    directory: Path
    nodes: int
    timeout: float
    stopped: threading.Event = field(default_factory=threading.Event)  # from outside: no spec is run any more

    def run(self, specs: Sequence[str], name: str) -> list[Outcome]:
        """One after the other; `name` is that of the files. RuntimeError with the end of its output when the suite cannot run. Nothing when it was
        stopped."""
        left, found, turn = list(specs), [], 0
        while left and not self.stopped.is_set():
            turn += 1
            stem = self.directory / f"{name}-{turn}"
            self._once(left, stem)
            if self.stopped.is_set():
                return []
            new = outcomes(_reports(stem.with_suffix(".json")), left)
            if not new:
                raise RuntimeError(f"no spec was run: {stem.with_suffix('.log').read_text(errors='replace')[-3000:]}")
            found += new
            done = {outcome.spec for outcome in new}
            left = [spec for spec in left if spec not in done]
        return found

    def _once(self, specs: Sequence[str], stem: Path) -> None:
        """Until it ends by itself, or one spec has taken longer than it may."""
        log = stem.with_suffix(".log")
        process = self.host.spawn(*self._command(specs, stem), log=log, env={"HOME": str(self.directory)})
        seen, since, interrupted = 0, time.monotonic(), False
        while process.poll() is None:
            time.sleep(_LOOK)
            count = log.read_bytes().count(_BETWEEN)
            if count != seen:
                seen, since = count, time.monotonic()
            took = time.monotonic() - since
            if self.stopped.is_set():
                self.host.signal(process, signal.SIGKILL)
            elif took > self.timeout and not interrupted:
                self.host.signal(process, signal.SIGINT)
                interrupted = True
            elif took > self.timeout + _CLEAN_UP:
                self.host.signal(process, signal.SIGKILL)

    def _command(self, specs: Sequence[str], stem: Path) -> list[str]:
        return [
            str(build.program("e2e.test")), "--provider=skeleton", f"--kubeconfig={self.kubeconfig}",
            f"--num-nodes={self.nodes}", f"--kubectl-path={build.program('kubectl')}", "--disable-log-dump", "--allowed-not-ready-nodes=-1", f"--repo-root={self.directory}", "--ginkgo.v", "--ginkgo.no-color",
            f"--ginkgo.timeout={int((self.timeout + _CLEAN_UP) * (len(specs) + 1))}s",
            f"--ginkgo.json-report={stem.with_suffix('.json')}", f"--ginkgo.junit-report={stem.with_suffix('.xml')}",
            f"--ginkgo.focus={pattern(specs)}",
        ]  # fmt: skip


def select(focus: str, skip: str, directory: Path) -> list[str]:
    """The names of the specs that match the one regular expression of Go's and not the other, if there is one."""
    report = directory / "specs.json"
    command = [
        str(build.program("e2e.test")),
        "--ginkgo.dry-run",
        f"--ginkgo.json-report={report}",
        f"--ginkgo.focus={focus}",
    ]
    environment = {**os.environ, "HOME": str(directory)}
    if skip:
        command.append(f"--ginkgo.skip={skip}")
    subprocess.run(
        command, cwd=directory, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, check=True
    )
    return sorted(_name(entry) for entry in _reports(report) if entry["State"] == "passed")


def pattern(specs: Iterable[str]) -> str:
    """A regular expression of Go's for exactly these texts, and others that go on after one of them."""
    return "|".join(_SPECIAL.sub(r"\\\1", spec) for spec in specs)


def outcomes(reports: Iterable[dict[str, Any]], wanted: Iterable[str]) -> list[Outcome]:
    """Of those wanted specs that ran, or said why they did not; what comes after an interruption says nothing."""
    names = set(wanted)
    found = []
    for entry in reports:
        name, state = _name(entry), str(entry["State"])
        message = str((entry.get("Failure") or {}).get("Message", ""))
        if name not in names or state == "pending" or (state == "skipped" and not message):
            continue
        kept = state if state in ("passed", "skipped") else "failed"
        said = message if state == kept else f"{state}: {message}"
        found.append(Outcome(name, kept, said, entry.get("RunTime", 0) / 1e9))
    return found


def _reports(path: Path) -> list[dict[str, Any]]:
    """Of the specs alone; empty when the suite did not come so far."""
    if not path.exists():
        return []
    suites = json.loads(path.read_text())
    return [entry for suite in suites for entry in suite["SpecReports"] or () if entry["LeafNodeType"] == "It"]


def _name(entry: dict[str, Any]) -> str:
    return " ".join([*(entry["ContainerHierarchyTexts"] or ()), entry["LeafNodeText"]])
