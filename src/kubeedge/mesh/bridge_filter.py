"""Whether what goes over a bridge passes the kernel's rules (net.bridge.bridge-nf-call-iptables): switched on, noted, and back to what it was.

The note is in the run directory, which a boot empties, as it does the kernel's setting.
"""

from __future__ import annotations

from pathlib import Path

NOTE = "bridge-filter-was-off"
_SWITCH = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")


class BridgeFilter:
    """`run`: the run directory of the agent; None: what it was is not noted."""

    def __init__(self, run: Path | None = None, switch: Path = _SWITCH) -> None:
        self._run = run
        self._switch = switch

    def enabled(self) -> bool:
        """Switch it on; False where the kernel has no br_netfilter."""
        try:
            if self._switch.read_text().strip() != "1":
                if self._run is not None:
                    (self._run / NOTE).touch(mode=0o600)
                self._switch.write_text("1")
            return True
        except OSError:
            return False

    def restore(self) -> None:
        """Back to what it was before us. Raises OSError."""
        if self._run is not None and (self._run / NOTE).exists():
            self._switch.write_text("0")
