"""Several relays over one store: which there are, the links between them, and which nodes are behind them.

The relay with the smaller ID dials the other one (mutual TLS, both are processes of the cloud). A node that moved is written by the relay that
has it now, and the one that had it closes its links when it sees that.

Relays have numbers behind those of the nodes, so that a connection that began in one cloud process finds the way back to it through whatever relay
the node is linked to.

Lives elsewhere: what this relay writes (registration.py), what follows from what others wrote (peer_table.py), links (peer_links.py).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from kubeedge.api import keys
from kubeedge.api.names import NodeKey, NodeName, NodeNumber, PortId, TenantId, TenantNumber
from kubeedge.errors import Unavailable
from kubeedge.kit.backoff import Backoff
from kubeedge.kubebus.l3.plane import Plane, TlsContext
from kubeedge.store.model import Change, ChangeKind, Store
from kubeedge.store.reflector import PrefixView, follow_view
from kubeedge_cloud.bushub.actions import AddNextHop, AddRoute, Drop, PeerAction, RemoveNextHops
from kubeedge_cloud.bushub.peer_links import PeerLinks
from kubeedge_cloud.bushub.peer_table import Peer, PeerTable
from kubeedge_cloud.bushub.records import NextHop, decode_next_hop, decode_relay
from kubeedge_cloud.bushub.registration import Registration

log = logging.getLogger("kubeedge.bushub")

_BACKOFF = Backoff(0.5, 1.0)  # between two attempts to reach a peer


@dataclass(frozen=True, slots=True, kw_only=True)
class PeersSettings:
    """What this relay writes in its record for the others."""

    addresses: Sequence[str]  # "host:port" where other relays reach us
    first_number: NodeNumber = NodeNumber(256)  # behind the numbers of all nodes


class Peers:
    """`moved` is called for a node that another relay has now; `next_hop_changed` for each node whose next hop changed (None: no other relay has the node)."""

    def __init__(
        self,
        store: Store,
        settings: PeersSettings,
        *,
        moved: Callable[[NodeKey, NextHop], None],
        next_hop_changed: Callable[[NodeKey, NextHop | None, NextHop | None], None],
    ) -> None:
        self._store = store
        self._moved = moved
        self._next_hop_changed = next_hop_changed
        self.id = secrets.token_hex(6)
        self._registration = Registration(store, self.id, settings.addresses, settings.first_number, moved)
        self._table = PeerTable()
        self._dialling: dict[str, asyncio.Task[None]] = {}  # by ID of the relay
        self._plane: Plane | None = None
        self._links: PeerLinks | None = None

    # -- for the relay -------------------------------------------------------------------------------------------------

    @property
    def number(self) -> NodeNumber:
        """Ours, in every tenant; 0 before prepare()."""
        return self._registration.number

    @property
    def lease(self) -> int:
        """On which everything hangs that this relay has in the store."""
        return self._registration.lease

    @property
    def links(self) -> PeerLinks | None:
        """The links to other relays; None unless run() is under way."""
        return self._links

    async def prepare(self) -> NodeNumber:
        """A lease, our number, our record. Raises Unavailable."""
        return await self._registration.prepare()

    async def claim_address(self, tenant: TenantNumber, address: str) -> str:
        """Takes an address on a tenant's network for this process; "" when it is ours, else a message that names its owner."""
        return await self._registration.claim_address(tenant, address)

    def where(self, node: NodeKey) -> NextHop | None:
        """The next hop to a node; None when it is linked to no other relay."""
        return self._table.where(node)

    def names(self, tenant: TenantNumber) -> dict[NodeNumber, NodeName]:
        """The names of the tenant's nodes at other relays, by their numbers."""
        return self._table.names(tenant)

    def here(self, node: NodeKey, next_hop: NextHop) -> None:
        """The node is linked to us."""
        self._registration.here(node, next_hop)
        self.tenant(next_hop.tenant)

    def gone(self, node: NodeKey) -> None:
        """The node is not linked to us any more. Idempotent."""
        self._registration.gone(node)

    def tenant(self, tenant: TenantNumber) -> None:
        """Nodes of this tenant may talk to services of any relay."""
        if self._plane is not None:
            self._perform(self._table.tenant(tenant))

    def infos(self) -> list[dict[str, Any]]:
        """Rows for `kubeedge links`: the other relays, with the state of the link to each."""
        return [
            {
                "relay": peer.id,
                "addresses": list(peer.addresses),
                "state": "up" if peer.port is not None else "down",
                "rtt": self._links.rtt(peer.port) if self._links is not None and peer.port is not None else None,
                "nodes": self._table.nodes_at(peer.id),
            }
            for peer in self._table.peers
        ]

    # -- the module's tasks --------------------------------------------------------------------------------------------

    async def run(self, plane: Plane, tls: TlsContext) -> None:
        """After prepare(), until it is cancelled. Raises Unavailable when the relay has to start over."""
        self._plane = plane
        self._links = PeerLinks(plane, tls, self.id, self.number, up=self._on_up, down=self._on_down)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._registration.run(), name="registration of the relay")
                tasks.create_task(self._follow(), name="other relays")
                tasks.create_task(self._links.run(), name="links between relays")
        finally:
            dialling = list(self._dialling.values())
            for task in dialling:
                task.cancel()
            await asyncio.gather(*dialling, return_exceptions=True)
            self._dialling.clear()

    async def _follow(self) -> None:
        view = PrefixView(self._store, keys.BUS, keep=bytes)
        async with aclosing(follow_view(view)) as steps:
            async for changed in steps:
                for key in sorted(changed):
                    value = view.values.get(key)
                    kind = ChangeKind.DELETE if value is None else ChangeKind.PUT
                    self._apply(Change(kind, key, value or b"", view.revision))
        raise Unavailable("the store was closed")

    def _apply(self, change: Change) -> None:
        if change.key.startswith(keys.RELAYS):
            self._on_relay(change.key.removeprefix(keys.RELAYS), change)
        elif change.key.startswith(keys.LINKED):
            tenant, _, name = change.key.removeprefix(keys.LINKED).partition("/")
            self._on_node((TenantId(tenant), NodeName(name)), change)

    # -- what others say -----------------------------------------------------------------------------------------------

    def _on_relay(self, id: str, change: Change) -> None:
        if id == self.id:
            return
        if change.kind is ChangeKind.DELETE:
            if self._table.get(id) is not None:
                log.info("relay %s is gone", id)
            if (task := self._dialling.pop(id, None)) is not None:
                task.cancel()
            self._perform(self._table.remove(id))
            return
        record = decode_relay(change.value)
        if record is None:
            log.warning("%s is not a valid record of a relay", change.key)
            return
        new, actions = self._table.put(id, record)
        self._perform(actions)
        if not new:
            return
        assert self._links is not None
        for port in self._links.of(id):  # it dialled us before we knew it
            self._on_up(id, port)
        if self.id < id and (peer := self._table.get(id)) is not None:
            dialling = self._keep_peer(self._links, peer)
            self._dialling[id] = asyncio.create_task(dialling, name=f"link to relay {id}")

    async def _keep_peer(self, links: PeerLinks, peer: Peer) -> None:
        attempt = 0
        while True:
            link = await links.dial(peer.id, peer.addresses[attempt % len(peer.addresses)])
            if link is not None:
                await link.done.wait()
                attempt = 0 if link.core.rtt is not None else attempt
            attempt += 1
            await asyncio.sleep(_BACKOFF.delay(attempt))

    def _on_node(self, node: NodeKey, change: Change) -> None:
        next_hop = decode_next_hop(change.value) if change.kind is ChangeKind.PUT else None
        if next_hop is not None and next_hop.relay == self.id:
            next_hop = None  # not at another relay
        older, actions = self._table.move(node, next_hop)
        self._perform(actions)
        if next_hop is not None and self._registration.lost(node, change.revision):
            self._moved(node, next_hop)
        if next_hop != older:
            self._next_hop_changed(node, older, next_hop)

    # -- links to other relays -----------------------------------------------------------------------------------------

    def _on_up(self, id: str, port: PortId) -> None:
        if self._table.get(id) is None or self._plane is None or not self._plane.admit_peer(port):
            return  # its record will come, or its PortClosed
        log.info("link up relay=%s", id)
        self._perform(self._table.up(id, port))

    def _on_down(self, id: str, port: PortId, reason: str) -> None:
        if self._table.down(id, port):
            log.info("link down relay=%s: %s", id, reason)

    def _perform(self, actions: Sequence[PeerAction]) -> None:
        if self._plane is None:
            return
        for action in actions:
            match action:
                case Drop(port, reason):
                    self._plane.drop(port, reason)
                case AddRoute(tenant, prefix, number):
                    self._plane.add_route(tenant, prefix, number)
                case AddNextHop(tenant, number, port):
                    self._plane.add_next_hop(tenant, number, port)
                case RemoveNextHops(tenant, number):
                    self._plane.remove_next_hops(tenant, number)
