"""Module "bushub": the relay as the rest of the cloud sees it. It accepts links, connects to nodes, and reports its links.

Lives elsewhere: events and admission (driver.py), decisions (core.py), other relays (peers.py), our own interface on a tenant's network (tun.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from kubeedge.api.names import L4Port, NodeKey, NodeName, NodeNumber, TenantId, TenantNumber
from kubeedge.errors import NotFound, Unavailable
from kubeedge.kit.acceptor import BACKLOG
from kubeedge.kit.connection_limiter import ConnectionLimits
from kubeedge.kit.streams import ConnectionHandler, listening_socket
from kubeedge.kit.tasks import TaskSet
from kubeedge.kubebus import ping
from kubeedge.kubebus.l2.messages import MAX_SLOTS
from kubeedge.kubebus.l3.plane import Plane, PortCounters, TlsContext, told
from kubeedge.kubebus.observe import CounterTotals
from kubeedge.store.model import Store
from kubeedge_cloud.bushub.accepted import AcceptedLinks
from kubeedge_cloud.bushub.core import NodeLink, NodeLinks
from kubeedge_cloud.bushub.driver import LinkCounts, RelayDriver
from kubeedge_cloud.bushub.endpoints import Endpoints
from kubeedge_cloud.bushub.linked import DUPLICATE_RETRY_AFTER
from kubeedge_cloud.bushub.peers import Peers, PeersSettings
from kubeedge_cloud.bushub.records import NextHop
from kubeedge_cloud.bushub.settings import BusHubSettings
from kubeedge_cloud.bushub.subnets import SubnetTable
from kubeedge_cloud.bushub.tun import CloudTun, OwnTun
from kubeedge_cloud.tenants.directory import NodeDirectory

_ALONE = NodeNumber(0)  # our own node number, in every tenant, when there are no other relays
_NO_RELAY = "this cloud process has no relay: listeners.relay is off, or it is just starting"
_LINKS_OF_A_NODE = 3 * MAX_SLOTS  # those of a new instance come before the old ones have ended
_DUPLICATE_TOLD = 10 * DUPLICATE_RETRY_AFTER  # seconds after the last link of a duplicate that was refused


@dataclass(frozen=True, slots=True)
class NodeLinkInfo:
    """One link of a node to this relay, as the administrator and the metrics see it."""

    tenant: TenantId
    node: NodeName
    slot: int
    state: str  # up, suspect
    since: float  # loop time
    rtt: float | None
    duplicate: str  # what to say of another machine with the same identity
    congestion: str
    counters: PortCounters


@dataclass(slots=True)
class _Running:
    """What there is while the module runs."""

    driver: RelayDriver
    plane: Plane
    links: NodeLinks
    endpoints: Endpoints
    peers: Peers | None
    tun: OwnTun | None


class BusHub:
    """`store` and `peers`: where several relays find each other."""

    name = "bushub"

    def __init__(
        self,
        settings: BusHubSettings,
        directory: NodeDirectory,
        *,
        store: Store | None = None,
        peers: PeersSettings | None = None,
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._store = store
        self._peers_settings = peers
        self._served: dict[L4Port, Callable[[TenantNumber], ConnectionHandler]] = {}
        self._totals = CounterTotals()
        self._running: _Running | None = None
        self._replaced: list[Callable[[], None]] = []
        self.counts = LinkCounts()

    # -- for the rest of the cloud -------------------------------------------------------------------------------------

    async def connect(
        self, tenant: TenantId, node: NodeName, port: L4Port, *, timeout: float = 10.0
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Raises NotFound (no such node) or Unavailable (no relay here, no link, no answer)."""
        if self._running is None:
            raise Unavailable(_NO_RELAY)
        record = await self._directory.lookup(tenant, node)
        if record is None:
            raise NotFound(f"there is no node {node}")
        if (running := self._running) is None:
            raise Unavailable(_NO_RELAY)
        key, peers = (tenant, node), running.peers
        if running.links.node(key) is None and (peers is None or peers.where(key) is None):
            raise Unavailable(f"node {node} has no link")
        if peers is not None:
            peers.tenant(record.tenant_number)
        return await running.endpoints.of(record.tenant_number).connect(record.number, port, timeout=timeout)

    async def numbers(self, tenant: TenantId, node: NodeName) -> tuple[TenantNumber, NodeNumber] | None:
        """(of the tenant, of the node); None: there is no such node."""
        running = self._running
        record = await (running.driver.where if running is not None else self._directory.lookup)(tenant, node)
        return (record.tenant_number, record.number) if record is not None else None

    def on_replaced(self, listener: Callable[[], None]) -> None:
        """Call it whenever a node was removed or another machine joined in its place: what `numbers` has said is void."""
        self._replaced.append(listener)

    def _on_replaced(self) -> None:
        for listener in self._replaced:
            listener()

    def client_fast_path(self, listener: int, settings: dict[str, Any]) -> Any:
        """The data plane's fast path for web services in front of a listening descriptor; None: there is none."""
        return self._running.plane.web_proxy(listener=listener, **settings) if self._running is not None else None

    def serve(self, port: L4Port, make: Callable[[TenantNumber], ConnectionHandler]) -> None:
        """Before the module runs: this L4 port of ours, for the nodes of every tenant; `make` gets the tenant's number."""
        self._served[port] = make

    async def ping(self, tenant: TenantId, node: NodeName, *, count: int, interval: float) -> dict[str, Any]:
        """Round trips of an L4 connection to the node, and of its link. Raises as connect."""
        times = await ping.measure(lambda: self.connect(tenant, node, ping.PORT, timeout=5.0), count, interval, 2.0)
        relay: dict[str, Any] = {}
        rtts: list[float | None] = []
        if (running := self._running) is not None:
            key = (tenant, node)
            links = [running.links.get(port) for port in running.links.ports(key)]
            rtts = [link.core.rtt for link in links if link is not None]
            next_hop = running.peers.where(key) if running.peers is not None else None
            if next_hop is not None and running.links.node(key) is None:
                relay = {"name": next_hop.relay}
        return {"node": node, "times": times, "relay": {**relay, "rtt": min((r for r in rtts if r), default=None)}}

    def disconnect(self, tenant: TenantId, node: NodeName, reason: str) -> None:
        """End its links; it may come back."""
        if (running := self._running) is not None:
            for port in running.links.ports((tenant, node)):
                running.plane.drop(port, reason)

    # -- for operators and Prometheus ----------------------------------------------------------------------------------

    def links(self) -> list[NodeLinkInfo]:
        """The links that are admitted."""
        if self._running is None:
            return []
        now = asyncio.get_running_loop().time()
        infos = (_info(self._running, link, now) for link in self._running.links)
        return [info for info in infos if info is not None]

    def traffic(self) -> PortCounters | None:
        """The traffic of all links of nodes since the process began."""
        if (running := self._running) is None:
            return self._totals.total({})
        return self._totals.total(
            {link.port: c for link in running.links if (c := running.plane.counters(link.port)) is not None}
        )

    def tun_counters(self) -> PortCounters | None:
        """The counters of the TUN device; None when there is none."""
        running = self._running
        return running.plane.counters(running.tun.port) if running is not None and running.tun is not None else None

    def problems(self) -> list[str]:
        """Problems that need an administrator, one sentence each."""
        if self._running is None:
            return [_NO_RELAY]
        tun = self._running.tun
        return [tun.problem] if tun is not None and tun.problem else []

    def peers(self) -> list[dict[str, Any]]:
        """The other relays, as rows of `kubeedge links`."""
        return self._running.peers.infos() if self._running is not None and self._running.peers is not None else []

    async def routes(self, tenant: TenantId) -> list[dict[str, Any]]:
        """Networks behind the nodes of a tenant."""
        number = await self._directory.tenant_number(tenant)
        if number is None or (running := self._running) is None:
            return []
        names = {e.record.number: e.node[1] for e in running.links if e.record.tenant_number == number}
        if running.peers is not None:
            names |= running.peers.names(number)
        table: SubnetTable = running.links.table(number)
        ours = [{"prefix": s.prefix, "to": "this machine", "mtu": s.mtu} for s in running.links.ours(number)]
        return ours + [
            {
                "prefix": s.prefix,
                "to": names.get(n, f"node number {n}") if (n := table.owner(s.prefix)) else "",
                "mtu": s.mtu,
            }
            for s in table.routes()
        ]

    # -- the module ----------------------------------------------------------------------------------------------------

    async def run(self, ready: asyncio.Event) -> None:
        """Listens until it is cancelled. Raises Unavailable when the relay has to start over, OSError when it cannot listen."""
        s = self._settings
        tls = TlsContext(s.ca, s.cert, s.key, server=True)
        driver: RelayDriver  # the peers tell it; they run after it was made
        peers = self._make_peers(
            lambda node, next_hop: driver.moved(node, next_hop),
            lambda node, older, next_hop: driver.next_hop_changed(node, older, next_hop),
        )
        number = await peers.prepare() if peers is not None else _ALONE
        async with _plane(number) as plane, TaskSet("relay") as tasks:
            tun = await self._own_tun(plane, number, s.tun, peers) if s.tun is not None else None
            relay = peers.id if peers is not None else "relay"
            links = NodeLinks(settings=s.link, pods=s.pods, relay=relay, number=number)
            endpoints = Endpoints(plane, self._served, tasks)
            limits = ConnectionLimits(
                unauthenticated=s.max_unauthenticated, authenticated=s.max_links, per_identity=_LINKS_OF_A_NODE
            )
            accepted = AcceptedLinks(plane, tls, limits, congestion=s.congestion)
            parts = (plane, links, accepted, endpoints, tasks, self.counts)
            driver = RelayDriver(s, self._directory, *parts, peers=peers, tun=tun, replaced=self._on_replaced)
            self._running = _Running(driver, plane, links, endpoints, peers, tun)
            if tun is not None:
                tun.on_open = driver.tun_opened
            loop = asyncio.get_running_loop()
            loop.add_reader(plane.fileno(), driver.on_readable)
            try:
                await self._serve(driver, accepted, self._running, ready)
            finally:
                loop.remove_reader(plane.fileno())
                self._running = None
                self._totals.total({})  # the next plane numbers its ports from the start
                await tasks.aclose()
                await driver.close()
                await endpoints.close()
                accepted.close()

    async def _serve(
        self, driver: RelayDriver, accepted: AcceptedLinks, running: _Running, ready: asyncio.Event
    ) -> None:
        s = self._settings
        if running.tun is not None:
            await running.tun.open()
        async with asyncio.TaskGroup() as group:
            group.create_task(driver.keep_time(), name="keepalive of links")
            if running.tun is not None:
                group.create_task(running.tun.run(), name="the cloud's TUN")
            if running.peers is not None:
                dialling = TlsContext(s.ca, s.cert, s.key, server=False)
                group.create_task(running.peers.run(running.plane, dialling), name="other relays")
            with listening_socket(s.address, s.port, backlog=BACKLOG) as listener:
                ready.set()
                await accepted.run(listener)

    def _make_peers(
        self,
        moved: Callable[[NodeKey, NextHop], None],
        next_hop_changed: Callable[[NodeKey, NextHop | None, NextHop | None], None],
    ) -> Peers | None:
        """The relays of the other processes; None when no other process can share the store."""
        if self._store is None or self._peers_settings is None:
            return None
        return Peers(self._store, self._peers_settings, moved=moved, next_hop_changed=next_hop_changed)

    async def _own_tun(self, plane: Plane, number: NodeNumber, settings: CloudTun, peers: Peers | None) -> OwnTun:
        tenant = await self._directory.tenant_number(settings.tenant)
        if tenant is None:
            raise NotFound(f"there is no tenant {settings.tenant} for the TUN {settings.name}")
        return OwnTun(settings, tenant, plane, number, peers.claim_address if peers is not None else None)


@asynccontextmanager
async def _plane(number: NodeNumber) -> AsyncIterator[Plane]:
    plane = Plane(number)
    try:
        yield plane
    finally:
        plane.close()


def _info(running: _Running, link: NodeLink, now: float) -> NodeLinkInfo | None:
    """A link for operators; None when it is not admitted, or is ending."""
    counters, linked = running.plane.counters(link.port), running.links.node(link.node)
    if link.hello is None or counters is None or linked is None:
        return None
    duplicate = ""
    if linked.refused and now - linked.duplicate_at < _DUPLICATE_TOLD:
        duplicate = f"another machine uses this node's identity, refused {linked.refused} times"
    return NodeLinkInfo(
        *link.node,
        link.hello.slot,
        "suspect" if link.core.suspect else "up",
        link.since,
        link.core.rtt,
        duplicate,
        told(running.plane.congestion(link.port)),
        counters,
    )  # fmt: skip
