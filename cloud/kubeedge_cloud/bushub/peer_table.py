"""Other relays, and which of them each node is linked to. Pure.

Nodes of a tenant may talk to services of any relay, so each relay is a next hop for its own number in every tenant that has nodes here or there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kubeedge.api.names import NodeKey, NodeName, NodeNumber, PortId, TenantNumber
from kubeedge_cloud.bushub.actions import AddNextHop, AddRoute, Drop, PeerAction, RemoveNextHops
from kubeedge_cloud.bushub.records import NextHop, RelayRecord


@dataclass(slots=True)
class Peer:
    """Another relay, while its record is there."""

    id: str
    addresses: Sequence[str]
    number: NodeNumber  # in L4
    tun: tuple[TenantNumber, str] | None  # tenant number and address of its own interface
    port: PortId | None = None  # of the link that is up


class PeerTable:
    """Each change returns the actions that the data plane has to perform, in order."""

    def __init__(self) -> None:
        self._peers: dict[str, Peer] = {}
        self._next_hops: dict[NodeKey, NextHop] = {}  # of nodes at other relays
        self._tenants: set[TenantNumber] = set()

    @property
    def peers(self) -> list[Peer]:
        """All relays that have a record, linked or not."""
        return list(self._peers.values())

    def get(self, id: str) -> Peer | None:
        """The relay with that ID; None when none has a record."""
        return self._peers.get(id)

    def where(self, node: NodeKey) -> NextHop | None:
        """The next hop to a node; None when it is linked to no other relay."""
        return self._next_hops.get(node)

    def names(self, tenant: TenantNumber) -> dict[NodeNumber, NodeName]:
        """The names of the tenant's nodes at other relays, by their numbers."""
        return {hop.number: node[1] for node, hop in self._next_hops.items() if hop.tenant == tenant}

    def nodes_at(self, id: str) -> int:
        """The number of nodes that are linked to a relay."""
        return sum(hop.relay == id for hop in self._next_hops.values())

    def put(self, id: str, record: RelayRecord) -> tuple[bool, list[PeerAction]]:
        """(whether the relay is a new one, what follows) of its record."""
        if (known := self._peers.get(id)) is not None:
            known.tun = record.tun
            return False, self._route_to(known)
        self._peers[id] = Peer(id, record.addresses, record.number, record.tun)
        return True, []

    def remove(self, id: str) -> list[PeerAction]:
        """The relay's record is gone: its link, if any, has to be dropped."""
        peer = self._peers.pop(id, None)
        return [Drop(peer.port, "that relay is gone")] if peer is not None and peer.port is not None else []

    def up(self, id: str, port: PortId) -> list[PeerAction]:
        """The data plane has admitted a link to a relay that is known."""
        peer = self._peers[id]
        older, peer.port = peer.port, port
        actions: list[PeerAction] = []
        if older is not None and older != port:
            actions.append(Drop(older, "the relay has a newer link"))
        actions += [AddNextHop(tenant, peer.number, port) for tenant in self._tenants]
        actions += self._route_to(peer)
        actions += [AddNextHop(h.tenant, h.number, port) for h in self._next_hops.values() if h.relay == id]
        return actions

    def down(self, id: str, port: PortId) -> bool:
        """Whether that was the link that was up."""
        peer = self._peers.get(id)
        if peer is None or peer.port != port:
            return False
        peer.port = None
        return True

    def tenant(self, tenant: TenantNumber) -> list[PeerAction]:
        """There are nodes of that tenant number."""
        if tenant in self._tenants:
            return []
        self._tenants.add(tenant)
        return [AddNextHop(tenant, p.number, p.port) for p in self._peers.values() if p.port is not None]

    def move(self, node: NodeKey, next_hop: NextHop | None) -> tuple[NextHop | None, list[PeerAction]]:
        """(the next hop that the node had, what follows); None: it is at no other relay."""
        actions: list[PeerAction] = []
        older = self._next_hops.pop(node, None)
        if older is not None:
            actions.append(RemoveNextHops(older.tenant, older.number))
        if next_hop is not None:
            self._next_hops[node] = next_hop
            actions += self.tenant(next_hop.tenant)
            actions += [AddRoute(next_hop.tenant, prefix, next_hop.number) for prefix in next_hop.prefixes]
            peer = self._peers.get(next_hop.relay)
            if peer is not None and peer.port is not None:
                actions.append(AddNextHop(next_hop.tenant, next_hop.number, peer.port))
        return older, actions

    def _route_to(self, peer: Peer) -> list[PeerAction]:
        """Its own address, when it has one and a link."""
        if peer.tun is None or peer.port is None:
            return []
        tenant, address = peer.tun
        return [
            AddRoute(tenant, address.split("/")[0] + "/32", peer.number),
            AddNextHop(tenant, peer.number, peer.port),
        ]
