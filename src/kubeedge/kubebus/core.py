"""What KubeBus of an edge node decides, without I/O: its settings, whose welcome is right, what is reached through it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

from kubeedge.api.names import NodeNumber, TenantNumber
from kubeedge.api.node_ipv6 import NONE, NodeIpv6
from kubeedge.kit.dataclasses import dataclass, field
from kubeedge.kubebus.l2.core import LinkSettings
from kubeedge.kubebus.l2.messages import Subnet, Welcome

TENANT = TenantNumber(0)  # an edge has one routing table
RELAY = NodeNumber(0)  # every other node is reached through it
NO_RELAY = "this node knows no relay: the cloud named none when it joined; `modules.kubebus.relays` names them here"


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterSettings:
    """Networks behind this node (kubeedge.kubebus.router)."""

    subnets: Sequence[str]
    mtu: int = 0  # of those networks; 0: of the interfaces that lead there
    masquerade: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeBusSettings:
    """What join recorded of this node, and what kubeedge.yaml sets for its links."""

    relays: Sequence[str]  # "host:port", raced when there is no link; none: the TUN is all there is
    ca: Path
    cert: Path
    key: Path
    node: str = ""  # our own name: connections to ourselves need no relay
    number: NodeNumber  # of this node
    address: str  # on the overlay, with its prefix: "100.64.0.1/16"
    pod_cidr: str
    ipv6: NodeIpv6 = NONE
    tun: str = "kb0"
    mtu: int = 1500
    overlay_routes: Sequence[str] = ("10.244.0.0/16",)
    connections: int = 2
    link: LinkSettings = field(default_factory=LinkSettings)
    congestion: str = ""  # congestion control of the links' TCP; "": by the round trip of the path
    connect_timeout: float = 3.0  # seconds for TCP, and again for TLS and welcome
    router: RouterSettings | None = None

    @property
    def own(self) -> tuple[str, ...]:
        """The networks that are this node: its addresses and its pods."""
        return self.address.split("/")[0] + "/32", self.pod_cidr, *self.ipv6.own

    @property
    def overlay(self) -> tuple[str, ...]:
        """The networks that are reached through the relay."""
        return str(ip_interface(self.address).network), *self.overlay_routes, *self.ipv6.networks

    @property
    def sources(self) -> tuple[str, ...]:
        """This node's addresses on the overlay."""
        return self.address.split("/")[0], *([self.ipv6.ip] if self.ipv6 else [])

    @property
    def cloud_sources(self) -> tuple[str, ...]:
        """The cloud's: the last of the overlay's network, and that of IPv6 with the same number."""
        overlay = ip_interface(self.address).network
        last = str(overlay.broadcast_address - 1)
        if not self.ipv6:
            return (last,)
        number = min(overlay.num_addresses - 2, 65_535)
        return last, str(ip_interface(self.ipv6.address).network[number])


@dataclass(frozen=True, slots=True)
class BusStatus:
    """KubeBus, for `kubeedge status` and for the condition KubeBusReady."""

    up: bool
    relay: str
    since: float  # loop time of the last change of `up`
    rtt: float | None
    last_error: str
    conflicts: tuple[str, ...] = ()  # networks of this machine that have addresses of the overlay
    shadowed: bool = False  # by one of them: the overlay is not reached


def wrong_welcome(settings: KubeBusSettings, welcome: Welcome) -> str | None:
    """Why this welcome is not for us; None: it is."""
    if welcome.number != settings.number or welcome.pod_cidr != settings.pod_cidr:
        return f"the relay knows this node as number {welcome.number}, {welcome.pod_cidr}; join it again"
    return None


def route_rows(
    settings: KubeBusSettings, offered: Sequence[Subnet], refused: Collection[str], learned: Sequence[Subnet]
) -> list[dict[str, Any]]:
    """The rows of `kubeedge routes`: {"prefix", "to", "mtu"}. `offered`: networks behind this node, `refused`: those that the tenant
    does not allow, `learned`: networks behind other nodes."""

    def row(prefix: str, to: str, mtu: int = 0) -> dict[str, Any]:
        return {"prefix": prefix, "to": to, "mtu": mtu or settings.mtu}

    own = [row(prefix, "this node") for prefix in settings.own]
    behind = [
        row(n.prefix, "this node, not allowed" if n.prefix in refused else "behind this node", n.mtu) for n in offered
    ]
    overlay = [row(prefix, "the relay") for prefix in settings.overlay]
    return own + behind + overlay + [row(n.prefix, "a router, by the relay", n.mtu) for n in learned]
