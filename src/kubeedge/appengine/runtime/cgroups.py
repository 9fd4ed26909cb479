"""Control groups: which layout this machine has, and limits and the end of our groups. Those of containers are the
OCI runtime's work.

v1: one hierarchy a controller below /sys/fs/cgroup. v2: one hierarchy. hybrid: v1, with v2 at unified/; crun refuses a hybrid whose v2
has controllers, runc does not mind.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from kubeedge.appengine.runtime.group_limits import GroupLimits, shares_of_weight

ROOT = Path("/sys/fs/cgroup")


def layout(root: Path = ROOT) -> str:
    """ "v1", "v2", "hybrid" (v2 at unified/ with controllers), or "none"."""
    if (root / "cgroup.controllers").exists():
        return "v2"
    try:
        if (root / "unified/cgroup.controllers").read_text().strip():
            return "hybrid"
    except OSError:
        pass
    return "v1" if any(root.glob("*/cgroup.procs")) else "none"


def hierarchies(root: Path = ROOT) -> list[Path]:
    """The mount point of each cgroup hierarchy: one with v2, one for each set of controllers with v1. Links to another one are left out."""
    if layout(root) == "v2":
        return [root]
    return [p for p in sorted(root.iterdir()) if (p / "cgroup.procs").exists() and not p.is_symlink()]


def groups(path: str, root: Path = ROOT) -> Iterator[Path]:
    """The directories of one of our groups ("/kubeedge/pod..."), in every hierarchy where it exists."""
    for hierarchy in hierarchies(root):
        group = hierarchy / path.lstrip("/")
        if group.is_dir():
            yield group


def shares(path: str, root: Path = ROOT) -> int:
    """Those that one of our groups has; 0 where nothing counts them."""
    for group in groups(path, root):
        for name, of in (("cpu.shares", int), ("cpu.weight", lambda text: shares_of_weight(int(text)))):
            with contextlib.suppress(OSError, ValueError):
                return of((group / name).read_text())
    return 0


def limit(path: str, wanted: GroupLimits, root: Path = ROOT) -> None:
    """The group is made where it is missing, in the hierarchies of what is limited. Raises OSError for what cannot be, when all else is done."""
    problems: list[str] = []
    for controller in wanted.controllers():
        try:
            _limit(path, controller, wanted, root)
        except OSError as exc:
            problems.append(f"{controller}: {exc.strerror or exc}")
    if problems:
        raise OSError("; ".join(problems))


def _limit(path: str, controller: str, wanted: GroupLimits, root: Path) -> None:
    hierarchy = next((h for h in hierarchies(root) if _has(h, controller)), None)
    if hierarchy is None:
        raise OSError(f"no control group below {root} has the controller {controller}")
    group = hierarchy
    for part in path.strip("/").split("/"):
        control = group / "cgroup.subtree_control"
        if control.exists() and controller not in control.read_text().split():
            control.write_text(f"+{controller}")
        group /= part
        group.mkdir(exist_ok=True)
    for name, value in wanted.files(controller, is_v2=(hierarchy / "cgroup.controllers").exists()):
        (group / name).write_text(value)


def limit_processes(path: str, limit_of: int, root: Path = ROOT) -> None:
    """At most so many processes and threads in one of our groups and all below it. Raises OSError where the machine cannot bound them."""
    limit(path, GroupLimits(pids=limit_of), root)


def _has(hierarchy: Path, controller: str) -> bool:
    """v2 lists its controllers; a hierarchy of v1 carries their names."""
    controllers = hierarchy / "cgroup.controllers"
    return controller in (controllers.read_text().split() if controllers.exists() else hierarchy.name.split(","))


def machine_processes() -> int:
    """The number of processes and threads that this machine can have."""
    return min(int(Path(f"/proc/sys/kernel/{name}").read_text()) for name in ("pid_max", "threads-max"))


def kill_and_remove(path: str, root: Path = ROOT) -> None:
    """End what still runs in a group of ours, and remove it with everything below. Tolerant: removal is tried again at the
    next sweep."""
    kill(path, root)
    remove_empty(path, root)


def remove_empty(path: str, root: Path = ROOT) -> None:
    """Remove a group of ours and the groups below it, but for those in which something runs."""
    for group in groups(path, root):
        for directory in [Path(d) for d, _, _ in os.walk(group, topdown=False)]:
            with contextlib.suppress(OSError):
                directory.rmdir()


def kill(path: str, root: Path = ROOT) -> None:
    """SIGKILL for what runs in a group of ours and below it."""
    for pid in processes(path, root):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def processes(path: str, root: Path = ROOT) -> list[int]:
    """The process ids in a group and the groups below it, in every hierarchy, sorted. Those that end meanwhile may be among them."""
    found: set[int] = set()
    for group in groups(path, root):
        for directory, _, _ in os.walk(group):
            with contextlib.suppress(OSError):
                found.update(int(p) for p in (Path(directory) / "cgroup.procs").read_text().split())
    return sorted(found)


def limits_swap(path: str, root: Path = ROOT) -> bool:
    """Whether groups below one of ours can have a limit of swap: cgroup v2, and a kernel that counts it."""
    return layout(root) == "v2" and any((group / "memory.swap.max").exists() for group in groups(path, root))


def memory_in_use(path: str, root: Path = ROOT) -> int:
    """Bytes that a group cannot do without: what it uses, less the files that were not used lately. 0 where nothing counts them."""
    for group in groups(path, root):
        for usage, inactive in (("memory.current", "inactive_file"), ("memory.usage_in_bytes", "total_inactive_file")):
            with contextlib.suppress(OSError, ValueError):
                used = int((group / usage).read_text())
                lines = (group / "memory.stat").read_text().splitlines()
                return used - sum(int(n) for name, n in (line.split() for line in lines) if name == inactive)
    return 0


#: controller -> (file, what it says without a limit), of v2 and v1
_UNLIMITED = {
    "cpu": (("cpu.max", "max 100000"), ("cpu.cfs_quota_us", "-1")),
    "memory": (("memory.max", "max"), ("memory.limit_in_bytes", "-1")),
}


def lift(path: str, controller: str, root: Path = ROOT) -> None:
    """Takes the limit of a group away, which the OCI runtimes have no common word for. Raises OSError."""
    for group in groups(path, root):
        for name, unlimited in _UNLIMITED[controller]:
            if (group / name).exists():
                (group / name).write_text(unlimited)
