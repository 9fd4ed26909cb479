"""The node's own status: what this machine is and has. Facts only, no heartbeat: it changes when the machine changes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from kubeedge import __version__
from kubeedge.api import quantities
from kubeedge.appengine.eviction import DISK, MEMORY, Threshold
from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass

#: of the oldest release that upstream supports: a kubelet may be three minor versions older than its API server, and none newer
#: (https://kubernetes.io/releases/version-skew-policy/)
KUBELET_VERSION = f"v1.35.0-kubeedge-{__version__}"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "armv6l": "arm"}
_MEBI = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Reserved:
    """What pods do not get: for the system and this agent, and what eviction keeps free. Millicores and bytes."""

    cpu: int = 0
    memory: int = 0
    storage: int = 0
    pids: int = 0


_NOTHING = Reserved()


def reserved(texts: Sequence[str]) -> Reserved:
    """ "cpu=100m", "memory=48Mi", "ephemeral-storage=1Gi", "pid=100", added up, as the kubelet's --system-reserved. Raises Invalid."""
    found = dict.fromkeys(("cpu", "memory", "ephemeral-storage", "pid"), 0)
    for text in texts:
        name, _, value = text.partition("=")
        if name not in found:
            raise Invalid(f"{text!r:.80} reserves nothing that is known, like memory=48Mi; known: {', '.join(found)}")
        found[name] += quantities.millicores(value) if name == "cpu" else quantities.bytes_of(value)
    return Reserved(*found.values())


def status(
    *,
    node: str,
    address: str,
    runtime_version: str,
    max_pods: int,
    state: Path,
    reserve: Reserved = _NOTHING,
    limits: Sequence[Threshold] = (),
    images: Sequence[Mapping[str, Any]] = (),
    devices: Mapping[str, tuple[int, int]] = MappingProxyType({}),
) -> dict[str, Any]:
    """NodeStatus without conditions: the cloud knows whether the node is attached. `devices`: how many of each extended resource there are, and how
    many of them pods can have. `address`: of the node; those of both versions of IP have a comma between."""
    free = allocatable(reserve, limits, state)
    capacity = {
        "cpu": str(os.cpu_count() or 1),
        "memory": f"{memory() // 1024}Ki",
        "pods": str(max_pods),
        "ephemeral-storage": f"{_storage(state) // 1024}Ki",
        **huge_pages(),
        **{name: str(count) for name, (count, _) in devices.items()},
    }
    return {
        "capacity": capacity,
        "allocatable": {
            **capacity,
            "cpu": quantities.format_millicores(free["cpu"]),
            "memory": f"{free['memory'] // 1024}Ki",
            "ephemeral-storage": f"{free['ephemeral-storage'] // 1024}Ki",
            **{name: str(count) for name, (_, count) in devices.items()},
        },
        **({"images": [*images]} if images else {}),
        "nodeInfo": {
            "machineID": _read("/etc/machine-id"),
            "systemUUID": _read("/sys/class/dmi/id/product_uuid") or _read("/etc/machine-id"),  # boards have no DMI
            "bootID": _read("/proc/sys/kernel/random/boot_id"),
            "kernelVersion": os.uname().release,
            "osImage": _os_image(),
            "containerRuntimeVersion": runtime_version,
            "kubeletVersion": KUBELET_VERSION,
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": _ARCHITECTURES.get(os.uname().machine, os.uname().machine),
            **({"swap": {"capacity": of_swap}} if (of_swap := swap()) else {}),
        },
        "addresses": [
            *({"type": "InternalIP", "address": text.split("/")[0]} for text in address.split(",")),
            {"type": "Hostname", "address": node},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
    }


def allocatable(reserve: Reserved, limits: Sequence[Threshold], state: Path) -> dict[str, int]:
    """What pods can have of this machine: all that is neither reserved nor kept free by the thresholds of eviction. "cpu" in thousandths,
    "memory" and "ephemeral-storage" in bytes. Raises OSError."""
    storage = _storage(state)
    cpu, of_memory = for_pods(reserve)
    return {
        "cpu": cpu,
        "memory": max(0, of_memory - _kept(limits, MEMORY, memory())),
        "ephemeral-storage": max(0, storage - reserve.storage - _kept(limits, DISK, storage)),
    }


def for_pods(reserve: Reserved) -> tuple[int, int]:
    """Thousandths of processors and bytes of memory that are not reserved, and no huge pages."""
    small = memory() - sum(quantities.bytes_of(amount) for amount in huge_pages().values())
    return max(0, 1000 * (os.cpu_count() or 1) - reserve.cpu), max(0, small - reserve.memory)


def _storage(state: Path) -> int:
    """The size of the disk that a directory is on, in whole MiB. Raises OSError."""
    disk = os.statvfs(state)
    return disk.f_frsize * disk.f_blocks // _MEBI * _MEBI


def _kept(limits: Sequence[Threshold], signal: str, capacity: int) -> int:
    """The amount of a resource that eviction keeps free, in the unit of `capacity`."""
    return max((t.value(capacity) for t in limits if t.signal == signal), default=0)


def memory() -> int:
    """The memory of this machine, in bytes."""
    return _meminfo("MemTotal:")


def swap() -> int:
    """The swap of this machine, in bytes."""
    return _meminfo("SwapTotal:")


def huge_pages(root: Path = Path("/sys/kernel/mm/hugepages")) -> dict[str, str]:
    """Those that were set aside, by the resource's name: {"hugepages-2Mi": "64Mi"}."""
    found = {}
    for directory in sorted(root.glob("hugepages-*kB")):
        try:
            count = int((directory / "nr_hugepages").read_text())
            size = int(directory.name.removeprefix("hugepages-").removesuffix("kB"))
        except (OSError, ValueError):
            continue
        if count:
            found[f"hugepages-{_binary(size)}"] = _binary(count * size)
    return found


def _binary(kibibytes: int) -> str:
    """As Kubernetes writes it: in the largest unit that it is a multiple of."""
    units = ("Ki", "Mi", "Gi", "Ti")
    amount, unit = kibibytes, 0
    while amount % 1024 == 0 and unit < len(units) - 1:
        amount, unit = amount // 1024, unit + 1
    return f"{amount}{units[unit]}"


def _meminfo(field: str) -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith(field):
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
