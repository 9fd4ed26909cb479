"""PID 1 of a test host: prepares the private mounts, says that it is ready, then reaps orphans until it is killed.

Run by topology.py as `unshare --net --mount --pid --fork --uts ... host_init.py NAME`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

V1_CONTROLLERS = ("blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "memory", "pids")


def mount(*argv: str) -> None:
    subprocess.run(["mount", *argv], check=True)


def give_a_pure_cgroup_view() -> None:
    """On a hybrid host (v1 with cgroup2 at unified/) show only v1: crun refuses hybrids whose v2 has controllers."""
    root = Path("/sys/fs/cgroup")
    if not (root / "unified").is_dir():
        return
    available = {line.split()[0] for line in Path("/proc/cgroups").read_text().splitlines()[1:]}
    mounted = [name for name in V1_CONTROLLERS if name in available and (root / name).is_dir()]
    mount("-t", "tmpfs", "cgroup", str(root))
    for name in mounted:
        (root / name).mkdir()
        mount("-t", "cgroup", "-o", name, "cgroup", str(root / name))
    (root / "systemd").mkdir()
    mount("-t", "cgroup", "-o", "none,name=systemd", "cgroup", str(root / "systemd"))


def main() -> None:
    name = sys.argv[1]
    subprocess.run(["hostname", name], check=True)
    mount("-t", "tmpfs", "run", "/run")
    mount("-t", "proc", "proc", "/proc")
    give_a_pure_cgroup_view()
    Path("/run/netns").mkdir()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    print("ready", flush=True)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        try:
            os.wait()
        except ChildProcessError:
            signal.pause()


if __name__ == "__main__":
    main()
