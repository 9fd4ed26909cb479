"""The peers' programs from Debian, unpacked below build/: nothing is installed, no service of theirs starts on the machine."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
ARCHIVES = ROOT / "build/peers/archives"
UNPACKED = ROOT / "build/peers/root"
PACKAGES = (
    "openvpn", "wireguard-go", "wireguard-tools", "tinc", "nebula", "yggdrasil", "fastd", "ocserv", "openconnect",
    "vpnc-scripts", "iperf3",
)  # fmt: skip
_NOT_NEEDED = ("systemd", "udev", "libnss", "libpam", "tpm-udev", "libudev", "libsystemd")
LIBRARIES = ":".join(str(UNPACKED / p) for p in ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"))


def unpack(packages: tuple[str, ...] = PACKAGES) -> None:
    """Download and unpack what is missing. Needs root (the package lists) and Debian's archive."""
    stamp = UNPACKED / ("." + "-".join(packages)[:200])
    if stamp.exists():
        return
    (ARCHIVES / "partial").mkdir(parents=True, exist_ok=True)
    command = ["apt-get", "install", "-yq", "--no-install-recommends", "--download-only", "--reinstall",
               "-o", f"Dir::Cache::archives={ARCHIVES}", *packages]  # fmt: skip
    if subprocess.run(command, capture_output=True).returncode:
        subprocess.run(["apt-get", "update", "-q"], check=True, capture_output=True)
        subprocess.run(command, check=True, capture_output=True)
    for archive in sorted(ARCHIVES.glob("*.deb")):
        if not archive.name.startswith(_NOT_NEEDED):
            subprocess.run(["dpkg-deb", "-x", str(archive), str(UNPACKED)], check=True)
    stamp.touch()


def program(name: str) -> str:
    for directory in ("usr/sbin", "usr/bin", "sbin", "bin"):
        path = UNPACKED / directory / name
        if path.exists():
            return str(path)
    raise FileNotFoundError(f"{name} is in none of the packages {', '.join(PACKAGES)}")


def version(package: str) -> str:
    for archive in ARCHIVES.glob(f"{package}_*.deb"):
        return archive.name.split("_")[1].replace("%3a", ":")
    return "?"
