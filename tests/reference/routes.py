"""Longest-prefix match, as one reads it: the specification of _fastpath/plane/routes.h, and the table of the readable data plane.

A table maps prefixes ("10.244.3.0/24", "2001:db8::/64") to numbers of nodes. An address goes where the longest prefix that contains it says;
a default route is the prefix of length 0. IPv4 and IPv6 never meet, also not as mapped addresses.

    Lives here:      one tenant's table.
    Lives elsewhere: tenants (the data plane), who gets which prefix (the relay).
"""

from __future__ import annotations

import ipaddress
from typing import TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


class Routes:
    """One dictionary for each length of prefix; a lookup asks them from the longest to the shortest."""

    __slots__ = ("_tables",)

    def __init__(self) -> None:
        self._tables: dict[int, dict[int, dict[int, tuple[int, int]]]] = {
            4: {},
            6: {},
        }  # version -> bits -> network -> route

    def add(self, prefix: str, number: int, mtu: int = 0) -> None:
        """`mtu` is that of the networks behind the node, 0 when it is not known. A second route of the same prefix replaces the first. Raises ValueError for bits behind the prefix length."""
        network = ipaddress.ip_network(prefix)
        table = self._tables[network.version].setdefault(network.prefixlen, {})
        table[int(network.network_address)] = (number, mtu)

    def remove(self, prefix: str) -> None:
        network = ipaddress.ip_network(prefix)
        lengths = self._tables[network.version]
        table = lengths.get(network.prefixlen, {})
        table.pop(int(network.network_address), None)
        if not table:
            lengths.pop(network.prefixlen, None)

    def lookup(self, address: str | bytes) -> int | None:
        """The node's number. `address` as text, or as the 4 or 16 bytes of a packet."""
        route = self.route(address)
        return None if route is None else route[0]

    def route(self, address: str | bytes) -> tuple[int, int] | None:
        """(number, mtu) of the longest prefix"""
        ip: Address = ipaddress.ip_address(address)
        value, width = int(ip), ip.max_prefixlen
        lengths = self._tables[ip.version]
        for bits in sorted(lengths, reverse=True):
            route = lengths[bits].get(value >> (width - bits) << (width - bits))
            if route is not None:
                return route
        return None

    def __len__(self) -> int:
        return sum(len(table) for lengths in self._tables.values() for table in lengths.values())
