"""ICMP errors (RFC 792, RFC 1812 section 4.3, RFC 4443), as bytes. The reference implementation of _fastpath/packet/icmp.c."""

from __future__ import annotations

import enum

from kubeedge.wire_format.checksum import checksum
from tests.reference.ip import ICMP, ICMPV6, IpHeader, ipv4, ipv6, pseudo_header_sum

_QUESTIONS = {0, 8, *range(13, 19)}  # the ICMP types that get errors
_EXTENSIONS = {0, 43, 44, 60}
_FRAGMENT = 44


class Error(enum.Enum):
    """(type, code) of IPv4, then of IPv6"""

    TTL_EXCEEDED = (11, 0, 3, 0)
    NO_ROUTE = (3, 0, 1, 0)
    NO_LINK = (3, 1, 1, 3)
    TOO_BIG = (3, 4, 2, 0)


def may_answer(packet: bytes, ip: IpHeader) -> bool:
    """May an ICMP error answer this packet? Not errors, later fragments, nor what has no one sender or receiver."""
    if ip.version == 6:
        return (
            ip.source[0] != 0xFF
            and any(ip.source)
            and ip.destination[0] != 0xFF
            and not _is_error6(packet, ip.protocol)
        )
    later = int.from_bytes(packet[6:8], "big") & 0x1FFF
    if later or ip.source[0] in (0, 127) or ip.source[0] >= 224 or ip.destination[0] >= 224:
        return False
    return ip.protocol != ICMP or (ip.length < len(packet) and packet[ip.length] in _QUESTIONS)


def _is_error6(packet: bytes, protocol: int) -> bool:
    at = 40
    for _ in range(8):
        if protocol == ICMPV6:
            return at >= len(packet) or packet[at] < 128
        if protocol not in _EXTENSIONS:
            return False
        if at + 8 > len(packet):
            return True
        if protocol == _FRAGMENT and int.from_bytes(packet[at + 2 : at + 4], "big") & 0xFFF8:
            return True
        length = 8 if protocol == _FRAGMENT else (packet[at + 1] + 1) * 8
        protocol = packet[at]
        at += length
    return True


def error(packet: bytes, ip: IpHeader, what: Error, source: bytes, *, mtu: int = 0) -> bytes:
    """The answer from `source` (4 or 16 bytes) to the packet's sender, with as much of the packet as fits."""
    six = ip.version == 6
    kind, code = what.value[2:] if six else what.value[:2]
    rest = mtu.to_bytes(4, "big") if what is Error.TOO_BIG else bytes(4)
    body = bytes((kind, code)) + bytes(2) + rest + packet[: 1280 - 48 if six else 576 - 28]
    pseudo = pseudo_header_sum(source, ip.source, ICMPV6, len(body)) if six else 0
    body = body[:2] + checksum(body, pseudo).to_bytes(2, "big") + body[4:]
    if six:
        return ipv6(source, ip.source, ICMPV6, body)
    made = bytearray(ipv4(source, ip.source, ICMP, body))
    made[1] = 0xC0  # internetwork control (RFC 1812, 4.3.2.5)
    made[10:12] = bytes(2)
    made[10:12] = checksum(made[:20]).to_bytes(2, "big")
    return bytes(made)
