"""Addresses and networks of either version of IP. Pure."""

from __future__ import annotations

import ipaddress
from typing import TypeAlias

IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


def address_of(text: str) -> IpAddress:
    """Of an address that others have written. Raises ValueError, also for one with a zone (RFC 4007: fe80::1%eth0): that is an interface of one
    machine, and to `ipaddress` any text whatever, which would be in all that is written with the address."""
    return ipaddress.ip_address(_without_zone(text))


def network_of(text: str) -> IpNetwork:
    """Of a network that others have written; bits of a host are cleared. Raises ValueError, also for one with a zone."""
    return ipaddress.ip_network(_without_zone(text), strict=False)


def _without_zone(text: str) -> str:
    if "%" in text:
        raise ValueError(f"{text!r:.60} has a zone")
    return text
