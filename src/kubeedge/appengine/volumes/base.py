"""What AppEngine needs of a volume, whatever its kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from kubeedge.api.pod import Pod, VolumeSpec
from kubeedge.appengine.csi.core import CsiVolumes
from kubeedge.appengine.node_api import NodeApi
from kubeedge.appengine.resolve import Lookup
from kubeedge.appengine.runtime.base import NOT_MOUNTED, StartError
from kubeedge.kit.dataclasses import dataclass, field


class NotMounted(StartError):
    """A volume is not here yet, or cannot be: its claim is not bound, a server does not answer."""

    def __init__(self, message: str) -> None:
        super().__init__(NOT_MOUNTED, message)


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeContext:
    """One volume of one pod on this node."""

    pod: Pod
    spec: VolumeSpec
    directory: Path  # for this volume alone; its parent exists or may be made
    find: Lookup  # ConfigMaps, Secrets, the tokens of pods, claims and their volumes, the Node
    pod_ip: str = ""  # the node's for a pod on its network; "" before there is one
    host_ip: str = ""
    node: str = ""
    allocatable: Mapping[str, int] = field(default_factory=dict)  # of the node, as resolve.resource_field() takes it
    api: NodeApi | None = None  # that of this node, if its pods use it
    persistent: str = ""  # name of the PersistentVolume that `spec` is of; "": the pod's own
    mount_options: Sequence[str] = ()  # of that
    access_modes: Sequence[str] = ()  # of that, as the API calls them
    grow_to: str = ""  # what that has by now, where its claim has less
    csi: CsiVolumes | None = None  # the drivers of this node


class Volume(Protocol):
    """Calls block; the engine makes them in threads, one at a time for a pod. All can be repeated."""

    @property
    def read_only(self) -> bool:
        """Containers cannot write to it, whatever their mount says."""
        ...

    @property
    def path(self) -> Path:
        """Where it is on this node, mounted or not."""
        ...

    def mount(self) -> Path:
        """Make it ready for a container that is about to start; where it is on this node.

        Raises Missing or Invalid for what it refers to, StartError or OSError for what cannot be on this node.
        """
        ...

    def recover(self) -> bool:
        """Whether what an earlier mount() made is still here: after a restart of the agent it is, after one of the machine it may not be.
        When it is not, nothing may be written to its directory before the next mount()."""
        ...

    def refresh(self) -> None:
        """What it refers to changed. Called only when recover() was true. Raises as mount()."""
        ...

    def over_limit(self) -> str:
        """That it uses more than it may, in the kubelet's words; "" when it does not."""
        ...

    def unmount(self) -> None:
        """The pod ends: give back what mount() took. Raises OSError."""
        ...


@runtime_checkable
class RemoteVolume(Volume, Protocol):
    """One that others have to answer for: a server, a driver. They may hang, so that no thread waits for them; what waits can be cancelled.

    mount() only says where it is, after attach(). All calls can be repeated."""

    async def attach(self) -> str:
        """Make it ready on this node; the capacity that it has got by that, "" when it has not grown. Raises NotMounted, within a time of its
        own."""
        ...

    async def detach(self) -> None:
        """The pod ends: nothing of its is mounted afterwards. Raises NotMounted or OSError: then it is tried again."""
        ...
