"""A control group of the bench's own: who is in it, what it has used, and what it may use. Version 1 and 2."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from kubeedge.appengine.runtime import cgroups

#: writes itself into the groups that come first, up to a "--", and becomes the rest
_ENTER = """
import os, sys
split = sys.argv.index("--")
for group in sys.argv[1:split]:
    with open(f"{group}/cgroup.procs", "w") as file:
        file.write("0")
os.execvp(sys.argv[split + 1], sys.argv[split + 1:])
"""


class ControlGroup:
    """Made at once; close() ends what runs in it. `memory` is in bytes, `cpu` a share of one core; None: no limit."""

    def __init__(self, name: str, *, memory: int | None = None, cpu: float | None = None) -> None:
        self._name = name
        self._groups = [h / name for h in cgroups.hierarchies() if _controls(h, "memory", "cpu")]
        for group in self._groups:
            group.mkdir(exist_ok=True)
        if memory is not None:
            self._set(("memory.max", str(memory)), ("memory.limit_in_bytes", str(memory)))
            with contextlib.suppress(RuntimeError):  # where the kernel counts swap
                self._set(("memory.swap.max", "0"), ("memory.memsw.limit_in_bytes", str(memory)))
        if cpu is not None:
            quota = round(cpu * 100_000)
            self._set(("cpu.max", f"{quota} 100000"), ("cpu.cfs_quota_us", str(quota)))

    def command(self, *argv: str) -> list[str]:
        """What runs `argv` in this group, from its first instruction on."""
        return ["/usr/bin/python3", "-I", "-c", _ENTER, *map(str, self._groups), "--", *argv]

    def pids(self) -> list[int]:
        """Who is in it and below it, as this process sees them."""
        return cgroups.processes(self._name)

    def used(self) -> int:
        """Bytes that it is charged with: pages of files that it was the first to read and memory of the kernel included."""
        return int(self._get("memory.current", "memory.usage_in_bytes"))

    def peak(self) -> int:
        """The most of `used`, ever."""
        return int(self._get("memory.peak", "memory.max_usage_in_bytes"))

    def kills(self) -> int:
        """How many processes the kernel has killed because the group's memory was used up."""
        for line in self._get("memory.events", "memory.oom_control").splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
        return 0

    def close(self) -> None:
        deadline = time.monotonic() + 10
        while any(group.exists() for group in self._groups) and time.monotonic() < deadline:
            cgroups.kill_and_remove(self._name)
            time.sleep(0.02)

    def _set(self, *values: tuple[str, str]) -> None:
        for group in self._groups:
            for name, text in values:
                if (group / name).exists():
                    (group / name).write_text(text)
                    return
        raise RuntimeError(f"no control group of this machine has {values[0][0]} or {values[1][0]}")

    def _get(self, *names: str) -> str:
        for group in self._groups:
            for name in names:
                if (group / name).exists():
                    return (group / name).read_text()
        raise RuntimeError(f"no control group of this machine has {' or '.join(names)}")


def _controls(hierarchy: Path, *wanted: str) -> bool:
    """v2 lists its controllers; a hierarchy of v1 carries their names."""
    listed = hierarchy / "cgroup.controllers"
    if not listed.exists():
        return bool({*hierarchy.name.split(",")} & {*wanted})
    if not {*wanted} <= {*listed.read_text().split()}:
        return False
    with contextlib.suppress(OSError):
        (hierarchy / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in wanted))
    return True
