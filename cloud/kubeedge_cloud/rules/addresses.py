"""Which addresses a tenant's rule may have this process connect to. Pure.

A tenant names a URL, and the cloud's machine is where it is asked from: so nothing that is reached from here and not from the Internet, and nothing of
this machine, unless the operator allows it (`rules.allowedTargets`). Addresses within which another one travels count as that one.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from typing import TypeAlias

TargetNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_UNICAST = ipaddress.IPv6Network("2000::/3")  # all of IPv6 that is routed in the Internet


def refusal(text: str, allowed: Sequence[TargetNetwork], is_own: Callable[[str], bool]) -> str:
    """Why that address may not be connected to; "": it may. `is_own`: this machine has the address."""
    try:
        address = _meant(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return f"{text[:64]} is no address"
    if any(address.version == network.version and address in network for network in allowed):
        return ""
    is_foreign = isinstance(address, ipaddress.IPv6Address) and address not in _UNICAST
    if is_foreign or not address.is_global or address.is_multicast:
        return f"{address} is no address of the Internet (rules.allowedTargets)"
    if is_own(str(address)):
        return f"{address} is this machine (rules.allowedTargets)"
    return ""


def _meant(address: _Address) -> _Address:
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address
