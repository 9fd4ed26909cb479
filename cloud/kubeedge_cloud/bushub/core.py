"""Who is linked here, and which networks are behind whom. Pure: decisions only.

A node has links of one instance of its agent, one in each slot. A link of another instance replaces them: the agent started anew. An instance
that was replaced and comes back while the other one is alive is proof of two machines with one identity: it is refused, and so the
two do not take turns for ever.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network

from kubeedge.api.names import NodeName, TenantId
from kubeedge.kubebus.l2.core import MAX_ROUTES, Subnet

NodeKey = tuple[TenantId, NodeName]
DUPLICATE_RETRY_AFTER = 60.0  # seconds that a refused duplicate stays away
MAX_SUBNETS = 60  # behind one node: the data plane checks at most 64 sources of a link


@dataclass(slots=True)
class LinkedNode:
    instance: str
    slots: dict[int, int] = field(default_factory=dict)  # slot -> port
    replaced: deque[str] = field(default_factory=lambda: deque(maxlen=4))  # instances
    refused: int = 0  # links of a duplicate
    duplicate_at: float = 0.0  # when the last one came


@dataclass(frozen=True, slots=True)
class JoinDecision:
    """`refuse`: why the link may not join. `drop`: ports that give way to it, and why."""

    refuse: str = ""
    drop: Sequence[tuple[int, str]] = ()


class LinkedNodes:
    def __init__(self) -> None:
        self._members: dict[NodeKey, LinkedNode] = {}

    def get(self, node: NodeKey) -> LinkedNode | None:
        """Only of nodes that are linked."""
        member = self._members.get(node)
        return member if member is not None and member.slots else None

    def join(
        self, node: NodeKey, instance: str, slot: int, port: int, now: float, *, elsewhere: str = ""
    ) -> JoinDecision:
        """`elsewhere`: the instance that is linked to another relay, if one is."""
        member = self._members.setdefault(node, LinkedNode(instance))
        if instance and instance in member.replaced and (member.slots or elsewhere not in ("", instance)):
            member.refused += 1
            member.duplicate_at = now
            return JoinDecision(
                refuse=f"another machine uses the identity of node {node[1]}; reset one of the two (`kubeedge reset`) and join it under a name of its own"
            )
        drop: list[tuple[int, str]] = []
        if member.instance != instance:
            drop = [(p, "the agent of this node was started anew") for p in member.slots.values()]
            member.slots.clear()
            self.replaced(node, member.instance)
            member.instance = instance
        elif (older := member.slots.get(slot)) is not None and older != port:
            drop = [(older, "the node has a newer link")]
        member.slots[slot] = port
        return JoinDecision(drop=tuple(drop))

    def replaced(self, node: NodeKey, instance: str) -> None:
        member = self._members.setdefault(node, LinkedNode(instance))
        if instance and instance not in member.replaced:
            member.replaced.append(instance)

    def leave(self, node: NodeKey, port: int) -> bool:
        """True: that was the node's last link."""
        member = self._members.get(node)
        if member is None:
            return False
        slots = [slot for slot, p in member.slots.items() if p == port]
        for slot in slots:
            del member.slots[slot]
        return bool(slots) and not member.slots

    def forget(self, node: NodeKey) -> None:
        """The node was removed."""
        member = self._members.get(node)
        if member is not None and not member.slots:
            del self._members[node]


@dataclass(frozen=True, slots=True)
class RouteChange:
    """`number` None: nobody is there any more."""

    subnet: Subnet
    number: int | None


class SubnetTable:
    """Networks behind the nodes of one tenant. Two routers may offer one network: the first has it, the other when the first is away."""

    def __init__(self) -> None:
        self._offers: dict[str, dict[int, Subnet]] = {}  # prefix -> number -> as it was offered
        self._away: set[int] = set()
        self._chosen: dict[str, int] = {}

    def routes(self, *, without: int = -1) -> list[Subnet]:
        """For a node: everything but its own."""
        return [self._offers[p][n] for p, n in sorted(self._chosen.items()) if n != without]

    def owner(self, prefix: str) -> int | None:
        return self._chosen.get(prefix)

    def offer(self, number: int, subnets: Sequence[Subnet]) -> list[RouteChange]:
        """What is behind the node from now on; it is here."""
        self._away.discard(number)
        new = {s.prefix: s for s in subnets}
        touched = {p for p, offers in self._offers.items() if number in offers and offers[number] != new.get(p)}
        for prefix in touched - new.keys():
            del self._offers[prefix][number]
        for prefix, subnet in new.items():
            if prefix not in self._offers and len(self._offers) >= MAX_ROUTES:
                continue
            if self._offers.setdefault(prefix, {}).get(number) != subnet:
                self._offers[prefix][number] = subnet
                touched.add(prefix)
            elif self._chosen.get(prefix) in self._away:
                touched.add(prefix)
        return self._choose(touched, again={p for p in touched if self._chosen.get(p) == number})

    def away(self, number: int) -> list[RouteChange]:
        """The node has no link. Its networks stay its own unless another offers them: a short outage changes nothing."""
        self._away.add(number)
        return self._choose({p for p, n in self._chosen.items() if n == number})

    def _choose(self, prefixes: set[str], again: set[str] = frozenset()) -> list[RouteChange]:  # type: ignore[assignment]
        changes = []
        for prefix in sorted(prefixes):
            offers = self._offers.get(prefix, {})
            now = self._chosen.get(prefix)
            here = [n for n in offers if n not in self._away]
            best = now if now in here else here[0] if here else now if now in offers else next(iter(offers), None)
            if best is None:
                self._offers.pop(prefix, None)
                if self._chosen.pop(prefix, None) is not None:
                    changes.append(RouteChange(Subnet(prefix), None))
            elif best != now or prefix in again:
                self._chosen[prefix] = best
                changes.append(RouteChange(offers[best], best))
        return changes


def allowed(
    offered: Sequence[Subnet], allowed: Sequence[str], reserved: Sequence[str]
) -> tuple[list[Subnet], list[str]]:
    """(what the node may offer, prefixes that it may not). A subnet must lie in one that is allowed and outside of the overlay."""
    inside = [ip_network(text) for text in allowed]
    outside = [ip_network(text) for text in reserved]
    good: list[Subnet] = []
    bad: list[str] = []
    for subnet in offered:
        network = ip_network(subnet.prefix)
        fits = any(_within(network, a) for a in inside) and not any(network.overlaps(r) for r in outside)
        if fits and len(good) < MAX_SUBNETS:
            good.append(subnet)
        else:
            bad.append(subnet.prefix)
    return good, bad


def _within(network: IPv4Network | IPv6Network, outer: IPv4Network | IPv6Network) -> bool:
    if isinstance(network, IPv4Network) and isinstance(outer, IPv4Network):
        return network.subnet_of(outer)
    return isinstance(network, IPv6Network) and isinstance(outer, IPv6Network) and network.subnet_of(outer)
