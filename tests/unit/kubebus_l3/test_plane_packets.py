"""Packets through the data plane: between a TUN and links, checked, routed, completed. No root: a TUN is a socket pair."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from kubeedge.kubebus.l3.plane import PortClosed
from kubeedge.wire_format.checksum import checksum, ones_sum
from kubeedge.wire_format.frame import MAX_PACKET_BYTES, PACKET
from tests.kit.planes import FakeTun, Harness, Peer
from tests.reference import packets
from tests.reference.ip import ICMP, TCP, UDP, ipv4, ipv6, parse, pseudo_header_sum
from tests.unit.kubebus_l3.conftest import Certificates

NODE1, NODE2, CLOUD = bytes([100, 64, 0, 1]), bytes([100, 64, 0, 2]), bytes([100, 64, 255, 254])
SIX1, SIX2 = bytes.fromhex("20010db8" + "00" * 11 + "01"), bytes.fromhex("20010db8" + "00" * 11 + "02")
NEEDS_CSUM = 1
END = bytes(10) + ipv4(NODE1, CLOUD, ICMP, b"the end!")


def vnet(flags: int = 0, gso: int = 0, hdr_len: int = 0, gso_size: int = 0, start: int = 0, offset: int = 0) -> bytes:
    return struct.pack("<BBHHHH", flags, gso, hdr_len, gso_size, start, offset)


def transport(protocol: int, source: bytes, destination: bytes, payload: bytes, *, flags: int = 0x18) -> bytes:
    """A TCP or UDP header whose checksum field holds the pseudo header's sum, as a kernel with offload leaves it."""
    if protocol == TCP:
        head = struct.pack("!HHIIBBHHH", 1000, 2000, 0xFFFFFF00, 7, 0x50, flags, 500, 0, 0)
    else:
        head = struct.pack("!HHHH", 1000, 2000, 8 + len(payload), 0)
    at = 16 if protocol == TCP else 6
    pseudo = pseudo_header_sum(source, destination, protocol, len(head) + len(payload))
    return head[:at] + pseudo.to_bytes(2, "big") + head[at + 2 :] + payload


def large(protocol: int, *, six: bool, size: int, gso_size: int, flags: int = 0x18) -> bytes:
    """A packet frame of `size` bytes of payload, to be cut into pieces of gso_size (0: only the checksum is open)."""
    source, destination = (SIX1, SIX2) if six else (NODE1, CLOUD)
    body = transport(protocol, source, destination, bytes(n * 7 & 0xFF for n in range(size)), flags=flags)
    packet = (
        ipv6(source, destination, protocol, body)
        if six
        else ipv4(source, destination, protocol, body, identification=0xFFFE)
    )
    kind = (5 if protocol == UDP else 4 if six else 1) if gso_size else 0
    at = 40 if six else 20
    return vnet(NEEDS_CSUM, kind, at + 20, gso_size, at, 16 if protocol == TCP else 6) + packet


GOOD = [
    bytes(10) + ipv4(NODE1, CLOUD, ICMP, bytes(8)),
    bytes(10) + ipv6(SIX1, SIX2, UDP, bytes(8)),
    large(TCP, six=False, size=0, gso_size=0),
    large(TCP, six=False, size=3000, gso_size=1000),
    large(TCP, six=True, size=2999, gso_size=1448, flags=0x99),
    large(UDP, six=False, size=2500, gso_size=1200),
    large(UDP, six=True, size=10, gso_size=0),
]


