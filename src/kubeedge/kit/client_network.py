"""Which addresses count as one client. Pure."""

from __future__ import annotations

import ipaddress


def client_network(address: str) -> str:
    """An IPv4 address, also when IPv6 carries it; of IPv6 the /64, in which one customer has as many addresses as he likes. What is no
    address counts as itself."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.IPv6Network((ip, 64), strict=False))
