"""Routes to the cluster IPs of IPv6, for the node itself and for pods on its network.

What a machine sends is translated after its route was found, so there has to be one; of IPv4 the machine's own default route serves, but few machines at
the edge have one of IPv6. So the networks of the cluster IPs that this node knows lead to the overlay's interface, with the node's address there.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Iterable

from kubeedge.kit.dataclasses import dataclass
from kubeedge.kit.ip import IpAddress
from kubeedge.kubebus.l3.netlink import Netlink, Route

log = logging.getLogger("kubeedge.mesh")

_BITS = 112  # of the usual network of Services; a larger one is several of these
MAX_ROUTES = 64
_METRIC = 5000  # what the machine knows by itself comes first


def networks_of(addresses: Iterable[IpAddress]) -> list[ipaddress.IPv6Network]:
    """Those that the addresses of IPv6 are in, the lowest MAX_ROUTES of them."""
    found = {
        ipaddress.IPv6Network((int(a) >> (128 - _BITS) << (128 - _BITS), _BITS)) for a in addresses if a.version == 6
    }
    return sorted(found)[:MAX_ROUTES]


@dataclass(slots=True)
class ServiceRoutes:
    """`interface`: of the overlay, `source`: the node's address there."""

    interface: str
    source: ipaddress.IPv6Address
    _index: int = 0  # of the interface that has the routes
    _set: frozenset[ipaddress.IPv6Network] = frozenset()
    _seen: int = -1  # generation of the addresses that have routes
    _problem: str = ""

    def want(self, addresses: Iterable[IpAddress], generation: int) -> None:
        """The routes to these, and no others. Nothing is done when they are there, by the generation of the addresses; what the kernel refuses is tried
        again with the next call."""
        try:
            index = socket.if_nametoindex(self.interface)
        except OSError:
            self._index = 0  # its routes went with it
            return
        if index == self._index and generation == self._seen:
            return
        wanted, before = set(networks_of(addresses)), self._set if index == self._index else frozenset()
        try:
            with Netlink() as kernel:
                for network in before - wanted:
                    kernel.remove_route(Route(network, index, metric=_METRIC))
                for network in wanted - before:
                    kernel.replace_route(Route(network, index, metric=_METRIC, source=self.source))
        except OSError as exc:
            if str(exc) != self._problem:
                log.warning("this node does not reach Services by IPv6: %s", exc)
            self._problem = str(exc)
            return
        self._index, self._set, self._seen, self._problem = index, frozenset(wanted), generation, ""
