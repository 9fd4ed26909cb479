"""What is process 1: with systemd, what the board's units need, and nothing that starts beside them."""

from __future__ import annotations

import configparser
import subprocess
import time
from pathlib import Path

import pytest

from cardimage import inits
from cardimage.boards import BOARDS


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """As Debian's package leaves it, in small."""
    for name in ("etc", "usr/sbin", "usr/lib/systemd/system-generators", "usr/lib/systemd/system/sysinit.target.wants"):
        (tmp_path / name).mkdir(parents=True)
    own = tmp_path / "usr/lib/systemd"
    for name in (
        "systemd",
        "systemd-executor",
        "systemd-journald",
        "systemd-shutdown",
        "systemd-cgroups-agent",
        "systemd-networkd",
    ):
        (own / name).write_text("")
    (own / "system-generators/systemd-fstab-generator").write_text("")
    (own / "systemd-sysroot-fstab-check").symlink_to("system-generators/systemd-fstab-generator")
    for name in ("multi-user.target", "sysinit.target", "systemd-journald.service", "systemd-udevd.service"):
        (own / "system" / name).write_text("")
    for name in ("systemd-journald.socket", "systemd-journald-dev-log.socket"):
        (own / "system" / name).write_text("")
    (own / "system/sysinit.target.wants/systemd-udevd.service").symlink_to("../systemd-udevd.service")
    (own / "system/default.target").symlink_to("graphical.target")
    return tmp_path


def test_systemd_starts_the_scripts_and_the_agent_alone(root: Path) -> None:
    inits.systemd(root)
    units = root / "usr/lib/systemd/system"
    wanted = sorted(path.name for path in units.glob("*.wants/*"))
    assert wanted == [
        *("card-setup.service", "kubeedge-card.service", "systemd-journald-dev-log.socket"),
        *("systemd-journald.service", "systemd-journald.socket"),
    ]
    assert all(path.exists() for path in units.glob("*.wants/*")), "a link of a target leads to a unit"
    assert (units / "default.target").readlink() == Path("multi-user.target")
    assert not (root / "usr/lib/systemd/system-generators").exists()
    assert not (root / "usr/lib/systemd/systemd-networkd").exists()
    assert (root / "usr/sbin/init").readlink() == Path("/usr/lib/systemd/systemd")
    assert (root / "usr/sbin/reboot").readlink() == Path("/usr/bin/systemctl"), "kubeedge image-update calls it"


@pytest.mark.parametrize("name", ["card-setup.service", "kubeedge-card.service", "system.conf", "journald.conf"])
def test_its_files_are_in_systemd_s_form(name: str) -> None:
    parsed = configparser.ConfigParser(interpolation=None)
    parsed.optionxform = str  # type: ignore[assignment, method-assign]
    parsed.read_string((inits.FILES / "systemd" / name).read_text())
    if name.endswith(".service"):
        program = Path(parsed["Service"]["ExecStart"])
        assert (inits.FILES / program.name).exists(), "a script of the image"
    else:
        assert parsed.sections() in (["Manager"], ["Journal"])


@pytest.mark.parametrize("hotplug", [True, False])
def test_busybox_sees_what_is_plugged_in_on_real_boards(tmp_path: Path, hotplug: bool) -> None:
    (tmp_path / "etc").mkdir()
    inits.busybox(tmp_path, hotplug=hotplug)
    table = (tmp_path / "etc/inittab").read_text()
    assert "::respawn:/etc/init.d/agent\n" in table and ("plugged" in table) == hotplug


def test_what_appears_before_anybody_listens_gets_its_driver_too(tmp_path: Path) -> None:
    listening, drivers, script = (tmp_path / name for name in ("listening", "drivers", "plugged"))
    count = 'grep -c "^[0-9a-f]* 15 *$LISTENER " /proc/net/netlink'
    drivers.write_text(f"#!/bin/sh\n{count} >{listening}.new\nmv {listening}.new {listening}\n")
    drivers.chmod(0o755)
    text = (inits.FILES / "plugged").read_text().replace("/etc/init.d/drivers", f"LISTENER=$$ {drivers}")
    script.write_text(text.replace("exec uevent", "exec busybox uevent"))
    process = subprocess.Popen(["busybox", "sh", str(script)])
    try:
        until = time.monotonic() + 60
        while not listening.exists() and time.monotonic() < until:
            time.sleep(0.05)
        assert listening.read_text() == "1\n", "it looks before it listens: what appears in between has no driver"
    finally:
        process.kill()
        process.wait()


def test_each_board_has_one_of_them() -> None:
    assert {board.init for board in BOARDS.values()} == {inits.BUSYBOX, inits.SYSTEMD}
    assert [name for name, board in BOARDS.items() if board.init == inits.SYSTEMD] == ["qemu"]
    assert all(("systemd" in board.packages) == (board.init == inits.SYSTEMD) for board in BOARDS.values())
