"""Whether this machine passes on IPv4 packets, which pods and the overlay need: what it was before us, and back to that.

The note is in the run directory, which a boot empties, as it does the kernel's setting. Whoever else passes packets on (Docker, a VPN)
may have come later and found it switched on: with chains of others that are about such packets it stays on.
"""

from __future__ import annotations

from pathlib import Path

NOTE = "forwarding-was-off"
_SWITCH = Path("/proc/sys/net/ipv4/ip_forward")
_LEGACY = Path("/proc/net/ip_tables_names")  # of iptables before nftables
_TIMEOUT = 60.0  # seconds for nft, which ends at once on a machine that is not overloaded


def note(run: Path) -> None:
    """Records below `run` that this machine did not forward packets. To be called before something enables ip_forward. Raises OSError."""
    if _SWITCH.read_text().strip() == "0":
        (run / NOTE).touch(mode=0o600)


def restore(run: Path) -> None:
    """Switch it off if it was off before us and no other program seems to need it. Our own chains have to be gone. Raises OSError, SubprocessError."""
    if (run / NOTE).exists() and not _needed():
        _SWITCH.write_text("0")


def _needed() -> bool:
    if _LEGACY.exists() and {"nat", "filter"} & set(_LEGACY.read_text().split()):
        return True
    import subprocess  # at a reset only, and not in each agent

    said = subprocess.run(
        ["nft", "list", "chains"], capture_output=True, text=True, timeout=_TIMEOUT, check=True
    ).stdout
    return "hook forward" in said or "hook postrouting" in said
