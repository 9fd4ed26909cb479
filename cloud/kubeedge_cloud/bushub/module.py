"""Module "bushub": accepts links, admits nodes by their certificates, answers names, gives the cloud its connections.

A node has one to eight links of one instance of its agent (core.py). What a link may send from is what the node's record says: its overlay
address, its pod CIDR, and the networks behind it that the tenant allows. An unauthenticated peer costs a socket and a TLS handshake with
a deadline, and the connection limiter bounds how many there are. When a record changes, the links that were made by it end (authorizer.py).

Lives elsewhere: other relays and the nodes that are linked to them (peers.py), our own interface on a tenant's network (tun.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_interface
from typing import Any

from kubeedge.api.names import NodeName, TenantId, node_name
from kubeedge.errors import Invalid, KubeEdgeError, NotFound, PeerError, Refused, Unavailable
from kubeedge.kit.acceptor import BACKLOG, Accepted, Acceptor
from kubeedge.kit.connection_limiter import ConnectionLimits, Refusal
from kubeedge.kit.streams import listening_socket
from kubeedge.kubebus import ping
from kubeedge.kubebus.l2.core import MAX_SLOTS, Hello, HelloHeard, Link, LinkDown, NameAsked, Role, Welcome
from kubeedge.kubebus.l3.plane import (
    CONTROL,
    FrameReceived,
    Plane,
    PortClosed,
    PortConnected,
    PortCounters,
    SegmentReceived,
    TlsContext,
    told,
)
from kubeedge.kubebus.l4.driver import Endpoint, Handler
from kubeedge.kubebus.observe import CounterTotals
from kubeedge.pki import identity
from kubeedge.store.model import Store
from kubeedge_cloud.bushub.authorizer import LinkAuthorizer, same_node
from kubeedge_cloud.bushub.core import DUPLICATE_RETRY_AFTER, LinkedNodes, NodeKey, RouteChange, SubnetTable, allowed
from kubeedge_cloud.bushub.peers import NextHop, Peers, PeersSettings
from kubeedge_cloud.bushub.settings import BusHubSettings, NodeDirectory, NodeRecord
from kubeedge_cloud.bushub.timer_wheel import TimerWheel
from kubeedge_cloud.bushub.tun import CloudTun, OwnTun
from kubeedge_cloud.tenants.model import check_join

log = logging.getLogger("kubeedge.bushub")

_ALONE = 0  # our own node number, in every tenant, when there are no other relays
_NO_RELAY = "this cloud process has no relay: listeners.relay is off, or it is just starting"
_LINKS_OF_A_NODE = 3 * MAX_SLOTS  # those of a new instance come before the old ones have ended
_STORE_TIMEOUT = 1.5  # seconds; the edge waits 3 s for its welcome


@dataclass(slots=True)
class _NodeLink:
    port: int
    node: NodeKey
    record: NodeRecord
    allowed: Sequence[str]  # networks that may be behind the node
    link: Link
    since: float
    hello: Hello | None = None  # once it is welcome
    seen: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class NodeLinkInfo:
    tenant: TenantId
    node: NodeName
    slot: int
    state: str  # up, doubtful
    since: float  # loop time
    rtt: float | None
    duplicate: str  # what to say of another machine with the same identity
    congestion: str
    counters: PortCounters


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
        self._peers: Peers | None = None
        self._number = _ALONE
        self._plane: Plane | None = None
        self._links: dict[int, _NodeLink] = {}
        self._members = LinkedNodes()
        self._subnets: dict[int, SubnetTable] = {}  # by number of the tenant
        self._accepted: dict[int, Accepted] = {}  # by port
        self._unauthenticated: set[int] = set()  # ports
        self._endpoints: dict[int, Endpoint] = {}
        self._served: dict[int, Callable[[int], Handler]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._early: dict[int, list[bytes]] = {}  # control frames that came before the admission was decided
        self._timers = TimerWheel()
        self._totals = CounterTotals()
        self._tun: OwnTun | None = None
        self._authorizer: LinkAuthorizer | None = None
        self._tenant_numbers: dict[TenantId, int] = {}  # of tenants that have had links
        self._holders: dict[tuple[int, int], NodeKey] = {}  # (tenant's number, node's number) -> who has it
        self.refused = 0  # links that were not admitted
        self.established = 0

    # -- for the rest of the cloud -------------------------------------------------------------------------------------

    async def connect(
        self, tenant: TenantId, node: NodeName, port: int, *, timeout: float = 10.0
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Raises NotFound (no such node) or Unavailable (no relay here, no link, no answer)."""
        if self._plane is None:
            raise Unavailable(_NO_RELAY)
        record = await self._directory.lookup(tenant, node)
        if record is None:
            raise NotFound(f"there is no node {node}")
        key = (tenant, node)
        if self._members.get(key) is None and (self._peers is None or self._peers.where(key) is None):
            raise Unavailable(f"node {node} has no link")
        if self._peers is not None:
            self._peers.tenant(record.tenant_number)
        return await self._endpoint(record.tenant_number).connect(record.number, port, timeout=timeout)

    async def numbers(self, tenant: TenantId, node: NodeName) -> tuple[int, int] | None:
        """(of the tenant, of the node); None: there is no such node."""
        record = await self._directory.lookup(tenant, node)
        return (record.tenant_number, record.number) if record is not None else None

    def client_fast_path(self, listener: int, settings: dict[str, Any]) -> Any:
        """The data plane's fast path for web services in front of a listening descriptor; None: there is none."""
        return self._plane.web_proxy(listener=listener, **settings) if self._plane is not None else None

    def serve(self, port: int, make: Callable[[int], Handler]) -> None:
        """Before the module runs: this L4 port of ours, for the nodes of every tenant; `make` gets the tenant's number."""
        self._served[port] = make

    async def ping(self, tenant: TenantId, node: NodeName, *, count: int, interval: float) -> dict[str, Any]:
        """Round trips of an L4 connection to the node, and of its link. Raises as connect."""
        times = await ping.measure(lambda: self.connect(tenant, node, ping.PORT, timeout=5.0), count, interval, 2.0)
        member = self._members.get((tenant, node))
        rtts = [self._links[p].link.rtt for p in member.slots.values() if p in self._links] if member else []
        next_hop = self._peers.where((tenant, node)) if self._peers else None
        relay = {"name": next_hop.relay} if next_hop is not None and member is None else {}
        return {"node": node, "times": times, "relay": {**relay, "rtt": min((r for r in rtts if r), default=None)}}

    def links(self) -> list[NodeLinkInfo]:
        if self._plane is None:
            return []
        now = asyncio.get_running_loop().time()
        infos = []
        for entry in self._links.values():
            counters = self._plane.counters(entry.port)
            member = self._members.get(entry.node)
            if entry.hello is None or counters is None or member is None:
                continue
            duplicate = ""
            if member.refused and now - member.duplicate_at < 10 * DUPLICATE_RETRY_AFTER:
                duplicate = f"another machine uses this node's identity, refused {member.refused} times"
            control = self._plane.congestion(entry.port)
            infos.append(
                NodeLinkInfo(
                    *entry.node,
                    entry.hello.slot,
                    "doubtful" if entry.link.doubtful else "up",
                    entry.since,
                    entry.link.rtt,
                    duplicate,
                    told(control),
                    counters,
                )  # fmt: skip
            )
        return infos

    def traffic(self) -> PortCounters | None:
        """Of all links of nodes since the process began."""
        plane = self._plane
        now = {port: c for port in self._links if (c := plane.counters(port)) is not None} if plane else {}
        return self._totals.total(now)

    def tun_counters(self) -> PortCounters | None:
        return self._plane.counters(self._tun.port) if self._plane is not None and self._tun is not None else None

    def trouble(self) -> list[str]:
        """What somebody should look after, in words."""
        if self._plane is None:
            return [_NO_RELAY]
        return [self._tun.trouble] if self._tun is not None and self._tun.trouble else []

    def peers(self) -> list[dict[str, Any]]:
        return self._peers.infos() if self._peers else []

    async def routes(self, tenant: TenantId) -> list[dict[str, Any]]:
        """Networks behind the nodes of a tenant."""
        number = await self._directory.tenant_number(tenant)
        table = self._subnets.get(number if number is not None else -1, SubnetTable())
        names = {e.record.number: e.node[1] for e in self._links.values() if e.record.tenant_number == number}
        if self._peers is not None and number is not None:
            names |= self._peers.names(number)
        return [
            {
                "prefix": s.prefix,
                "to": names.get(n, f"node number {n}") if (n := table.owner(s.prefix)) else "",
                "mtu": s.mtu,
            }
            for s in table.routes()
        ]

    def disconnect(self, tenant: TenantId, node: NodeName, reason: str) -> None:
        """End its links; it may come back."""
        member = self._members.get((tenant, node))
        if member is not None and self._plane is not None:
            for port in list(member.slots.values()):
                self._plane.drop(port, reason)

    # -- the module ----------------------------------------------------------------------------------------------------

    async def run(self, ready: asyncio.Event) -> None:
        s = self._settings
        loop = asyncio.get_running_loop()
        tls = TlsContext(s.ca, s.cert, s.key, server=True)
        if self._store is not None and self._peers_settings is not None:
            self._peers = Peers(
                self._store, self._peers_settings, moved=self._on_moved, next_hop_changed=self._on_next_hop_changed
            )
            self._number = await self._peers.prepare()
        plane = self._plane = Plane(self._number)
        self._authorizer = LinkAuthorizer(
            self._directory, linked=self._linked, end=self._removed, allowed=self._on_allowed
        )
        loop.add_reader(plane.fileno(), self._on_plane)
        try:
            if s.tun is not None:
                self._tun = await self._own_tun(plane, s.tun)
                await self._tun.open()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep_time(), name="keepalive of links")
                if self._tun is not None:
                    tasks.create_task(self._tun.run(), name="the cloud's TUN")
                if self._peers is not None:
                    dialling = TlsContext(s.ca, s.cert, s.key, server=False)
                    tasks.create_task(self._peers.run(plane, dialling), name="other relays")
                with listening_socket(s.address, s.port, backlog=BACKLOG) as listener:
                    ready.set()
                    await self._accept(plane, listener, tls)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._authorizer.close()
            for endpoint in self._endpoints.values():
                await endpoint.close()
            loop.remove_reader(plane.fileno())
            plane.close()
            self._plane = self._peers = self._tun = self._authorizer = None
            self._totals.total({})  # the next plane numbers its ports anew
            self._endpoints.clear()
            self._links.clear()
            self._members, self._timers = LinkedNodes(), TimerWheel()
            self._subnets.clear()
            for accepted in self._accepted.values():
                accepted.socket.close()
            self._accepted.clear()
            self._unauthenticated.clear()
            self._holders.clear()
            self._early.clear()

    async def _accept(self, plane: Plane, listener: socket.socket, tls: TlsContext) -> None:
        s = self._settings

        def begin(accepted: Accepted) -> None:
            descriptor = os.dup(accepted.socket.fileno())  # ours is for the limiter, until we know whose it is
            try:
                port = plane.add_link(descriptor, tls, congestion=s.congestion)
            except OSError as exc:
                os.close(descriptor)
                log.warning("cannot take a link: %s", exc)
                self._end(accepted)
                return
            self._accepted[port] = accepted
            self._unauthenticated.add(port)
            accepted.cut = lambda: self._cut(port)

        limits = ConnectionLimits(
            unauthenticated=s.max_strangers, authenticated=s.max_links, per_identity=_LINKS_OF_A_NODE
        )
        await Acceptor(limits, begin).run([listener])

    def _known(self, port: int, tenant: str, identity: str, *, most: int | None = None) -> Refusal | None:
        """The link counts by its certificate from here on."""
        self._unauthenticated.discard(port)
        accepted = self._accepted[port]
        refusal = accepted.authenticated(tenant, identity, most=most)
        accepted.socket.close()  # the plane has its own descriptor
        return refusal

    def _cut(self, port: int) -> None:
        if self._plane is not None:
            self._plane.drop(port, "the connection gave way to others")

    @staticmethod
    def _end(accepted: Accepted) -> None:
        accepted.socket.close()
        accepted.ended()

    async def _own_tun(self, plane: Plane, settings: CloudTun) -> OwnTun:
        number = await self._directory.tenant_number(settings.tenant)
        if number is None:
            raise NotFound(f"there is no tenant {settings.tenant} for the TUN {settings.name}")
        claim = self._peers.claim_address if self._peers is not None else None
        return OwnTun(settings, number, plane, self._number, claim)

    # -- events --------------------------------------------------------------------------------------------------------

    def _on_plane(self) -> None:
        if self._plane is None:
            return
        peers = self._peers
        for event in self._plane.events(1024):
            match event:
                case SegmentReceived(_, tenant, source, payload):
                    self._endpoint(tenant).receive(source, payload)
                case PortClosed(port, reason) if self._tun is not None and port == self._tun.port:
                    self._tun.on_down(reason)
                case PortConnected(port, uri) if peers is not None and peers.owns(port):
                    peers.on_up(port, uri)
                case FrameReceived(port, _, payload) if peers is not None and peers.owns(port):
                    peers.on_control(port, payload)
                case PortClosed(port, reason) if peers is not None and peers.owns(port):
                    peers.on_down(port, reason)
                case FrameReceived(port, _, payload):
                    self._on_control(port, payload)
                case PortConnected(port, uri):
                    self._start(self._admit(port, uri), "admission of a link")
                case PortClosed(port, reason):
                    self._gone(port, reason)

    async def _admit(self, port: int, uri: str) -> None:
        """Who is it, and is there such a node?"""
        assert self._plane is not None and self._authorizer is not None
        try:
            who = identity.parse(uri)
            if isinstance(who, identity.CloudIdentity) and self._peers is not None:
                if port in self._unauthenticated:
                    self._known(port, "", who.uri, most=self._settings.max_links)
                    self._peers.accept(port)
                    for payload in self._early.pop(port, ()):
                        if self._peers.owns(port):
                            self._peers.on_control(port, payload)
                return
            if not isinstance(who, identity.NodeIdentity):
                raise Refused(f"{uri} is not a node")
            record, behind = await self._look_up(self._authorizer, who.tenant, who.node)
            check_join(who.node, who.join, record.join if record is not None else None)
            assert record is not None
        except KubeEdgeError as exc:
            log.warning("link refused: %s", exc)
            self._refuse(port, Link(Role.RELAY, self._settings.link), str(exc))
            return
        if port not in self._unauthenticated:
            return  # it went down meanwhile
        if (refusal := self._known(port, who.tenant, who.uri)) is not None:
            log.warning("link refused tenant=%s node=%s: %s", who.tenant, who.node, refusal.value)
            self._refuse(port, Link(Role.RELAY, self._settings.link), refusal.value)
            return
        now = asyncio.get_running_loop().time()
        link = Link(Role.RELAY, self._settings.link)
        link.open(now)
        entry = _NodeLink(port, (who.tenant, who.node), record, behind, link, now)
        self._links[port] = entry
        self._tenant_numbers[who.tenant] = record.tenant_number
        self._timers.add(port, link.next_timer(), now)
        self._authorizer.follow(who.tenant)
        for payload in self._early.pop(port, ()):
            self._receive(entry, payload)
        if not same_node(
            record, self._authorizer.record(entry.node)
        ):  # it is not heard of yet, or has changed while we looked at it
            with contextlib.suppress(KubeEdgeError):
                if not same_node(record, newest := await self._directory.lookup(*entry.node)):
                    self._removed(entry.node, record.number, newest)

    async def _look_up(
        self, authorizer: LinkAuthorizer, tenant: TenantId, node: NodeName
    ) -> tuple[NodeRecord | None, Sequence[str]]:
        """The node's record and what may be behind it. While the store is away, as we last heard of them: nodes whose links break come
        back all the same."""
        try:
            async with asyncio.timeout(_STORE_TIMEOUT):
                record = await self._directory.lookup(tenant, node)
                return record, await self._directory.subnets(tenant, node) if record is not None else ()
        except (Unavailable, TimeoutError) as exc:
            known: tuple[NodeRecord, Sequence[str]] | None = authorizer.known((tenant, node))
            if known is None:
                raise Unavailable(f"the store of the cloud does not answer: {exc or 'not in time'}") from exc
            return known

    def _refuse(self, port: int, link: Link, reason: str, *, retry_after: float = 0.0) -> None:
        self.refused += 1
        if self._plane is not None:
            link.refuse(reason, retry_after=retry_after)
            for payload in link.payloads_to_send():
                self._plane.send(port, CONTROL, payload)
            self._plane.drop(port, reason)

    def _on_control(self, port: int, payload: bytes) -> None:
        entry = self._links.get(port)
        if entry is None:
            waiting = self._early.setdefault(port, [])
            if len(waiting) < 16:  # the plane has the same bound
                waiting.append(payload)
            return
        self._receive(entry, payload)

    def _receive(self, entry: _NodeLink, payload: bytes) -> None:
        assert self._plane is not None
        now = asyncio.get_running_loop().time()
        try:
            events = entry.link.receive(payload, now)
        except PeerError as exc:
            self._plane.drop(entry.port, str(exc))
            return
        for event in events:
            match event:
                case HelloHeard(hello):
                    self._welcome(entry, hello, now)
                case NameAsked(id, node):
                    self._start(self._answer_name(entry, id, node), "name of a node")
                case LinkDown(reason):
                    self._plane.drop(entry.port, reason)
                    return
        self._flush(entry)

    def _welcome(self, entry: _NodeLink, hello: Hello, now: float) -> None:
        """From here data flows; links that give way to this one are closed."""
        assert self._plane is not None
        record, plane = entry.record, self._plane
        elsewhere = self._peers.where(entry.node) if self._peers else None
        decision = self._members.join(
            entry.node, hello.instance, hello.slot, entry.port, now, elsewhere=elsewhere.instance if elsewhere else ""
        )
        if decision.refuse:
            log.warning("link refused tenant=%s node=%s: %s", *entry.node, decision.refuse)
            self._refuse(entry.port, entry.link, decision.refuse, retry_after=DUPLICATE_RETRY_AFTER)
            return
        holder = self._holders.get((record.tenant_number, record.number))
        if holder is not None and holder != entry.node:  # ours is the newer record: a number has one owner in the store
            self.disconnect(*holder, f"node {entry.node[1]} has its number now")
        self._holders[record.tenant_number, record.number] = entry.node
        own = [record.address.split("/")[0] + "/32", record.pod_cidr]
        overlay = str(ip_interface(record.address).network)
        behind, refused = allowed(hello.subnets, entry.allowed, (overlay, self._settings.pods))
        tenant = record.tenant_number
        prefixes = [*own, *(s.prefix for s in behind)]
        if not plane.admit(entry.port, tenant=tenant, number=record.number, prefixes=prefixes):
            return
        own_tun = self._settings.tun  # each relay of a path is seen in traceroute as itself
        plane.set_source(tenant, own_tun.address.split("/")[0] if own_tun else self._settings.source)
        entry.hello = hello
        for prefix in own:
            plane.add_route(tenant, prefix, record.number)
        for port, reason in decision.drop:
            plane.drop(port, reason)
        self._endpoint(tenant)
        table = self._table(tenant)
        self._change_routes(tenant, table.offer(record.number, behind))
        number = record.number
        entry.link.welcome(
            Welcome(
                number,
                record.address,
                record.pod_cidr,
                table.routes(without=number),
                1500,
                self._peers.id if self._peers else "relay",
                self._number,
                refused,
            )  # fmt: skip
        )
        self.established += 1
        if self._peers is not None:
            self._peers.here(entry.node, NextHop(self._peers.id, tenant, number, hello.instance, own, behind))
        log.info("link up tenant=%s node=%s slot=%d", *entry.node, hello.slot)

    async def _answer_name(self, entry: _NodeLink, id: int, node: str) -> None:
        """Names of the own tenant only; another tenant's node does not exist."""
        record = None
        with contextlib.suppress(Invalid):
            record = await self._directory.lookup(entry.node[0], node_name(node))
        entry.link.resolved(id, record.number if record is not None else None)
        self._flush(entry)

    def _gone(self, port: int, reason: str) -> None:
        self._early.pop(port, None)
        if (accepted := self._accepted.pop(port, None)) is not None:
            self._end(accepted)
        if port in self._unauthenticated:
            self._unauthenticated.discard(port)
            self.refused += 1
            log.info("link refused: %s", reason)
        entry = self._links.pop(port, None)
        if entry is None:
            return
        log.info("link down tenant=%s node=%s: %s", *entry.node, reason)
        if self._members.leave(entry.node, port):
            tenant = entry.record.tenant_number
            if self._holders.get((tenant, entry.record.number)) == entry.node:
                del self._holders[tenant, entry.record.number]
            self._change_routes(tenant, self._table(tenant).away(entry.record.number))
            if self._peers is not None:
                self._peers.gone(entry.node)

    # -- records that change -------------------------------------------------------------------------------------------

    def _linked(self, tenant: TenantId) -> dict[NodeName, NodeRecord]:
        found: dict[NodeName, NodeRecord] = {}
        for entry in self._links.values():
            if entry.node[0] == tenant:
                found.setdefault(entry.node[1], entry.record)
        return found

    def _removed(self, node: NodeKey, number: int, newest: NodeRecord | None) -> None:
        """Links that were made by what the record was before end; those of a machine that has joined in its next_hop stay."""
        why = "the node was removed" if newest is None else "another machine joined in its next_hop"
        for entry in [e for e in self._links.values() if e.node == node and not same_node(e.record, newest)]:
            if self._plane is not None:
                self._plane.drop(entry.port, why)
        if newest is not None and newest.number == number:
            return  # the networks behind it are its own still
        tenant = self._tenant_numbers.get(node[0])
        if (
            tenant is not None and self._holders.get((tenant, number), node) == node
        ):  # else its number is another node's by now
            self._change_routes(tenant, self._table(tenant).offer(number, ()))

    def _on_allowed(self, node: NodeKey, subnets: Sequence[str]) -> None:
        for entry in [e for e in self._links.values() if e.node == node and list(e.allowed) != list(subnets)]:
            if self._plane is not None:
                self._plane.drop(entry.port, "what may be behind the node was changed")

    # -- networks behind nodes, and nodes of other relays --------------------------------------------------------------

    def _on_moved(self, node: NodeKey, next_hop: NextHop) -> None:
        """Another relay has the node now; what is left of it here would only shadow the way there."""
        member = self._members.get(node)
        if member is None or self._plane is None:
            return
        if member.instance != next_hop.instance:
            self._members.replaced(node, member.instance)
        for port in list(member.slots.values()):
            self._plane.drop(port, f"the node is linked to relay {next_hop.relay} now")

    def _on_next_hop_changed(self, node: NodeKey, older: NextHop | None, next_hop: NextHop | None) -> None:
        if self._members.get(node) is not None:
            return
        if next_hop is not None:
            self._change_routes(next_hop.tenant, self._table(next_hop.tenant).offer(next_hop.number, next_hop.subnets))
        elif older is not None:
            self._change_routes(older.tenant, self._table(older.tenant).away(older.number))

    def _table(self, tenant: int) -> SubnetTable:
        return self._subnets.setdefault(tenant, SubnetTable())

    def _change_routes(self, tenant: int, changes: Sequence[RouteChange]) -> None:
        if self._plane is None or not changes:
            return
        for change in changes:
            if change.number is None:
                self._plane.remove_route(tenant, change.subnet.prefix)
            else:
                self._plane.add_route(tenant, change.subnet.prefix, change.number, mtu=change.subnet.mtu)
            if self._tun is not None and tenant == self._tun.tenant:
                if change.number is None:
                    self._tun.routes.remove(change.subnet.prefix)
                else:
                    self._tun.routes.add(change.subnet)
        told: set[NodeKey] = set()
        for entry in self._links.values():
            if entry.record.tenant_number == tenant and entry.hello is not None and entry.node not in told:
                told.add(entry.node)
                add = [c.subnet for c in changes if c.number not in (None, entry.record.number)]
                withdraw = [c.subnet.prefix for c in changes if c.number in (None, entry.record.number)]
                entry.link.change_routes(add, withdraw)
                self._flush(entry)

    # -- small parts ---------------------------------------------------------------------------------------------------

    def _endpoint(self, tenant: int) -> Endpoint:
        endpoint = self._endpoints.get(tenant)
        if endpoint is None:

            def send(number: int, segment: bytes) -> None:
                if self._plane is not None:
                    self._plane.send_segment(tenant, number, segment)

            endpoint = self._endpoints[tenant] = Endpoint(send, core=self._plane.l4(tenant) if self._plane else None)
            self._start(endpoint.listen(ping.PORT, ping.echo), "ping of the relay")
            for port, make in self._served.items():
                self._start(endpoint.listen(port, make(tenant)), "a service of the cloud")
        return endpoint

    def _start(self, coroutine: Any, name: str) -> None:
        task = asyncio.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _flush(self, entry: _NodeLink) -> None:
        if self._plane is not None:
            for payload in entry.link.payloads_to_send():
                self._plane.send(entry.port, CONTROL, payload)

    async def _keep_time(self) -> None:
        """Keepalive of all links, once a second those whose time has come."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(1.0)
            now = loop.time()
            for port in self._timers.due(now):
                entry = self._links.get(port)
                if entry is None or self._plane is None:
                    continue
                self._look(entry, self._plane, now)
                self._timers.add(port, entry.link.next_timer(), now)

    def _look(self, entry: _NodeLink, plane: Plane, now: float) -> None:
        counters = plane.counters(entry.port)
        if counters is not None and (seen := (counters.rx_bytes, counters.rx_segments)) != entry.seen:
            entry.seen = seen
            if entry.hello is not None:  # what moved counts as heard
                entry.link.heard(now)
        at = entry.link.next_timer()
        if at is None or at > now:
            return
        for event in entry.link.handle_timer(now):
            if isinstance(event, LinkDown):
                plane.drop(entry.port, event.reason)
        self._flush(entry)
