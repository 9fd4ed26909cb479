"""What the planes answer when a packet cannot go on: ICMP errors, maximum segment sizes, rates of both. On both planes."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kubeedge.wire_format.checksum import checksum
from kubeedge.wire_format.frame import PACKET, TENANT_PACKET
from tests.kit.planes import Harness, Peer
from tests.reference import icmp, packets
from tests.reference.ip import ICMP, ICMPV6, TCP, UDP, ipv4, ipv6, parse, pseudo_header_sum
from tests.unit.kubebus_l3.conftest import Certificates
from tests.unit.kubebus_l3.test_plane_nodes import relay, tagged
from tests.unit.kubebus_l3.test_plane_packets import large, transport, vnet

NODE1, NODE2, CLOUD, ELSEWHERE = (bytes([100, 64, *rest]) for rest in ((0, 1), (0, 2), (255, 254), (7, 7)))
SIX1, SIX2, SIX9 = (bytes.fromhex("20010db8" + "00" * 11 + last) for last in ("01", "02", "09"))
PREFIXES1 = ("100.64.0.1/32", "2001:db8::1/128")


def checked(payload: bytes) -> bytes:
    """The packet of a frame, after its checksums were verified."""
    assert payload[:10] == bytes(10)
    packet = payload[10:]
    ip = parse(packet)
    assert ip is not None and ip.ttl == 64
    if ip.version == 4:
        assert checksum(packet[:20]) == 0 and checksum(packet[20:]) == 0 and packet[1] == 0xC0
    else:
        assert checksum(packet[40:], pseudo_header_sum(ip.source, ip.destination, ICMPV6, len(packet) - 40)) == 0
    return packet


def answer(peer: Peer) -> bytes:
    frame = peer.receive()
    assert frame is not None and frame.kind == PACKET
    return checked(frame.payload)


def test_a_packet_without_a_route_or_a_link_or_time_is_answered(harness: Harness, certificates: Certificates) -> None:
    one, port = harness.link(certificates.relay, certificates.nodes[1], number=1, prefixes=PREFIXES1)
    harness.link(certificates.relay, certificates.nodes[3], number=3, prefixes=("100.64.7.0/24", "2001:db8::9/128"))
    harness.plane.add_route(0, "100.64.0.2/32", 2)
    harness.plane.add_route(0, "2001:db8::2/128", 2)
    harness.plane.set_source(0, "100.64.255.254")
    harness.plane.set_source(0, "2001:db8::254")
    six = bytes.fromhex("20010db8" + "00" * 10 + "0254")
    for packet, expected in (
        (ipv4(NODE1, bytes([9, 9, 9, 9]), UDP, bytes(20)), (CLOUD, 3, 0)),
        (ipv4(NODE1, NODE2, UDP, bytes(20)), (CLOUD, 3, 1)),
        (ipv4(NODE1, ELSEWHERE, UDP, bytes(20), ttl=1), (CLOUD, 11, 0)),
        (ipv4(NODE1, ELSEWHERE, ICMP, b"\x08\0" + bytes(6), ttl=1), (CLOUD, 11, 0)),
        (ipv6(SIX1, bytes(16)[:-1] + b"\7", UDP, bytes(20)), (six, 1, 0)),
        (ipv6(SIX1, SIX2, UDP, bytes(20)), (six, 1, 3)),
        (ipv6(SIX1, SIX9, UDP, bytes(20), hop_limit=1), (six, 3, 0)),
    ):
        one.send(PACKET, bytes(10) + packet)
        got = answer(one)
        at = 40 if len(expected[0]) == 16 else 20
        ip = parse(got)
        assert ip is not None
        assert (ip.source, got[at], got[at + 1]) == expected and ip.destination == parse(packet).source  # type: ignore[union-attr]
        assert got[at + 8 :] == packet
    assert harness.counter(port, "icmp_sent") == 7
    assert (
        harness.counter(port, "no_route"),
        harness.counter(port, "no_link"),
        harness.counter(port, "ttl_exceeded"),
    ) == (2, 2, 3)


def test_errors_into_our_own_tun_come_from_another_address(harness: Harness, certificates: Certificates) -> None:
    tun, port = harness.tun(0, "100.64.255.254/32")
    harness.plane.add_route(0, "100.64.0.2/32", 2)
    tun.send(bytes(10) + ipv4(CLOUD, NODE2, UDP, bytes(2000)))
    got = checked(tun.receive())
    assert got[12:16] == bytes([192, 0, 0, 8]) and got[16:20] == CLOUD and got[20:22] == b"\3\1" and len(got) == 576
    harness.plane.set_source(0, "100.64.0.254", tun=True)
    tun.send(bytes(10) + ipv4(CLOUD, NODE2, UDP, b""))
    assert checked(tun.receive())[12:16] == bytes([100, 64, 0, 254])
    tun.send(bytes(10) + ipv6(SIX1, SIX2, UDP, bytes(3000)))
    got = checked(tun.receive())
    assert got[8:24] == bytes.fromhex("fe80" + "00" * 13 + "01") and len(got) == 1280
    assert harness.counter(port, "icmp_sent") == 3


def test_a_relay_gets_the_answer_with_its_tenant(harness: Harness, certificates: Certificates) -> None:
    other, _ = relay(harness, certificates)
    harness.link(certificates.relay, certificates.nodes[1], tenant=5, number=1, prefixes=("100.64.0.1/32",))
    other.send(TENANT_PACKET, tagged(5, bytes(10) + ipv4(NODE2, NODE1, UDP, b"", ttl=1)))
    frame = other.receive()
    assert frame is not None and frame.kind == TENANT_PACKET and frame.payload[:4] == b"\0\0\0\5"
    got = checked(frame.payload[4:])
    assert got[16:20] == NODE2 and got[20:22] == b"\x0b\0"


def test_answers_are_limited(harness: Harness, certificates: Certificates) -> None:
    one, port = harness.link(certificates.relay, certificates.nodes[1], number=1, prefixes=PREFIXES1)
    for n in range(500):
        one.send(PACKET, bytes(10) + ipv4(NODE1, bytes([9, 9, n >> 8, n & 0xFF]), UDP, b""))
    harness.until(lambda: harness.counter(port, "no_route") == 500, "all refusals")
    assert 32 <= harness.counter(port, "icmp_sent") < 250


def silent() -> list[bytes]:
    fragment = bytearray(ipv4(NODE1, NODE2, UDP, bytes(50)))
    fragment[7] = 8
    fragment[10:12] = bytes(2)
    fragment[10:12] = checksum(fragment[:20]).to_bytes(2, "big")
    return [
        ipv4(NODE1, NODE2, ICMP, b"\x03\x01" + bytes(6)),
        ipv4(NODE1, NODE2, ICMP, b"\x0b\x00" + bytes(6)),
        ipv4(NODE1, NODE2, ICMP, b"\x05\x00" + bytes(6)),
        ipv4(NODE1, NODE2, ICMP, b""),
        ipv4(NODE1, bytes([224, 0, 0, 1]), UDP, b""),
        ipv4(NODE1, bytes([255, 255, 255, 255]), UDP, b""),
        ipv4(bytes(4), NODE2, UDP, b""),
        ipv4(bytes([127, 0, 0, 1]), NODE2, UDP, b""),
        ipv4(bytes([224, 0, 0, 1]), NODE2, UDP, b""),
        bytes(fragment),
        ipv6(SIX1, SIX2, ICMPV6, b"\x01\x00" + bytes(6)),
        ipv6(SIX1, SIX2, ICMPV6, b""),
        ipv6(SIX1, SIX2, 0, bytes([ICMPV6, 0]) + bytes(6) + b"\x03\0"),
        ipv6(SIX1, SIX2, 44, bytes([UDP, 0, 0, 8]) + bytes(12)),
        ipv6(SIX1, SIX2, 60, b"\0"),
        ipv6(SIX1, b"\xff\x02" + bytes(13) + b"\1", UDP, b""),
        ipv6(bytes(16), SIX2, UDP, b""),
    ]


def test_errors_and_what_has_no_single_sender_are_not_answered(harness: Harness, certificates: Certificates) -> None:
    one, port = harness.link(certificates.relay, certificates.nodes[1])
    for packet in silent():
        one.send(PACKET, bytes(10) + packet)
    one.send(PACKET, bytes(10) + ipv4(NODE1, NODE2, ICMP, b"\x08\0last"))
    assert answer(one)[20:22] == b"\3\0"
    assert harness.counter(port, "no_route") == len(silent()) + 1 and harness.counter(port, "icmp_sent") == 1


def test_a_packet_too_large_for_its_route_is_answered_with_the_size_that_fits(
    harness: Harness, certificates: Certificates
) -> None:
    one, port = harness.link(certificates.relay, certificates.nodes[1], number=1, prefixes=PREFIXES1)
    two, _ = harness.link(certificates.relay, certificates.nodes[2], number=2)
    for prefix in ("100.64.0.2/32", "2001:db8::2/128"):
        harness.plane.add_route(0, prefix, 2, mtu=1300)
    whole = bytearray(ipv4(NODE1, NODE2, UDP, bytes(1281)))
    whole[6] = 0x40
    whole[10:12] = bytes(2)
    whole[10:12] = checksum(whole[:20]).to_bytes(2, "big")
    one.send(PACKET, bytes(10) + whole)
    got = answer(one)
    assert got[20:22] == b"\3\4" and got[26:28] == (1300).to_bytes(2, "big")
    one.send(PACKET, bytes(10) + ipv6(SIX1, SIX2, UDP, bytes(1261)))
    got = answer(one)
    assert got[40:42] == b"\2\0" and got[44:48] == (1300).to_bytes(4, "big")
    big = vnet(1, 4, 60, 1300, 40, 16) + ipv6(SIX1, SIX2, TCP, transport(TCP, SIX1, SIX2, bytes(20_000)))
    one.send(PACKET, big)  # a super-packet of pieces that are too large
    assert answer(one)[40:42] == b"\2\0"
    fits = vnet(1, 4, 60, 1240, 40, 16) + ipv6(SIX1, SIX2, TCP, transport(TCP, SIX1, SIX2, bytes(20_000)))
    one.send(PACKET, fits)
    one.send(PACKET, bytes(10) + ipv4(NODE1, NODE2, UDP, bytes(1281)))  # may be fragmented by who is next
    for size in (len(fits), 10 + 20 + 1281):
        frame = two.receive()
        assert frame is not None and len(frame.payload) == size
    assert harness.counter(port, "too_big") == 3


def syn(options: bytes, *, six: bool, partial: bool, flags: int = 2) -> bytes:
    source, destination = (SIX1, SIX2) if six else (NODE1, NODE2)
    options = options.ljust(-(-len(options) // 4) * 4, b"\0")
    head = struct.pack("!HHIIBBHHH", 1000, 2000, 1, 0, (20 + len(options)) // 4 << 4, flags, 500, 0, 0) + options
    pseudo = pseudo_header_sum(source, destination, TCP, len(head))
    value = pseudo if partial else checksum(head, pseudo)
    body = head[:16] + value.to_bytes(2, "big") + head[18:]
    at = 40 if six else 20
    frame = vnet(1, start=at, offset=16) if partial else bytes(10)
    return frame + (ipv6(source, destination, TCP, body) if six else ipv4(source, destination, TCP, body))


@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("partial", [False, True], ids=["summed", "checksum open"])
@pytest.mark.parametrize(
    "options", [b"\2\4\x05\xb4", b"\1\2\4\xff\xff", b"\1\1\1\2\4\x23\x28\4\2", b"\3\3\7\2\4\x05\xb4\0"]
)
def test_connections_are_told_the_segment_size_that_fits_both_ends(
    harness: Harness, certificates: Certificates, six: bool, partial: bool, options: bytes
) -> None:
    one, _ = harness.link(certificates.relay, certificates.nodes[1], number=1)
    two, _ = harness.link(certificates.relay, certificates.nodes[2], number=2)
    mine, theirs = ("2001:db8::1/128", "2001:db8::2/128") if six else ("100.64.0.1/32", "100.64.0.2/32")
    clamp = 40 if six else 20
    for source_mtu, route_mtu, expected in (
        (0, 1300, 1300),
        (1280, 0, 1280),
        (1250, 1300, 1250),
        (0, 0, 0),
        (0, 100, 0),
    ):
        harness.plane.add_route(0, mine, 1, mtu=source_mtu)
        harness.plane.add_route(0, theirs, 2, mtu=route_mtu)
        sent = syn(options, six=six, partial=partial)
        one.send(PACKET, sent)
        frame = two.receive()
        assert frame is not None
        packet, before = frame.payload[10:], sent[10:]
        assert frame.payload[:10] == sent[:10]
        at = clamp
        mss = packet.index(b"\2\4", at + 20) + 2
        if expected:
            assert int.from_bytes(packet[mss : mss + 2], "big") == expected - clamp - 20
        else:
            assert packet[at:] == before[at:]
        ip = parse(packet)
        assert ip is not None
        if partial:
            assert packet[at + 16 : at + 18] == before[at + 16 : at + 18]
        else:
            assert checksum(packet[at:], pseudo_header_sum(ip.source, ip.destination, TCP, len(packet) - at)) == 0


def test_udp_super_packets_are_cut_for_a_kernel_that_does_not_know_them(
    harness: Harness, certificates: Certificates
) -> None:
    peer, _ = harness.link(certificates.relay, certificates.nodes[1])
    from tests.kit.planes import FakeTun

    tun = FakeTun()
    harness._stack.callback(tun.close)
    harness.plane.add_tun(tun.plane_fd, tenant=0, vnet_hdr=True, uso=False)
    harness.plane.add_route(0, "0.0.0.0/0", harness.number)
    frame = large(UDP, six=False, size=2500, gso_size=1200)
    peer.send(PACKET, frame)
    got = [tun.receive() for _ in range(3)]
    assert [len(packet) for packet in got] == [10 + 28 + 1200, 10 + 28 + 1200, 10 + 28 + 100]
    for packet in got:
        ip = parse(packet[10:])
        assert packet[:10] == bytes(10) and ip is not None
        assert checksum(packet[30:], pseudo_header_sum(ip.source, ip.destination, UDP, len(packet) - 30)) == 0
    tcp = large(TCP, six=False, size=3000, gso_size=1000)
    peer.send(PACKET, tcp)
    assert tun.receive() == tcp


def test_a_congestion_control_that_cannot_be_is_said(harness: Harness, certificates: Certificates) -> None:
    _, port = harness.link(certificates.relay, certificates.nodes[1])
    assert harness.plane.congestion(port) == ("", "")  # no TCP
    tun, tun_port = harness.tun()
    assert harness.plane.congestion(tun_port) == ("", "")
    assert harness.plane.congestion(12345) is None
    tun.close()


class Mirror:
    """One link whose packets have no route: every answer comes back."""

    def __init__(self, harness: Harness, certificates: Certificates) -> None:
        self.make: Callable[[], tuple[Peer, int]] = lambda: harness.link(certificates.relay, certificates.nodes[1])
        self.peer, self.left = self.make()[0], 32

    def ask(self, packet: bytes) -> bytes | None:
        if self.left < 2:
            self.peer, self.left = self.make()[0], 32  # each link has answers of its own
        self.left -= 2
        self.peer.send(PACKET, bytes(10) + packet)
        self.peer.send(PACKET, bytes(10) + ipv4(NODE1, NODE2, ICMP, b"\x08\0the end"))
        frame = self.peer.receive()
        assert frame is not None
        if frame.payload.endswith(b"the end"):
            return None
        self.peer.receive()
        return frame.payload[10:]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(
        [*silent(), ipv4(NODE1, NODE2, UDP, bytes(600)), ipv6(SIX1, SIX2, 0, bytes([UDP, 1]) + bytes(1500))]
    ),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=3),
)
def test_both_planes_answer_as_the_readable_icmp_says(
    harness: Harness, certificates: Certificates, packet: bytes, changes: list[tuple[int, int]]
) -> None:
    mirror = harness.__dict__.setdefault("mirror", None) or Mirror(harness, certificates)
    harness.__dict__["mirror"] = mirror
    changed = bytearray(packet)
    for at, value in changes:
        if at < len(changed):
            changed[at] = value
    packet = bytes(changed)
    ip = parse(packet)
    if ip is None or packets.check(bytes(10) + packet) is None:
        return
    source = bytes([192, 0, 0, 8]) if ip.version == 4 else bytes.fromhex("fe80" + "00" * 13 + "01")
    expected = icmp.error(packet, ip, icmp.Error.NO_ROUTE, source) if icmp.may_answer(packet, ip) else None
    assert mirror.ask(packet) == expected
