"""Debian's packages, word for word as docs/INSTALL.md installs, upgrades and removes them, on a machine whose PID 1 is systemd.

Both sides are on one machine. What apt needs beside our own packages is fetched before, because such a machine reaches nothing but itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from cross.deb.__main__ import build as build_packages
from cross.wheels.__main__ import build as build_wheels
from cross.wheels.targets import PYTHONS
from cross.wheels.tools import Tools
from tests.install import services
from tests.install.machine import ROOT, Machine
from tests.install.page import blocks
from tests.kit.topology import until

MACHINE = "debian"  # whose blocks of the page these are
_VALUES = {"CLOUD_HOST": "127.0.0.1", "NODE": "n1"}
#: one machine is both sides, and there is one kb0
_CONFIG = "kind: CloudCore\nadvertise: [127.0.0.1]\n# by hand\ntun: {{enable: {tun}}}\n"
_STATE = "/var/lib/kubeedge"


def build(release: str, directory: Path) -> None:
    """Two revisions for this processor, in `directory`/1 and 2."""
    tools, machine = Tools(), os.uname().machine
    (version,) = (python.version for python in PYTHONS.values() if python.suite == release)
    build_wheels(tools, [machine], [version], directory / "work", directory / "wheels")
    for revision in ("1", "2"):
        made = build_packages(
            tools, [machine], [version], revision, directory / "wheels", directory / f"built-{revision}"
        )
        made[0].parent.rename(directory / revision)


def fetch(machine: Machine, packages: Path) -> None:
    """Our packages to /root/packages, and what they depend on to where apt keeps what it has fetched."""
    for revision in ("1", "2"):
        target = machine.root / "root/packages" / revision
        target.mkdir(parents=True)
        for package in (packages / revision).glob("*.deb"):
            (target / package.name).write_bytes(package.read_bytes())
    machine.run("apt-get install -y --download-only ./packages/1/*.deb", outside=True)


def check(machine: Machine, inside: Callable[[str], str]) -> None:
    """`inside` runs a script under systemd."""
    page = (ROOT / "docs/INSTALL.md").read_text(encoding="utf-8")
    cloud, node, upgrade, remove, purge = (block for block in blocks(page) if block.machine == MACHINE)
    inside("rm -f /usr/sbin/policy-rc.d")  # services of packages do start here
    inside("mknod -m 0666 /run/tun c 10 200\nmount --bind /run/tun /dev/net/tun")  # as udev makes it
    values = dict(_VALUES)

    _configure(machine, tun=True)
    inside(f"cd packages/1\n{cloud.text(values)}")
    assert _user(inside, "kubeedge-cloud") == "kubeedge", "the cloud side has a user of its own"
    until(lambda: "kb0" in inside("ls /sys/class/net"), timeout=60, interval=0.5, what="its TUN device")
    _configure(machine, tun=False)
    inside("systemctl restart kubeedge-cloud")
    _answers(inside, "kubeedge token list")
    values["TOKEN"] = inside("kubeedge token create --node n1").split()[-1]
    inside(f"cd packages/1\n{node.text(values)}")
    assert _user(inside, "kubeedge-edge") == "root"
    services.until_attached(inside)
    inside("echo '# by hand' >>/etc/kubeedge/kubeedge.yaml")

    before = _processes(inside)
    inside(f"cd packages/2\n{upgrade.text(values)}")
    services.until_attached(inside)
    assert not set(before) & set(_processes(inside)), "both services run the new version"
    assert inside("grep -l 'by hand' /etc/kubeedge/*.yaml").split() == [
        "/etc/kubeedge/cloud.yaml",
        "/etc/kubeedge/kubeedge.yaml",
    ]

    inside(remove.text(values))
    assert inside("systemctl is-active kubeedge-edge || true").strip() == "inactive"
    assert "node.json" in inside(f"ls /etc/kubeedge; test -e {_STATE}/edge/.kubeedge"), "removal keeps the state"
    inside("apt-get install -y ./packages/2/kubeedge_*.deb")
    services.until_attached(inside)  # without another join

    inside(purge.text(values))
    left = inside(
        "find /etc /run /usr /var /opt -name '*kubeedge*' -not -path '/var/lib/apt/*' -not -path '/var/cache/*'"
    )
    assert left == "", f"left behind:\n{left}"
    assert inside("systemctl list-units --failed --no-legend 'kubeedge-*'") == ""


def _configure(machine: Machine, *, tun: bool) -> None:
    path = machine.root / "etc/kubeedge/cloud.yaml"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_text(_CONFIG.format(tun=str(tun).lower()))
    path.chmod(0o600)


def _user(inside: Callable[[str], str], name: str) -> str:
    return inside(f"stat -c %U /proc/$(systemctl show --property=MainPID --value {name})").strip()


def _processes(inside: Callable[[str], str]) -> list[str]:
    return inside("systemctl show --property=MainPID --value kubeedge-edge kubeedge-cloud").split()


def _answers(inside: Callable[[str], str], command: str) -> None:
    until(
        lambda: "yes" in inside(f"{command} >/dev/null 2>&1 && echo yes || true"),
        timeout=120,
        interval=0.5,
        what=command,
    )
