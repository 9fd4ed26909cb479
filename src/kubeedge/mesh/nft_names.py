"""What both of our tables say to nft in the same words: families, types of addresses, names made of content. Pure.

Lives elsewhere: the tables (ruleset.py, packet_filter.py), the program (nft.py).
"""

from __future__ import annotations

import hashlib

FAMILY = {4: "ip", 6: "ip6"}  # of a table, by the version of IP
ADDRESS_TYPE = {4: "ipv4_addr", 6: "ipv6_addr"}  # of an element


def short_digest(*parts: object) -> str:
    """16 hexadecimal digits for a name: equal parts have the same."""
    return hashlib.blake2s(repr([str(part) for part in parts]).encode(), digest_size=8).hexdigest()
