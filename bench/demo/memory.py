"""PSS of what is ours on a host: the agent, its helpers and the container monitors, not the containers."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from tests.kit.topology import Host

OURS = ("python", "kubeedge", "conmon", "crun", "runc", "bridge", "host-local")


def pss(pid: int) -> int:
    """bytes; 0 for a process that is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def rss(pid: int) -> int:
    """bytes: what the process has in memory, pages that others share included; PSS would be this if it were alone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Rss:"):
                return int(line.split()[1]) * 1024
    return 0


def peak(pid: int) -> int:
    """bytes: the highest resident set so far."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def reset_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def ours(host: Host) -> dict[int, str]:
    """pid -> command name of our processes in the host's own pid namespace (containers have their own)."""
    namespace = os.readlink(f"/proc/{host.pid}/ns/pid")
    found = {}
    for pid in host.processes():
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{pid}/ns/pid") == namespace:
                name = Path(f"/proc/{pid}/comm").read_text().strip()
                if name.startswith(OURS):
                    found[pid] = name
    return found