def test_a_packet_from_a_tun_goes_to_the_link_of_its_longest_prefix(
    harness: Harness, certificates: Certificates
) -> None:
    one, _ = harness.link(
        certificates.relay, certificates.nodes[1], number=1, prefixes=("100.64.0.1/32", "10.244.1.0/24")
    )
    two, port2 = harness.link(
        certificates.relay, certificates.nodes[2], number=2, prefixes=("100.64.0.2/32", "10.244.0.0/16")
    )
    tun, tun_port = harness.tun(0, "100.64.255.254/32")
    for destination, peer in ((NODE1, one), (NODE2, two), (bytes([10, 244, 1, 9]), one), (bytes([10, 244, 2, 9]), two)):
        frame = bytes(10) + ipv4(CLOUD, destination, UDP, bytes(20), ttl=1)
        tun.send(frame)
        got = peer.receive()
        assert got is not None and (got.kind, got.payload) == (
            PACKET,
            frame,
        )  # its kernel has decremented the TTL already
    tun.send(bytes(10) + ipv4(CLOUD, bytes([8, 8, 8, 8]), UDP, b""))
    tun.send(bytes(10) + ipv4(NODE1, CLOUD, UDP, b""))  # back to where it comes from
    harness.until(lambda: harness.counter(tun_port, "no_route") == 2, "both to be counted")
    harness.plane.remove_route(0, "10.244.0.0/16")
    tun.send(bytes(10) + ipv4(CLOUD, bytes([10, 244, 2, 9]), UDP, b""))
    harness.until(lambda: harness.counter(tun_port, "no_route") == 3, "the removed route")
    assert harness.counter(port2, "tx_packets") == 2


def test_a_source_that_is_not_the_links_is_dropped_and_counted(harness: Harness, certificates: Certificates) -> None:
    peer, port = harness.link(certificates.relay, certificates.nodes[1], prefixes=("100.64.0.1/32", "2001:db8::1/128"))
    tun, _ = harness.tun(0, "0.0.0.0/0", "::/0")
    for source in (NODE2, CLOUD, bytes(4), b"\xff" * 4):
        peer.send(PACKET, bytes(10) + ipv4(source, CLOUD, UDP, b"spoof"))
    peer.send(PACKET, bytes(10) + ipv6(SIX2, SIX1, UDP, b"spoof"))
    peer.send(PACKET, bytes(10) + ipv6(bytes(10) + b"\xff\xff" + NODE1, SIX1, UDP, b"spoof"))
    peer.send(PACKET, bytes(10) + ipv6(SIX1, SIX2, UDP, b"honest"))
    assert tun.receive() == bytes(10) + ipv6(SIX1, SIX2, UDP, b"honest")
    assert harness.counter(port, "bad_source") == 6


def test_tenants_with_the_same_addresses_do_not_meet(harness: Harness, certificates: Certificates) -> None:
    a1, _ = harness.link(certificates.relay, certificates.nodes[1], tenant=1, number=1, prefixes=("100.64.0.1/32",))
    a2, _ = harness.link(certificates.relay, certificates.nodes[2], tenant=1, number=2, prefixes=("100.64.0.2/32",))
    b1, b1_port = harness.link(
        certificates.relay, certificates.nodes[3], tenant=2, number=1, prefixes=("100.64.0.1/32",)
    )
    tun, _ = harness.tun(1, "100.64.255.254/32")
    b1.send(PACKET, bytes(10) + ipv4(NODE1, NODE2, UDP, b"b"))
    b1.send(PACKET, bytes(10) + ipv4(NODE1, CLOUD, UDP, b"b"))
    harness.until(lambda: harness.counter(b1_port, "no_route") == 2, "both refusals")
    a1.send(PACKET, bytes(10) + ipv4(NODE1, NODE2, UDP, b"a"))
    got = a2.receive()
    assert got is not None and got.payload.endswith(b"a")
    assert tun.empty()


def test_between_links_the_time_to_live_runs_down(harness: Harness, certificates: Certificates) -> None:
    one, port = harness.link(
        certificates.relay, certificates.nodes[1], number=1, prefixes=("100.64.0.1/32", "2001:db8::1/128")
    )
    two, _ = harness.link(
        certificates.relay, certificates.nodes[2], number=2, prefixes=("100.64.0.2/32", "2001:db8::2/128")
    )
    for ttl in (255, 64, 2):
        for identification in range(0, 65_536, 4369):  # the header's checksum passes through its corners
            one.send(PACKET, bytes(10) + ipv4(NODE1, NODE2, UDP, b"x", ttl=ttl, identification=identification))
            got = two.receive()
            assert got is not None
            packet = got.payload[10:]
            assert packet[8] == ttl - 1 and checksum(packet[:20]) in (0, 0xFFFF) and ones_sum(packet[:20]) == 0xFFFF
    one.send(PACKET, bytes(10) + ipv6(SIX1, SIX2, UDP, b"x", hop_limit=9))
    got = two.receive()
    assert got is not None and got.payload == bytes(10) + ipv6(SIX1, SIX2, UDP, b"x", hop_limit=8)
    for packet in (
        ipv4(NODE1, NODE2, UDP, b"", ttl=1),
        ipv4(NODE1, NODE2, UDP, b"", ttl=0),
        ipv6(SIX1, SIX2, 0, b"", hop_limit=1),
    ):
        one.send(PACKET, bytes(10) + packet)
    harness.until(lambda: harness.counter(port, "ttl_exceeded") == 3, "three that end here")


