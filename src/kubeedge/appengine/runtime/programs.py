"""The programs that run containers: conmon, and crun or runc; and what they can do on this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

from kubeedge.appengine.runtime import capabilities, cgroups, seccomp
from kubeedge.appengine.runtime.base import StartError
from kubeedge.kit.dataclasses import dataclass, replace

#: seconds for the runtime to name its version: one that is taken for a runtime without seccomp starts no pod that asks for a profile
_TIMEOUT = 60.0
#: OCI runtimes that a RuntimeClass may name, where they are on the PATH
HANDLERS = ("crun", "runc", "crun-wasm", "youki")


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """The paths of conmon and of the OCI runtime, as they were found on this node."""

    conmon: str
    runtime: str  # crun or runc
    state: Path  # the runtime's own state directory
    version: str  # of the runtime, after its name
    has_seccomp: bool = False  # it was built with it

    def runtime_command(self, *arguments: str) -> list[str]:
        """The command line of the OCI runtime, with our state directory."""
        return [self.runtime, f"--root={self.state}", *arguments]

    def of(self, handler: str) -> Programs:
        """For the pods of a RuntimeClass; "" is any other pod. Each has a state directory of its own: they do not read each other's."""
        if not handler:
            return self
        return replace(self, runtime=shutil.which(handler) or handler, state=self.state.parent / f"oci-{handler}")

    def missing(self) -> list[str]:
        """Those without which no container can start, here or elsewhere on the PATH."""
        needed = (("conmon", self.conmon, "conmon"), ("crun or runc", self.runtime, "crun", "runc"))
        return [name for name, *paths in needed if not any(shutil.which(path) for path in paths)]

    def check(self) -> Programs:
        """Where they are now: they may be removed, or come back elsewhere, while the agent runs. Raises StartError for one that is missing."""
        paths = (self.conmon, self.runtime)
        found = self if all(os.access(path, os.X_OK) for path in paths) else find(self.state)
        for name, path in (("conmon", found.conmon), ("crun or runc", found.runtime)):
            if not os.access(path, os.X_OK):
                raise StartError("CreateContainerError", f"{name} is missing on this node: containers cannot start")
        return found


def handlers() -> list[str]:
    """The runtime handlers that are on this node now."""
    return [name for name in HANDLERS if shutil.which(name)]


def find(state: Path) -> Programs:
    """crun, unless the machine's cgroup layout makes it refuse; then runc."""
    candidates = ("runc", "crun") if cgroups.layout() == "hybrid" else ("crun", "runc")
    runtime = next((p for name in candidates if (p := shutil.which(name))), "crun")
    described = ""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        described = subprocess.run([runtime, "--version"], capture_output=True, text=True, timeout=_TIMEOUT).stdout
    words = described.split()
    version = "-" + words[2] if len(words) > 2 else ""
    return Programs(
        conmon=shutil.which("conmon") or "conmon",
        runtime=runtime,
        state=state,
        version=f"{Path(runtime).name}{version}",
        has_seccomp=seccomp.runtime_filters(described),
    )


def possible_capabilities() -> list[str] | None:
    """What this process may give at all: a machine in a container may lack some."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapBnd:"):
            mask = int(line.split()[1], 16)
            return [name for bit, name in enumerate(capabilities.NAMES) if mask >> bit & 1]
    return None
