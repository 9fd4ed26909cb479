"""What wheels are made for: processors with their oldest C library, and versions of Python with the Debian release that has them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """One processor. `glibc` is the oldest that its wheels run on; `cpu` is what zig compiles for."""

    machine: str  # as uname -m, and platform tags, name it
    debian: str
    triple: str
    glibc: str
    cpu: str
    emulator: str  # "" where this machine runs it

    @property
    def platform(self) -> str:
        """The platform tag of PEP 600."""
        return f"manylinux_{self.glibc.replace('.', '_')}_{self.machine}"

    @property
    def platforms(self) -> list[str]:
        """Tags of the wheels that pip installs there, the newest first."""
        oldest = {"armv7l": 31, "aarch64": 17, "x86_64": 17}[self.machine]
        newest = 36  # of Debian 12
        names = [f"manylinux_2_{minor}_{self.machine}" for minor in range(newest, oldest - 1, -1)]
        return names if self.machine == "armv7l" else [*names, f"manylinux2014_{self.machine}"]


@dataclass(frozen=True, slots=True)
class Python:
    """One version of CPython, and the Debian release whose package it is."""

    version: str
    suite: str

    @property
    def tag(self) -> str:
        """As in the name of a wheel: cp311."""
        return "cp" + self.version.replace(".", "")

    def suffix(self, target: Target) -> str:
        """The name of an extension module ends so (PEP 3149)."""
        return f".cpython-{self.tag[2:]}-{target.triple}.so"


#: armv7l: Debian's armhf, whose processors may lack half of the VFP registers, and NEON
TARGETS = {
    target.machine: target
    for target in (
        Target("armv7l", "armhf", "arm-linux-gnueabihf", "2.31", "generic+v7a+vfp3d16+thumb2-neon-d32", "arm"),
        Target("aarch64", "arm64", "aarch64-linux-gnu", "2.28", "generic", "aarch64"),
        Target("x86_64", "amd64", "x86_64-linux-gnu", "2.28", "x86_64", ""),
    )
}
PYTHONS = {python.version: python for python in (Python("3.11", "bookworm"), Python("3.13", "trixie"))}
