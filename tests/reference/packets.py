"""Packets with a virtio header: what may pass, time to live, checksums, segmentation. The reference implementation of _fastpath/packet.

A PACKET frame is Linux' struct virtio_net_hdr (VIRTIO 1.2, 5.1.6; little endian here) and an IP packet. The header says what the
sender's kernel left to do: a checksum to complete, a large packet to cut. It comes from another machine, so it is checked before
a kernel sees it.

    0       1          2              4              6                8                 10
    +-------+----------+--------------+--------------+----------------+-----------------+
    | flags | gso_type | hdr_len      | gso_size     | csum_start     | csum_offset     |
    +-------+----------+--------------+--------------+----------------+-----------------+
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from kubeedge.wire_format.checksum import checksum
from kubeedge.wire_format.frame import MAX_PACKET_BYTES, VNET_HEADER
from tests.reference.ip import ICMP, ICMPV6, TCP, UDP, IpHeader, parse, pseudo_header_sum

NEEDS_CSUM, DATA_VALID = 1, 2
GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, GSO_ECN = 0, 1, 4, 5, 0x80
MAX_GSO_PACKETS = 1024  # of one large packet; 64 KiB in the smallest segments that TCP makes of it are fewer
NO_HEADER = bytes(VNET_HEADER)

_VNET = struct.Struct("<BBHHHH")
_FIN, _SYN, _PSH, _CWR = 0x01, 0x02, 0x08, 0x80
#: protocol -> where its checksum is
_CHECKSUM_AT = {TCP: 16, UDP: 6}


@dataclass(frozen=True, slots=True)
class Checked:
    ip: IpHeader
    flow: int  # the same for all packets of a connection in one direction
    unit: int  # bytes of the largest packet that it makes on a wire
    whole: bool  # it must not be fragmented
    syn: bool  # it opens a TCP connection
    urgent: bool  # small and alone (ICMP, a bare TCP acknowledgement): it may overtake bulk


def check(frame: bytes | bytearray) -> Checked | None:
    """None: not fit for any TUN."""
    if not VNET_HEADER + 20 <= len(frame) <= MAX_PACKET_BYTES:
        return None
    flags, gso, _, gso_size, start, offset = _VNET.unpack_from(frame)
    packet = memoryview(frame)[VNET_HEADER:]
    ip = parse(packet)
    if ip is None or flags & ~(NEEDS_CSUM | DATA_VALID):
        return None
    known = ip.transport is not None and ip.protocol in (TCP, UDP) and start == ip.transport
    if flags & NEEDS_CSUM:
        if start < ip.length or start + offset + 2 > ip.total:
            return None  # it would change addresses that were checked
        if ip.transport is None and ip.version == 4:
            return None  # a fragment has no checksum to complete
        if known and offset != _CHECKSUM_AT[ip.protocol]:
            return None
    if gso != GSO_NONE:
        if not (flags & NEEDS_CSUM and known and gso_size) or not _gso_fits(gso, ip):
            return None
        header = _headers(packet, ip)
        if header is None or not 0 < ip.total - header <= gso_size * MAX_GSO_PACKETS:
            return None
    headers = _headers(packet, ip) or ip.total
    return Checked(
        ip,
        _flow(packet, ip),
        unit=ip.total if gso == GSO_NONE else headers + gso_size,
        whole=ip.version == 6 or bool(packet[6] & 0x40),
        syn=_is_syn(packet, ip),
        urgent=gso == GSO_NONE and _is_urgent(packet, ip),
    )


def _is_syn(packet: memoryview | bytearray, ip: IpHeader) -> bool:
    at = ip.transport
    return at is not None and ip.protocol == TCP and at + 20 <= ip.total and bool(packet[at + 13] & _SYN)


def mix(a: int, b: int) -> int:
    """Spreads well enough to pin flows to links and queues; nothing secret depends on it."""
    h = ((a << 32 | b) * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    h ^= h >> 29
    return (h * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF) >> 32


def _flow(packet: memoryview, ip: IpHeader) -> int:
    h = ip.protocol
    for address in (ip.source, ip.destination):
        for at in range(0, len(address), 4):
            h = mix(h, int.from_bytes(address[at : at + 4], "big"))
    if ip.transport is not None and ip.protocol in (TCP, UDP) and ip.transport + 4 <= ip.total:
        h = mix(h, int.from_bytes(packet[ip.transport : ip.transport + 4], "big"))
    return h


def _gso_fits(gso: int, ip: IpHeader) -> bool:
    match gso & ~GSO_ECN:
        case 1:  # GSO_TCPV4
            return ip.version == 4 and ip.protocol == TCP
        case 4:  # GSO_TCPV6
            return ip.version == 6 and ip.protocol == TCP
        case 5:  # GSO_UDP_L4
            return ip.protocol == UDP and not gso & GSO_ECN
    return False


def _headers(packet: memoryview, ip: IpHeader) -> int | None:
    """Bytes of all headers of a TCP or UDP packet; None when they are not all there."""
    at = ip.transport
    if at is None or at + (20 if ip.protocol == TCP else 8) > ip.total:
        return None
    transport = (packet[at + 12] >> 4) * 4 if ip.protocol == TCP else 8
    return at + transport if transport >= (20 if ip.protocol == TCP else 8) and at + transport <= ip.total else None


def _is_urgent(packet: memoryview, ip: IpHeader) -> bool:
    if ip.total > 256 or ip.transport is None:
        return False
    if ip.protocol in (ICMP, ICMPV6):
        return True
    return (
        ip.protocol == TCP
        and ip.transport + 20 <= ip.total
        and ip.transport + (packet[ip.transport + 12] >> 4) * 4 == ip.total
        and not packet[ip.transport + 13] & (_FIN | _SYN)
    )


def decrement_ttl(packet: bytearray) -> bool:
    """False: it may not go on. `packet` starts with the IP header."""
    at = 8 if packet[0] >> 4 == 4 else 7
    if packet[at] <= 1:
        return False
    packet[at] -= 1
    if at == 8:  # RFC 1624: the header's word changed by -0x0100
        total = int.from_bytes(packet[10:12], "big") + 0x0100
        packet[10:12] = ((total & 0xFFFF) + (total >> 16)).to_bytes(2, "big")
    return True


def _update_sum(packet: bytearray, at: int, old: int, new: int) -> None:
    """A word of summed bytes changed (RFC 1624)."""
    total = (~int.from_bytes(packet[at : at + 2], "big") & 0xFFFF) + (~old & 0xFFFF) + new
    for _ in range(2):
        total = (total & 0xFFFF) + (total >> 16)
    packet[at : at + 2] = (~total & 0xFFFF).to_bytes(2, "big")


def mark_congestion(packet: bytearray) -> bool:
    """Congestion experienced (RFC 3168). False: its ends do not know about that."""
    if packet[0] >> 4 == 6:
        if not packet[1] & 0x30:
            return False
        packet[1] |= 0x30
        return True
    if not packet[1] & 3:
        return False
    old = int.from_bytes(packet[0:2], "big")
    packet[1] |= 3
    _update_sum(packet, 10, old, int.from_bytes(packet[0:2], "big"))
    return True


def clamp_mss(frame: bytearray, mtu: int) -> None:
    """The maximum segment size in a SYN, to what fits into packets of `mtu`. `frame` passed check()."""
    packet = frame[VNET_HEADER:]
    ip = parse(packet)
    assert ip is not None
    at, fixed = ip.transport, (40 if ip.version == 6 else 20) + 20
    if at is None or not _is_syn(packet, ip) or mtu < fixed + 88:
        return
    end, most, i = at + (packet[at + 12] >> 4) * 4, min(mtu - fixed, 65_535), at + 20
    if end > ip.total:
        return
    while i < end and packet[i]:
        if packet[i] == 1:
            i += 1
            continue
        if i + 1 >= end or packet[i + 1] < 2 or i + packet[i + 1] > end:
            return
        if packet[i] == 2 and packet[i + 1] == 4:
            old = int.from_bytes(packet[i + 2 : i + 4], "big")
            if old > most:
                packet[i + 2 : i + 4] = most.to_bytes(2, "big")
                if not frame[0] & NEEDS_CSUM:
                    odd = (i + 2 - at) & 1  # at an odd place the bytes of the word count the other way round
                    _update_sum(packet, at + 16, *(_swap(old), _swap(most)) if odd else (old, most))
                frame[VNET_HEADER:] = packet
            return
        i += packet[i + 1]


def _swap(word: int) -> int:
    return word >> 8 | (word & 0xFF) << 8


def is_uso(frame: bytes | bytearray) -> bool:
    return frame[1] == GSO_UDP_L4


def complete(frame: bytes | bytearray) -> list[bytes]:
    """Checked packets as a device without virtio headers takes them: whole checksums, no larger than their sender's segments.

    An empty list: headers and segment size together are more than a packet may have.
    """
    flags, gso, _, gso_size, start, offset = _VNET.unpack_from(frame)
    packet = bytearray(frame[VNET_HEADER:])
    if gso != GSO_NONE:
        return _segments(packet, gso_size)
    if flags & NEEDS_CSUM:  # the field holds the sum of the pseudo header
        value = checksum(packet[start:]) or 0xFFFF
        packet[start + offset : start + offset + 2] = value.to_bytes(2, "big")
    return [bytes(packet)]


def _segments(packet: bytearray, unit: int) -> list[bytes]:
    ip = parse(packet)
    assert ip is not None and ip.transport is not None  # check() saw to it
    at = ip.transport
    header = _headers(memoryview(packet), ip)
    assert header is not None
    if header + unit > 65_535:
        return []
    sequence = int.from_bytes(packet[at + 4 : at + 8], "big")
    identification = int.from_bytes(packet[4:6], "big")
    out = []
    for n, start in enumerate(range(header, ip.total, unit)):
        piece = packet[:header] + packet[start : start + unit]
        last = start + unit >= ip.total
        if ip.version == 6:
            piece[4:6] = (len(piece) - 40).to_bytes(2, "big")
        else:
            piece[2:4] = len(piece).to_bytes(2, "big")
            piece[4:6] = (identification + n & 0xFFFF).to_bytes(2, "big")
            piece[10:12] = bytes(2)
            piece[10:12] = checksum(piece[:at]).to_bytes(2, "big")
        if ip.protocol == TCP:
            piece[at + 4 : at + 8] = (sequence + start - header & 0xFFFFFFFF).to_bytes(4, "big")
            piece[at + 13] &= 0xFF if last else ~(_FIN | _PSH) & 0xFF  # they belong to the last
            piece[at + 13] &= ~_CWR & 0xFF if n else 0xFF  # and this to the first
        else:
            piece[at + 4 : at + 6] = (len(piece) - at).to_bytes(2, "big")
        field = at + _CHECKSUM_AT[ip.protocol]
        piece[field : field + 2] = bytes(2)
        pseudo = pseudo_header_sum(ip.source, ip.destination, ip.protocol, len(piece) - at)
        value = checksum(piece[at:], pseudo)
        if value == 0 and ip.protocol == UDP:
            value = 0xFFFF  # zero says "no checksum" (RFC 768)
        piece[field : field + 2] = value.to_bytes(2, "big")
        out.append(bytes(piece))
    return out
