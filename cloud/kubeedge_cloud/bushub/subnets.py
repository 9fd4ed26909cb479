"""Which networks are behind which node of a tenant. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

from kubeedge.api.names import NodeNumber
from kubeedge.kubebus.l2.messages import MAX_ROUTES, Subnet

MAX_SUBNETS = 60  # behind one node: the data plane checks at most 64 sources of a link


@dataclass(frozen=True, slots=True)
class RouteChange:
    """`number` None: no node offers the network any more."""

    subnet: Subnet
    number: NodeNumber | None


class SubnetTable:
    """Networks behind the nodes of one tenant. Two routers may offer one network: the first has it, the other when the first is away."""

    def __init__(self) -> None:
        self._offers: dict[str, dict[NodeNumber, Subnet]] = {}  # prefix -> number -> as it was offered
        self._away: set[NodeNumber] = set()
        self._chosen: dict[str, NodeNumber] = {}

    def routes(self, *, without: NodeNumber | None = None) -> list[Subnet]:
        """The subnets that a node is told of: all but its own."""
        return [self._offers[p][n] for p, n in sorted(self._chosen.items()) if n != without]

    def owner(self, prefix: str) -> NodeNumber | None:
        """The number of the node that has the network now; None: no node that is here offers it."""
        return self._chosen.get(prefix)

    def offer(self, number: NodeNumber, subnets: Sequence[Subnet]) -> list[RouteChange]:
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

    def away(self, number: NodeNumber) -> list[RouteChange]:
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
