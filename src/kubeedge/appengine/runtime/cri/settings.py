"""What the agent's configuration says of a CRI runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kubeedge.appengine.runtime.base import ClusterDns
from kubeedge.appengine.runtime.group_limits import PodBounds
from kubeedge.kit.dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CriSettings:
    """The socket, and what the embedded runtime has for itself and a CRI runtime must be given."""

    socket: Path
    root: Path  # of the agent's state
    node: str
    pod_cidrs: Sequence[str]
    bridge: str = "cni0"
    cgroup_prefix: str = "kubeedge"
    cni_conf: Path | None = (
        None  # the directory that the runtime reads network configurations from; None: it has its own
    )
    bounds: PodBounds = PodBounds()
    overlay_cidrs: Sequence[str] = ("10.244.0.0/16", "100.64.0.0/16")  # reached with the pod's own address
    pinned: Sequence[str] = ()  # images that are never collected
    dns: ClusterDns | None = None  # of this node, for its pods
