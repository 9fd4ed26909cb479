"""Module "bushub": accepts links, admits nodes by their certificates, answers names, gives the cloud its connections.

A node has one link; a newer one takes its place. What a link may send from is what the node's record says: its overlay address and its pod
CIDR. A stranger costs a socket and a TLS handshake with a deadline, and there is a bound on how many at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from kubeedge.api.names import NodeName, TenantId, node_name
from kubeedge.errors import Invalid, KubeEdgeError, NotFound, PeerError, Refused, Unavailable
from kubeedge.kubebus.l2.core import HelloHeard, Link, LinkIsDown, LinkSettings, NameAsked, Role, Welcome
from kubeedge.kubebus.l3.netsetup import configure
from kubeedge.kubebus.l3.plane import CONTROL, Counters, Frame, LinkDown, LinkUp, Plane, Segment, TlsContext
from kubeedge.kubebus.l3.tun import open_tun
from kubeedge.kubebus.l4.driver import Endpoint
from kubeedge.pki import identity

log = logging.getLogger("kubeedge.bushub")

_CLOUD = 0  # our own node number, in every tenant


class NodeRecord(Protocol):
    """What the relay needs of kubeedge_cloud.tenants' record."""

    @property
    def number(self) -> int: ...
    @property
    def address(self) -> str: ...
    @property
    def pod_cidr(self) -> str: ...
    @property
    def tenant_number(self) -> int: ...


class NodeDirectory(Protocol):
    async def lookup(self, tenant: TenantId, node: NodeName) -> NodeRecord | None: ...

    async def tenant_number(self, tenant: TenantId) -> int | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudTun:
    """This machine's own interface on one tenant's network."""

    tenant: TenantId
    name: str = "kb0"
    address: str = "100.64.255.254/16"
    routes: Sequence[str] = ("10.244.0.0/16",)
    mtu: int = 1500


@dataclass(frozen=True, slots=True, kw_only=True)
class BusHubSettings:
    address: str = "0.0.0.0"
    port: int = 10010
    ca: Path
    cert: Path
    key: Path
    tun: CloudTun | None = None
    link: LinkSettings = field(default_factory=LinkSettings)
    max_links: int = 10_000
    source: str = "100.64.255.254"  # of ICMP errors, in every tenant
    congestion: str = ""  # congestion control of the links' TCP; "": by the round trip of the path
    max_strangers: int = 500  # links whose TLS or admission is not done


@dataclass(slots=True)
class _NodeLink:
    port: int
    tenant: TenantId
    node: NodeName
    record: NodeRecord
    link: Link
    since: float


@dataclass(frozen=True, slots=True)
class LinkInfo:
    tenant: TenantId
    node: NodeName
    since: float  # loop time
    rtt: float | None
    counters: Counters


