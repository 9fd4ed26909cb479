"""`make fresh`: docs/INSTALL.md, word for word, in fresh Debian systems.

    python -m tests.install bookworm trixie

Two machines for each release, made of namespaces and of roots that debootstrap fills; beyond the page's own words, only what its reader does
between them is done here: the source and dist/ are copied, values are put in place of the words in capitals, and, because a root without
systemd has no services, the two programs are started where the page's commands say so. Root only. The first run fetches about 250 MB.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kubeedge.appengine.runtime import cgroups
from tests.install import packages, services, wheels
from tests.install.machine import ROOT, Machine, alone
from tests.install.page import blocks
from tests.install.traces import Traces
from tests.kit import images
from tests.kit.topology import Topology, until

PAGE = ROOT / "docs/INSTALL.md"
PREFIX = f"kbfresh{os.getpid()}"  # of cgroups, which are no namespaces: another agent may be on this machine
ADDRESS = "203.0.113.1"
IMAGE = "example.org/hello:1"
ARCHIVE = "/root/hello.tar"


class Walk:
    """A reader who does what the page says."""

    def __init__(self, cloud: Machine, node: Machine) -> None:
        self.machines = {"cloud": cloud, "node": node}
        self.values = {"CLOUD_HOST": ADDRESS, "NODE": "cam7", "IMAGE": IMAGE, "ARCHIVE": ARCHIVE}
        self.before = Traces()

    def run(self) -> None:
        for block in blocks(PAGE.read_text(encoding="utf-8")):
            if block.machine == packages.MACHINE:
                continue
            machine, text = self.machines[block.machine], block.text(self.values)
            print(f"  {block.machine}: {'; '.join(block.commands.splitlines())}", flush=True)
            if "kubeedge join" in text:
                self.before = Traces.of(machine)
            said = machine.run(text, outside="apt-get" in text)
            self._after(machine, text, said)

    def _after(self, machine: Machine, text: str, said: str) -> None:
        node = self.machines["node"]
        if "next: start the cloud with `kubeedge cloud`" in said:
            machine.spawn("kubeedge cloud")
            until(machine.path("/run/kubeedge/cloud.sock").exists, timeout=120, what="the cloud's socket")
        if "kubeedge token create" in text:
            self.values["TOKEN"] = said.split()[-1]
        if "make install" in text:
            shutil.copytree(machine.root / "root/kubeedge/dist", node.root / "root/dist")
        if "python3-venv" in text and machine is node:
            _without_a_compiler(node)
        if "next: start the agent with `kubeedge edge`" in said:
            images.build(node.root / ARCHIVE[1:], IMAGE, command=["sleep", "1000"])
            node.run(f"sed -i 's/cgroupPrefix: kubeedge/cgroupPrefix: {PREFIX}/' /etc/kubeedge/kubeedge.yaml")
            node.spawn("kubeedge edge")
            until(node.path("/run/kubeedge/edge.sock").exists, timeout=120, what="the agent's socket")
        if "kubectl run" in text:
            assert cgroups.processes(PREFIX), "a pod that is Ready has processes"
            assert "Running" in said, said
        if "kubeedge reset" in text:
            (node.root / ARCHIVE[1:]).unlink()
            assert not list(cgroups.groups(PREFIX))
            self.before.compare(Traces.of(node))


def _without_a_compiler(machine: Machine) -> None:
    """A source distribution says what it lacks."""
    machine.run("python3 -m venv /tmp/source")
    install = "/tmp/source/bin/pip install dist/kubeedge-*.tar.gz"
    said = machine.run(f"! {install} 2>&1", outside=True)
    assert "apt-get install --no-install-recommends gcc libc6-dev python3-dev libssl-dev\n" in said, said


def _unit_tests(machine: Machine) -> None:
    """With the Python of this release, where warnings are errors."""
    machine.run("apt-get install -y --no-install-recommends git make\ngit init -q\ngit add .\nmake setup", outside=True)
    print(machine.run(".venv/bin/python -m pytest -q tests/unit").splitlines()[-1], flush=True)


def try_on(release: str, log: Path, *, tests: bool) -> None:
    with contextlib.ExitStack() as stack:
        stack.enter_context(alone(release))
        directory = Path(tempfile.mkdtemp(prefix="kubeedge-fresh-"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        stack.callback(cgroups.kill_and_remove, PREFIX)
        net = stack.enter_context(Topology())
        cloud, node = net.host("cloud"), net.host("node")
        net.wire(cloud, f"{ADDRESS}/24", node, "203.0.113.7/24")
        machines = [Machine(host, release, directory / host.name, log) for host in (cloud, node)]
        _copy_source(machines[0].root / "root/kubeedge")
        machines[0].home = "/root/kubeedge"
        Walk(*machines).run()
        _under_systemd(machines[1], directory / "packages", release)
        if tests:
            _unit_tests(machines[0])


def _under_systemd(machine: Machine, directory: Path, release: str) -> None:
    """Services of an installation as above, then those of Debian's packages."""
    print("  node: both services under systemd", flush=True)
    packages.build(release, directory)
    services.prepare(machine)
    packages.fetch(machine, directory)
    with services.booted(machine) as inside:
        services.check(inside)
        services.uninstall(inside)
        print("  debian: packages are installed, upgraded, removed, purged", flush=True)
        packages.check(machine, inside)


def _copy_source(target: Path) -> None:
    """What git knows, as it is in the working tree."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    for name in filter(None, map(os.fsdecode, listed.split(b"\0"))):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fresh", description=__doc__)
    parser.add_argument(
        "--wheels", action="store_true", help="then wheels for ARM: the same twice, and tried under emulation"
    )
    parser.add_argument("releases", nargs="+", metavar="RELEASE", help="of Debian: bookworm, trixie")
    parser.add_argument("--tests", action="store_true", help="then the unit tests with the Python of that release")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("make fresh needs root: it makes Debian roots and network namespaces", file=sys.stderr)
        return 2
    for release in options.releases:
        log, began = ROOT / f"build/install-{release}.log", time.monotonic()
        log.unlink(missing_ok=True)
        log.parent.mkdir(exist_ok=True)
        print(f"{release}: docs/INSTALL.md in fresh roots; everything that is printed is in {log}", flush=True)
        try_on(release, log, tests=options.tests)
        print(
            f"{release}: installed, a node Ready, a pod Running, and all of it undone, in {time.monotonic() - began:.0f} s",
            flush=True,
        )
    if options.wheels:
        wheels.check()
    return 0


if __name__ == "__main__":
    sys.exit(main())
