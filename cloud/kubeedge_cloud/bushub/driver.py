"""One run of the relay: events of the data plane go to the cores, and what they decide to the data plane.

Lives elsewhere: who is admitted and what follows (core.py), links whose owner is not known (accepted.py), other relays (peers.py),
                 records that change (authorizer.py), our own TUN (tun.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kubeedge.api.names import NodeKey, NodeName, NodeNumber, PortId, TenantId, node_name
from kubeedge.errors import Invalid, KubeEdgeError, PeerError, Refused, Unavailable
from kubeedge.kit.tasks import TaskSet
from kubeedge.kubebus.l2.core import HelloHeard, LinkCore, LinkDown, NameAsked
from kubeedge.kubebus.l2.messages import Hello
from kubeedge.kubebus.l3.plane import (
    CONTROL,
    FrameReceived,
    Plane,
    PortClosed,
    PortConnected,
    SegmentReceived,
)
from kubeedge.pki import identity
from kubeedge_cloud.bushub.accepted import AcceptedLinks
from kubeedge_cloud.bushub.actions import Drop, Flush, LinkAction, Reroute, ResetPeer
from kubeedge_cloud.bushub.authorizer import LinkAuthorizer
from kubeedge_cloud.bushub.core import NodeLink, NodeLinks
from kubeedge_cloud.bushub.endpoints import Endpoints
from kubeedge_cloud.bushub.linked import DUPLICATE_RETRY_AFTER
from kubeedge_cloud.bushub.peer_links import PeerLinks
from kubeedge_cloud.bushub.peers import Peers
from kubeedge_cloud.bushub.records import NextHop
from kubeedge_cloud.bushub.settings import BusHubSettings
from kubeedge_cloud.bushub.timer_wheel import TimerWheel
from kubeedge_cloud.bushub.tun import OwnTun
from kubeedge_cloud.tenants.directory import NodeDirectory
from kubeedge_cloud.tenants.model import NodeRecord, check_join, same_node

log = logging.getLogger("kubeedge.bushub")

_STORE_TIMEOUT = 1.5  # seconds; the edge waits 3 s for its welcome
_EVENTS = 1024  # of the data plane, handled before others have their turn


@dataclass(slots=True)
class LinkCounts:
    """Counters of links of nodes since the process began."""

    established: int = 0
    refused: int = 0  # those that were not admitted


class RelayDriver:
    """`tun`: our own interface on a tenant's network, if there is one; `peers`: other relays, where there may be some. `replaced` is called when
    a node's number stands for another machine, or for none."""

    def __init__(
        self,
        settings: BusHubSettings,
        directory: NodeDirectory,
        plane: Plane,
        links: NodeLinks,
        accepted: AcceptedLinks,
        endpoints: Endpoints,
        tasks: TaskSet,
        counts: LinkCounts,
        *,
        peers: Peers | None,
        tun: OwnTun | None,
        replaced: Callable[[], None] = lambda: None,
    ) -> None:
        self._replaced = replaced
        self._settings = settings
        self._directory = directory
        self._plane = plane
        self._links = links
        self._accepted = accepted
        self._endpoints = endpoints
        self._tasks = tasks
        self._counts = counts
        self._peers = peers
        self._tun = tun
        self._timers = TimerWheel()
        self._authorizer = LinkAuthorizer(
            directory, linked=links.linked, end=self._record_changed, allowed=self._allowed_changed
        )

    async def close(self) -> None:
        """Stops following the records of nodes; links are closed by their plane."""
        await self._authorizer.close()

    async def where(self, tenant: TenantId, node: NodeName) -> NodeRecord | None:
        """The node's record, of any tenant; `replaced` is called from here on when it does not hold any more. Raises Unavailable without the store."""
        record = await self._directory.lookup(tenant, node)
        if record is None:
            return None  # untrusted input may name any tenant
        self._links.learn_tenant(tenant, record.tenant_number)
        try:
            async with asyncio.timeout(_STORE_TIMEOUT):
                await self._authorizer.followed(tenant)
        except TimeoutError:
            raise Unavailable("the store of the cloud does not answer in time") from None
        return await self._directory.lookup(tenant, node)  # it may have changed before we followed

    # -- events of the data plane --------------------------------------------------------------------------------------

    def on_readable(self) -> None:
        """Take in the events of the data plane."""
        peers = self._peers.links if self._peers is not None else None
        for event in self._plane.events(_EVENTS):
            match event:
                case SegmentReceived(_, tenant, source, payload):
                    self._endpoints.of(tenant).receive(source, payload)
                case PortClosed(port, reason) if self._tun is not None and port == self._tun.port:
                    self._tun.on_down(reason)
                case PortConnected(port, uri) if peers is not None and peers.owns(port):
                    peers.on_connected(port, uri)
                case FrameReceived(port, _, payload) if peers is not None and peers.owns(port):
                    peers.on_control(port, payload)
                case PortClosed(port, reason) if peers is not None and peers.owns(port):
                    peers.on_closed(port, reason)
                case FrameReceived(port, _, payload):
                    self._on_control(port, payload)
                case PortConnected(port, uri):
                    self._tasks.start(self._admit(port, uri), "admission of a link")
                case PortClosed(port, reason):
                    self._on_closed(port, reason)

    def _on_control(self, port: PortId, payload: bytes) -> None:
        link = self._links.get(port)
        if link is None:
            self._accepted.keep_early(port, payload)
        else:
            self._receive(link, payload)

    def _on_closed(self, port: PortId, reason: str) -> None:
        if self._accepted.closed(port):
            self._counts.refused += 1
            log.info("link refused: %s", reason)
        link, last, actions = self._links.closed(port)
        if link is None:
            return
        log.info("link down tenant=%s node=%s: %s", *link.node, reason)
        self._perform(actions)
        if last and self._peers is not None:
            self._peers.gone(link.node)

    # -- admission -----------------------------------------------------------------------------------------------------

    async def _admit(self, port: PortId, uri: str) -> None:
        """Who is it, and is there such a node?"""
        try:
            who = identity.parse(uri)
            if isinstance(who, identity.CloudIdentity) and self._peers is not None:
                self._admit_peer(self._peers.links, port, who)
                return
            if not isinstance(who, identity.NodeIdentity):
                raise Refused(f"{uri} is not a node")
            record, behind = await self._look_up(who.tenant, who.node)
            check_join(who.node, who.join, record.join if record is not None else None)
            assert record is not None
        except KubeEdgeError as exc:
            log.warning("link refused: %s", exc)
            self._refuse(port, self._links.new_link(), str(exc))
            return
        if not self._accepted.is_unauthenticated(port):
            return  # it went down meanwhile
        if (refusal := self._accepted.authenticated(port, who.tenant, who.uri)) is not None:
            log.warning("link refused tenant=%s node=%s: %s", who.tenant, who.node, refusal.value)
            self._refuse(port, self._links.new_link(), refusal.value)
            return
        now = asyncio.get_running_loop().time()
        link = self._links.open(port, (who.tenant, who.node), record, behind, now)
        self._timers.add(port, link.core.next_timer(), now)
        self._authorizer.follow(who.tenant)
        for payload in self._accepted.take_early(port):
            self._receive(link, payload)
        if not same_node(record, self._authorizer.record(link.node)):
            # it is not heard of yet, or has changed while we looked at it
            with contextlib.suppress(KubeEdgeError):
                if not same_node(record, newest := await self._directory.lookup(*link.node)):
                    self._record_changed(link.node, record.number, newest)

    def _admit_peer(self, links: PeerLinks | None, port: PortId, who: identity.CloudIdentity) -> None:
        if not self._accepted.is_unauthenticated(port):
            return  # it went down meanwhile
        self._accepted.authenticated(port, "", who.uri, most=self._settings.max_links)
        if links is None:
            self._plane.drop(port, "this relay is just starting")
            return
        links.accept(port)
        for payload in self._accepted.take_early(port):
            if links.owns(port):
                links.on_control(port, payload)

    async def _look_up(self, tenant: TenantId, node: NodeName) -> tuple[NodeRecord | None, Sequence[str]]:
        """The node's record and what may be behind it. While the store is away, as we last heard of them: nodes whose links break come
        back all the same."""
        try:
            async with asyncio.timeout(_STORE_TIMEOUT):
                record = await self._directory.lookup(tenant, node)
                return record, await self._directory.subnets(tenant, node) if record is not None else ()
        except (Unavailable, TimeoutError) as exc:
            known = self._authorizer.known((tenant, node))
            if known is None:
                raise Unavailable(f"the store of the cloud does not answer: {str(exc) or 'not in time'}") from exc
            return known

    def _refuse(self, port: PortId, link: LinkCore, reason: str, *, retry_after: float = 0.0) -> None:
        self._counts.refused += 1
        link.refuse(reason, retry_after=retry_after)
        for payload in link.payloads_to_send():
            self._plane.send(port, CONTROL, payload)
        self._plane.drop(port, reason)

    # -- the conversation on a link ------------------------------------------------------------------------------------

    def _receive(self, link: NodeLink, payload: bytes) -> None:
        now = asyncio.get_running_loop().time()
        try:
            events = link.core.receive(payload, now)
        except PeerError as exc:
            self._plane.drop(link.port, str(exc))
            return
        for event in events:
            match event:
                case HelloHeard(hello):
                    self._welcome(link, hello, now)
                case NameAsked(id, node):
                    self._tasks.start(self._answer_name(link, id, node), "name of a node")
                case LinkDown(reason):
                    self._plane.drop(link.port, reason)
                    return
        self._flush(link)

    def _welcome(self, link: NodeLink, hello: Hello, now: float) -> None:
        """From here data flows; links that give way to this one are closed."""
        peers, record = self._peers, link.record
        elsewhere = peers.where(link.node) if peers else None
        decision = self._links.hello(link, hello, now, elsewhere=elsewhere.instance if elsewhere else "")
        if decision.refuse:
            log.warning("link refused tenant=%s node=%s: %s", *link.node, decision.refuse)
            self._refuse(link.port, link.core, decision.refuse, retry_after=DUPLICATE_RETRY_AFTER)
            return
        self._perform(decision.evict)
        tenant, number = record.tenant_number, record.number
        if not self._plane.admit(link.port, tenant=tenant, number=number, prefixes=decision.prefixes):
            return
        own_tun = self._settings.tun  # each relay of a path is seen in traceroute as itself
        for source in own_tun.sources if own_tun else self._settings.sources:
            self._plane.set_source(tenant, source)
        for prefix in decision.own:
            self._plane.add_route(tenant, prefix, number)
        self._endpoints.of(tenant)
        self._perform(self._links.admitted(link, hello, decision))
        self._counts.established += 1
        if peers is not None:
            next_hop = NextHop(peers.id, tenant, number, hello.instance, decision.own, decision.behind)
            peers.here(link.node, next_hop)
        log.info("link up tenant=%s node=%s slot=%d", *link.node, hello.slot)

    async def _answer_name(self, link: NodeLink, id: int, node: str) -> None:
        """Names of the own tenant only; another tenant's node does not exist."""
        record = None
        with contextlib.suppress(Invalid):
            record = await self._directory.lookup(link.node[0], node_name(node))
        link.core.resolved(id, record.number if record is not None else None)
        self._flush(link)

    # -- what others say -----------------------------------------------------------------------------------------------

    def _record_changed(self, node: NodeKey, number: NodeNumber, newest: NodeRecord | None) -> None:
        self._perform(self._links.record_changed(node, number, newest))

    def _allowed_changed(self, node: NodeKey, subnets: Sequence[str]) -> None:
        self._perform(self._links.allowed_changed(node, subnets))

    def tun_opened(self) -> None:
        """Our own TUN is there, and what is behind it."""
        if self._tun is not None:
            self._perform(self._links.offer_ours(self._tun.tenant, self._tun.networks))

    def moved(self, node: NodeKey, next_hop: NextHop) -> None:
        """Another relay has the node now."""
        self._perform(self._links.moved(node, next_hop))

    def next_hop_changed(self, node: NodeKey, older: NextHop | None, next_hop: NextHop | None) -> None:
        """Another relay has or had the node."""
        self._perform(self._links.next_hop_changed(node, older, next_hop))

    def _perform(self, actions: Sequence[LinkAction]) -> None:
        for action in actions:
            match action:
                case Drop(port, reason):
                    self._plane.drop(port, reason)
                case Flush(port):
                    if (link := self._links.get(port)) is not None:
                        self._flush(link)
                case Reroute():
                    self._reroute(action)
                case ResetPeer(tenant, number):
                    self._endpoints.of(tenant).reset_peer(number, "another machine has its number, or none has")
                    self._replaced()

    def _reroute(self, action: Reroute) -> None:
        tenant, change = action.tenant, action.change
        if change.number is None:
            self._plane.remove_route(tenant, change.subnet.prefix)
        else:
            self._plane.add_route(tenant, change.subnet.prefix, change.number, mtu=change.subnet.mtu)
        if self._tun is not None and tenant == self._tun.tenant:
            if change.number is None:
                self._tun.routes.remove(change.subnet.prefix)
            else:
                self._tun.routes.add(change.subnet)

    def _flush(self, link: NodeLink) -> None:
        for payload in link.core.payloads_to_send():
            self._plane.send(link.port, CONTROL, payload)

    # -- time ----------------------------------------------------------------------------------------------------------

    async def keep_time(self) -> None:
        """Keepalive of all links, once a second those whose time has come; until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(1.0)
            now = loop.time()
            for port in self._timers.due(now):
                if (link := self._links.get(port)) is not None:
                    self._look(link, now)
                    self._timers.add(port, link.core.next_timer(), now)

    def _look(self, link: NodeLink, now: float) -> None:
        counters = self._plane.counters(link.port)
        if counters is not None and (seen := (counters.rx_bytes, counters.rx_segments)) != link.seen:
            link.seen = seen
            if link.hello is not None:  # what moved counts as heard
                link.core.heard(now)
        at = link.core.next_timer()
        if at is None or at > now:
            return
        for event in link.core.handle_timer(now):
            if isinstance(event, LinkDown):
                self._plane.drop(link.port, event.reason)
        self._flush(link)
