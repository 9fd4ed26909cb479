"""KubeBus of an edge node: TUN, one link to a relay, connections over it. The assembly of l2, l3 and l4.

The TUN is made once and stays, configured from what join said; links come and go below it. Without a link packets have no route and
connections wait, so a short outage is only a delay.

Lives elsewhere: how packets move (the data plane), what a link says (l2/core.py), which processes this runs in (kubeedge.edgecore).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kubeedge.errors import LinkNotUp, NotFound, PeerError, Unavailable
from kubeedge.kubebus.l2.core import (
    Link,
    LinkEvent,
    LinkIsDown,
    LinkIsUp,
    LinkSettings,
    NameResolved,
    Role,
    RoutesChanged,
)
from kubeedge.kubebus.l3.netsetup import configure
from kubeedge.kubebus.l3.plane import CONTROL, Frame, LinkDown, LinkUp, Plane, Segment, TlsContext
from kubeedge.kubebus.l3.tun import open_tun
from kubeedge.kubebus.l4.driver import Endpoint, Handler

log = logging.getLogger("kubeedge.kubebus")

CLOUD = "cloud"  # the name of node number 0
_CLOUD_URI = "spiffe://kubeedge/cloud/"  # whom a relay's certificate must name (kubeedge.pki.identity)
_TENANT = 0  # an edge has one routing table
_RELAY = 0  # whoever is not ourselves is reached through it
_LOOK_EVERY = 5.0  # seconds between two looks at whether data moved, only while a keepalive is due
_NAME_PATIENCE = 5.0  # seconds for an answer to a name


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeBusSettings:
    relays: Sequence[str]  # "host:port", tried in turn
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
    link: LinkSettings = field(default_factory=LinkSettings)
    congestion: str = ""  # congestion control of the links' TCP; "": by the round trip of the path
    connect_timeout: float = 3.0  # seconds for TCP and TLS
    backoff_first: float = 0.25  # seconds between two attempts, doubling
    backoff_last: float = 1.5  # while the outage is young
    backoff_hopeless: float = 5.0  # after a minute of failures: each attempt costs a SYN


@dataclass(frozen=True, slots=True)
class BusStatus:
    up: bool
    relay: str
    since: float  # loop time of the last change of `up`
    rtt: float | None
    last_error: str


class KubeBus:
    """Module "kubebus". Ready when the TUN is there, whether or not the relay answers."""

    name = "kubebus"

    def __init__(self, settings: KubeBusSettings, *, rng: random.Random | None = None) -> None:
        self._settings = settings
        self._rng = rng or random.Random()
        self._plane: Plane | None = None
        self._endpoint: Endpoint | None = None
        self._listeners: dict[int, Handler] = {}
        self._port: int | None = None  # of the current link
        self._link: Link | None = None
        self._ended: asyncio.Future[str] | None = None
        self._names: dict[str, int] = {}
        self._asked: dict[int, asyncio.Future[int | None]] = {}
        self._hint = asyncio.Event()
        self._timer_changed = asyncio.Event()
        self._up = asyncio.Event()
        self._relay, self._since, self._last_error = "", 0.0, ""
        self._moved = 0
        self._tun_port = -1
        self._tun_gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # -- for the rest of the agent -------------------------------------------------------------------------------------

    async def connect(
        self, node: str, port: int, *, timeout: float = 10.0
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to a port of another node of the tenant, or of "cloud". Raises Unavailable, NotFound."""
        endpoint = self._require_endpoint()
        if node == self._settings.node:
            return await endpoint.connect(self._settings.number, port, timeout=timeout)
        async with asyncio.timeout(timeout):
            await self._up.wait()
            number = 0 if node == CLOUD else await self._resolve(node)
        return await endpoint.connect(number, port, timeout=timeout)

    def serve(self, port: int, handler: Handler) -> None:
        """Before the module runs: `handler` serves this port, across its restarts."""
        self._listeners[port] = handler

    async def listen(self, port: int, handler: Handler) -> None:
        """As serve, at any time."""
        self.serve(port, handler)
        if self._endpoint is not None:
            await self._endpoint.listen(port, handler)

    def network_changed(self) -> None:
        self._hint.set()
        if self._link is not None:
            self._link.probe(asyncio.get_running_loop().time())
            self._flush()

    @property
    def status(self) -> BusStatus:
        rtt = self._link.rtt if self._link else None
        return BusStatus(self._up.is_set(), self._relay, self._since, rtt, self._last_error)

    # -- the module ----------------------------------------------------------------------------------------------------

    async def run(self, ready: asyncio.Event) -> None:
        s = self._settings
        loop = asyncio.get_running_loop()
        plane = Plane(s.number)
        self._plane = plane
        self._tun_port, self._tun_gone = -1, loop.create_future()
        self._endpoint = Endpoint(self._send_segment)
        loop.add_reader(plane.fileno(), self._on_plane)
        try:
            for port, handler in self._listeners.items():
                await self._endpoint.listen(port, handler)
            await self._open_tun(plane)
            ready.set()
            tls = TlsContext(s.ca, s.cert, s.key, server=False)
            keeping = asyncio.create_task(self._keep_a_link(plane, tls), name="kubebus link")
            try:  # a deleted TUN ends the module; its next run makes it again
                await asyncio.wait((keeping, self._tun_gone), return_when=asyncio.FIRST_COMPLETED)
                await (self._tun_gone if self._tun_gone.done() else keeping)
            finally:
                keeping.cancel()
                await asyncio.gather(keeping, return_exceptions=True)
        finally:
            self._up.clear()
            await self._endpoint.close()
            loop.remove_reader(plane.fileno())
            plane.close()
            self._plane = self._endpoint = self._link = None

    async def _open_tun(self, plane: Plane) -> None:
        s = self._settings
        tun = open_tun(s.tun)
        if not tun.vnet_hdr:
            log.warning("this kernel gives %s no offload: packets go one by one", s.tun)
        self._tun_port = plane.add_tun(tun.fd, tenant=_TENANT, vnet_hdr=tun.vnet_hdr, uso=tun.uso)
        await configure(s.tun, s.address, mtu=s.mtu, routes=s.overlay_routes)
        for prefix in (s.address.split("/")[0] + "/32", s.pod_cidr):
            plane.add_route(_TENANT, prefix, s.number)
        # errors for others come from us, those for our own kernel from the router behind the TUN: the cloud
        plane.set_source(_TENANT, s.address.split("/")[0])
        plane.set_source(_TENANT, _last_address(s.address), tun=True)
        for prefix in (_network(s.address), *s.overlay_routes):
            plane.add_route(_TENANT, prefix, _RELAY)

    # -- links ---------------------------------------------------------------------------------------------------------

    async def _keep_a_link(self, plane: Plane, tls: TlsContext) -> None:
        loop = asyncio.get_running_loop()
        attempt, last_up = 0, loop.time()
        while True:
            self._relay = self._settings.relays[attempt % len(self._settings.relays)]
            self._hint.clear()
            if await self._one_link(plane, tls, self._relay):
                attempt, last_up = 0, loop.time()
            else:
                attempt += 1
            s = self._settings
            last = s.backoff_last if loop.time() - last_up < 60.0 else s.backoff_hopeless
            delay = min(last, s.backoff_first * 2 ** min(attempt, 10)) * self._rng.uniform(0.5, 1.0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._hint.wait()

    async def _one_link(self, plane: Plane, tls: TlsContext, relay: str) -> bool:
        """A link from connect to end; whether it was ever up."""
        loop = asyncio.get_running_loop()
        host, _, port = relay.rpartition(":")
        try:
            async with asyncio.timeout(self._settings.connect_timeout):
                connection = await _connect(host, int(port))
        except (OSError, TimeoutError) as exc:
            self._failed(relay, str(exc) or "no answer in time")
            return False
        self._ended = loop.create_future()
        try:
            self._port = plane.add_link(
                connection.fileno(), tls, server_name=host, congestion=self._settings.congestion
            )
        except OSError as exc:
            connection.close()
            self._failed(relay, str(exc))
            return False
        connection.detach()  # the plane's from here
        self._moved = 0
        timers = asyncio.create_task(self._keep_time(), name="link timers")
        was_up = False
        try:
            reason = await self._ended
            was_up = self._up.is_set()
            self._failed(relay, reason)
        finally:
            was_up = was_up or self._up.is_set()
            timers.cancel()
            await asyncio.gather(timers, return_exceptions=True)
            self._link_gone(plane)
        return was_up

    def _link_gone(self, plane: Plane) -> None:
        if self._port is not None:
            plane.drop(self._port, "the link is given up")
        self._port = self._link = None
        self._names.clear()
        for future in self._asked.values():
            if not future.done():
                future.set_exception(LinkNotUp("the link went down"))
        self._asked.clear()
        if self._up.is_set():
            self._up.clear()
            self._since = asyncio.get_running_loop().time()

    def _failed(self, relay: str, reason: str) -> None:
        if reason != self._last_error:  # an outage of a week is one line
            log.warning("link relay=%s: %s", relay, reason)
        self._last_error = reason

    def _on_plane(self) -> None:
        plane = self._plane
        if plane is None:
            return
        now = asyncio.get_running_loop().time()
        for event in plane.events():
            match event:
                case Segment(_, _, source, payload) if self._endpoint is not None:
                    self._endpoint.receive(source, payload)
                case LinkUp(port, uri) if port == self._port and not uri.startswith(_CLOUD_URI):
                    self._end(f"the relay's certificate is for {uri}, which is no process of the cloud")
                case LinkUp(port, _) if port == self._port:
                    self._link = Link(Role.EDGE, self._settings.link)
                    self._link.open(now)
                    self._flush()
                    self._timer_changed.set()
                case Frame(port, _, payload) if port == self._port and self._link is not None:
                    self._on_control(plane, payload, now)
                case LinkDown(port, reason) if port == self._port:
                    self._port = None
                    self._end(reason)
                case LinkDown(port, reason) if port == self._tun_port and not self._tun_gone.done():
                    self._tun_gone.set_exception(Unavailable(f"{self._settings.tun} is gone: {reason}"))

    def _on_control(self, plane: Plane, payload: bytes, now: float) -> None:
        assert self._link is not None
        try:
            events = self._link.receive(payload, now)
        except PeerError as exc:
            self._end(str(exc))
            return
        for event in events:
            self._on_link(plane, event)
        self._flush()
        self._timer_changed.set()

    def _on_link(self, plane: Plane, event: LinkEvent) -> None:
        s = self._settings
        match event:
            case LinkIsUp(welcome) if self._port is not None:
                if welcome.number != s.number or welcome.pod_cidr != s.pod_cidr:
                    self._end(
                        f"the relay knows this node as number {welcome.number}, {welcome.pod_cidr}; join it again"
                    )
                    return
                plane.admit(self._port, tenant=_TENANT, number=_RELAY, prefixes=[])
                for prefix in welcome.routes:
                    plane.add_route(_TENANT, prefix, _RELAY)
                self._since, self._last_error = asyncio.get_running_loop().time(), ""
                self._up.set()
                log.info("link up relay=%s", self._relay)
            case NameResolved(id, number):
                future = self._asked.pop(id, None)
                if future is not None and not future.done():
                    future.set_result(number)
            case RoutesChanged(add, withdraw) if self._port is not None:
                for prefix in withdraw:
                    plane.remove_route(_TENANT, prefix)
                for prefix in add:
                    plane.add_route(_TENANT, prefix, _RELAY)
            case LinkIsDown(reason):
                self._end(reason)

    async def _keep_time(self) -> None:
        """Keepalive. Data that moved counts as heard, so a busy link is not asked."""
        loop = asyncio.get_running_loop()
        while True:
            self._timer_changed.clear()
            at = self._link.next_timer() if self._link is not None else None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if at is None else max(0.0, at - loop.time())):
                    await self._timer_changed.wait()
            if self._link is None:
                continue
            if self._plane is not None and self._port is not None:
                counters = self._plane.counters(self._port)
                if counters is not None and counters.rx_bytes != self._moved:
                    moved_before, self._moved = self._moved, counters.rx_bytes
                    if moved_before and counters.rx_packets:
                        self._link.heard(loop.time())
            for event in self._link.handle_timer(loop.time()):
                if isinstance(event, LinkIsDown):
                    self._end(event.reason)
                    return
            self._flush()

    def _end(self, reason: str) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(reason)

    def _flush(self) -> None:
        if self._link is None or self._plane is None or self._port is None:
            return
        for payload in self._link.payloads_to_send():
            self._plane.send(self._port, CONTROL, payload)

    # -- connections ---------------------------------------------------------------------------------------------------

    def _send_segment(self, number: int, segment: bytes) -> None:
        if number == self._settings.number:
            asyncio.get_running_loop().call_soon(self._receive_own, segment)
        elif self._plane is not None:
            self._plane.send_segment(_TENANT, number, segment)

    def _receive_own(self, segment: bytes) -> None:
        if self._endpoint is not None:
            self._endpoint.receive(self._settings.number, segment)

    async def _resolve(self, node: str) -> int:
        if node in self._names:
            return self._names[node]
        if self._link is None:
            raise LinkNotUp("no link to the relay")
        id = self._link.resolve(node)
        future: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._asked[id] = future
        self._flush()
        try:
            async with asyncio.timeout(_NAME_PATIENCE):
                number = await future
        except TimeoutError as exc:
            raise Unavailable(f"the relay does not say who {node} is") from exc
        finally:
            self._asked.pop(id, None)
        if number is None:
            raise NotFound(f"there is no node {node}")
        self._names[node] = number
        return number

    def _require_endpoint(self) -> Endpoint:
        if self._endpoint is None:
            raise LinkNotUp("KubeBus does not run")
        return self._endpoint


async def _connect(host: str, port: int) -> socket.socket:
    """The first address that answers."""
    loop = asyncio.get_running_loop()
    problem: OSError = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        connection = socket.socket(family, kind, protocol)
        connection.setblocking(False)
        try:
            await loop.sock_connect(connection, address)
            return connection
        except OSError as exc:
            connection.close()
            problem = exc
        except BaseException:
            connection.close()
            raise
    raise problem


def _last_address(cidr: str) -> str:
    import ipaddress

    return str(ipaddress.ip_interface(cidr).network.broadcast_address - 1)


def _network(cidr: str) -> str:
    import ipaddress

    return str(ipaddress.ip_interface(cidr).network)
