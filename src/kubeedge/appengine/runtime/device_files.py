"""Device files of this machine for containers, as the OCI runtime takes them (runtime-spec, config-linux.md, "Devices"). Blocking."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from typing import Any, NamedTuple

from kubeedge.appengine.runtime.base import DeviceNode, StartError


class DeviceFiles(NamedTuple):
    """linux.devices, and what linux.resources.devices allows."""

    nodes: list[dict[str, Any]]
    allowed: list[dict[str, Any]]


def device_files(devices: Iterable[DeviceNode]) -> DeviceFiles:
    """Raises StartError for what is no device here."""
    found = DeviceFiles([], [])
    for device in devices:
        try:
            status = os.stat(device.host)
        except OSError as exc:
            raise StartError("CreateContainerError", f"device {device.host}: {exc.strerror}") from exc
        kind = "c" if stat.S_ISCHR(status.st_mode) else "b" if stat.S_ISBLK(status.st_mode) else ""
        if not kind:
            raise StartError("CreateContainerError", f"{device.host} is no device")
        number = {"type": kind, "major": os.major(status.st_rdev), "minor": os.minor(status.st_rdev)}
        owner = {"fileMode": stat.S_IMODE(status.st_mode), "uid": status.st_uid, "gid": status.st_gid}
        found.nodes.append({"path": device.container, **number, **owner})
        found.allowed.append({"allow": True, **number, "access": device.permissions})
    return found
