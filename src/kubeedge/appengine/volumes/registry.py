"""Which class a kind of volume is: the field's name in spec.volumes. A new kind is a new line here."""

from __future__ import annotations

from collections.abc import Callable

from kubeedge.api.pod import IMAGE_VOLUME, Pod, VolumeSpec
from kubeedge.appengine.runtime.base import StartError
from kubeedge.appengine.volumes import claims
from kubeedge.appengine.volumes.base import Volume, VolumeContext
from kubeedge.appengine.volumes.empty_dir import EmptyDirVolume, is_in_memory
from kubeedge.appengine.volumes.host_path import HostPathVolume
from kubeedge.appengine.volumes.local import LocalVolume
from kubeedge.appengine.volumes.nfs import NfsVolume
from kubeedge.appengine.volumes.projections import (
    ConfigMapVolume,
    DownwardApiVolume,
    ProjectedVolume,
    SecretVolume,
)


def _csi(context: VolumeContext) -> Volume:
    from kubeedge.appengine.volumes.csi import CsiVolume  # a node without such volumes does not load it

    return CsiVolume(context)


KINDS: dict[str, Callable[[VolumeContext], Volume]] = {
    "configMap": ConfigMapVolume,
    "csi": _csi,
    "downwardAPI": DownwardApiVolume,
    "emptyDir": EmptyDirVolume,
    "hostPath": HostPathVolume,
    "local": LocalVolume,  # of a PersistentVolume alone
    "nfs": NfsVolume,
    "projected": ProjectedVolume,
    "secret": SecretVolume,
}

#: kinds of a pod's volumes that are, or may turn out to be, a RemoteVolume
MAYBE_REMOTE = (*claims.KINDS, "csi", "nfs")

#: kinds that may have a limit for what they use of the node
LIMITED = ("emptyDir",)


def has_remote_volumes(pod: Pod) -> bool:
    """Whether threads may hang that touch its volumes."""
    return any(volume.kind in MAYBE_REMOTE for volume in pod.volumes.values())


def uses_disk(spec: VolumeSpec) -> bool:
    """Whether what the pod writes there counts as its use of the node's disk."""
    return spec.kind in LIMITED and not is_in_memory(spec)


def is_mounted_here(spec: VolumeSpec) -> bool:
    """Whether a class of ours mounts it, and not the runtime."""
    return spec.kind != IMAGE_VOLUME


def volume(context: VolumeContext) -> Volume:
    """Raises StartError for a kind that this node has no class for, NotMounted for a claim that is not bound."""
    if context.spec.kind in claims.KINDS:
        context = claims.resolved(context)
    kind = KINDS.get(context.spec.kind)
    if kind is None:
        raise StartError("CreateContainerConfigError", f"volumes of type {context.spec.kind} are not supported here")
    return kind(context)
