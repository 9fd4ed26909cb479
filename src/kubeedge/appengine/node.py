"""The node's own status: what this machine is and has. Facts only, no heartbeat: it changes when the machine changes."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from kubeedge import __version__

KUBELET_VERSION = f"v1.32.0-kubeedge-{__version__}"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "armv6l": "arm"}
_RESERVED_MEMORY = 48 * 1024 * 1024  # for the system and this agent
_MEBI = 1024 * 1024


def status(*, node: str, address: str, runtime_version: str, max_pods: int, state: Path) -> dict[str, Any]:
    """NodeStatus without conditions: the cloud knows whether the node is attached."""
    memory = _memory()
    disk = os.statvfs(state)
    storage = disk.f_frsize * disk.f_blocks // _MEBI * _MEBI
    capacity = {
        "cpu": str(os.cpu_count() or 1),
        "memory": f"{memory // 1024}Ki",
        "pods": str(max_pods),
        "ephemeral-storage": f"{storage // 1024}Ki",
    }
    return {
        "capacity": capacity,
        "allocatable": {**capacity, "memory": f"{allocatable()['memory'] // 1024}Ki"},
        "nodeInfo": {
            "machineID": _read("/etc/machine-id"),
            "systemUUID": _read("/sys/class/dmi/id/product_uuid"),
            "bootID": _read("/proc/sys/kernel/random/boot_id"),
            "kernelVersion": platform.release(),
            "osImage": _os_image(),
            "containerRuntimeVersion": runtime_version,
            "kubeletVersion": KUBELET_VERSION,
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        },
        "addresses": [
            {"type": "InternalIP", "address": address.split("/")[0]},
            {"type": "Hostname", "address": node},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
    }


def allocatable() -> dict[str, int]:
    """What pods can have of this machine: "cpu" in thousandths, "memory" in bytes."""
    return {"cpu": (os.cpu_count() or 1) * 1000, "memory": max(0, _memory() - _RESERVED_MEMORY)}


def _memory() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return 0


def _os_image() -> str:
    for line in _read("/etc/os-release").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return "Linux"


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
