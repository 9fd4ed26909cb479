"""Whether what goes over a bridge passes the kernel's rules (net.bridge.bridge-nf-call-*): switched on, noted, and back to what it was.

The notes are in the run directory, which a boot empties, as it does the kernel's settings.
"""

from __future__ import annotations

from pathlib import Path

_SWITCHES = {4: "bridge-nf-call-iptables", 6: "bridge-nf-call-ip6tables"}  # by version of IP
_NOTES = {name: f"{name}-was-off" for name in _SWITCHES.values()}
NOTES = tuple(_NOTES.values())  # names of the files


class BridgeFilter:
    """`run`: the run directory of the agent; None: what the switches were is not noted."""

    def __init__(self, run: Path | None = None, directory: Path = Path("/proc/sys/net/bridge")) -> None:
        self._run = run
        self._directory = directory

    def enabled(self, version: int) -> bool:
        """Switch it on; False where the kernel has no br_netfilter."""
        name = _SWITCHES[version]
        try:
            if (self._directory / name).read_text().strip() != "1":
                if self._run is not None:
                    (self._run / _NOTES[name]).touch(mode=0o600)
                (self._directory / name).write_text("1")
            return True
        except OSError:
            return False

    def restore(self) -> None:
        """Back to what they were before us. Raises OSError."""
        for name in _SWITCHES.values():
            if self._run is not None and (self._run / _NOTES[name]).exists():
                (self._directory / name).write_text("0")
