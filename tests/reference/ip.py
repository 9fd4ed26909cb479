"""IPv4 and IPv6 headers (RFC 791, RFC 8200): as much as forwarding, checksums and logs need. No options, no reassembly."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from kubeedge.wire_format.checksum import checksum, ones_sum

TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58

_V4 = struct.Struct("!BBHHHBBH4s4s")
_V6 = struct.Struct("!IHBB16s16s")


@dataclass(frozen=True, slots=True)
class IpHeader:
    version: int
    source: bytes  # 4 or 16 bytes
    destination: bytes
    protocol: int  # of IPv6: the first "next header", which may be an extension
    ttl: int  # hop limit
    length: int  # of the header, with the options of IPv4
    total: int  # of the packet
    transport: int | None  # where the transport header starts; None in fragments and behind IPv6 extension headers


def parse(packet: bytes | bytearray | memoryview) -> IpHeader | None:
    """None: not a whole IP packet, or with bytes behind its end."""
    if len(packet) < 20:
        return None
    version = packet[0] >> 4
    if version == 4:
        first, _, total, _, fragment, ttl, protocol, _, source, destination = _V4.unpack_from(packet)
        length = (first & 15) * 4
        if length < 20 or length > total or total != len(packet):
            return None
        return IpHeader(4, source, destination, protocol, ttl, length, total, None if fragment & 0x3FFF else length)
    if version == 6 and len(packet) >= 40:
        _, payload, protocol, ttl, source, destination = _V6.unpack_from(packet)
        if payload + 40 != len(packet):
            return None
        transport = 40 if protocol in (TCP, UDP, ICMPV6) else None
        return IpHeader(6, source, destination, protocol, ttl, 40, payload + 40, transport)
    return None


def ipv4(
    source: bytes, destination: bytes, protocol: int, payload: bytes, *, ttl: int = 64, identification: int = 0
) -> bytes:
    """A packet with a right header checksum. The payload's checksum is the caller's."""
    header = _V4.pack(0x45, 0, 20 + len(payload), identification, 0, ttl, protocol, 0, source, destination)
    return header[:10] + checksum(header).to_bytes(2, "big") + header[12:] + payload


def ipv6(source: bytes, destination: bytes, protocol: int, payload: bytes, *, hop_limit: int = 64) -> bytes:
    return _V6.pack(6 << 28, len(payload), protocol, hop_limit, source, destination) + payload


def pseudo_header_sum(source: bytes, destination: bytes, protocol: int, length: int) -> int:
    """The sum that TCP and UDP checksums start from; `length` is that of the transport header and its payload."""
    return ones_sum(source + destination, protocol + length)
