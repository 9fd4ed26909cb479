"""Which seccomp filter a container gets: none, the default one, or a profile from a file of the node."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kubeedge.api.pod import Security
from kubeedge.appengine.runtime import seccomp
from kubeedge.appengine.runtime.base import StartError

_MAX_PROFILE = 256 * 1024  # bytes of a profile on disk; the default one has 20 KiB


def localhost(directory: Path, name: str, machine: str) -> dict[str, Any]:
    """A profile of the node's own, in the form of the OCI runtime configuration. Raises StartError."""
    try:
        profile = json.loads(_read(directory, name))
        return seccomp.checked(profile, machine)
    except (OSError, ValueError, RecursionError) as exc:
        detail = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        message = f"seccompProfile Localhost: {directory / name}: {detail or type(exc).__name__}"
        raise StartError("CreateContainerError", message) from exc


def _read(directory: Path, name: str) -> bytes:
    """A regular file below the directory; a link must not lead out of it."""
    path = (directory / name).resolve()
    if not path.is_relative_to(directory.resolve()):
        raise ValueError("is outside of the directory of profiles")
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ValueError("is not a file")
        text = file.read(_MAX_PROFILE + 1)
    if len(text) > _MAX_PROFILE:
        raise ValueError(f"is larger than {_MAX_PROFILE} bytes")
    return text


class Filters:
    """The filter that a container asks for; a container that asks for one never runs without."""

    def __init__(self, profiles: Path, machine: str, *, supported: bool) -> None:
        self._profiles, self._machine, self._supported = profiles, machine, supported

    def of(self, security: Security, capabilities: Iterable[str]) -> dict[str, Any] | None:
        """Raises StartError. A privileged container has none, as with other runtimes: it may do everything."""
        if security.privileged or security.seccomp in ("", "Unconfined"):
            return None
        if not self._supported:
            message = f"seccompProfile {security.seccomp}: the kernel or the OCI runtime of this node has no seccomp"
            raise StartError("CreateContainerError", message)
        if security.seccomp == "Localhost":
            return localhost(self._profiles, security.seccomp_profile, self._machine)
        return seccomp.runtime_default(self._machine, capabilities)


def kernel_filters(proc: Path = Path("/proc")) -> bool:
    """The kernel was built with CONFIG_SECCOMP_FILTER."""
    try:
        return "errno" in (proc / "sys/kernel/seccomp/actions_avail").read_text().split()
    except OSError:
        return False
