"""What the file says, done to this machine: host name, network, clock, time zone, SSH."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from kubeedge_card import time_servers, wireless
from kubeedge_card.config import CardConfig, Network, Wifi

_APPEARS = 15.0  # seconds for an interface
_SHORTEST_SERIAL = 4  # characters; a firmware that has none says 0, or nothing
#: what firmware says where its maker has entered nothing; many boards have it
_PLACEHOLDERS = frozenset(
    (
        "defaultstring",
        "tobefilledbyo.e.m.",
        "systemserialnumber",
        "notspecified",
        "notapplicable",
        "none",
        "unknown",
        "0123456789",
        "123456789",
    )
)


def name(text: str) -> None:
    """The host name of this machine."""
    socket.sethostname(text)
    Path("/etc/hostname").write_text(text + "\n")
    Path("/etc/hosts").write_text(f"127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {text}\n")


def serial(interface: str) -> str:
    """What is printed on this board, or says its firmware; the address of its network interface where neither is. "" for a board without any."""
    for path in (
        "/proc/device-tree/serial-number",
        "/sys/class/dmi/id/product_serial",
        f"/sys/class/net/{interface}/address",
    ):
        with contextlib.suppress(OSError):
            text = "".join(
                c for c in Path(path).read_text(errors="replace") if c.isascii() and (c.isalnum() or c in "._:-")
            )
            text = text.lstrip("._:-")[:64]
            if len(text) >= _SHORTEST_SERIAL and len(set(text.lower())) > 1 and text.lower() not in _PLACEHOLDERS:
                return text
    return ""


def network(wanted: Network) -> str:
    """Sets the interface up; "" or why it has no address. A DHCP client stays, and goes on trying, as wpa_supplicant does."""
    if not _appears(wanted.interface):
        return f"there is no interface {wanted.interface}"
    if wanted.wifi and (problem := _associate(wanted.interface, wanted.wifi)):
        return problem
    _run("ip", "link", "set", wanted.interface, "up")
    if wanted.address:
        return _static(wanted)
    pid = Path(f"/run/udhcpc.{wanted.interface}.pid")
    if pid.exists() and _alive(pid):
        return "" if addresses(wanted.interface) else f"no DHCP server has answered on {wanted.interface}"
    client = ("udhcpc", "-b", "-S", "-t", "5", "-T", "2", "-A", "10", "-i", wanted.interface, "-p", str(pid))
    said = _run(*client, "-x", f"hostname:{socket.gethostname()}", "-s", "/etc/udhcpc/script")
    return "" if addresses(wanted.interface) else f"no address by DHCP on {wanted.interface}: {said}"


def _static(wanted: Network) -> str:
    """ "" or what the kernel does not take of it, such as a gateway that is not in the network."""
    Path("/run/resolv.conf").write_text("".join(f"nameserver {server}\n" for server in wanted.nameservers))
    steps: list[tuple[str, tuple[str, ...]]] = [
        ("address", ("ip", "addr", "replace", wanted.address, "dev", wanted.interface))
    ]
    if wanted.gateway:
        steps += [("gateway", ("ip", "route", "replace", "default", "via", wanted.gateway, "dev", wanted.interface))]
    for field, command in steps:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
        if done.returncode:
            return f"network.{field}: {done.stdout.strip()[-300:]}"
    return ""


def _appears(interface: str) -> bool:
    """Those behind USB, and radios, take a while. One that comes even later starts this process, or the agent that it has become, anew."""
    path = Path("/sys/class/net", interface)
    until = time.monotonic() + _APPEARS
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.25)
    if path.exists():
        return True
    # the process may have ended, and its number be another's
    waiting = 'until [ -e "$0" ]; do sleep 5; grep -qs kubeedge "/proc/$1/cmdline" || exit; done; exec kill "$1"'
    subprocess.Popen(["sh", "-c", waiting, str(path), str(os.getpid())], start_new_session=True)
    return False


def _associate(interface: str, wifi: Wifi) -> str:
    """ "" or why there is no Wi-Fi. What was asked for before, and is not any more, ends."""
    if not Path("/usr/sbin/wpa_supplicant").exists():
        return "network.wifi: this image is for a board without Wi-Fi"
    file, pid = Path("/run/wpa_supplicant.conf"), Path("/run/wpa_supplicant.pid")
    text = wireless.wpa_supplicant(wifi)
    if _alive(pid):
        if file.read_text() == text:
            return ""
        os.kill(int(pid.read_text()), signal.SIGTERM)
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        out.write(text)
    command = ("wpa_supplicant", "-B", "-i", interface, "-c", str(file), "-P", str(pid), "-D", "nl80211")
    # its status, not its number: that is written after the parent has ended
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    return f"network.wifi: {done.stdout.strip()[-300:]}" if done.returncode else ""


def addresses(interface: str) -> str:
    """Those of the interface, with blanks between them."""
    shown = _run("ip", "-o", "addr", "show", "dev", interface, "scope", "global")
    words = [line.split() for line in shown.splitlines()]
    return " ".join(line[3] for line in words if len(line) > 3 and line[2].startswith("inet"))


def clock(servers: tuple[str, ...]) -> str:
    """ "" once it is set; that it is not yet, and by whom it will be."""
    if time_servers.set_clock(servers):
        return ""
    time_servers.go_on(servers)
    return "no time server has answered; they are asked until one does"


def zone(text: str) -> None:
    """Raises OSError for a zone that there is not."""
    file = Path("/usr/share/zoneinfo") / (text or "UTC")
    if not file.is_file():
        raise OSError(f"timeZone: there is no {text}")
    link = Path("/etc/localtime")
    link.unlink(missing_ok=True)
    link.symlink_to(file)


def ssh(config: CardConfig) -> None:
    """A server for root with these keys and no password; none without keys. Its own key is made once."""
    if not config.ssh_keys or not Path("/usr/sbin/dropbear").exists() or _alive(Path("/run/dropbear.pid")):
        return
    home = Path("/root/.ssh")
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    (home / "authorized_keys").write_text("".join(f"{key}\n" for key in config.ssh_keys))
    (home / "authorized_keys").chmod(0o600)
    host_key = Path("/etc/kubeedge/ssh_host_ed25519")  # on the data partition
    if not host_key.exists():
        _run("dropbearkey", "-t", "ed25519", "-f", str(host_key))
    _run("dropbear", "-s", "-g", "-r", str(host_key), "-P", "/run/dropbear.pid", "-T", "3", "-I", "600")


def _alive(pid_file: Path) -> bool:
    try:
        os.kill(int(pid_file.read_text()), 0)
        return True
    except (OSError, ValueError):
        return False


def _run(*arguments: str) -> str:
    """What it said, whether that was success or not."""
    done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    return done.stdout.strip()
