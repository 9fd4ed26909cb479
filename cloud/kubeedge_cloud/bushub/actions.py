"""What the cores of the relay have the data plane do. Pure: they return these, in order, and a driver performs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from kubeedge_cloud.bushub.subnets import RouteChange


@dataclass(frozen=True, slots=True)
class Drop:
    """Close the link on that port."""

    port: int
    reason: str


@dataclass(frozen=True, slots=True)
class Flush:
    """Send the CONTROL frames that wait in the link on that port."""

    port: int


@dataclass(frozen=True, slots=True)
class Reroute:
    """A network behind nodes of that tenant number has another owner, or none."""

    tenant: int
    change: RouteChange


@dataclass(frozen=True, slots=True)
class AddRoute:
    """The prefix belongs to the node, or relay, of that number."""

    tenant: int
    prefix: str
    number: int


@dataclass(frozen=True, slots=True)
class AddNextHop:
    """The node, or relay, of that number is reached through the relay whose link is on that port."""

    tenant: int
    number: int
    port: int


@dataclass(frozen=True, slots=True)
class RemoveNextHops:
    tenant: int
    number: int


LinkAction: TypeAlias = Drop | Flush | Reroute
PeerAction: TypeAlias = Drop | AddRoute | AddNextHop | RemoveNextHops
