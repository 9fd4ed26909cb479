"""The user-space wire between two hosts, in Python and in C: what it is told is what packets meet."""

from __future__ import annotations

import re

import pytest

from tests.kit.topology import Host, Topology
from tests.kit.wire import Conditions, LossyWire

pytestmark = pytest.mark.root


def answers(host: Host, count: int) -> list[float]:
    """Milliseconds of each ping that was answered."""
    out = host.run("ping", "-n", "-i", "0.01", "-c", str(count), "-W", "2", "10.9.0.2", check=False)
    return [float(t) for t in re.findall(r"time=([0-9.]+) ms", out)]


@pytest.mark.parametrize("fast", [False, True], ids=["python", "c"])
def test_a_wire_delays_and_loses_what_it_is_told_and_heals(topology: Topology, fast: bool) -> None:
    a, b = topology.host("a"), topology.host("b")
    wire = LossyWire(topology, a, "10.9.0.1/24", b, "10.9.0.2/24", Conditions(delay=0.015), seed=3, fast=fast)
    times = answers(a, 20)
    assert len(times) == 20 and min(times) >= 30
    wire.change(Conditions(loss=0.5))
    assert 0 < len(answers(a, 60)) < 45  # a quarter comes back, give or take what the seed says
    wire.change(Conditions(loss=1.0))
    assert answers(a, 5) == []
    wire.change(Conditions())
    # what was under way when the wire was told so may still be lost
    assert any(len(answers(a, 5)) == 5 for _ in range(3))


def test_the_queue_of_the_fast_wire_drops_what_does_not_fit(topology: Topology) -> None:
    a, b = topology.host("a"), topology.host("b")
    LossyWire(topology, a, "10.9.0.1/24", b, "10.9.0.2/24", Conditions(rate=1e5, queue=20_000), fast=True)
    # it empties by a packet in 0.1 s: the burst, which takes a millisecond, may be interrupted
    out = a.run("ping", "-n", "-s", "1400", "-c", "40", "-l", "40", "-W", "5", "10.9.0.2", check=False)
    received = int(re.search(r"(\d+) received", out).group(1))  # type: ignore[union-attr]
    assert 10 <= received <= 15  # of a burst of 40 as many as fit into the queue
