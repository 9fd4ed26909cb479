"""Both services under a real systemd: PID 1 of namespaces of its own, in a machine's root.

Its cgroups are a part of the unified hierarchy without controllers, which is enough for services. Pods want more: they are tried without it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.install.machine import Machine
from tests.kit.topology import descendants, run, until

_UNIFIED = ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")  # hybrid, pure
_BOOT = """
set -eu
mount -t proc proc {root}/proc
umount -R {root}/sys
mount -t sysfs sysfs {root}/sys
mount -t cgroup2 cgroup2 {root}/sys/fs/cgroup
mount -t tmpfs tmpfs {root}/run
exec chroot {root} env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --log-target=console --show-status=false
"""
#: one machine is both sides, and there is one kb0
_CONFIG = "kind: CloudCore\nadvertise: [127.0.0.1]\ntun: {enable: false}\n"
_SIDES = ("kubeedge-cloud", "kubeedge-edge")


def prepare(machine: Machine) -> None:
    """systemd, and the page's installation."""
    machine.run("apt-get install -y --no-install-recommends systemd dbus", outside=True)
    machine.run("python3 -m venv /opt/kubeedge")
    machine.run("/opt/kubeedge/bin/pip install -q --no-index --find-links dist kubeedge kubeedge-cloud")
    machine.run("ln -s /opt/kubeedge/bin/kubeedge /usr/local/bin/kubeedge")
    machine.run(f"mkdir -p /etc/kubeedge && printf '{_CONFIG}' >/etc/kubeedge/cloud.yaml".replace("\n", "\\n"))


def check(inside: Callable[[str], str]) -> None:
    """init and join install and start services, which come back after a crash; reset ends that of the agent."""
    inside("kubeedge init")
    inside("kubeedge join --name n1 --token $(kubeedge token create --node n1) 127.0.0.1")
    until_attached(inside)
    assert inside(f"systemctl is-enabled {' '.join(_SIDES)}").split() == ["enabled", "enabled"]
    for unit in _SIDES:
        inside(f"systemctl kill --signal=KILL {unit}")
        until(
            lambda unit=unit: "NRestarts=1" in inside(f"systemctl show {unit} --property=NRestarts"),
            timeout=60, what=f"{unit} comes back",
        )  # fmt: skip
        until(lambda unit=unit: inside(f"systemctl is-active {unit} || true") == "active\n", timeout=60, what=unit)
    inside("kubeedge reset --force")
    assert inside("systemctl list-unit-files --no-legend 'kubeedge-*'").split()[0] == "kubeedge-cloud.service"
    assert inside("systemctl list-units --failed --no-legend 'kubeedge-*'") == ""


def until_attached(inside: Callable[[str], str]) -> None:
    """The agent answers, and has a session with the cloud."""
    said = ""

    def is_attached() -> bool:
        nonlocal said
        said = inside("kubeedge status --socket /run/kubeedge/edge.sock 2>&1 || true")
        return "attached: True" in said

    try:
        until(is_attached, timeout=120, interval=0.5, what="the agent is attached")
    except AssertionError as exc:
        raise AssertionError(f"{exc}; it says: {said}") from exc


def uninstall(inside: Callable[[str], str]) -> None:
    """With the cloud's data."""
    inside(
        "systemctl disable --now kubeedge-cloud\nrm /etc/systemd/system/kubeedge-cloud.service\nsystemctl daemon-reload"
    )
    inside("rm -rf /opt/kubeedge /usr/local/bin/kubeedge /etc/kubeedge /var/lib/kubeedge /run/kubeedge")


@contextlib.contextmanager
def booted(machine: Machine) -> Iterator[Callable[[str], str]]:
    """systemd runs there; what runs a script beside it."""
    group = Path(next(d for d in _UNIFIED if Path(d, "cgroup.procs").exists())) / f"kbfresh{os.getpid()}"
    group.mkdir()
    enter = machine.host.command("unshare", "--cgroup", "--mount", "--pid", "--fork", "--kill-child", "--ipc", "bash", "-c",
                                 _BOOT.format(root=machine.root))  # fmt: skip
    joined = 'echo $$ >"$0/cgroup.procs"; exec "$@"'
    with machine.log.open("ab") as log:
        process = subprocess.Popen(
            ["bash", "-c", joined, str(group), *enter], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )

    def inside(script: str) -> str:
        first = _systemd(process.pid)
        command = machine.command(script)
        into = ["nsenter", "-t", str(first), "-n", "-m", "-p", "-u", "-i", "-C", "--"]
        return run(*into, *command[len(machine.host.command()) :], timeout=900)

    try:
        until(lambda: _systemd(process.pid) != 0, timeout=60, what="systemd")
        until(lambda: inside("systemctl is-system-running || true").strip() in ("running", "degraded"), timeout=120,
              what="the services of the system")  # fmt: skip
        yield inside
    finally:
        if first := _systemd(process.pid):
            os.kill(first, signal.SIGKILL)  # and with it all of its namespace
        process.kill()
        process.wait()
        until(lambda: _removed(group), timeout=30, what="the cgroups of systemd are gone")


def _systemd(parent: int) -> int:
    """The process id, as seen from here."""
    for pid in descendants(parent):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{pid}/exe").endswith("/systemd") and _is_first(pid):
                return pid
    return 0


def _is_first(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[-1] == "1"


def _removed(group: Path) -> bool:
    for directory, _, _ in os.walk(group, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(directory)
    return not group.exists()
