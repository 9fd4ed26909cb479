"""Which class a kind of volume is: the field's name in spec.volumes. A new kind is a new line here."""

from __future__ import annotations

from collections.abc import Callable

from kubeedge.appengine.runtime.base import StartError
from kubeedge.appengine.volumes.base import Volume, VolumeContext
from kubeedge.appengine.volumes.empty_dir import EmptyDirVolume
from kubeedge.appengine.volumes.host_path import HostPathVolume
from kubeedge.appengine.volumes.projections import (
    ConfigMapVolume,
    DownwardApiVolume,
    ProjectedVolume,
    SecretVolume,
)

KINDS: dict[str, Callable[[VolumeContext], Volume]] = {
    "configMap": ConfigMapVolume,
    "downwardAPI": DownwardApiVolume,
    "emptyDir": EmptyDirVolume,
    "hostPath": HostPathVolume,
    "projected": ProjectedVolume,
    "secret": SecretVolume,
}


def volume(context: VolumeContext) -> Volume:
    """Raises StartError for a kind that this node has no class for."""
    kind = KINDS.get(context.spec.kind)
    if kind is None:
        raise StartError("CreateContainerConfigError", f"volumes of type {context.spec.kind} are not supported here")
    return kind(context)
