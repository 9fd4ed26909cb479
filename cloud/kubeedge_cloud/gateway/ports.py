"""What Gateways may listen at. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kubeedge.gateway.model import WEB, ListenPoint


@dataclass(frozen=True, slots=True)
class GatewayPorts:
    """What Gateways may listen at. `http`, `https`: the ports that the web listener stands for, by what it speaks; empty: it does not.
    `every`: of a node: all ports of the addresses that are shared, each with what the first Gateway speaks there.
    `shared`: further ports of the cloud's addresses, with HTTP, TLS or TCP. `addresses`: each for one Gateway, `per_tenant` at most.
    """

    http: frozenset[int] = frozenset()
    https: frozenset[int] = frozenset()
    shared: Mapping[int, str] = field(default_factory=dict)
    addresses: tuple[str, ...] = ()
    per_tenant: int = 0
    every: bool = False

    def point(self, port: int, family: str, address: str = "") -> ListenPoint | None:
        """Of a listener that speaks HTTP, TLS or TCP; None: not at this port."""
        if address or self.every:
            return ListenPoint(address, port)
        if port in {"HTTP": self.http, "TLS": self.https}.get(family, ()):
            return WEB
        return ListenPoint("", port) if self.shared.get(port) == family else None

    def of_family(self, family: str) -> list[int]:
        """The ports of the cloud's addresses where that is spoken."""
        own = {"HTTP": self.http, "TLS": self.https}.get(family, frozenset())
        return sorted(own | {port for port, spoken in self.shared.items() if spoken == family})

    def of_ingress(self, scheme: str) -> list[ListenPoint]:
        """Where Ingresses are served: the web listener, or the ports that everybody means."""
        port, family = {"http": (80, "HTTP"), "https": (443, "TLS")}[scheme]
        found = self.point(port, family)
        return [] if found is None else [found]
