"""Nodes with several links, nodes behind another relay, and routes that stay while links come and go. On both planes."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from kubeedge.kubebus.l3.plane import PortClosed, PortConnected, SegmentReceived, TlsContext
from kubeedge.wire_format.frame import PACKET, SEGMENT, TENANT_PACKET, TENANT_SEGMENT, encode_segment
from tests.kit.planes import Harness, Peer
from tests.reference import plane as reference
from tests.reference.ip import UDP, ipv4
from tests.unit.kubebus_l3.conftest import Certificates

NODE1, NODE2, CLOUD = bytes([100, 64, 0, 1]), bytes([100, 64, 0, 2]), bytes([100, 64, 255, 254])


def udp(source: bytes, destination: bytes, port: int, data: bytes = b"", *, ttl: int = 64) -> bytes:
    head = port.to_bytes(2, "big") + (9).to_bytes(2, "big") + (8 + len(data)).to_bytes(2, "big") + bytes(2)
    return bytes(10) + ipv4(source, destination, UDP, head + data, ttl=ttl)


def bundle(harness: Harness, certificates: Certificates, links: int, *, number: int = 1) -> dict[int, Peer]:
    made = (harness.link(certificates.relay, certificates.nodes[1], tenant=1, number=number) for _ in range(links))
    return {port: peer for peer, port in made}


def relay(harness: Harness, certificates: Certificates) -> tuple[Peer, int]:
    """A link to another relay."""
    plain, fd = harness.pipe()
    ours = certificates.relay
    port = harness.plane.add_link(fd, TlsContext(ours.ca, ours.cert, ours.key, server=True))
    peer = Peer(plain, certificates.relay)
    harness._stack.callback(peer.close)
    assert harness.expect(PortConnected) == PortConnected(port, "spiffe://kubeedge/cloud/relay")
    assert harness.plane.admit_peer(port)
    return peer, port


def tagged(tenant: int, payload: bytes) -> bytes:
    return tenant.to_bytes(4, "big") + payload


def packets_of(harness: Harness, ports: dict[int, Peer]) -> dict[int, int]:
    return {port: harness.counter(port, "tx_packets") for port in ports}


def test_each_flow_keeps_to_one_link_of_its_node_and_all_links_are_used(
    harness: Harness, certificates: Certificates
) -> None:
    links = bundle(harness, certificates, 3)
    tun, _ = harness.tun(1, "100.64.255.254/32")
    harness.plane.add_route(1, "100.64.0.1/32", 1)
    pinned: dict[int, int] = {}
    for repeat in range(3):
        for flow in range(40):
            before = packets_of(harness, links)
            tun.send(udp(CLOUD, NODE1, 1000 + flow))
            harness.until(lambda before=before: packets_of(harness, links) != before, "the packet")  # type: ignore[misc]
            after = packets_of(harness, links)
            (used,) = [port for port in links if after[port] != before[port]]
            assert pinned.setdefault(flow, used) == used, repeat
    assert set(pinned.values()) == set(links)


def test_when_a_link_goes_only_its_flows_move(harness: Harness, certificates: Certificates) -> None:
    links = bundle(harness, certificates, 3)
    tun, tun_port = harness.tun(1, "100.64.255.254/32")
    harness.plane.add_route(1, "100.64.0.1/32", 1)

    def where(flow: int) -> int:
        before = packets_of(harness, links)
        tun.send(udp(CLOUD, NODE1, 1000 + flow))
        harness.until(lambda: packets_of(harness, links) != before, "the packet")
        after = packets_of(harness, links)
        return next(port for port in links if after[port] != before[port])

    before = {flow: where(flow) for flow in range(30)}
    gone = before[0]
    links.pop(gone).close()
    assert harness.expect(PortClosed).port == gone
    after = {flow: where(flow) for flow in range(30)}
    assert all(after[flow] == port for flow, port in before.items() if port != gone)
    assert {after[flow] for flow, port in before.items() if port == gone} <= set(links)
    for port in list(links):
        links.pop(port).close()
        assert harness.expect(PortClosed).port == port
    tun.send(udp(CLOUD, NODE1, 1))
    harness.until(lambda: harness.counter(tun_port, "no_link") == 1, "a route whose node has no link")
    links = bundle(harness, certificates, 1)
    assert where(1) in links  # the route was there all the time


def test_a_ninth_link_replaces_the_oldest(harness: Harness, certificates: Certificates) -> None:
    links = bundle(harness, certificates, 9)
    for n in range(200):
        assert harness.plane.send_segment(1, 1, n.to_bytes(2, "big") + b"\0\x01")
    used = {port for port in links if harness.counter(port, "tx_segments")}
    assert used == set(list(links)[1:])


def test_links_of_one_node_do_not_send_to_each_other(harness: Harness, certificates: Certificates) -> None:
    links = bundle(harness, certificates, 2)
    harness.plane.add_route(1, "100.64.0.0/16", 1)
    port, peer = next(iter(links.items()))
    for n in range(20):
        peer.send(PACKET, udp(NODE1, NODE2, n))
        peer.send(SEGMENT, encode_segment(1, 1, n.to_bytes(4, "big")))
    harness.until(lambda: harness.counter(port, "no_route") == 40, "all of them to be refused")


def test_an_edge_reaches_everybody_through_number_zero(implementation: str, certificates: Certificates) -> None:
    with Harness(7) as harness:
        peer, port = harness.link(certificates.relay, certificates.nodes[1], tenant=0, number=0)
        tun, _ = harness.tun(0, "100.64.0.7/32")
        harness.plane.add_route(0, "100.64.0.0/16", 0)
        tun.send(udp(NODE1, NODE2, 5))
        frame = peer.receive()
        assert frame is not None and (frame.kind, frame.payload) == (PACKET, udp(NODE1, NODE2, 5))
        assert harness.plane.send_segment(0, 3, b"to node 3")
        frame = peer.receive()
        assert frame is not None and frame.payload == encode_segment(3, 7, b"to node 3")
        assert not harness.plane.send_segment(0, 7, b"to ourselves")
        peer.send(SEGMENT, encode_segment(7, 3, b"for us"))
        assert harness.expect(SegmentReceived) == SegmentReceived(port, 0, 3, b"for us")
        peer.send(SEGMENT, encode_segment(3, 2, b"not for us"))  # a relay that is confused: no way back
        peer.send(PACKET, udp(NODE2, bytes([100, 64, 9, 9]), 5))
        harness.until(lambda: harness.counter(port, "no_route") == 2, "both refusals")
        assert not harness.plane.admit(port, tenant=0, number=7, prefixes=[])


def test_a_node_of_another_relay_is_reached_with_its_tenant_in_front(
    harness: Harness, certificates: Certificates
) -> None:
    here, _ = harness.link(certificates.relay, certificates.nodes[1], tenant=5, number=1, prefixes=("100.64.0.1/32",))
    other, port = relay(harness, certificates)
    harness.plane.add_route(5, "100.64.0.2/32", 2)
    assert harness.plane.add_next_hop(5, 2, port)
    here.send(PACKET, udp(NODE1, NODE2, 1, ttl=9))
    frame = other.receive()
    assert frame is not None and (frame.kind, frame.payload) == (TENANT_PACKET, tagged(5, udp(NODE1, NODE2, 1, ttl=8)))
    here.send(SEGMENT, encode_segment(2, 1, b"across"))
    frame = other.receive()
    assert frame is not None and (frame.kind, frame.payload) == (
        TENANT_SEGMENT,
        tagged(5, encode_segment(2, 1, b"across")),
    )
    assert harness.plane.send_segment(5, 2, b"ours")
    frame = other.receive()
    assert frame is not None and (frame.kind, frame.payload) == (
        TENANT_SEGMENT,
        tagged(5, encode_segment(2, 0, b"ours")),
    )
    other.send(TENANT_PACKET, tagged(5, udp(NODE2, NODE1, 1, ttl=9)))
    frame = here.receive()
    assert frame is not None and (frame.kind, frame.payload) == (PACKET, udp(NODE2, NODE1, 1, ttl=8))
    other.send(TENANT_SEGMENT, tagged(5, encode_segment(1, 2, b"back")))
    frame = here.receive()
    assert frame is not None and (frame.kind, frame.payload) == (SEGMENT, encode_segment(1, 2, b"back"))
    other.send(TENANT_SEGMENT, tagged(5, encode_segment(0, 2, b"to the cloud")))
    assert harness.expect(SegmentReceived) == SegmentReceived(port, 5, 2, b"to the cloud")
    harness.plane.remove_next_hops(5, 2)
    assert not harness.plane.send_segment(5, 2, b"gone")


def test_the_nearer_way_wins_and_a_dead_relay_is_forgotten(harness: Harness, certificates: Certificates) -> None:
    first, first_port = relay(harness, certificates)
    second, second_port = relay(harness, certificates)
    assert harness.plane.add_next_hop(1, 1, first_port)
    own, own_port = harness.link(certificates.relay, certificates.nodes[1], tenant=1, number=1)
    assert harness.plane.send_segment(1, 1, b"near")
    frame = own.receive()
    assert frame is not None and frame.kind == SEGMENT
    harness.plane.drop(own_port, "gone")
    assert harness.expect(PortClosed).port == own_port
    assert harness.plane.send_segment(1, 1, b"far")
    frame = first.receive()
    assert frame is not None and frame.kind == TENANT_SEGMENT
    assert harness.plane.add_next_hop(1, 1, second_port)
    first.close()
    assert harness.expect(PortClosed).port == first_port
    for n in range(5):
        assert harness.plane.send_segment(1, 1, n.to_bytes(4, "big"))
        assert second.receive() is not None
    second.close()
    assert harness.expect(PortClosed).port == second_port
    assert not harness.plane.send_segment(1, 1, b"nobody")
    assert not harness.plane.add_next_hop(1, 1, second_port) and not harness.plane.add_next_hop(1, 0, second_port)


def test_what_comes_from_a_relay_never_goes_to_a_relay(harness: Harness, certificates: Certificates) -> None:
    one, one_port = relay(harness, certificates)
    _, two_port = relay(harness, certificates)
    harness.plane.add_route(1, "100.64.0.2/32", 2)
    for port in (one_port, two_port):
        assert harness.plane.add_next_hop(1, 2, port)
    for n in range(10):
        one.send(TENANT_PACKET, tagged(1, udp(NODE1, NODE2, n)))
        one.send(TENANT_SEGMENT, tagged(1, encode_segment(2, 1, n.to_bytes(4, "big"))))
    harness.until(
        lambda: harness.counter(one_port, "no_link") + harness.counter(one_port, "no_route") == 20, "refusals"
    )
    assert harness.counter(two_port, "tx_packets") == harness.counter(two_port, "tx_segments") == 0


def test_a_relay_names_the_tenant_and_nobody_else_may(harness: Harness, certificates: Certificates) -> None:
    spy, spy_port = harness.link(certificates.relay, certificates.nodes[1], tenant=1, number=1)
    harness.link(certificates.relay, certificates.nodes[2], tenant=2, number=2, prefixes=("100.64.0.2/32",))
    spy.send(TENANT_PACKET, tagged(2, udp(NODE1, NODE2, 1)))
    assert harness.expect(PortClosed) == PortClosed(spy_port, "a frame between relays from a link that leads to none")
    other, other_port = relay(harness, certificates)
    for tenant in (0, 3, 65_536, 0xFFFFFFFF):  # tenants that are not known, or cannot be
        other.send(TENANT_PACKET, tagged(tenant, udp(NODE1, NODE2, 1)))
        other.send(TENANT_SEGMENT, tagged(tenant, encode_segment(2, 1, b"x")))
    harness.until(lambda: harness.counter(other_port, "no_route") == 8, "all of them to be refused")
    other.send(PACKET, udp(NODE1, NODE2, 1))
    assert harness.expect(PortClosed) == PortClosed(other_port, "a frame without its tenant from a relay")


def test_a_link_can_change_what_it_is(harness: Harness, certificates: Certificates) -> None:
    other, port = relay(harness, certificates)
    assert harness.plane.add_next_hop(1, 1, port)
    assert harness.plane.admit(port, tenant=3, number=4, prefixes=[])
    assert not harness.plane.send_segment(1, 1, b"x")
    assert harness.plane.send_segment(3, 4, b"x")
    frame = other.receive()
    assert frame is not None and frame.kind == SEGMENT
    assert harness.plane.admit_peer(port)
    assert not harness.plane.send_segment(3, 4, b"x")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(min_size=4, max_size=12), min_size=1, max_size=20))
def test_both_planes_pin_the_same_flows_to_the_same_links(certificates: Certificates, segments: list[bytes]) -> None:
    fast = pytest.importorskip("kubeedge._fastpath.plane")
    assume(segments)
    for segment in segments:
        payload = encode_segment(1, 0, segment)
        assert fast.segment_flow(payload) == reference.segment_flow(payload)


def test_a_route_to_a_number_that_cannot_be_is_refused(harness: Harness) -> None:
    with pytest.raises(ValueError, match="node 70000"):
        harness.plane.add_route(1, "10.0.0.0/8", 70_000)
    with pytest.raises(ValueError, match="host bits"):
        harness.plane.add_route(1, "10.0.0.1/8", 1)


def test_a_tenant_has_one_tun(harness: Harness) -> None:
    harness.tun(3)
    with pytest.raises(OSError, match="tenant number 3 has a TUN already"):
        harness.tun(3)
    harness.tun(4)
