"""Sums over links that come and go never go back, whatever comes and goes in which order."""

from __future__ import annotations

from dataclasses import fields

from hypothesis import given
from hypothesis import strategies as st

from kubeedge.kubebus.l3.plane import PortCounters
from kubeedge.kubebus.observe import CounterTotals


def counters(value: int) -> PortCounters:
    return PortCounters(**{f.name: value for f in fields(PortCounters)})


def test_what_an_ended_link_did_stays_and_what_it_had_goes() -> None:
    totals = CounterTotals()
    assert totals.total({}) is None
    assert totals.total({1: counters(5), 2: counters(7)}) == counters(12)
    after = totals.total({2: counters(8)})
    assert after is not None and (after.rx_bytes, after.queue_full, after.queued, after.rtt) == (13, 13, 8, 8)
    gone = totals.total({})
    assert gone is not None and (gone.rx_bytes, gone.queued) == (13, 0)
    again = totals.total({2: counters(1)})  # another plane numbers its ports anew
    assert again is not None and again.rx_bytes == 14


@given(st.lists(st.dictionaries(st.integers(0, 3), st.integers(0, 50), max_size=4), max_size=12))
def test_a_counter_never_goes_back(steps: list[dict[int, int]]) -> None:
    totals, moved, seen = CounterTotals(), dict[int, int](), 0
    for step in steps:
        moved = {
            port: moved.get(port, 0) + more for port, more in step.items()
        }  # a port that was away begins at nothing
        total = totals.total({port: counters(value) for port, value in moved.items()})
        assert total is None or total.rx_bytes >= seen
        seen = total.rx_bytes if total else seen
