"""Whether this machine passes on packets, which pods and the overlay need: what it was before us, and back to that, for each version of IP.

The notes are in the run directory, which a boot empties, as it does the kernel's settings. Whoever else passes packets on (Docker, a VPN)
may have come later and found it switched on: with chains of others that are about such packets it stays on.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

NOTES = ("forwarding-was-off", "forwarding-of-ipv6-was-off")
_SWITCH = Path("/proc/sys/net/ipv4/ip_forward")
_SWITCH_IPV6 = Path("/proc/sys/net/ipv6/conf/all/forwarding")
_LEGACY = Path("/proc/net/ip_tables_names")  # of iptables before nftables
_TIMEOUT = 60.0  # seconds for nft, which ends at once on a machine that is not overloaded


def note(run: Path) -> None:
    """Records below `run` that this machine did not forward packets. To be called before something enables that. Raises OSError."""
    for name, switch in _switches():
        with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
            if switch.read_text().strip() == "0":
                (run / name).touch(mode=0o600)


def restore(run: Path) -> None:
    """Switch it off if it was off before us and no other program seems to need it. Our own chains have to be gone. Raises OSError, SubprocessError."""
    noted = [switch for name, switch in _switches() if (run / name).exists()]
    if noted and not _needed():
        for switch in noted:
            switch.write_text("0")


def _switches() -> list[tuple[str, Path]]:
    return list(zip(NOTES, (_SWITCH, _SWITCH_IPV6), strict=True))


def _needed() -> bool:
    if _LEGACY.exists() and {"nat", "filter"} & set(_LEGACY.read_text().split()):
        return True
    import subprocess  # at a reset only, and not in each agent

    said = subprocess.run(
        ["nft", "list", "chains"], capture_output=True, text=True, timeout=_TIMEOUT, check=True
    ).stdout
    return "hook forward" in said or "hook postrouting" in said
