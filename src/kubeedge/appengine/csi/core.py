"""What is asked of a driver for a volume of a pod, and where that volume is on the node. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from kubeedge.api.names import Object
from kubeedge.errors import Invalid, KubeEdgeError
from kubeedge.kit.dataclasses import dataclass, field

#: of NodeGetCapabilities
STAGE_UNSTAGE, GET_VOLUME_STATS, EXPAND, VOLUME_MOUNT_GROUP = 1, 2, 3, 6
_WRITER, _READER, _MANY_READERS, _MANY_WRITERS, _ONE_WRITER, _WRITERS_HERE = 1, 2, 3, 5, 6, 7
_MODES = {
    "ReadWriteOnce": _WRITER, "ReadOnlyMany": _MANY_READERS, "ReadWriteMany": _MANY_WRITERS,
    "ReadWriteOncePod": _ONE_WRITER,
}  # fmt: skip
_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9.]{0,61}[A-Za-z0-9])?")
_MAX_TEXT = 4096


class CsiError(KubeEdgeError):
    """A driver is missing, or refused, or left something mounted. To be tried again."""


@dataclass(frozen=True, slots=True)
class DriverInfo:
    """What a driver has said of itself on this node."""

    name: str
    endpoint: Path
    node_id: str
    capabilities: frozenset[int] = frozenset()
    max_volumes: int = 0  # 0: it does not say
    topology: Mapping[str, str] = field(default_factory=dict)

    def report(self) -> Object:
        """Its entry in a CSINode."""
        allocatable = {"allocatable": {"count": self.max_volumes}} if self.max_volumes > 0 else {}
        return {"name": self.name, "nodeID": self.node_id, "topologyKeys": sorted(self.topology), **allocatable}


def driver_info(name: str, endpoint: Path, info: Object, capabilities: Object) -> DriverInfo:
    """Raises Invalid for what no CSINode could say."""
    node_id = str(info.get("node_id") or "")
    topology = {str(k): str(v) for k, v in ((info.get("accessible_topology") or {}).get("segments") or {}).items()}
    if not node_id or len(node_id) > 192:
        raise Invalid(f"CSI driver {name} has a node id of {len(node_id)} characters")
    if len(topology) > 16:
        raise Invalid(f"CSI driver {name} has {len(topology)} topology keys")
    found = frozenset(int((one.get("rpc") or {}).get("type") or 0) for one in capabilities.get("capabilities") or ())
    return DriverInfo(name, endpoint, node_id, found, int(info.get("max_volumes_per_node") or 0), topology)


def check_plugin(info: Object) -> tuple[str, Path]:
    """Name and endpoint of who registers. Raises Invalid for what is no CSI driver of version 1."""
    name, kind = str(info.get("name") or ""), str(info.get("type") or "")
    if kind != "CSIPlugin":
        raise Invalid(f"plugins of type {kind:.60} are not supported on this node")
    if not _NAME.fullmatch(name):
        raise Invalid(f"{name!r:.80} is no name of a CSI driver")
    versions = info.get("supported_versions") or ()
    if not any(re.fullmatch(r"v?1(\.\d+)*", str(version)) for version in versions):
        raise Invalid(f"CSI driver {name} supports no version 1 but {', '.join(map(str, versions)):.100}")
    endpoint = str(info.get("endpoint") or "").removeprefix("unix://")
    if not endpoint.startswith("/") or len(endpoint) > 107 or ".." in endpoint.split("/"):
        raise Invalid(f"CSI driver {name} has no socket: {endpoint!r:.120}")
    return name, Path(endpoint)


@dataclass(frozen=True, slots=True, kw_only=True)
class CsiVolumeSpec:
    """A volume of a driver for one pod: of a PersistentVolume, or inline."""

    driver: str
    handle: str
    name: str  # of the PersistentVolume, or of the volume in its pod
    pod_uid: str
    ephemeral: bool
    read_only: bool
    access_modes: Sequence[str] = ()
    fs_type: str = ""
    mount_flags: Sequence[str] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)
    publish_context: Mapping[str, str] = field(default_factory=dict)
    stage_secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    publish_secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    group: int | None = None  # fsGroup of the pod
    grow_to: int = 0  # bytes that it is to have by now; 0: as many as before

    def capability(self, capabilities: frozenset[int]) -> Object:
        """A VolumeCapability: mounted, never a block device."""
        mode = next((_MODES[mode] for mode in self.access_modes if mode in _MODES), _WRITER)
        mount: dict[str, Any] = {"fs_type": self.fs_type, "mount_flags": list(self.mount_flags)}
        if self.group is not None and VOLUME_MOUNT_GROUP in capabilities:
            mount["volume_mount_group"] = str(self.group)
        return {"mount": mount, "access_mode": {"mode": mode}}


class CsiVolumes(Protocol):
    """Volumes of CSI drivers on this node (node.py)."""

    def target(self, volume: CsiVolumeSpec) -> Path:
        """Where it is published, or will be."""
        ...

    def capabilities(self, driver: str) -> frozenset[int]:
        """What a driver can do on this node; nothing for one that is not registered."""
        ...

    async def publish(self, volume: CsiVolumeSpec) -> None:
        """It is at its target when this returns, and has grown if it was to. Raises CsiError."""
        ...

    async def release(self, uid: str) -> None:
        """Take back all that was published for a pod. Raises CsiError."""
        ...


def ephemeral_handle(uid: str, volume: str) -> str:
    """The volume id of an inline volume, as the kubelet makes it."""
    return "csi-" + hashlib.sha256(f"{uid}-{volume}".encode()).hexdigest()


def target(kubelet: Path, uid: str, name: str) -> Path:
    """Where it is published for a pod. The driver makes it."""
    return kubelet / "pods" / uid / "volumes" / "kubernetes.io~csi" / name / "mount"


def staging(kubelet: Path, driver: str, handle: str) -> Path:
    """Where it is staged, once for all pods of the node."""
    hashed = hashlib.sha256(handle.encode()).hexdigest()
    return kubelet / "plugins" / "kubernetes.io" / "csi" / driver / hashed / "globalmount"


def texts(value: Any) -> dict[str, str]:
    """A map of texts, whatever it was."""
    return {str(k): str(v)[:_MAX_TEXT] for k, v in value.items()} if isinstance(value, Mapping) else {}
