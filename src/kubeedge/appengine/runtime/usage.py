"""What a control group has used: processor time and memory. Files of cgroup v2, and those of v1."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import NamedTuple

from kubeedge.appengine.runtime import cgroups


class Usage(NamedTuple):
    """`memory` is the working set: what is in use, less what the kernel could drop at once."""

    cpu: float  # seconds since the group was made
    memory: int  # bytes


def of_group(path: str, root: Path = cgroups.ROOT) -> Usage | None:
    """Blocking. None: nothing counts it, or it is gone."""
    cpu: float | None = None
    memory: int | None = None
    for group in cgroups.groups(path, root):
        with contextlib.suppress(OSError, ValueError, KeyError):
            cpu = _fields(group / "cpu.stat")["usage_usec"] / 1e6
        with contextlib.suppress(OSError, ValueError):
            cpu = int((group / "cpuacct.usage").read_text()) / 1e9
        with contextlib.suppress(OSError, ValueError):
            used = int((group / "memory.current").read_text())
            memory = max(0, used - _fields(group / "memory.stat").get("inactive_file", 0))
        with contextlib.suppress(OSError, ValueError):
            used = int((group / "memory.usage_in_bytes").read_text())
            memory = max(0, used - _fields(group / "memory.stat").get("total_inactive_file", 0))
    return Usage(cpu, memory) if cpu is not None and memory is not None else None


def of_machine(proc: Path = Path("/proc")) -> Usage:
    """Processor time of all processes, memory that is not available to new ones."""
    ticks = [int(n) for n in (proc / "stat").read_text().splitlines()[0].split()[1:9]]
    busy = sum(ticks) - ticks[3] - ticks[4]  # idle, and idle for input and output
    memory = {name: int(rest.split()[0]) * 1024 for name, _, rest in _lines(proc / "meminfo")}
    return Usage(busy / _TICKS, memory.get("MemTotal", 0) - memory.get("MemAvailable", 0))


_TICKS = 100  # a second, in /proc: USER_HZ


def _fields(path: Path) -> dict[str, int]:
    return {name: int(value) for name, _, value in (line.partition(" ") for line in path.read_text().splitlines())}


def _lines(path: Path) -> list[tuple[str, str, str]]:
    return [line.partition(":") for line in path.read_text().splitlines() if ":" in line]
