"""Peers that want all the memory: what one node, and one tenant, can make an endpoint hold. Each scenario with the C engine and its reference implementation."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from kubeedge._fastpath.l4_state import ConnectionState
from kubeedge._fastpath.plane import L4

from kubeedge.errors import Unavailable
from tests.reference.l4.endpoint import EndpointCore
from tests.reference.l4.segment import ACK, MAX_PAYLOAD, SYN, Segment, before, decode, encode

PORT = 80
MIB = 1 << 20
BUDGET = 8 * MIB
Make = Callable[..., Any]


@pytest.fixture(params=[EndpointCore, L4], ids=["python", "c"])
def make(request: pytest.FixtureRequest) -> Make:
    made: Make = request.param
    return made


class Hostile:
    """One connection of a node that says what it likes."""

    def __init__(self, end: Any, node: int, port: int, *, window: int = 1 << 20) -> None:
        self.end, self.node, self.port, self.window = end, node, port, window
        self.sequence, self.acknowledged = 1000, 0
        self.answers: list[Segment] = []
        self.say(flags=SYN)
        if self.answers and self.answers[-1].flags == SYN | ACK:
            self.sequence += 1
            self.edge = self.answers[-1].acknowledgement + self.answers[-1].window
            self.acknowledged = (self.answers[-1].sequence + 1) & 0xFFFFFFFF
            self.say()
        end.accepted.clear()

    def say(self, at: int = 0, payload: bytes = b"", flags: int = ACK) -> None:
        """`at`: bytes beyond what it has sent in order."""
        sequence = (self.sequence + at) & 0xFFFFFFFF
        s = Segment(self.port, PORT, sequence, self.acknowledged, self.window, flags, (), payload)
        self.end.receive(self.node, encode(s), 0.0)
        self.answers += [decode(data) for peer, data in self.end.segments_to_send() if peer == self.node]

    @property
    def connection(self) -> Any:
        return self.end.connections[self.node, PORT, self.port]


def listening(make: Make, **more: Any) -> Any:
    end = make(lambda: 7, **more)
    end.listen(PORT)
    return end


def held(end: Any) -> int:
    bytes: int = end.counters()["bytes"]
    return bytes


def fill(end: Any, node: int, connections: int, *, windows: int = 8) -> None:
    """Data in order that nobody reads."""
    for port in range(connections):
        peer = Hostile(end, node, 1000 + port)
        if peer.answers[-1].flags & SYN:
            for n in range(windows):
                peer.say(n * MAX_PAYLOAD, bytes(MAX_PAYLOAD))


def test_overlapping_pieces_beyond_a_hole_take_no_more_than_the_window(make: Make) -> None:
    end = listening(make)
    for port in range(6):
        peer = Hostile(end, 9, 1000 + port)
        window = (peer.edge - peer.sequence) & 0xFFFFFFFF
        for n in range(1024):
            peer.say(1 + n * (window - MAX_PAYLOAD - 1) // 1024, bytes(MAX_PAYLOAD))
    assert held(end) <= 6 * (window + 1024 * 64)


def test_tiny_pieces_beyond_a_hole_are_bounded_in_number(make: Make) -> None:
    end = listening(make)
    peer = Hostile(end, 9, 1000)
    for n in range(3_000):
        peer.say(1 + 2 * n, b"x")
    assert 0 < held(end) <= 1024 * 128


@pytest.mark.parametrize("seed", range(20))
def test_pieces_that_overlap_in_any_way_join_to_what_was_sent(make: Make, seed: int) -> None:
    rng, end = random.Random(seed), listening(make)
    peer = Hostile(end, 9, 1000)
    data = rng.randbytes(rng.choice([300, 5_000, 100_000]))
    got = b""
    cuts = [0, *sorted(rng.randrange(len(data)) for _ in range(20)), len(data)]
    pieces = list(zip(cuts, cuts[1:], strict=False))
    pieces += [(at, min(len(data), at + rng.randrange(1, 3000))) for at in rng.sample(range(len(data)), 60)]
    rng.shuffle(pieces)
    for at, to in pieces:
        for start in range(at, to, MAX_PAYLOAD):
            peer.say(start, data[start : min(to, start + MAX_PAYLOAD)])
        if rng.random() < 0.3:
            got += peer.connection.read(0.0)
            end.touch((9, PORT, 1000))
    got += peer.connection.read(0.0)
    assert got == data


def test_a_node_that_fills_what_it_may_leaves_room_for_the_others_of_its_tenant(make: Make) -> None:
    end = listening(make, budget=BUDGET)
    fill(end, 9, 100)
    assert BUDGET // 5 < held(end) < BUDGET // 2
    peer = Hostile(end, 10, 1000)
    for n in range(2):
        peer.say(n * MAX_PAYLOAD, bytes([n]) * MAX_PAYLOAD)
    assert peer.connection.waiting == 2 * MAX_PAYLOAD
    end.connect(10, PORT, 0.0)


def test_a_tenant_at_its_limit_leaves_the_others_theirs(make: Make) -> None:
    """Its nodes together: with what waits to be read, with pieces, with what nobody acknowledges."""
    red = listening(make, budget=BUDGET, tenant=1)
    blue = listening(make, tenant=2, beside=red)
    for node in range(40):
        fill(red, 100 + node, 40)
    assert held(red) <= BUDGET
    peer = Hostile(blue, 9, 1000)
    assert peer.connection.state is ConnectionState.ESTABLISHED
    for n in range(2):
        peer.say(n * MAX_PAYLOAD, bytes([n]) * MAX_PAYLOAD)
    assert peer.connection.waiting == 2 * MAX_PAYLOAD
    peer.connection.send(bytes(100_000), 0.0)
    blue.touch((9, PORT, 1000))
    assert peer.connection.state is ConnectionState.ESTABLISHED
    blue.connect(9, PORT, 0.0)


def test_half_open_connections_of_one_tenant_leave_the_others_theirs(make: Make) -> None:
    red = listening(make, tenant=1)
    blue = listening(make, tenant=2, beside=red)
    for node in range(1, 21):
        for port in range(1100):
            red.receive(node, encode(Segment(port, PORT, 1, 0, 1000, SYN)), 0.0)
    assert red.counters()["connections"] <= 4096
    red.segments_to_send()
    assert Hostile(blue, 9, 1000).connection.state is ConnectionState.ESTABLISHED


def test_connections_of_one_tenant_leave_the_others_theirs() -> None:
    red = listening(L4, tenant=1)
    blue = listening(L4, tenant=2, beside=red)
    for node in range(5):
        for port in range(16_500):
            try:
                red.connect(node, port, 0.0)
            except Unavailable:
                break
    red.segments_to_send()
    assert red.counters()["connections"] <= 65_536 - 1024
    assert Hostile(blue, 9, 1000).connection.state is ConnectionState.ESTABLISHED


def test_peers_that_never_acknowledge_stop_the_writers_and_no_other_tenants(make: Make) -> None:
    red = listening(make, budget=BUDGET, tenant=1)
    blue = listening(make, tenant=2, beside=red)
    peers = [Hostile(red, 9, 1000 + n, window=1 << 20) for n in range(300)]
    wrote = True
    while wrote:
        wrote = False
        for peer in peers:
            if peer.connection.may_write():
                peer.connection.send(bytes(2000), 0.0)
                red.touch((9, PORT, peer.port))
                wrote = True
        red.segments_to_send()
    assert BUDGET // 5 < held(red) < BUDGET // 2
    assert all(peer.connection.state is ConnectionState.ESTABLISHED for peer in peers)
    other = Hostile(blue, 10, 1000)
    assert other.connection.may_write()
    other.connection.send(bytes(100_000), 0.0)
    blue.touch((10, PORT, 1000))
    before_acks = held(red)
    first = peers[0]
    red.changed.clear()
    unheard, first.answers = first.connection, []
    for _ in range(200):  # and one that acknowledges goes on
        now = 0.0
        first.say()
        sent = [s for s in first.answers if s.payload]
        for s in sent:
            end = (s.sequence + len(s.payload)) & 0xFFFFFFFF
            first.acknowledged = end if before(first.acknowledged, end) else first.acknowledged
        first.answers = []
        at = red.next_timer()
        if unheard.may_write():
            break
        assert at is not None
        now = max(now, at)
        red.handle_timer(now)
        for peer, data in red.segments_to_send():
            s = decode(data)
            if peer == 9 and s.destination_port == first.port:
                first.answers.append(s)
    assert unheard.may_write()
    assert held(red) < before_acks + BUDGET // 8


def test_who_was_told_of_room_may_use_it_whatever_others_hold_by_then(make: Make) -> None:
    """Half of what was written would be the end of the stream: a download broke off while the node's other downloads were read slowly."""
    red = listening(make, budget=BUDGET, tenant=1)
    peers = [Hostile(red, 9, 1000 + n) for n in range(44)]
    for n, peer in enumerate(peers):
        peer.connection.send(bytes(6_000 if n < 40 else 250_000), 0.0)
        red.touch((9, PORT, peer.port))
    red.segments_to_send()
    others = [listening(make, tenant=tenant, beside=red) for tenant in range(2, 44)]
    for end in others[:2]:
        fill(end, 9, 40)
    used = 0
    for end, peer in zip(others[2:], peers, strict=False):  # less and less is left for the node
        fill(end, 9, 1, windows=2)
        if peer.connection.may_write():
            used += 1
            peer.connection.send(b"x", 0.0)
        assert peer.connection.state is ConnectionState.ESTABLISHED
    assert 0 < used < 40


