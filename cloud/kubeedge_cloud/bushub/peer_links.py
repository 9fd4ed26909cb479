"""Links between this relay and others: dialled or accepted, greeted, and probed once a second.

Lives elsewhere: the conversation (kubeedge.kubebus.l2.core), which relays there are (peers.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from kubeedge.api.names import NodeNumber, PortId
from kubeedge.errors import KubeEdgeError, PeerError
from kubeedge.kit.tcp import connect
from kubeedge.kubebus.l2.core import HelloHeard, LinkCore, LinkDown, LinkSettings, LinkUp, Role
from kubeedge.kubebus.l2.messages import Hello, Welcome
from kubeedge.kubebus.l3.plane import CONTROL, Plane, TlsContext
from kubeedge.pki import identity

log = logging.getLogger("kubeedge.bushub")

_LINK = LinkSettings(keepalive=5.0, dead_after=6.0)
_DIAL = 2.0  # seconds for TCP: with the pause between attempts and a SYN that is repeated after 1 s, a path that comes back is found within 2 s


@dataclass(slots=True)
class PeerLink:
    """A link to another relay, from TLS to its end."""

    port: PortId  # of the data plane
    core: LinkCore
    id: str  # of the other relay; "": it has not said
    done: asyncio.Event = field(default_factory=asyncio.Event)  # set when the link is down
    seen: tuple[int, int] | None = None  # bytes and segments received when it was last looked at


class PeerLinks:
    """`up` is called with the ID and the port of a link whose ends have greeted each other, `down` with a reason as well when it is closed."""

    def __init__(
        self,
        plane: Plane,
        tls: TlsContext,
        id: str,
        number: NodeNumber,
        *,
        up: Callable[[str, PortId], None],
        down: Callable[[str, PortId, str], None],
    ) -> None:
        self._plane = plane
        self._tls = tls
        self._id = id
        self._number = number
        self._up = up
        self._down = down
        self._links: dict[PortId, PeerLink] = {}  # by port

    def owns(self, port: PortId) -> bool:
        """Whether events of that port are for us."""
        return port in self._links

    def of(self, id: str) -> list[PortId]:
        """Ports of links to that relay."""
        return [link.port for link in self._links.values() if link.id == id]

    def rtt(self, port: PortId) -> float | None:
        """Seconds; None while it is not known."""
        link = self._links.get(port)
        return link.core.rtt if link is not None else None

    async def dial(self, id: str, address: str) -> PeerLink | None:
        """A link whose TLS has begun; None: the relay is not reached at "host:port"."""
        host, _, port = address.rpartition(":")
        try:
            async with asyncio.timeout(_DIAL):
                connection = await connect(host.strip("[]"), int(port))
            number = self._plane.add_link(connection.fileno(), self._tls, server_name=host.strip("[]"))
        except (OSError, TimeoutError) as exc:
            log.info("relay %s at %s: %s", id, address, exc or "no answer in time")
            return None
        connection.detach()
        link = self._links[number] = PeerLink(number, LinkCore(Role.EDGE, _LINK), id)
        return link

    def accept(self, port: PortId) -> None:
        """A process of the cloud has dialled us."""
        link = self._links[port] = PeerLink(port, LinkCore(Role.RELAY, _LINK), "")
        link.core.open(asyncio.get_running_loop().time())

    # -- events of the data plane --------------------------------------------------------------------------------------

    def on_connected(self, port: PortId, uri: str) -> None:
        """TLS of a link that we dialled."""
        link = self._links[port]
        try:
            if not isinstance(identity.parse(uri), identity.CloudIdentity):
                raise PeerError(f"{uri} is not a cloud process")
        except KubeEdgeError as exc:
            self._plane.drop(port, str(exc))
            return
        link.core.open(asyncio.get_running_loop().time(), Hello(relay=self._id))
        self._flush(link)

    def on_control(self, port: PortId, payload: bytes) -> None:
        """A control frame that arrived on the port. A peer with the wrong identity loses its link."""
        link = self._links[port]
        try:
            for event in link.core.receive(payload, asyncio.get_running_loop().time()):
                match event:
                    case HelloHeard(hello):
                        if not hello.relay or hello.relay == self._id:
                            raise PeerError("a process of the cloud said hello without its name, or it is ourselves")
                        link.id = hello.relay
                        link.core.welcome(Welcome(self._number, "", "", (), 0, self._id, self._number))
                        self._up(link.id, port)
                    case LinkUp(welcome):
                        if welcome.relay != link.id:
                            raise PeerError(f"relay {welcome.relay or '?'} answers instead of {link.id}")
                        self._up(link.id, port)
                    case LinkDown(reason):
                        self._plane.drop(port, reason)
                        return
        except PeerError as exc:
            self._plane.drop(port, str(exc))
            return
        self._flush(link)

    def on_closed(self, port: PortId, reason: str) -> None:
        """The data plane has closed the port: waiters for `done` of the link continue."""
        link = self._links.pop(port)
        link.done.set()
        self._down(link.id, port, reason)

    # -- time ----------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Send keepalives to the peers until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(1.0)
            for link in list(self._links.values()):
                self._look(link, loop.time())

    def _look(self, link: PeerLink, now: float) -> None:
        counters = self._plane.counters(link.port)
        seen = (counters.rx_bytes, counters.rx_segments) if counters else (0, 0)
        if seen != link.seen:
            link.seen = seen
            link.core.heard(now)
        at = link.core.next_timer()
        if at is None or at > now:
            return
        for event in link.core.handle_timer(now):
            if isinstance(event, LinkDown):
                self._plane.drop(link.port, event.reason)
        self._flush(link)

    def _flush(self, link: PeerLink) -> None:
        for payload in link.core.payloads_to_send():
            self._plane.send(link.port, CONTROL, payload)
