"""IP headers: golden packets summed by hand, and everything that is not a packet."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from kubeedge.wire_format.checksum import checksum
from tests.reference.ip import ICMP, ICMPV6, TCP, UDP, ipv4, ipv6, parse, pseudo_header_sum

#: an echo request from 192.168.0.1 to 192.168.0.199, as ping -s0 sends it
PING = bytes.fromhex("4500001c6dc4400040014b04c0a80001c0a800c7" + "0800f7fd00010001")


def test_a_header_is_read() -> None:
    ip = parse(PING)
    assert ip is not None
    assert (ip.version, ip.protocol, ip.ttl, ip.length, ip.total, ip.transport) == (4, ICMP, 64, 20, 28, 20)
    assert (str(ipaddress.ip_address(ip.source)), str(ipaddress.ip_address(ip.destination))) == (
        "192.168.0.1",
        "192.168.0.199",
    )
    assert checksum(PING[:20]) == 0
    assert checksum(PING[20:]) == 0


def test_what_we_make_is_what_we_read() -> None:
    a, b = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])
    packet = ipv4(a, b, UDP, b"x" * 30, ttl=7)
    ip = parse(packet)
    assert ip is not None and (ip.source, ip.destination, ip.ttl, ip.total) == (a, b, 7, 50)
    assert checksum(packet[:20]) == 0
    c, d = bytes(15) + b"\1", bytes(15) + b"\2"
    six = parse(ipv6(c, d, TCP, b"y" * 20, hop_limit=3))
    assert six is not None and (six.source, six.destination, six.ttl, six.total, six.transport) == (c, d, 3, 60, 40)


def test_fragments_and_extension_headers_have_no_transport_header_for_us() -> None:
    fragment = bytearray(PING)
    fragment[6] |= 0x20  # more fragments
    ip = parse(fragment)
    assert ip is not None and ip.transport is None
    six = parse(ipv6(bytes(16), bytes(16), 0, bytes(8)))  # hop-by-hop options
    assert six is not None and six.transport is None
    icmp = parse(ipv6(bytes(16), bytes(16), ICMPV6, bytes(8)))
    assert icmp is not None and icmp.transport == 40


def test_what_is_not_a_whole_packet_is_refused() -> None:
    assert parse(b"") is None
    assert parse(PING[:-1]) is None
    assert parse(PING + b"\0") is None
    assert parse(bytes([0x44]) + PING[1:]) is None  # a header of 16 bytes
    assert parse(bytes([0x4F]) + PING[1:]) is None  # of 60 in a packet of 28
    assert parse(bytes([0x55]) + PING[1:]) is None
    assert parse(ipv6(bytes(16), bytes(16), TCP, b"")[:-1]) is None


@given(st.binary(max_size=100))
def test_no_bytes_break_the_parser(data: bytes) -> None:
    ip = parse(data)
    assert ip is None or (ip.total == len(data) and 20 <= ip.length <= ip.total)


def test_a_udp_checksum_starts_from_the_pseudo_header() -> None:
    # RFC 768 by hand: 192.0.2.1 -> 192.0.2.2, ports 1 and 2, length 9, "A"
    a, b = bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2])
    datagram = bytes.fromhex("000100020009000041")
    words = 0xC000 + 0x0201 + 0xC000 + 0x0202 + 17 + 9 + 1 + 2 + 9 + 0x4100
    expected = ~((words & 0xFFFF) + (words >> 16)) & 0xFFFF
    assert checksum(datagram, pseudo_header_sum(a, b, UDP, 9)) == expected
