"""One link of a node, from the transport's connection on."""

from __future__ import annotations

import asyncio

from kubeedge.api.names import PortId
from kubeedge.kit.dataclasses import dataclass, field
from kubeedge.kubebus.l2.core import LinkCore
from kubeedge.kubebus.l3.plane import Plane, PortCounters, told
from kubeedge.kubebus.links.core import Activity


@dataclass(slots=True, eq=False)
class Link:
    """Times are those of the loop."""

    slot: int
    port: PortId  # of the data plane
    relay: str  # "host:port"
    local: str  # our own address on it
    remote: str  # the relay's
    begun: float
    core: LinkCore
    up: asyncio.Future[None]
    ended: asyncio.Future[str]  # why
    suspect: asyncio.Event = field(default_factory=asyncio.Event)  # the slot should look for another
    answered: asyncio.Event = field(default_factory=asyncio.Event)  # it was suspect, and is not any more
    gone: bool = False  # the plane has no such port any more
    stay_away: float = 0.0  # seconds, as the relay asked
    relay_name: str = ""
    since: float = 0.0  # when it came up
    activity: Activity = field(default_factory=Activity)
    timer: asyncio.TimerHandle | None = None

    @property
    def is_good(self) -> bool:
        """Whether the link has not ended and nothing suggests that it is broken."""
        return not (self.ended.done() or self.core.suspect or self.suspect.is_set())


@dataclass(frozen=True, slots=True)
class LinkInfo:
    """A link as `kubeedge links` shows it."""

    slot: int
    relay: str
    relay_name: str
    state: str  # up, suspect, opening
    since: float
    rtt: float | None
    local: str
    congestion: str
    counters: PortCounters | None


def info(link: Link, plane: Plane) -> LinkInfo:
    """What there is to show of it now."""
    state = "opening" if not link.up.done() else "suspect" if link.core.suspect else "up"
    return LinkInfo(
        link.slot,
        link.relay,
        link.relay_name,
        state,
        link.since or link.begun,
        link.core.rtt,
        link.local,
        told(plane.congestion(link.port)),
        plane.counters(link.port),
    )
