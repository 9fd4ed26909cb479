"""What AppEngine is told by the agent's configuration."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from kubeedge.appengine import node
from kubeedge.appengine.eviction import Threshold
from kubeedge.appengine.node import Reserved
from kubeedge.appengine.node_api import NodeApi
from kubeedge.kit.dataclasses import dataclass

#: (namespace, name and uid of a pod, its addresses, that of IPv4 first): returns when the pod may begin
AdmitPod = Callable[[str, str, str, Sequence[str]], Awaitable[None]]


async def at_once(namespace: str, name: str, uid: str, addresses: Sequence[str]) -> None:
    """Nothing has to be made ready for a pod's addresses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSettings:
    """`high` and `low` are percents of the disk that holds images, `min_age` seconds."""

    pre_pull: Sequence[str] = ()
    high: int = 85
    low: int = 80
    min_age: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AppEngineSettings:
    """What the agent's configuration says of pods. `address` is the node's, with or without a prefix length."""

    node: str
    address: str  # on the overlay
    ipv6: str = ""  # the same of IPv6, without its prefix length; "": it has none
    state: Path
    logs: Path
    max_pods: int = 110
    log_max_bytes: int = 10 * 1024 * 1024
    images: ImageSettings = ImageSettings()
    reserved: Reserved = Reserved(memory=48 * 1024 * 1024)
    eviction: tuple[Threshold, ...] = ()
    swap: str = ""  # "NoSwap", "LimitedSwap"; "": containers have no limit of it
    kubelet: Path | None = None  # where CSI drivers and their registrars expect a kubelet's files; None: no drivers
    static_pods: Path | None = None  # directory of their manifests; None: there are none
    api: NodeApi | None = None  # for pods; None: they are not told of one
    admit: AdmitPod = at_once  # is waited for before a container of a pod with an address of its own starts

    def allocatable(self) -> dict[str, int]:
        """What pods can have of this node (node.allocatable()). Raises OSError."""
        return node.allocatable(self.reserved, self.eviction, self.state)

    @property
    def host_ip(self) -> str:
        """The address without its prefix length, as status.hostIP shows it."""
        return self.address.split("/")[0]

    @property
    def host_ips(self) -> str:
        """The node's addresses, as the downward API lists them: with a comma between."""
        return ",".join(filter(None, (self.host_ip, self.ipv6)))
