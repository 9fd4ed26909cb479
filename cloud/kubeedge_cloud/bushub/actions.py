"""What the cores of the relay have the data plane do. Pure: they return these, in order, and a driver performs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from kubeedge.api.names import NodeNumber, PortId, TenantNumber
from kubeedge_cloud.bushub.subnets import RouteChange


@dataclass(frozen=True, slots=True)
class Drop:
    """Close the link on that port."""

    port: PortId
    reason: str


@dataclass(frozen=True, slots=True)
class Flush:
    """Send the CONTROL frames that wait in the link on that port."""

    port: PortId


@dataclass(frozen=True, slots=True)
class Reroute:
    """A network behind nodes of that tenant number has another owner, or none."""

    tenant: TenantNumber
    change: RouteChange


@dataclass(frozen=True, slots=True)
class ResetPeer:
    """The number is another machine's, or free: L4 connections with the one that had it end, and where a node is has to be asked again."""

    tenant: TenantNumber
    number: NodeNumber


@dataclass(frozen=True, slots=True)
class AddRoute:
    """The prefix belongs to the node, or relay, of that number."""

    tenant: TenantNumber
    prefix: str
    number: NodeNumber


@dataclass(frozen=True, slots=True)
class AddNextHop:
    """The node, or relay, of that number is reached through the relay whose link is on that port."""

    tenant: TenantNumber
    number: NodeNumber
    port: PortId


@dataclass(frozen=True, slots=True)
class RemoveNextHops:
    """The node, or relay, of that number is reached through no other relay any more."""

    tenant: TenantNumber
    number: NodeNumber


LinkAction: TypeAlias = Drop | Flush | Reroute | ResetPeer
PeerAction: TypeAlias = Drop | AddRoute | AddNextHop | RemoveNextHops