@pytest.mark.parametrize("frame", GOOD, ids=range(len(GOOD)))
def test_a_super_packet_passes_as_it_is_where_the_device_takes_it(
    harness: Harness, certificates: Certificates, frame: bytes
) -> None:
    peer, _ = harness.link(certificates.relay, certificates.nodes[1])
    tun, _ = harness.tun(0, "0.0.0.0/0", "::/0")
    peer.send(PACKET, frame)
    assert tun.receive() == frame


@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("protocol", [TCP, UDP], ids=["TCP", "UDP"])
@pytest.mark.parametrize(("size", "gso_size"), [(60_000, 1448), (2000, 1000), (2001, 1000), (1, 1000), (500, 0)])
def test_a_plain_device_gets_whole_packets_with_right_checksums(
    harness: Harness, certificates: Certificates, six: bool, protocol: int, size: int, gso_size: int
) -> None:
    peer, _ = harness.link(certificates.relay, certificates.nodes[1])
    tun, _ = harness.tun(0, "0.0.0.0/0", "::/0", vnet_hdr=False)
    frame = large(protocol, six=six, size=size, gso_size=gso_size, flags=0x99)  # CWR, ACK, PSH, FIN
    peer.send(PACKET, frame)
    count = -(-size // gso_size) if gso_size else 1
    whole, sequence = b"", 0xFFFFFF00
    for n in range(count):
        packet = tun.receive()
        ip = parse(packet)
        assert ip is not None and ip.transport is not None
        at = ip.transport
        if not six:
            assert checksum(packet[:20]) == 0
            assert int.from_bytes(packet[4:6], "big") == 0xFFFE + n & 0xFFFF
        assert checksum(packet[at:], pseudo_header_sum(ip.source, ip.destination, protocol, len(packet) - at)) == 0
        payload = packet[at + (20 if protocol == TCP else 8) :]
        assert len(payload) == gso_size or n == count - 1
        if protocol == TCP:
            assert int.from_bytes(packet[at + 4 : at + 8], "big") == (sequence + len(whole)) & 0xFFFFFFFF
            assert packet[at + 13] == 0x10 | (0x80 if n == 0 else 0) | (0x09 if n == count - 1 else 0)
        else:
            assert int.from_bytes(packet[at + 4 : at + 6], "big") == 8 + len(payload)
        whole += payload
    assert whole == frame[-size:]
    assert tun.empty()


def test_a_checksum_deep_inside_is_completed_and_one_over_the_addresses_refused(
    harness: Harness, certificates: Certificates
) -> None:
    peer, port = harness.link(certificates.relay, certificates.nodes[1])
    tun, _ = harness.tun(0, "0.0.0.0/0", vnet_hdr=False)
    inner = ipv4(NODE1, NODE2, TCP, transport(TCP, NODE1, NODE2, b"inside a tunnel"))
    outer = ipv4(NODE1, CLOUD, UDP, bytes(16) + inner)  # UDP and 8 bytes of the tunnel
    peer.send(PACKET, vnet(NEEDS_CSUM, start=20 + 16 + 20, offset=16) + outer)
    packet = tun.receive()[36:]
    assert checksum(packet[20:], pseudo_header_sum(NODE1, NODE2, TCP, len(packet) - 20)) == 0
    for start, offset in ((0, 12), (12, 0), (19, 0), (20, 0xFFFF), (len(outer) - 1, 0)):
        peer.send(PACKET, vnet(NEEDS_CSUM, start=start, offset=offset) + outer)
    harness.until(lambda: harness.counter(port, "bad_header") == 5, "five refusals")


def test_headers_that_no_kernel_should_see_are_dropped(harness: Harness, certificates: Certificates) -> None:
    peer, port = harness.link(certificates.relay, certificates.nodes[1])
    tun, tun_port = harness.tun(0, "0.0.0.0/0", "::/0")
    tcp, udp = large(TCP, six=False, size=3000, gso_size=1000), large(UDP, six=False, size=3000, gso_size=1000)
    plain = ipv4(NODE1, CLOUD, UDP, bytes(100))
    bad = [
        tcp[:1] + b"\x02" + tcp[2:],  # an unknown kind of segmentation
        tcp[:1] + b"\x04" + tcp[2:],  # IPv6's in IPv4
        tcp[:1] + b"\x05" + tcp[2:],  # UDP's in TCP
        udp[:1] + b"\x85" + udp[2:],  # UDP with ECN
        b"\x00" + tcp[1:],  # segmentation without a checksum to complete
        b"\x05" + tcp[1:],  # an unknown flag
        tcp[:4] + bytes(2) + tcp[6:],  # pieces of no bytes
        tcp[:4] + b"\x02\x00" + tcp[6:],  # pieces of two bytes: 1500 of them
        tcp[:6] + b"\x15\x00" + tcp[8:],  # the checksum begins beside the header
        tcp[:8] + b"\x11\x00" + tcp[10:],
        tcp[: 10 + 20 + 12] + b"\xf0" + tcp[10 + 20 + 13 : 10 + 20 + 40],  # and a packet cut short
        bytes(10) + plain[:-1],
        bytes(10) + plain + b"\0",
        bytes(10) + b"\x46" + plain[1:30],
        bytes(10) + bytes(50),
        bytes(10) + b"\x60" + bytes(30),
        bytes(MAX_PACKET_BYTES),
    ]
    fragment = bytearray(udp)
    fragment[10 + 6] |= 0x20
    bad.append(bytes(fragment))
    for frame in bad:
        peer.send(PACKET, frame)
        tun.send(frame[:10] + b"\x00" + frame[11:])
    peer.send(PACKET, END)
    assert tun.receive() == END
    assert harness.counter(port, "bad_header") == len(bad)
    harness.until(lambda: harness.counter(tun_port, "bad_header") == len(bad), "what came from the TUN")


def test_a_device_that_is_deleted_is_reported_and_costs_nothing_more(harness: Harness) -> None:
    tun, port = harness.tun(0, "0.0.0.0/0")
    tun.close()
    assert harness.expect(PortClosed) == PortClosed(port, "the TUN device is gone: end of file")
    assert harness.plane.counters(port) is None


def test_a_device_that_takes_nothing_loses_packets_and_counts_them(
    harness: Harness, certificates: Certificates
) -> None:
    peer, port = harness.link(certificates.relay, certificates.nodes[1])
    tun, tun_port = harness.tun(0, "0.0.0.0/0")
    for _ in range(30):
        peer.send(PACKET, bytes(10) + ipv4(NODE1, CLOUD, UDP, bytes(30_000)))
    harness.until(lambda: harness.counter(port, "rx_packets") == 30, "all to be read")
    assert harness.counter(tun_port, "tun_full") == 30 - harness.counter(tun_port, "tx_packets") > 0


@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("protocol", [TCP, UDP], ids=["TCP", "UDP"])
@pytest.mark.parametrize("count", [1, 2, 3, 40, 100])
@pytest.mark.parametrize(("size", "gso_size"), [(60_000, 1448), (2001, 1000), (3000, 1000), (1, 1000)])
def test_smaller_super_packets_for_a_slow_path_make_the_same_packets(
    six: bool, protocol: int, count: int, size: int, gso_size: int
) -> None:
    fast = pytest.importorskip("kubeedge._fastpath.plane")
    frame = large(protocol, six=six, size=size, gso_size=gso_size, flags=0x99)
    pieces = fast.split(frame, count)
    assert len(pieces) == -(-size // (gso_size * count))
    assert all(packets.check(piece) is not None for piece in pieces)
    assert [packet for piece in pieces for packet in packets.complete(piece)] == packets.complete(frame)


def test_routes_come_and_go_while_packets_flow(harness: Harness, certificates: Certificates) -> None:
    one, port = harness.link(certificates.relay, certificates.nodes[1], number=1, prefixes=("100.64.0.1/32",))
    two, port2 = harness.link(certificates.relay, certificates.nodes[2], number=2)
    got: list[bytes] = []
    last = bytes(4) + b"end!"  # of the same flow, by its ports, so that it stays behind the others

    def send() -> None:
        for n in range(2000):
            one.send(PACKET, bytes(10) + ipv4(NODE1, NODE2, UDP, n.to_bytes(8, "big")))

    def receive() -> None:
        while (frame := two.receive()) is not None and not frame.payload.endswith(last):
            got.append(frame.payload[-8:])

    threads = [threading.Thread(target=send), threading.Thread(target=receive)]
    for thread in threads:
        thread.start()
    while threads[0].is_alive():
        for prefix in ("100.64.0.2/32", "100.64.0.0/24"):
            harness.plane.add_route(0, prefix, 2)
        harness.plane.remove_route(0, "100.64.0.0/24")
        harness.plane.remove_route(0, "100.64.0.2/32")
    harness.until(lambda: harness.counter(port, "rx_packets") == 2000, "all of them to be read")
    harness.plane.add_route(0, "100.64.0.2/32", 2)
    one.send(PACKET, bytes(10) + ipv4(NODE1, NODE2, UDP, last))
    for thread in threads:
        thread.join()
    dropped = harness.counter(port2, "queue_full") + harness.counter(port2, "delay_dropped")
    assert len(got) + harness.counter(port, "no_route") + dropped == 2000
    assert sorted(got) == got


class Bench:
    """One link and one TUN for many examples."""

    def __init__(self, harness: Harness, certificates: Certificates, *, vnet_hdr: bool) -> None:
        self.peer: Peer
        self.peer, self.port = harness.link(certificates.relay, certificates.nodes[1])
        self.tun: FakeTun
        self.tun, _ = harness.tun(0, "0.0.0.0/0", "::/0", vnet_hdr=vnet_hdr)
        self.end = END if vnet_hdr else END[10:]

    def through(self, frame: bytes) -> list[bytes]:
        """What comes out of the TUN for this frame."""
        self.peer.send(PACKET, frame)
        self.peer.send(PACKET, END)
        out = []
        while (packet := self.tun.receive()) != self.end:
            out.append(packet)
        return out


@pytest.fixture
def benches(harness: Harness, certificates: Certificates) -> Iterator[tuple[Bench, Bench]]:
    with Harness() as second:
        yield Bench(harness, certificates, vnet_hdr=True), Bench(second, certificates, vnet_hdr=False)


@st.composite
def almost_good(draw: st.DrawFn) -> bytes:
    frame = bytearray(draw(st.sampled_from(GOOD)))
    for _ in range(draw(st.integers(0, 4))):
        frame[draw(st.integers(0, min(len(frame), 80) - 1))] = draw(
            st.sampled_from([0, 1, 2, 4, 5, 16, 20, 40, 0x45, 0x60, 0x80, 255])
        )
    if draw(st.booleans()):
        frame[4:6] = draw(st.integers(0, 3000)).to_bytes(2, "little")
    cut = draw(st.sampled_from([0, 0, 0, 1, 20]))
    return bytes(frame[: max(30, len(frame) - cut)])


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(almost_good())
def test_both_planes_do_what_the_readable_packets_say(benches: tuple[Bench, Bench], frame: bytes) -> None:
    assume(frame != END)
    checked = packets.check(frame)
    whole = packets.complete(frame) if checked else []
    assume(len(whole) < 60)  # the socket that plays the TUN does not hold more
    offload, plain = benches
    assert offload.through(frame) == ([frame] if checked else [])
    assert plain.through(frame) == whole
