"""Several relays: who holds whom, and the links between them.

    /bus/relays/ID       {"addresses": ["203.0.113.1:10010"], "number": 256, "tun": {...}}     a relay, while it lives
    /bus/numbers/NNNNN   ID                                                        its L4 number
    /bus/tuns/TTTTT/A    {"relay": ID, "addresses": [...]}                         whose own address A is, on the network of tenant number T
    /bus/nodes/T/N       {"relay": ID, "number", "tenant", "instance", "prefixes", "subnets"}  where node N of tenant T is linked

All of a relay's keys hang on one lease: they vanish with it. The relay with the smaller ID dials the other one (mutual TLS, both are
processes of the cloud). A node that moved is written by the relay that has it now, and the one that had it lets go when it sees that.

Relays have numbers behind those of the nodes, so that a connection that began in one cloud process finds the way back to it through whatever relay
the node is linked to.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from kubeedge.api import keys
from kubeedge.api.names import NodeName, TenantId
from kubeedge.errors import Conflict, Gone, KubeEdgeError, NotFound, PeerError, Unavailable
from kubeedge.kit.backoff import Backoff
from kubeedge.kubebus.l2.core import Hello, HelloHeard, Link, LinkDown, LinkSettings, LinkUp, Role, Subnet, Welcome
from kubeedge.kubebus.l3.plane import CONTROL, Plane, TlsContext
from kubeedge.kubebus.links import open_connection
from kubeedge.pki import identity
from kubeedge.store.model import Change, ChangeKind, Compare, CompareTarget, Delete, Put, Store
from kubeedge_cloud.bushub.core import NodeKey

log = logging.getLogger("kubeedge.bushub")

_TTL = 10.0  # seconds that a dead relay is remembered
_KEEPALIVE = 3.0  # seconds
_MAX_RELAYS = 32
_LINK = LinkSettings(keepalive=5.0, dead_after=6.0)
_BACKOFF = Backoff(0.5, 1.0)  # between two attempts to reach a peer
_DIAL = 2.0  # seconds for TCP: with the pause above and a SYN that is repeated after 1 s, a path that comes back is found within 2 s


@dataclass(frozen=True, slots=True, kw_only=True)
class PeersSettings:
    addresses: Sequence[str]  # "host:port" where other relays reach us
    first_number: int = 256  # behind the numbers of all nodes


@dataclass(frozen=True, slots=True)
class NextHop:
    """Where a node is linked."""

    relay: str
    tenant: int  # its number
    number: int
    instance: str
    prefixes: Sequence[str]
    subnets: Sequence[Subnet]

    def encode(self) -> bytes:
        value = {
            "relay": self.relay, "tenant": self.tenant, "number": self.number, "instance": self.instance,
            "prefixes": list(self.prefixes), "subnets": [[s.prefix, s.mtu] for s in self.subnets],
        }  # fmt: skip
        return json.dumps(value, separators=(",", ":")).encode()


def _next_hop(value: bytes) -> NextHop | None:
    try:
        v = json.loads(value)
        subnets = [Subnet(str(prefix), int(mtu)) for prefix, mtu in v["subnets"]]
        return NextHop(v["relay"], int(v["tenant"]), int(v["number"]), v["instance"], list(v["prefixes"]), subnets)
    except (ValueError, KeyError, TypeError):
        return None


@dataclass(slots=True)
class _Peer:
    """Another relay, while its key is there."""

    id: str
    addresses: list[str]
    number: int
    tun: tuple[int, str] | None
    task: asyncio.Task[None] | None = None
    port: int | None = None  # of the link that is up


@dataclass(slots=True)
class _PeerLink:
    port: int
    core: Link
    id: str  # "": it has not said
    done: asyncio.Event = field(default_factory=asyncio.Event)


class Peers:
    """`moved` is called for a node that another relay has now; `next_hop_changed` for each node whose next hop changed (None: nobody has the node)."""

    def __init__(
        self,
        store: Store,
        settings: PeersSettings,
        *,
        moved: Callable[[NodeKey, NextHop], None],
        next_hop_changed: Callable[[NodeKey, NextHop | None, NextHop | None], None],
    ) -> None:
        self._store = store
        self._settings = settings
        self._moved = moved
        self._next_hop_changed = next_hop_changed
        self.id = secrets.token_hex(6)
        self.number = 0
        self._lease = 0
        self._tun: tuple[int, str] | None = None
        self._plane: Plane | None = None
        self._tls: TlsContext | None = None
        self._peers: dict[str, _Peer] = {}
        self._links: dict[int, _PeerLink] = {}
        self._next_hops: dict[NodeKey, NextHop] = {}  # of nodes at other relays
        self._ours: dict[NodeKey, NextHop] = {}
        self._revisions: dict[NodeKey, int] = {}  # of our own last write
        self._dirty: dict[NodeKey, None] = {}
        self._wake = asyncio.Event()
        self._tenants: set[int] = set()
        self._seen: dict[int, tuple[int, int]] = {}  # bytes and segments of a link when it was last looked at

    # -- for the hub ---------------------------------------------------------------------------------------------------

    async def prepare(self) -> int:
        """A lease, our number, our key. Raises Unavailable."""
        self._lease = await self._store.lease_grant(_TTL)
        first = self._settings.first_number
        for number in range(first, first + _MAX_RELAYS):
            if await self._claim_number(number):
                self.number = number
                await self._store.put(keys.RELAYS + self.id, self._record(), self._lease)
                return number
        raise Unavailable(f"there are {_MAX_RELAYS} relays already")

    async def _claim_number(self, number: int) -> bool:
        key = keys.relay_number(number)
        return (await self._store.txn([_absent(key)], [Put(key, self.id.encode(), self._lease)])).succeeded

    async def claim_address(self, tenant: int, address: str) -> str:
        """An own address ("100.64.255.254/16") on the network of that tenant: "" when it is ours, and the other relays hear of it; else
        who has it. Raises Unavailable.

        A relay that died a moment ago still has its keys. One that was reached where we are now was our predecessor: two cannot
        listen on one port.
        """
        key = keys.relay_tun(tenant, address.split("/")[0])
        ours = {"relay": self.id, "addresses": list(self._settings.addresses)}
        claim = Put(key, json.dumps(ours).encode(), self._lease)
        if not (await self._store.txn([_absent(key)], [claim])).succeeded:
            found = await self._store.get(key)
            owner = _owner(found.value) if found is not None else {}
            if found is None or owner.get("addresses") != ours["addresses"]:
                return f"the cloud process at {', '.join(map(str, owner.get('addresses', ()))) or 'another address'}"
            unchanged = Compare(key, CompareTarget.MOD, "=", found.mod_revision)
            if not (await self._store.txn([unchanged], [claim])).succeeded:
                return "another cloud process"
        self._tun = (tenant, address)
        await self._store.put(keys.RELAYS + self.id, self._record(), self._lease)
        return ""

    def where(self, node: NodeKey) -> NextHop | None:
        return self._next_hops.get(node)

    def names(self, tenant: int) -> dict[int, NodeName]:
        """Of the tenant's nodes at other relays, by their numbers."""
        return {next_hop.number: node[1] for node, next_hop in self._next_hops.items() if next_hop.tenant == tenant}

    def here(self, node: NodeKey, next_hop: NextHop) -> None:
        """The node is linked to us."""
        self._ours[node] = next_hop
        self.tenant(next_hop.tenant)
        self._dirty[node] = None
        self._wake.set()

    def gone(self, node: NodeKey) -> None:
        """It is not any more."""
        if self._ours.pop(node, None) is not None:
            self._dirty[node] = None
            self._wake.set()

    def tenant(self, tenant: int) -> None:
        """Nodes of this tenant may talk to services of any relay."""
        if tenant not in self._tenants and self._plane is not None:
            self._tenants.add(tenant)
            for peer in self._peers.values():
                if peer.port is not None:
                    self._plane.add_next_hop(tenant, peer.number, peer.port)

    def infos(self) -> list[dict[str, Any]]:
        return [
            {
                "relay": peer.id,
                "addresses": peer.addresses,
                "state": "up" if peer.port is not None else "down",
                "rtt": self._links[peer.port].core.rtt if peer.port in self._links else None,
                "nodes": sum(next_hop.relay == peer.id for next_hop in self._next_hops.values()),
            }
            for peer in self._peers.values()
        ]

    # -- the module's tasks --------------------------------------------------------------------------------------------

    async def run(self, plane: Plane, tls: TlsContext) -> None:
        """Until it is cancelled. Raises Unavailable when the relay has to begin anew."""
        self._plane, self._tls = plane, tls
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep_lease(), name="lease of the relay")
                tasks.create_task(self._write(), name="next hops of nodes")
                tasks.create_task(self._follow(), name="other relays")
                tasks.create_task(self._keep_time(), name="links between relays")
        finally:
            for peer in self._peers.values():
                if peer.task is not None:
                    peer.task.cancel()
            await asyncio.gather(*(p.task for p in self._peers.values() if p.task), return_exceptions=True)
            self._peers.clear()
            with contextlib.suppress(KubeEdgeError, TimeoutError):
                async with asyncio.timeout(2.0):
                    await self._store.lease_revoke(self._lease)

    async def _keep_lease(self) -> None:
        """The links of nodes do not hang on it: a store that is away for an hour ends none of them."""
        expired = told = False
        while True:
            await asyncio.sleep(_KEEPALIVE)
            try:
                if not expired:
                    async with asyncio.timeout(_KEEPALIVE):
                        await self._store.lease_keepalive(self._lease)
            except NotFound:
                log.warning("the lease of this relay expired; it says anew what it has")
                expired = True
            except (
                KubeEdgeError,
                TimeoutError,
            ) as exc:  # data flows between the nodes that are here; others cannot find them
                if not told:
                    log.warning("cannot renew the lease of this relay: %s", exc or "the store does not answer")
                told = True
                continue
            told = False
            if expired:
                try:
                    async with asyncio.timeout(_TTL):
                        await self._register_again()
                except Conflict as exc:  # connections of L4 would find the other one
                    raise Unavailable(f"{exc}; this one begins anew") from exc
                except (KubeEdgeError, TimeoutError) as exc:
                    log.warning("the relay is not known to the others: %s", exc or "the store does not answer")
                else:
                    expired = False

    async def _register_again(self) -> None:
        """Our keys went with the lease. Raises Conflict when another relay has our number."""
        self._lease = await self._store.lease_grant(_TTL)
        if not await self._claim_number(self.number):
            found = await self._store.get(keys.relay_number(self.number))
            if found is None or found.value.decode(errors="replace") != self.id:
                raise Conflict(f"another relay has the number {self.number} now")
            await self._store.put(found.key, found.value, self._lease)  # left of an attempt that was cut short
        await self._store.put(keys.RELAYS + self.id, self._record(), self._lease)
        if self._tun is not None and (owner := await self.claim_address(*self._tun)):
            log.error("%s has the address %s of this process now", owner, self._tun[1])
        for node, next_hop in list(self._ours.items()):
            key = keys.linked(*node)
            done = await self._store.txn([_absent(key)], [Put(key, next_hop.encode(), self._lease)])
            if done.succeeded:
                self._revisions[node] = done.revision
                continue
            found = await self._store.get(key)
            there = _next_hop(found.value) if found is not None else None
            if there is not None and there.relay != self.id and self._ours.pop(node, None) is not None:
                self._revisions.pop(node, None)
                self._moved(node, there)
            elif found is not None:
                self._dirty[node] = None
        self._wake.set()

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._dirty:
                node = next(iter(self._dirty))
                del self._dirty[node]
                try:
                    await self._write_one(node)
                except KubeEdgeError as exc:
                    log.warning("cannot say where node %s is: %s", node[1], exc)
                    self._dirty[node] = None
                    await asyncio.sleep(1.0)

    async def _write_one(self, node: NodeKey) -> None:
        key = keys.linked(*node)
        next_hop = self._ours.get(node)
        if next_hop is not None:
            self._revisions[node] = await self._store.put(key, next_hop.encode(), self._lease)
            return
        revision = self._revisions.pop(node, 0)
        if revision:  # what another relay has written since is not ours to delete
            await self._store.txn([Compare(key, CompareTarget.MOD, "=", revision)], [Delete(key)])

    async def _follow(self) -> None:
        known: set[str] = set()
        while True:
            found = await self._store.range(keys.BUS, keys.prefix_end(keys.BUS))
            for key in sorted(known - {kv.key for kv in found.kvs}):
                self._apply(Change(ChangeKind.DELETE, key, b"", found.revision))
            known = {kv.key for kv in found.kvs}
            for kv in found.kvs:
                self._apply(Change(ChangeKind.PUT, kv.key, kv.value, kv.mod_revision))
            watch = self._store.watch(keys.BUS, after=found.revision, progress=True)
            try:
                async with aclosing(watch) as batches:
                    async for batch in batches:
                        for change in batch.changes:
                            (known.add if change.kind is ChangeKind.PUT else known.discard)(change.key)
                            self._apply(change)
                raise Unavailable("the store was closed")
            except Gone:  # compacted while we could not hear: what is there now says the same
                await asyncio.sleep(0)

    def _apply(self, change: Change) -> None:
        if change.key.startswith(keys.RELAYS):
            self._on_relay(change.key.removeprefix(keys.RELAYS), change)
        elif change.key.startswith(keys.LINKED):
            tenant, _, name = change.key.removeprefix(keys.LINKED).partition("/")
            self._on_node((TenantId(tenant), NodeName(name)), change)

    # -- other relays --------------------------------------------------------------------------------------------------

    def _on_relay(self, id: str, change: Change) -> None:
        if id == self.id:
            return
        if change.kind is ChangeKind.DELETE:
            peer = self._peers.pop(id, None)
            if peer is not None:
                log.info("relay %s is gone", id)
                if peer.task is not None:
                    peer.task.cancel()
                if peer.port is not None and self._plane is not None:
                    self._plane.drop(peer.port, "that relay is gone")
            return
        try:
            value = json.loads(change.value)
            tun = (int(value["tun"][0]), str(value["tun"][1])) if value.get("tun") else None
            peer = _Peer(id, [str(a) for a in value["addresses"]], int(value["number"]), tun)
        except (ValueError, KeyError, TypeError, IndexError) as exc:
            log.warning("%s is no record of a relay: %s", change.key, exc)
            return
        if (known := self._peers.get(id)) is not None:
            known.tun = tun
            self._route_to(known)
            return
        self._peers[id] = peer
        for link in self._links.values():  # it dialled us before we knew it
            if link.id == id and not link.done.is_set():
                self._peer_up(link)
        if self.id < id:
            peer.task = asyncio.create_task(self._keep_peer(peer), name=f"link to relay {id}")

    async def _keep_peer(self, peer: _Peer) -> None:
        attempt = 0
        while True:
            address = peer.addresses[attempt % len(peer.addresses)]
            link = await self._dial(peer, address)
            if link is not None:
                await link.done.wait()
                attempt = 0 if link.core.rtt is not None else attempt
            attempt += 1
            await asyncio.sleep(_BACKOFF.delay(attempt))

    async def _dial(self, peer: _Peer, address: str) -> _PeerLink | None:
        assert self._plane is not None and self._tls is not None
        host, _, port = address.rpartition(":")
        try:
            async with asyncio.timeout(_DIAL):
                connection = await open_connection(host.strip("[]"), int(port))
            number = self._plane.add_link(connection.fileno(), self._tls, server_name=host.strip("[]"))
        except (OSError, TimeoutError) as exc:
            log.info("relay %s at %s: %s", peer.id, address, exc or "no answer in time")
            return None
        connection.detach()
        link = self._links[number] = _PeerLink(number, Link(Role.EDGE, _LINK), peer.id)
        return link

    def owns(self, port: int) -> bool:
        return port in self._links

    def accept(self, port: int) -> None:
        """A process of the cloud has dialled us."""
        link = self._links[port] = _PeerLink(port, Link(Role.RELAY, _LINK), "")
        link.core.open(asyncio.get_running_loop().time())

    def on_up(self, port: int, uri: str) -> None:
        """TLS of a link that we dialled."""
        link = self._links[port]
        try:
            if not isinstance(identity.parse(uri), identity.CloudIdentity):
                raise PeerError(f"{uri} is no process of the cloud")
        except KubeEdgeError as exc:
            self._drop(port, str(exc))
            return
        link.core.open(asyncio.get_running_loop().time(), Hello(relay=self.id))
        self._flush(link)

    def on_control(self, port: int, payload: bytes) -> None:
        link = self._links[port]
        try:
            for event in link.core.receive(payload, asyncio.get_running_loop().time()):
                match event:
                    case HelloHeard(hello):
                        if not hello.relay or hello.relay == self.id:
                            raise PeerError("a process of the cloud said hello without its name, or it is ourselves")
                        link.id = hello.relay
                        link.core.welcome(Welcome(self.number, "", "", (), 0, self.id, self.number))
                        self._peer_up(link)
                    case LinkUp(welcome):
                        if welcome.relay != link.id:
                            raise PeerError(f"relay {welcome.relay or '?'} answers instead of {link.id}")
                        self._peer_up(link)
                    case LinkDown(reason):
                        self._drop(port, reason)
                        return
        except PeerError as exc:
            self._drop(port, str(exc))
            return
        self._flush(link)

    def on_down(self, port: int, reason: str) -> None:
        link = self._links.pop(port)
        link.done.set()
        peer = self._peers.get(link.id)
        if peer is not None and peer.port == port:
            peer.port = None
            log.info("link down relay=%s: %s", link.id, reason)

    def _peer_up(self, link: _PeerLink) -> None:
        peer = self._peers.get(link.id)
        if peer is None or self._plane is None or not self._plane.admit_peer(link.port):
            return  # its key will come, or its PortClosed
        older, peer.port = peer.port, link.port
        if older is not None and older != link.port:
            self._plane.drop(older, "the relay has a newer link")
        log.info("link up relay=%s", link.id)
        for tenant in self._tenants:
            self._plane.add_next_hop(tenant, peer.number, link.port)
        self._route_to(peer)
        for next_hop in self._next_hops.values():
            if next_hop.relay == peer.id:
                self._plane.add_next_hop(next_hop.tenant, next_hop.number, link.port)

    def _route_to(self, peer: _Peer) -> None:
        """Its own address, when it has one and a link."""
        if peer.tun is not None and peer.port is not None and self._plane is not None:
            tenant, address = peer.tun
            self._plane.add_route(tenant, address.split("/")[0] + "/32", peer.number)
            self._plane.add_next_hop(tenant, peer.number, peer.port)

    # -- nodes ---------------------------------------------------------------------------------------------------------

    def _on_node(self, node: NodeKey, change: Change) -> None:
        next_hop = _next_hop(change.value) if change.kind is ChangeKind.PUT else None
        if next_hop is not None and next_hop.relay == self.id:
            next_hop = None  # not at another relay
        older = self._next_hops.pop(node, None)
        if older is not None and self._plane is not None:
            self._plane.remove_next_hops(older.tenant, older.number)
        if next_hop is not None:
            self._next_hops[node] = next_hop
            self.tenant(next_hop.tenant)
            peer = self._peers.get(next_hop.relay)
            if self._plane is not None:
                for prefix in next_hop.prefixes:
                    self._plane.add_route(next_hop.tenant, prefix, next_hop.number)
                if peer is not None and peer.port is not None:
                    self._plane.add_next_hop(next_hop.tenant, next_hop.number, peer.port)
            if node in self._ours and node not in self._dirty and change.revision > self._revisions.get(node, 0):
                del self._ours[node]
                self._revisions.pop(node, None)
                self._moved(node, next_hop)
        if next_hop != older:
            self._next_hop_changed(node, older, next_hop)

    # -- small parts ---------------------------------------------------------------------------------------------------

    async def _keep_time(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(1.0)
            now = loop.time()
            for link in list(self._links.values()):
                counters = self._plane.counters(link.port) if self._plane else None
                seen = (counters.rx_bytes, counters.rx_segments) if counters else (0, 0)
                if seen != self._seen.get(link.port):
                    self._seen[link.port] = seen
                    link.core.heard(now)
                at = link.core.next_timer()
                if at is None or at > now:
                    continue
                for event in link.core.handle_timer(now):
                    if isinstance(event, LinkDown):
                        self._drop(link.port, event.reason)
                self._flush(link)
            self._seen = {port: seen for port, seen in self._seen.items() if port in self._links}

    def _flush(self, link: _PeerLink) -> None:
        if self._plane is not None:
            for payload in link.core.payloads_to_send():
                self._plane.send(link.port, CONTROL, payload)

    def _drop(self, port: int, reason: str) -> None:
        if self._plane is not None:
            self._plane.drop(port, reason)

    def _record(self) -> bytes:
        tun = list(self._tun) if self._tun else None
        value = {"addresses": list(self._settings.addresses), "number": self.number, "tun": tun}
        return json.dumps(value).encode()


def _owner(value: bytes) -> dict[str, Any]:
    try:
        owner = json.loads(value)
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}


def _absent(key: str) -> Compare:
    return Compare(key, CompareTarget.VERSION, "=", 0)
