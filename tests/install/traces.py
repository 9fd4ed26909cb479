"""What an agent may leave on its machine, before and after."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from tests.install.machine import Machine

#: not of the agent: what Python compiles when it is imported first, and what nft's and ip's own libraries keep
_NOT_OURS = ("/opt/", "/proc/", "/sys/", "/dev/", "/var/cache/", "/root/.cache/", "/tmp/")
_LOOKS = (
    "nft list ruleset",
    "iptables-save | grep -v '^#' || true",
    "ip -br link | cut -d ' ' -f 1 | cut -d @ -f 1",
    "ip -4 route show table all",
    "ip -4 rule",
    "ip -6 rule",
    "wc -l </proc/self/mountinfo",
)


@dataclass(frozen=True, slots=True)
class Traces:
    files: frozenset[str] = frozenset()
    network: tuple[str, ...] = ()

    @classmethod
    def of(cls, machine: Machine) -> Traces:
        network = tuple(f"{command}: {machine.run(command)}" for command in _LOOKS)
        return cls(_files(machine.path("")), network)

    def compare(self, after: Traces) -> None:
        """AssertionError for what is there now, and was not."""
        left = sorted(after.files - self.files)
        assert not left, f"files are left behind: {left[:20]}"
        for was, now in zip(self.network, after.network, strict=True):
            assert now == was, f"left behind: {now!r}; before: {was!r}"


def _files(root: Path) -> frozenset[str]:
    found = set()
    for directory, names, files in os.walk(root):
        inside = "/" + os.path.relpath(directory, root).lstrip(".")
        names[:] = [name for name in names if not f"{inside.rstrip('/')}/{name}/".startswith(_NOT_OURS)]
        found.update(f"{inside.rstrip('/')}/{name}" for name in (*names, *files))
    return frozenset(found)