class BusHub:
    name = "bushub"

    def __init__(self, settings: BusHubSettings, directory: NodeDirectory) -> None:
        self._settings = settings
        self._directory = directory
        self._plane: Plane | None = None
        self._links: dict[int, _NodeLink] = {}
        self._by_node: dict[tuple[TenantId, NodeName], _NodeLink] = {}
        self._strangers: set[int] = set()
        self._endpoints: dict[int, Endpoint] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._early: dict[int, list[bytes]] = {}  # control frames that came before the admission was decided
        self._timer: asyncio.TimerHandle | None = None

    # -- for the rest of the cloud -------------------------------------------------------------------------------------

    async def connect(
        self, tenant: TenantId, node: NodeName, port: int, *, timeout: float = 10.0
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Raises NotFound (no such node) or Unavailable (no link, no answer)."""
        record = await self._directory.lookup(tenant, node)
        if record is None:
            raise NotFound(f"there is no node {node}")
        if (tenant, node) not in self._by_node:
            raise Unavailable(f"node {node} has no link")
        return await self._endpoint(record.tenant_number).connect(record.number, port, timeout=timeout)

    def links(self) -> list[LinkInfo]:
        if self._plane is None:
            return []
        return [
            LinkInfo(entry.tenant, entry.node, entry.since, entry.link.rtt, counters)
            for entry in self._by_node.values()
            if (counters := self._plane.counters(entry.port)) is not None
        ]

    def disconnect(self, tenant: TenantId, node: NodeName) -> None:
        """For a node that was removed."""
        if (entry := self._by_node.get((tenant, node))) and self._plane is not None:
            self._plane.drop(entry.port, "the node was removed")

    # -- the module ----------------------------------------------------------------------------------------------------

    async def run(self, ready: asyncio.Event) -> None:
        s = self._settings
        loop = asyncio.get_running_loop()
        tls = TlsContext(s.ca, s.cert, s.key, server=True)
        plane = self._plane = Plane(_CLOUD)
        loop.add_reader(plane.fileno(), self._on_plane)
        try:
            if s.tun is not None:
                await self._open_tun(plane, s.tun)
            with socket.create_server((s.address, s.port), backlog=512) as listener:
                listener.setblocking(False)
                ready.set()
                while True:
                    try:
                        connection, _ = await loop.sock_accept(listener)
                    except OSError as exc:  # no descriptors left, say: the links that are up must not pay for it
                        log.warning("cannot accept a link: %s", exc)
                        await asyncio.sleep(0.5)
                        continue
                    if len(self._links) >= s.max_links or len(self._strangers) >= s.max_strangers:
                        connection.close()
                        continue
                    descriptor = connection.detach()
                    try:
                        self._strangers.add(plane.add_link(descriptor, tls, congestion=s.congestion))
                    except OSError as exc:
                        os.close(descriptor)
                        log.warning("cannot take a link: %s", exc)
        finally:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for endpoint in self._endpoints.values():
                await endpoint.close()
            loop.remove_reader(plane.fileno())
            plane.close()
            self._plane = None
            self._endpoints.clear()
            self._links.clear()
            self._by_node.clear()
            self._strangers.clear()
            self._early.clear()

    async def _open_tun(self, plane: Plane, settings: CloudTun) -> None:
        number = await self._directory.tenant_number(settings.tenant)
        if number is None:
            raise NotFound(f"there is no tenant {settings.tenant} for the TUN {settings.name}")
        tun = open_tun(settings.name)
        plane.add_tun(tun.fd, tenant=number, vnet_hdr=tun.vnet_hdr, uso=tun.uso)
        await configure(settings.name, settings.address, mtu=settings.mtu, routes=settings.routes)
        plane.add_route(number, settings.address.split("/")[0] + "/32", _CLOUD)

    # -- events --------------------------------------------------------------------------------------------------------

    def _on_plane(self) -> None:
        if self._plane is None:
            return
        for event in self._plane.events(1024):
            match event:
                case Segment(_, tenant, source, payload):
                    self._endpoint(tenant).receive(source, payload)
                case Frame(port, _, payload):
                    self._on_control(port, payload)
                case LinkUp(port, uri):
                    task = asyncio.create_task(self._admit(port, uri), name="admission of a link")
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
                case LinkDown(port, reason):
                    self._gone(port, reason)
        self._arm()

    async def _admit(self, port: int, uri: str) -> None:
        """Who is it, and is there such a node?"""
        assert self._plane is not None
        try:
            who = identity.parse(uri)
            if not isinstance(who, identity.NodeIdentity):
                raise Refused(f"{uri} is not a node")
            record = await self._directory.lookup(who.tenant, who.node)
            if record is None:
                raise Refused(f"node {who.node} is not known; join it again")
        except KubeEdgeError as exc:
            log.warning("link refused: %s", exc)
            refusal = Link(Role.RELAY, self._settings.link)
            refusal.refuse(str(exc))
            for payload in refusal.payloads_to_send():
                self._plane.send(port, CONTROL, payload)
            self._plane.drop(port, str(exc))
            return
        if port not in self._strangers:
            return  # it went down meanwhile
        now = asyncio.get_running_loop().time()
        link = Link(Role.RELAY, self._settings.link)
        link.open(now)
        entry = _NodeLink(port, who.tenant, who.node, record, link, now)
        self._strangers.discard(port)
        self._links[port] = entry
        for payload in self._early.pop(port, ()):
            self._receive(entry, payload)

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
        try:
            events = entry.link.receive(payload, asyncio.get_running_loop().time())
        except PeerError as exc:
            self._plane.drop(entry.port, str(exc))
            return
        for event in events:
            match event:
                case HelloHeard():
                    self._welcome(entry)
                case NameAsked(id, node):
                    task = asyncio.create_task(self._answer_name(entry, id, node), name="name of a node")
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
                case LinkIsDown(reason):
                    self._plane.drop(entry.port, reason)
                    return
        self._flush(entry)

    def _welcome(self, entry: _NodeLink) -> None:
        """From here data flows; an older link of the same node is closed."""
        assert self._plane is not None
        record = entry.record
        prefixes = [record.address.split("/")[0] + "/32", record.pod_cidr]
        tenant = record.tenant_number
        if not self._plane.admit(entry.port, tenant=tenant, number=record.number, prefixes=prefixes):
            return
        self._plane.set_source(tenant, self._settings.source)
        older = self._by_node.get((entry.tenant, entry.node))
        self._by_node[entry.tenant, entry.node] = entry
        for prefix in prefixes:
            self._plane.add_route(tenant, prefix, record.number)
        if older is not None and older.port != entry.port:
            self._plane.drop(older.port, "the node has a newer link")
        entry.link.welcome(Welcome(record.number, record.address, record.pod_cidr, (), 1500))
        log.info("link up tenant=%s node=%s", entry.tenant, entry.node)

    async def _answer_name(self, entry: _NodeLink, id: int, node: str) -> None:
        """Names of the own tenant only; another tenant's node does not exist."""
        record = None
        with contextlib.suppress(Invalid):
            record = await self._directory.lookup(entry.tenant, node_name(node))
        entry.link.resolved(id, record.number if record is not None else None)
        self._flush(entry)

    def _gone(self, port: int, reason: str) -> None:
        self._early.pop(port, None)
        if port in self._strangers:
            self._strangers.discard(port)
            log.info("link refused: %s", reason)
        entry = self._links.pop(port, None)
        if entry is None:
            return
        log.info("link down tenant=%s node=%s: %s", entry.tenant, entry.node, reason)
        if self._by_node.get((entry.tenant, entry.node)) is entry:
            del self._by_node[entry.tenant, entry.node]

    # -- small parts ---------------------------------------------------------------------------------------------------

    def _endpoint(self, tenant: int) -> Endpoint:
        endpoint = self._endpoints.get(tenant)
        if endpoint is None:

            def send(number: int, segment: bytes) -> None:
                if self._plane is not None:
                    self._plane.send_segment(tenant, number, segment)

            endpoint = self._endpoints[tenant] = Endpoint(send)
        return endpoint

    def _flush(self, entry: _NodeLink) -> None:
        if self._plane is not None:
            for payload in entry.link.payloads_to_send():
                self._plane.send(entry.port, CONTROL, payload)

    def _arm(self) -> None:
        """One timer for the keepalive of all links."""
        times = [t for entry in self._links.values() if (t := entry.link.next_timer()) is not None]
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if times:
            loop = asyncio.get_running_loop()
            # links are many and keepalive is slow: look at them together, once a second at most
            self._timer = loop.call_at(max(min(times), loop.time() + 1.0), self._on_timer)

    def _on_timer(self) -> None:
        if self._plane is None:
            return
        now = asyncio.get_running_loop().time()
        for entry in list(self._links.values()):
            at = entry.link.next_timer()
            if at is None or at > now:
                continue
            for event in entry.link.handle_timer(now):
                if isinstance(event, LinkIsDown):
                    self._plane.drop(entry.port, event.reason)
            self._flush(entry)
        self._arm()
