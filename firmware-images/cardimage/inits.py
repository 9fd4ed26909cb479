"""What runs as process 1 of a machine: busybox, or systemd. Both begin with the same scripts, and start the same agent."""

from __future__ import annotations

import shutil
from pathlib import Path

BUSYBOX, SYSTEMD = "busybox", "systemd"
FILES = Path(__file__).parents[1] / "files"
#: of systemd's own units these start, as links of a target. All others are there, and nothing asks for them
_WANTED = {
    "sysinit.target.wants": ("systemd-journald.service", "card-setup.service"),
    "sockets.target.wants": ("systemd-journald.socket", "systemd-journald-dev-log.socket"),
    "multi-user.target.wants": ("kubeedge-card.service",),
}
#: of what systemd runs, what these units need. Generators are not among it: each is a process at each start, and looks for what a card has not
_KEPT = ("system", "systemd", "systemd-executor", "systemd-journald", "systemd-shutdown", "systemd-cgroups-agent")
#: systemctl is told by its name what to do
_COMMANDS = ("reboot", "poweroff", "halt")


def busybox(root: Path, *, hotplug: bool) -> None:
    """Its table. `hotplug`: a real board, to which somebody may plug something."""
    shutil.copyfile(FILES / "inittab", root / "etc/inittab")
    if hotplug:
        with (root / "etc/inittab").open("a") as file:
            file.write("::respawn:/etc/init.d/plugged\n")


def systemd(root: Path) -> None:
    """Its units and settings, and nothing that is started beside them: no udev, logind, dbus, network or resolver of its own, for the sake of
    memory."""
    own, units = root / "usr/lib/systemd", root / "usr/lib/systemd/system"
    for path in own.iterdir():
        if path.name not in _KEPT:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for directory in units.glob("*.wants"):
        shutil.rmtree(directory)
    for name in ("card-setup.service", "kubeedge-card.service"):
        shutil.copyfile(FILES / "systemd" / name, units / name)
    for target, names in _WANTED.items():
        (units / target).mkdir()
        for name in names:
            (units / target / name).symlink_to(f"../{name}")
    (units / "default.target").unlink(missing_ok=True)
    (units / "default.target").symlink_to("multi-user.target")
    for name, kind in (("system.conf", "system.conf.d"), ("journald.conf", "journald.conf.d")):
        (own / kind).mkdir(exist_ok=True)
        shutil.copyfile(FILES / "systemd" / name, own / kind / "card.conf")
    (root / "usr/sbin/init").symlink_to("/usr/lib/systemd/systemd")
    for name in _COMMANDS:
        (root / "usr/sbin" / name).symlink_to("/usr/bin/systemctl")
