"""The user-space wire: its arithmetic with literal times, and once for real."""

from __future__ import annotations

import random

import pytest

from tests.kit.topology import Topology
from tests.kit.wire import Conditions, Direction, LossyWire


def test_a_packet_arrives_after_its_time_on_the_wire_and_the_delay() -> None:
    wire = Direction(Conditions(rate=8_000, delay=0.5), random.Random(1))
    assert wire.send(b"x" * 1000, now=10.0)  # one second on the wire
    assert wire.next_arrival() == pytest.approx(11.5)
    assert wire.arrivals(11.4) == []
    assert wire.arrivals(11.5) == [b"x" * 1000]
    assert wire.next_arrival() is None


def test_packets_wait_for_each_other_and_a_full_queue_drops_the_newest() -> None:
    wire = Direction(Conditions(rate=8_000, queue=2_000), random.Random(1))
    assert [wire.send(bytes(1000), now=0.0) for _ in range(3)] == [True, True, False]
    assert len(wire.arrivals(1.0)) == 1
    assert wire.send(bytes(1000), now=1.0)
    assert len(wire.arrivals(3.0)) == 2


def test_loss_is_the_seeds() -> None:
    def lost(seed: int) -> list[bool]:
        wire = Direction(Conditions(loss=0.3), random.Random(seed))
        return [wire.send(b"x", now=0.0) for _ in range(1000)]

    assert lost(5) == lost(5)
    assert 600 < sum(lost(5)) < 800


@pytest.mark.root
def test_a_far_wire_between_two_hosts(topology: Topology) -> None:
    a, b = topology.host("a"), topology.host("b")
    wire = LossyWire(topology, a, "10.9.0.1/24", b, "10.9.0.2/24", Conditions(delay=0.02))
    out = a.run("ping", "-c5", "-i0.1", "-W1", "10.9.0.2")
    fastest = float(out.rsplit("= ", 1)[1].split("/")[0])
    assert 40.0 <= fastest < 60.0
    wire.change(Conditions(loss=1.0))
    assert "100% packet loss" in a.run("ping", "-c2", "-i0.1", "-W1", "10.9.0.2", check=False)
