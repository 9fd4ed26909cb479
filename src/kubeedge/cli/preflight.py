"""What would fail later on this machine, reported before joining."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from kubeedge.cli.errors import CommandError

_MIN_DISK = 256 * 1024 * 1024  # bytes free: the agent's state and one small image
_MIN_MEMORY = 48 * 1024 * 1024  # bytes available: the agent, without workloads
#: every other program that the agent or a plugin runs, what lacks without it, and Debian's package (a test looks for more of them)
_PROGRAMS = {
    "conmon": ("containers will not start", "conmon"),
    "nft": ("pods will not reach the outside", "nftables"),
    "iptables": ("ports of the node that lead to a pod (hostPort) will not work", "iptables"),
    "ip": ("`kubeedge reset` will leave the bridge of the pods behind", "iproute2"),
}
_PLUGINS = ("bridge", "host-local", "portmap")
_CNI_DIRS = ("/opt/cni/bin", "/usr/lib/cni")


def check(state: Path) -> list[str]:
    """Warnings, each with what to do. Raises CommandError for what cannot work at all."""
    if os.geteuid() != 0:
        raise CommandError("an agent needs root: it makes a TUN device and runs containers", "run the command as root")
    return list(_warnings(state))


def _warnings(state: Path) -> Iterator[str]:
    if not os.path.exists("/dev/net/tun"):
        yield "/dev/net/tun is missing; KubeBus will not work (modprobe tun)"
    for program, (lack, package) in _PROGRAMS.items():
        if not shutil.which(program):
            yield f"{program} is missing; {lack} (apt-get install {package})"
    if not shutil.which("crun") and not shutil.which("runc"):
        yield "crun is missing; containers will not start (apt-get install crun)"
    missing = [p for p in _PLUGINS if not any(os.path.exists(f"{directory}/{p}") for directory in _CNI_DIRS)]
    if missing:
        names = ", ".join(missing)
        yield f"the CNI plugins are missing ({names}); pods get no network (apt-get install containernetworking-plugins)"
    if not any(Path("/sys/fs/cgroup").glob("**/cgroup.procs")):
        yield "no cgroups are mounted at /sys/fs/cgroup; containers will not start"
    free = shutil.disk_usage(next(p for p in (state, *state.parents) if p.exists())).free
    if free < _MIN_DISK:
        yield f"{free // 2**20} MiB of disk are free at {state}; {_MIN_DISK // 2**20} MiB are needed"
    available = _available_memory()
    if available is not None and available < _MIN_MEMORY:
        yield f"{available // 2**20} MiB of memory are available; the agent alone needs {_MIN_MEMORY // 2**20} MiB"


def _available_memory() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None