def test_what_a_peer_has_taken_back_is_sent_again(make: Make) -> None:
    """Selective acknowledgements are hints (RFC 2018, section 8): a receiver without memory drops what lies beyond a hole."""
    end = listening(make)
    peer = Hostile(end, 9, 1000)
    peer.connection.send(bytes(4 * MAX_PAYLOAD), 0.0)
    end.touch((9, PORT, 1000))
    sent = [decode(data) for _, data in end.segments_to_send()]
    assert len(sent) >= 3
    first = sent[0].sequence
    told = ((first + MAX_PAYLOAD, first + 3 * MAX_PAYLOAD),)
    end.receive(9, encode(Segment(1000, PORT, peer.sequence, first, 1 << 20, ACK, told)), 0.01)
    again: set[int] = set()
    acknowledged = (first + MAX_PAYLOAD) & 0xFFFFFFFF  # the hole is filled, and what was beyond is there no more
    end.receive(9, encode(Segment(1000, PORT, peer.sequence, acknowledged, 1 << 20, ACK)), 0.02)
    while (at := end.next_timer()) is not None and at < 30 and acknowledged not in again:
        again |= {decode(data).sequence for _, data in end.segments_to_send()}
        end.handle_timer(at)
    again |= {decode(data).sequence for _, data in end.segments_to_send()}
    assert acknowledged in again


def test_a_connection_with_itself_is_refused_and_nothing_spins() -> None:
    end = listening(L4, number=5)
    end.receive(5, encode(Segment(PORT, PORT, 1, 0, 1000, SYN)), 0.0)
    assert end.count == 0 and end.next_timer() is None
