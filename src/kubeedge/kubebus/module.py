"""KubeBus of an edge node: TUN, links to a relay, connections over them. The assembly of l2, l3 and l4.

The TUN is made once and stays, configured from what join said; links come and go below it. Without a link packets are answered with "host
unreachable" and connections wait, so a short outage is only a delay.

Lives elsewhere: how packets move (the data plane), the links (links.py), what a link says (l2/core.py), networks behind this node
(router.py), which processes this runs in (kubeedge.edgecore).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

from kubeedge.errors import LinkNotUp, NotFound, Unavailable
from kubeedge.kubebus import ping, router
from kubeedge.kubebus.l2.core import (
    LinkEvent,
    LinkSettings,
    LinkUp,
    NameResolved,
    RoutesChanged,
    Subnet,
    Welcome,
)
from kubeedge.kubebus.l3.netsetup import Overlay, configure
from kubeedge.kubebus.l3.plane import (
    FrameReceived,
    Plane,
    PortClosed,
    PortConnected,
    PortCounters,
    SegmentReceived,
    TlsContext,
)
from kubeedge.kubebus.l3.tun import open_tun
from kubeedge.kubebus.l4.driver import Endpoint, Handler
from kubeedge.kubebus.links import Held, LinkInfo, Links, LinksSettings

log = logging.getLogger("kubeedge.kubebus")

CLOUD = "cloud"  # the name of the relay's own services
_TENANT = 0  # an edge has one routing table
_RELAY = 0  # whoever is not ourselves is reached through it
_NAME_TIMEOUT = 5.0  # seconds for an answer to a name
_NO_RELAY = "this node knows no relay: the cloud named none when it joined; `modules.kubebus.relays` names them here"
_ASK_AGAIN = 0.05  # seconds until a name is asked for on another link


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeBusSettings:
    relays: Sequence[str]  # "host:port", raced when there is no link; none: the TUN is all there is
    ca: Path
    cert: Path
    key: Path
    node: str = ""  # our own name: connections to ourselves need no relay
    number: int  # of this node
    address: str  # on the overlay, with its prefix: "100.64.0.1/16"
    pod_cidr: str
    tun: str = "kb0"
    mtu: int = 1500
    overlay_routes: Sequence[str] = ("10.244.0.0/16",)
    connections: int = 2
    link: LinkSettings = field(default_factory=LinkSettings)
    congestion: str = ""  # congestion control of the links' TCP; "": by the round trip of the path
    connect_timeout: float = 3.0  # seconds for TCP, and again for TLS and welcome
    router: router.RouterSettings | None = None  # networks behind this node


@dataclass(frozen=True, slots=True)
class BusStatus:
    up: bool
    relay: str
    since: float  # loop time of the last change of `up`
    rtt: float | None
    last_error: str
    conflicts: tuple[str, ...] = ()  # networks of this machine that have addresses of the overlay


class KubeBus:
    """Module "kubebus". Ready when the TUN is there, whether or not the relay answers."""

    name = "kubebus"

    def __init__(self, settings: KubeBusSettings, *, rng: random.Random | None = None) -> None:
        self._settings = settings
        self._rng = rng or random.SystemRandom()
        self._plane: Plane | None = None
        self._endpoint: Endpoint | None = None
        self._listeners: dict[int, Handler] = {ping.PORT: ping.echo}
        self._fronts: dict[int, tuple[dict[str, Any], Callable[[Any], None]]] = {}
        self._links: Links | None = None
        self._cloud = 0  # number of the relay that we are linked to
        self._names: dict[str, int] = {}
        self._asked: dict[tuple[int, int], asyncio.Future[int | None]] = {}  # (port of the link, id)
        self._up = asyncio.Event()
        self._since = asyncio.get_running_loop().time()  # when being linked, or not, began
        self._tun_port = -1
        self._tun_gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._routes = router.LearnedRoutes(settings.tun)
        self._overlay: Overlay | None = None
        self._conflicts: tuple[str, ...] = ()
        self._subnets: tuple[Subnet, ...] = ()
        self._refused: tuple[str, ...] = ()  # subnets of ours that the tenant does not allow

    # -- for the rest of the agent -------------------------------------------------------------------------------------

    async def connect(
        self, node: str, port: int, *, timeout: float = 10.0
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to a port of another node of the tenant, or of "cloud". Raises Unavailable, NotFound."""
        endpoint = self._require_endpoint()
        if node == self._settings.node:
            return await endpoint.connect(self._settings.number, port, timeout=timeout)
        if not self._settings.relays:
            raise LinkNotUp(_NO_RELAY)
        try:
            async with asyncio.timeout(timeout):
                number = await self._number_of(node)
        except TimeoutError:
            raise LinkNotUp(
                f"no link to a relay within {timeout:g} s: {self.status.last_error or 'none answers'}"
            ) from None
        return await endpoint.connect(number, port, timeout=timeout)

    def serve(self, port: int, handler: Handler) -> None:
        """Before the module runs: `handler` serves this port, across its restarts."""
        self._listeners[port] = handler

    async def listen(self, port: int, handler: Handler) -> None:
        """As serve, at any time."""
        self.serve(port, handler)
        if self._endpoint is not None:
            await self._endpoint.listen(port, handler)

    def server_fast_path(self, port: int, settings: dict[str, Any], made: Callable[[Any], None]) -> None:
        """The data plane's fast path for web services, in front of a port that is served here: `made` gets it now and after each start of this
        module; None where there is none."""
        self._fronts[port] = (settings, made)
        if self._plane is not None and self._endpoint is not None:
            self._put_in_front(port)

    def _put_in_front(self, port: int) -> None:
        settings, made = self._fronts[port]
        core = self._endpoint.fast if self._endpoint is not None else None
        proxy = None
        if self._plane is not None and core is not None:
            proxy = self._plane.web_proxy(l4=core, port=port, **settings)
        made(proxy)

    def network_changed(self) -> None:
        if self._overlay is not None:
            try:
                self._overlay.adjust()
            except Unavailable as exc:  # without its interface the module ends, and makes it again
                log.warning("%s", exc)
            self._tell_conflicts()
        if self._links is not None:
            self._links.network_changed()

    def _tell_conflicts(self) -> None:
        conflicts = tuple(str(c) for c in self._overlay.conflicts) if self._overlay is not None else ()
        for text in conflicts:
            if text not in self._conflicts:
                log.warning("%s; `addresses` of the cloud chooses other ranges for a tenant", text)
        for text in self._conflicts:
            if text not in conflicts:
                log.info("no longer: %s", text)
        self._conflicts = conflicts

    @property
    def status(self) -> BusStatus:
        links = self._links
        best = links.best() if links else None
        return BusStatus(
            self._up.is_set(),
            links.relay if links else "",
            self._since,
            best.core.rtt if best else None,
            links.last_error if links else "" if self._settings.relays else _NO_RELAY,
            self._conflicts,
        )

    def links(self) -> list[LinkInfo]:
        return self._links.infos() if self._links else []

    @property
    def totals(self) -> tuple[int, int]:
        """(links that came up, attempts and links that failed) since the module started."""
        return (self._links.established, self._links.failures) if self._links else (0, 0)

    def tun_counters(self) -> PortCounters | None:
        return self._plane.counters(self._tun_port) if self._plane is not None and self._tun_port >= 0 else None

    def routes(self) -> list[dict[str, Any]]:
        """What is reached through KubeBus, and what we offer."""
        s = self._settings
        own = [{"prefix": p, "to": "this node", "mtu": s.mtu} for p in (s.address.split("/")[0] + "/32", s.pod_cidr)]
        offered = [
            {"prefix": n.prefix, "to": "this node, not allowed" if n.prefix in self._refused else "behind this node",
             "mtu": n.mtu or s.mtu} for n in self._subnets
        ]  # fmt: skip
        overlay = [
            {"prefix": p, "to": "the relay", "mtu": s.mtu}
            for p in (str(ip_interface(s.address).network), *s.overlay_routes)
        ]
        learned = [
            {"prefix": n.prefix, "to": "a router, by the relay", "mtu": n.mtu or s.mtu} for n in self._routes.known
        ]
        return own + offered + overlay + learned

    async def ping(self, node: str, *, count: int, interval: float, timeout: float = 2.0) -> dict[str, Any]:
        """Round trips of an L4 connection to the node, and of the hop to the relay. Raises as connect."""
        times = await ping.measure(lambda: self.connect(node, ping.PORT, timeout=5.0), count, interval, timeout)
        best = self._links.best() if self._links else None
        relay = {} if best is None else {"name": best.relay_name, "address": best.relay, "rtt": best.core.rtt}
        return {"node": node, "times": times, "relay": relay}

    # -- the module ----------------------------------------------------------------------------------------------------

    async def run(self, ready: asyncio.Event) -> None:
        s = self._settings
        loop = asyncio.get_running_loop()
        plane = Plane(s.number)
        self._plane = plane
        self._tun_port, self._tun_gone = -1, loop.create_future()
        self._endpoint = Endpoint(self._send_segment, core=plane.l4(_TENANT))
        loop.add_reader(plane.fileno(), self._on_plane)
        try:
            for port, handler in self._listeners.items():
                await self._endpoint.listen(port, handler)
            for port in self._fronts:
                self._put_in_front(port)
            await self._open_tun(plane)
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
            self._plane = self._endpoint = self._links = self._overlay = None

    async def _keep_links(self, plane: Plane) -> None:
        s = self._settings
        if not s.relays:
            log.warning("%s", _NO_RELAY)
            await asyncio.Event().wait()
        settings = LinksSettings(
            relays=s.relays,
            connections=s.connections,
            link=s.link,
            congestion=s.congestion,
            subnets=self._subnets,
            connect_timeout=s.connect_timeout,
        )
        tls = TlsContext(s.ca, s.cert, s.key, server=False)
        self._links = Links(
            settings, plane, tls, judge=self._judge, changed=self._changed, lost=self._lost, rng=self._rng
        )
        await self._links.run()

    async def _open_tun(self, plane: Plane) -> None:
        s = self._settings
        tun = open_tun(s.tun)
        if not tun.vnet_hdr:
            log.warning("this kernel gives %s no offload: packets go one by one", s.tun)
        elif not tun.uso:
            log.info("this kernel takes no large UDP packets for %s: they are cut in software", s.tun)
        self._tun_port = plane.add_tun(tun.fd, tenant=_TENANT, vnet_hdr=tun.vnet_hdr, uso=tun.uso)
        self._overlay = await configure(s.tun, s.address, mtu=s.mtu, routes=s.overlay_routes, own=(s.pod_cidr,))
        self._tell_conflicts()
        for prefix in (s.address.split("/")[0] + "/32", s.pod_cidr):
            plane.add_route(_TENANT, prefix, s.number)
        # errors for others come from us, those for our own kernel from the router behind the TUN: the cloud
        plane.set_source(_TENANT, s.address.split("/")[0])
        plane.set_source(_TENANT, _last_address(s.address), tun=True)
        for prefix in (_network(s.address), *s.overlay_routes):
            plane.add_route(_TENANT, prefix, _RELAY)
        if s.router is not None:
            self._subnets = await router.open_router(s.router, s.tun, (_network(s.address), *s.overlay_routes))
            for subnet in self._subnets:
                plane.add_route(_TENANT, subnet.prefix, s.number, mtu=subnet.mtu)
        self._routes.begin(plane, [subnet.prefix for subnet in self._subnets])

    # -- links ---------------------------------------------------------------------------------------------------------

    def _changed(self, up: bool) -> None:
        self._since = asyncio.get_running_loop().time()
        if up:
            self._up.set()
        else:
            self._up.clear()
            self._names.clear()

    def _lost(self, held: Held) -> None:
        for key in [key for key in self._asked if key[0] == held.port]:
            future = self._asked.pop(key)
            if not future.done():
                future.set_exception(LinkNotUp("the link went down"))

    def _on_plane(self) -> None:
        plane, links = self._plane, self._links
        if plane is None:
            return
        for event in plane.events():
            match event:
                case SegmentReceived(_, _, source, payload) if self._endpoint is not None:
                    self._endpoint.receive(source, payload)
                case PortClosed(port, reason) if port == self._tun_port and not self._tun_gone.done():
                    self._tun_gone.set_exception(Unavailable(f"{self._settings.tun} is gone: {reason}"))
                case PortConnected(port, uri) if links is not None:
                    links.on_up(port, uri)
                case FrameReceived(port, _, payload) if links is not None:
                    links.on_control(port, payload)
                case PortClosed(port, reason) if links is not None:
                    links.on_down(port, reason)

    def _judge(self, held: Held, event: LinkEvent) -> str | None:
        """Each event of a link's conversation; a text is a reason to end the link."""
        match event:
            case LinkUp(welcome):
                return self._on_welcome(welcome)
            case NameResolved(id, number):
                future = self._asked.pop((held.port, id), None)
                if future is not None and not future.done():
                    future.set_result(number)
            case RoutesChanged(add, withdraw):
                self._routes.change(add, withdraw)
        return None

    def _on_welcome(self, welcome: Welcome) -> str | None:
        s = self._settings
        if welcome.number != s.number or welcome.pod_cidr != s.pod_cidr:
            return f"the relay knows this node as number {welcome.number}, {welcome.pod_cidr}; join it again"
        self._cloud = welcome.relay_number
        if welcome.refused and tuple(welcome.refused) != self._refused:
            log.warning(
                "the tenant does not allow networks behind this node: %s; on the cloud: `kubeedge router allow %s %s`",
                ", ".join(welcome.refused), s.node or "NODE", " ".join(welcome.refused),
            )  # fmt: skip
        self._refused = tuple(welcome.refused)
        self._routes.replace(welcome.routes)
        return None

    # -- connections ---------------------------------------------------------------------------------------------------

    def _send_segment(self, number: int, segment: bytes) -> None:
        if number == self._settings.number:
            asyncio.get_running_loop().call_soon(self._receive_own, segment)
        elif self._plane is not None:
            self._plane.send_segment(_TENANT, number, segment)

    def _receive_own(self, segment: bytes) -> None:
        if self._endpoint is not None:
            self._endpoint.receive(self._settings.number, segment)

    async def _number_of(self, node: str) -> int:
        """Waits for a link, and asks again when one goes down before it has answered."""
        while True:
            await self._up.wait()
            if node == CLOUD:
                return self._cloud
            with contextlib.suppress(LinkNotUp):
                return await self._resolve(node)
            await asyncio.sleep(_ASK_AGAIN)

    async def _resolve(self, node: str) -> int:
        if node in self._names:
            return self._names[node]
        held = self._links.best() if self._links else None
        if held is None or self._links is None:
            raise LinkNotUp("no link to the relay")
        id = held.core.resolve(node)
        future: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._asked[held.port, id] = future
        self._links.flush(held)
        try:
            async with asyncio.timeout(_NAME_TIMEOUT):
                number = await future
        except TimeoutError as exc:
            raise Unavailable(f"the relay does not say who {node} is") from exc
        finally:
            self._asked.pop((held.port, id), None)
        if number is None:
            raise NotFound(f"there is no node {node}")
        self._names[node] = number
        return number

    def _require_endpoint(self) -> Endpoint:
        if self._endpoint is None:
            raise LinkNotUp("KubeBus does not run")
        return self._endpoint


def _last_address(cidr: str) -> str:
    return str(ip_interface(cidr).network.broadcast_address - 1)


def _network(cidr: str) -> str:
    return str(ip_interface(cidr).network)
