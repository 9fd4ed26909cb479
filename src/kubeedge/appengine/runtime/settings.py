"""Settings of the embedded runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kubeedge.appengine.runtime.base import ClusterDns
from kubeedge.appengine.runtime.group_limits import PodBounds
from kubeedge.kit.dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedSettings:
    """Directories, networks and limits of the embedded runtime. `pod_cidrs` are this node's share of the pod networks."""

    root: Path
    run: Path  # short: sockets live here
    node: str
    pod_cidrs: Sequence[str]
    bridge: str = "cni0"
    cgroup_prefix: str = "kubeedge"
    cni_bin_dirs: Sequence[str] = ("/opt/cni/bin", "/usr/lib/cni")
    bounds: PodBounds = PodBounds()
    overlay_cidrs: Sequence[str] = ("10.244.0.0/16", "100.64.0.0/16")  # reached with the pod's own address
    dns: ClusterDns | None = None  # of this node, for its pods
