"""What processes use: those of a control group, those of the machine. From the kernel's files; cgroup v1, v2 and hybrid."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kubeedge.appengine.runtime import cgroups
from kubeedge.appengine.runtime.base import ResourceUsage

_TICKS = 100  # a second, in /proc: USER_HZ
_IDLE = slice(3, 5)  # idle, and idle for input and output, in a line of /proc/stat


def read(path: str, root: Path = cgroups.ROOT) -> ResourceUsage | None:
    """Of a group and all below it; None when it is gone, or nothing counts it. Blocking.

    With v1 one hierarchy has the memory and another the time, and a hybrid machine has some controllers in each version.
    """
    cpu: int | None = None
    memory: int | None = None
    stat: dict[str, int] = {}
    processes = 0
    for group in cgroups.groups(path, root):
        if (usec := _table(group / "cpu.stat").get("usage_usec")) is not None:
            cpu = usec * 1000
        if (time := _number(group / "cpuacct.usage")) is not None:
            cpu = time
        if (current := _number(group / "memory.current")) is not None:
            memory, stat = current, _table(group / "memory.stat")
        if (current := _number(group / "memory.usage_in_bytes")) is not None:
            memory, stat = current, _totals(group / "memory.stat")
        processes = _number(group / "pids.current") or processes
    if cpu is None and memory is None:
        return None
    return ResourceUsage(
        cpu_ns=cpu or 0,
        memory=memory or 0,
        working_set=max(0, (memory or 0) - stat.get("inactive_file", 0)),
        rss=stat.get("anon", 0),
        page_faults=stat.get("pgfault", 0),
        major_page_faults=stat.get("pgmajfault", 0),
        processes=processes,
    )


def of_machine(proc: Path = Path("/proc")) -> ResourceUsage:
    """Of all processes; the working set is the memory that is not available to new ones. Raises OSError."""
    ticks = [int(n) for n in (proc / "stat").read_text().splitlines()[0].split()[1:9]]
    memory = {name.rstrip(":"): value * 1024 for name, value in _pairs(proc / "meminfo")}
    total, faults = memory.get("MemTotal", 0), _table(proc / "vmstat")
    return ResourceUsage(
        cpu_ns=(sum(ticks) - sum(ticks[_IDLE])) * (1_000_000_000 // _TICKS),
        memory=total - memory.get("MemFree", 0),
        working_set=total - memory.get("MemAvailable", 0),
        rss=memory.get("AnonPages", 0),
        page_faults=faults.get("pgfault", 0),
        major_page_faults=faults.get("pgmajfault", 0),
        processes=int((proc / "loadavg").read_text().split()[3].partition("/")[2]),
    )


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _table(file: Path) -> dict[str, int]:
    """Empty when it cannot be read."""
    try:
        return dict(_pairs(file))
    except OSError:
        return {}


def _totals(file: Path) -> dict[str, int]:
    """Of memory.stat of v1, which has own numbers and those with all below: the latter, under the names of v2."""
    totals = {name[len("total_") :]: value for name, value in _table(file).items() if name.startswith("total_")}
    return {**totals, "anon": totals.get("rss", 0)}


def _pairs(file: Path) -> Iterator[tuple[str, int]]:
    """NAME NUMBER, one a line; a unit behind it is left out."""
    for line in file.read_text().splitlines():
        name, *rest = line.split()
        if rest and rest[0].isdigit():
            yield name, int(rest[0])
