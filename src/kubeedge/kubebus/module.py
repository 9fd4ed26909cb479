"""Module "kubebus" of an edge node: TUN, links to a relay, connections over them. The assembly of l2, l3 and l4.

The TUN is made once and stays, configured from what join said; links come and go below it. Without a link packets are answered with "host
unreachable" and connections wait, so a short outage is only a delay.

Lives elsewhere: how packets move (the data plane), the links (links), what a link says (l2/core.py), the TUN and its addresses (overlay.py), numbers of
other nodes (names.py), networks behind this node (router.py).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any

from kubeedge.api.names import L4Port
from kubeedge.api.node_ipv6 import NodeIpv6
from kubeedge.errors import LinkNotUp, Unavailable
from kubeedge.kit.streams import ConnectionHandler
from kubeedge.kubebus import ping
from kubeedge.kubebus.core import NO_RELAY, TENANT, BusStatus, KubeBusSettings, route_rows, wrong_welcome
from kubeedge.kubebus.l2.core import LinkEvent, LinkUp, NameResolved, RoutesChanged
from kubeedge.kubebus.l2.messages import Welcome
from kubeedge.kubebus.l3.plane import (
    FrameReceived,
    Plane,
    PortClosed,
    PortConnected,
    PortCounters,
    SegmentReceived,
    TlsContext,
)
from kubeedge.kubebus.l4.driver import PACE, PER_NODE, L4Endpoint
from kubeedge.kubebus.links.core import LinksSettings
from kubeedge.kubebus.links.driver import Links
from kubeedge.kubebus.links.link import Link, LinkInfo
from kubeedge.kubebus.links.transport import LinkTransport, TlsTransport
from kubeedge.kubebus.names import Names
from kubeedge.kubebus.overlay import OverlayInterface
from kubeedge.kubebus.router import LearnedRoutes

log = logging.getLogger("kubeedge.kubebus")


class KubeBus:
    """Module "kubebus". Ready when the TUN is there, whether or not the relay answers."""

    name = "kubebus"

    def __init__(
        self,
        settings: KubeBusSettings,
        *,
        rng: random.Random | None = None,
        told: Callable[[NodeIpv6], None] = lambda ipv6: None,
    ) -> None:
        """`told`: what the relay says of this node's addresses of IPv6, with each link."""
        self._settings = settings
        self._told = told
        self._rng = rng or random.SystemRandom()
        self._plane: Plane | None = None
        self._endpoint: L4Endpoint | None = None
        self._listeners: dict[L4Port, ConnectionHandler] = {ping.PORT: ping.echo}
        self._fast_paths: dict[L4Port, tuple[dict[str, Any], Callable[[Any], None]]] = {}
        self._links: Links | None = None
        self._up = asyncio.Event()
        self._since = asyncio.get_running_loop().time()  # when being linked, or not, began
        self._names = Names(lambda: self._links, self._up)
        self._overlay = OverlayInterface(settings)
        self._tun_gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._routes = LearnedRoutes(settings.tun)
        self._refused: tuple[str, ...] = ()  # subnets of ours that the tenant does not allow

    # -- for the rest of the agent -------------------------------------------------------------------------------------

    async def connect(
        self, node: str, port: L4Port, *, timeout: float = 10.0
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to a port of another node of the tenant, or of "cloud". Raises Unavailable, NotFound."""
        endpoint = self._require_endpoint()
        if node == self._settings.node:
            return await endpoint.connect(self._settings.number, port, timeout=timeout)
        if not self._settings.relays:
            raise LinkNotUp(NO_RELAY)
        try:
            async with asyncio.timeout(timeout):
                number = await self._names.number(node)
        except TimeoutError:
            raise LinkNotUp(
                f"no link to a relay within {timeout:g} s: {self.status.last_error or 'none answers'}"
            ) from None
        return await endpoint.connect(number, port, timeout=timeout)

    def serve(self, port: L4Port, handler: ConnectionHandler) -> None:
        """Before the module runs: `handler` serves this port, across its restarts."""
        self._listeners[port] = handler

    async def listen(self, port: L4Port, handler: ConnectionHandler) -> None:
        """As `serve`; the module may be running, and then the port is open at once."""
        self.serve(port, handler)
        if self._endpoint is not None:
            await self._endpoint.listen(port, handler)

    def server_fast_path(self, port: L4Port, settings: dict[str, Any], made: Callable[[Any], None]) -> None:
        """The data plane's fast path for web services, in front of a port that is served here: `made` gets it now and after each start of this
        module; None where there is none."""
        self._fast_paths[port] = (settings, made)
        if self._plane is not None and self._endpoint is not None:
            self._start_fast_path(port)

    def _start_fast_path(self, port: L4Port) -> None:
        settings, made = self._fast_paths[port]
        core = self._endpoint.fast if self._endpoint is not None else None
        proxy = None
        if self._plane is not None and core is not None:
            proxy = self._plane.web_proxy(l4=core, port=port, **settings)
        made(proxy)

    def network_changed(self) -> None:
        """An address or a route of this machine changed: adjust the overlay, and probe the links."""
        self._overlay.network_changed()
        if self._links is not None:
            self._links.network_changed()

    @property
    def status(self) -> BusStatus:
        """The state of KubeBus now."""
        links = self._links
        best = links.best() if links else None
        return BusStatus(
            self._up.is_set(),
            links.relay if links else "",
            self._since,
            best.core.rtt if best else None,
            links.last_error if links else "" if self._settings.relays else NO_RELAY,
            self._overlay.conflicts,
            self._overlay.shadowed,
        )

    def links(self) -> list[LinkInfo]:
        """The links of all slots, those that are opening included."""
        return self._links.infos() if self._links else []

    @property
    def totals(self) -> tuple[int, int]:
        """(links that came up, attempts and links that failed) since the module started."""
        return self._links.totals if self._links else (0, 0)

    def tun_counters(self) -> PortCounters | None:
        """The counters of the TUN device; None when there is none."""
        tun = self._overlay.port
        return self._plane.counters(tun) if self._plane is not None and tun >= 0 else None

    def routes(self) -> list[dict[str, Any]]:
        """The networks that are reached through KubeBus, and those that we offer: {"prefix", "to", "mtu"}."""
        return route_rows(self._settings, self._overlay.subnets, self._refused, self._routes.known)

    async def ping(self, node: str, *, count: int, interval: float, timeout: float = 2.0) -> dict[str, Any]:
        """Round trips of an L4 connection to the node, and of the hop to the relay. Raises as connect."""
        times = await ping.measure(lambda: self.connect(node, ping.PORT, timeout=5.0), count, interval, timeout)
        best = self._links.best() if self._links else None
        relay = {} if best is None else {"name": best.relay_name, "address": best.relay, "rtt": best.core.rtt}
        return {"node": node, "times": times, "relay": relay}

    # -- the module ----------------------------------------------------------------------------------------------------

    async def run(self, ready: asyncio.Event) -> None:
        """Ready without a link. Raises Unavailable when the TUN is deleted, so that the supervisor restarts it."""
        s = self._settings
        loop = asyncio.get_running_loop()
        plane = Plane(s.number)
        self._plane = plane
        self._tun_gone = loop.create_future()
        self._endpoint = L4Endpoint(core=plane.l4(TENANT, pace=PACE))
        loop.add_reader(plane.fileno(), self._on_plane)
        try:
            for port, handler in self._listeners.items():
                per_node = ping.PER_NODE if port == ping.PORT else PER_NODE
                await self._endpoint.listen(port, handler, per_node=per_node)
            for port in self._fast_paths:
                self._start_fast_path(port)
            await self._overlay.open(plane)
            self._routes.begin(plane, [subnet.prefix for subnet in self._overlay.subnets])
            ready.set()
            keeping = asyncio.create_task(self._keep_links(plane), name="kubebus links")
            learning = asyncio.create_task(self._routes.run(), name="kubebus routes")
            try:  # a deleted TUN ends the module; its next run makes it again
                await asyncio.wait((keeping, self._tun_gone, learning), return_when=asyncio.FIRST_COMPLETED)
                await (self._tun_gone if self._tun_gone.done() else learning if learning.done() else keeping)
            finally:
                keeping.cancel()
                learning.cancel()
                await asyncio.gather(keeping, learning, return_exceptions=True)
        finally:
            self._up.clear()
            await self._endpoint.close()
            loop.remove_reader(plane.fileno())
            plane.close()
            self._overlay.close()
            self._plane = self._endpoint = self._links = None

    async def _keep_links(self, plane: Plane) -> None:
        s = self._settings
        if not s.relays:
            log.warning("%s", NO_RELAY)
            await asyncio.Event().wait()
        settings = LinksSettings(
            relays=s.relays,
            connections=s.connections,
            link=s.link,
            subnets=self._overlay.subnets,
            connect_timeout=s.connect_timeout,
        )
        self._links = Links(
            settings,
            plane,
            self._transport(),
            check=self._check_event,
            changed=self._changed,
            lost=self._names.lost,
            rng=self._rng,
        )
        await self._links.run()

    def _transport(self) -> LinkTransport:
        """A new one for each run: it reads the certificate as it is now."""
        s = self._settings
        return TlsTransport(TlsContext(s.ca, s.cert, s.key, server=False), congestion=s.congestion)

    # -- links ---------------------------------------------------------------------------------------------------------

    def _changed(self, up: bool) -> None:
        self._since = asyncio.get_running_loop().time()
        if up:
            self._up.set()
        else:
            self._up.clear()
            self._names.forget()

    def _on_plane(self) -> None:
        plane, links = self._plane, self._links
        if plane is None:
            return
        for event in plane.events():
            match event:
                case SegmentReceived(_, _, source, payload) if self._endpoint is not None:
                    self._endpoint.receive(source, payload)
                case PortClosed(port, reason) if port == self._overlay.port and not self._tun_gone.done():
                    self._tun_gone.set_exception(Unavailable(f"{self._settings.tun} is gone: {reason}"))
                case PortConnected(port, uri) if links is not None:
                    links.on_up(port, uri)
                case FrameReceived(port, _, payload) if links is not None:
                    links.on_control(port, payload)
                case PortClosed(port, reason) if links is not None:
                    links.on_down(port, reason)

    def _check_event(self, link: Link, event: LinkEvent) -> str | None:
        """Each event of a link's conversation; a text is a reason to end the link."""
        match event:
            case LinkUp(welcome):
                return self._on_welcome(welcome, link)
            case NameResolved(id, number):
                self._names.resolved(link, id, number)
            case RoutesChanged(add, withdraw):
                self._routes.change(add, withdraw, relay=link.remote)
        return None

    def _on_welcome(self, welcome: Welcome, link: Link) -> str | None:
        s = self._settings
        if problem := wrong_welcome(s, welcome):
            return problem
        self._names.cloud = welcome.relay_number
        if welcome.refused and tuple(welcome.refused) != self._refused:
            log.warning(
                "the tenant does not allow networks behind this node: %s; on the cloud: `kubeedge router allow %s %s`",
                ", ".join(welcome.refused), s.node or "NODE", " ".join(welcome.refused),
            )  # fmt: skip
        self._refused = tuple(welcome.refused)
        self._told(welcome.ipv6)
        self._routes.replace(welcome.routes, relay=link.remote)
        return None

    # -- connections ---------------------------------------------------------------------------------------------------

    def _require_endpoint(self) -> L4Endpoint:
        if self._endpoint is None:
            raise LinkNotUp("KubeBus does not run")
        return self._endpoint
