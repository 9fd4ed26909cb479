"""Which relay is tried first, with literal times."""

from __future__ import annotations

import pytest

from kubeedge.kubebus.l2.relays import RelayOrder


def test_a_node_stays_at_the_relay_that_worked() -> None:
    relays = RelayOrder(["a:1", "b:1", "c:1"])
    assert relays.order(0.0) == ["a:1", "b:1", "c:1"]
    relays.worked("b:1")
    assert relays.order(100.0) == ["b:1", "a:1", "c:1"]


def test_those_that_failed_lately_come_last_the_latest_failure_behind() -> None:
    relays = RelayOrder(["a:1", "b:1", "c:1"])
    relays.worked("b:1")
    relays.failed("b:1", 10.0)
    relays.failed("a:1", 11.0)
    assert relays.order(12.0) == ["c:1", "b:1", "a:1"]
    assert relays.order(30.0) == ["b:1", "a:1", "c:1"]


def test_a_relay_that_asked_us_to_stay_away_is_left_alone_until_then() -> None:
    relays = RelayOrder(["a:1", "a:1"])
    relays.failed("a:1", 5.0, stay_away=60.0)
    assert relays.order(64.0) == [] and relays.wait_until() == 65.0
    assert relays.order(65.0) == ["a:1"]


def test_without_a_relay_nothing_begins() -> None:
    with pytest.raises(ValueError, match="no relay"):
        RelayOrder([])
