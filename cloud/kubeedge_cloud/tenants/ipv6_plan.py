"""Where nodes and pods live in IPv6: the part of the address plan that a cloud without `addresses.podsIpv6` does not have. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Network

from kubeedge.api.names import NodeNumber
from kubeedge.api.node_ipv6 import NONE, NodeIpv6
from kubeedge.errors import Invalid

_MAX_NUMBER = 65_535  # of nodes and of processes of the cloud


@dataclass(frozen=True, slots=True)
class Ipv6Plan:
    """Node n has the n-th network of `node_bits` in `pods`, and the n-th address of `overlay`; those of number 0 stay empty, as in IPv4. Raises
    Invalid for a plan without room for a node."""

    pods: str
    node_bits: int = 64
    overlay: str = "fd00:100:64::/64"

    def __post_init__(self) -> None:
        if not self._network.prefixlen < self.node_bits <= 112:
            raise Invalid(
                f"a node's pods need a prefix between {self._network.prefixlen + 1} and 112 bits, not {self.node_bits}",
                path="addresses.nodeBitsIpv6",
            )
        if self._overlay.prefixlen > 112:
            raise Invalid(
                f"the overlay {self.overlay} is too small: its prefix has at most 112 bits",
                path="addresses.overlayIpv6",
            )
        if self._overlay.overlaps(self._network):
            raise Invalid(f"the overlay {self.overlay} and the pods {self.pods} have addresses in common")

    @property
    def _network(self) -> IPv6Network:
        return _network(self.pods)

    @property
    def _overlay(self) -> IPv6Network:
        return _network(self.overlay)

    def overlaps(self, network: IPv6Network) -> bool:
        """Whether that has addresses of nodes or pods."""
        return network.overlaps(self._network) or network.overlaps(self._overlay)

    @property
    def networks(self) -> tuple[str, str]:
        """Of all nodes, and of all pods."""
        return self.overlay, self.pods

    @property
    def nodes(self) -> int:
        """How many nodes can have addresses for pods."""
        return (1 << min(16, self.node_bits - self._network.prefixlen)) - 1

    def of(self, number: NodeNumber, pod_cidr: str = "") -> NodeIpv6:
        """What the node with that number has; NONE when there is no room for it. `pod_cidr`: what a cluster has given it, in place of ours."""
        if not pod_cidr:
            if not 1 <= number <= self.nodes:
                return NONE
            first = int(self._network.network_address) + (number << (128 - self.node_bits))
            pod_cidr = str(IPv6Network((first, self.node_bits)))
        return NodeIpv6(address=self.address(number), pod_cidr=pod_cidr, pod_network=self.pods)

    def address(self, number: int) -> str:
        """On the overlay, with its prefix length. Raises Invalid."""
        if not 1 <= number <= _MAX_NUMBER:
            raise Invalid(f"number {number} is not between 1 and {_MAX_NUMBER}")
        return f"{self._overlay[number]}/{self._overlay.prefixlen}"

    def has(self, pod_cidr: str) -> bool:
        """Whether these are addresses within those of all pods."""
        try:
            return IPv6Network(pod_cidr).subnet_of(self._network)
        except ValueError:
            return False


def _network(text: str) -> IPv6Network:
    try:
        return IPv6Network(text)
    except ValueError as exc:
        raise Invalid(f"{text!r} is not an IPv6 network") from exc
