"""L4 in the thread of a data plane."""

from __future__ import annotations

import time

from kubeedge.kubebus.l3.plane import Plane
from tests.reference.l4.segment import SYN, Segment, encode


def test_a_segment_from_before_there_was_l4_is_received_with_the_planes_lock_and_clock() -> None:
    """It came as an event, so it is the loop's thread that hands it in. With a clock of its own the connection would be given up at once."""
    plane = Plane(7)
    core = plane.l4(1)
    try:
        core.listen(80)
        core.receive(9, encode(Segment(1000, 80, 1, 0, 1 << 16, SYN)), 0.0)
        deadline = time.monotonic() + 60
        while core.counters()["segments_out"] < 3 and time.monotonic() < deadline:
            time.sleep(0.005)  # nobody links node 9, so the answer is tried again and again
        assert core.counters()["segments_out"] >= 3
        assert core.counters()["connections"] == 1
    finally:
        core.close()
        plane.close()
