"""Delays double from the first to the last, and jitter only shortens them."""

from __future__ import annotations

import math
import random

from hypothesis import given
from hypothesis import strategies as st

from kubeedge.kit.backoff import Backoff, OutageBackoff


def test_delays_double_up_to_the_last() -> None:
    backoff = Backoff(0.5, 30.0)
    assert [backoff.delay(n) for n in range(1, 9)] == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_without_a_failure_nothing_waits() -> None:
    assert [Backoff(0.5, 30.0, jitter=0.5).delay(n, 0.9) for n in (0, -1)] == [0.0, 0.0]


def test_an_outage_of_years_has_the_last_delay() -> None:
    assert Backoff(0.001, 3600.0).delay(10**9) == 3600.0


def test_jitter_is_the_part_that_chance_decides() -> None:
    backoff = Backoff(1.0, 8.0, jitter=0.5)
    assert [backoff.delay(n, 0.0) for n in (1, 2, 9)] == [0.5, 1.0, 4.0]
    assert [backoff.delay(n, 1.0) for n in (1, 2, 9)] == [1.0, 2.0, 8.0]
    assert Backoff(1.0, 8.0, jitter=1.0).delay(4, 0.25) == 2.0


def test_clients_that_failed_together_do_not_come_back_together() -> None:
    rng = random.Random(1)
    backoff = Backoff(2.0, 4.0, jitter=1.0)
    times = sorted(backoff.delay(2, rng.random()) for _ in range(1000))
    assert max(sum(t <= other < t + 0.1 for other in times) for t in times) < 60  # 25 on average


@given(st.integers(1, 2000), st.floats(0, 1), st.floats(0, 1))
def test_a_delay_is_within_its_bounds(failures: int, jitter: float, chance: float) -> None:
    delay = Backoff(0.25, 5.0, jitter).delay(failures, chance)
    assert 0.25 * (1 - jitter) - 1e-9 <= delay <= 5.0


def test_an_outage_that_lasts_is_tried_less_often() -> None:
    backoff = OutageBackoff(0.25, 1.0, 5.0)
    assert [backoff.delay(n, 0.0, 1.0) for n in (1, 2, 3, 4, 9)] == [0.25, 0.5, 1.0, 1.0, 1.0]
    assert [backoff.delay(9, outage, 1.0) for outage in (59.9, 60.0, math.inf)] == [1.0, 5.0, 5.0]
    assert backoff.delay(9, 60.0, 0.0) == 2.5 and backoff.is_young(59.9) and not backoff.is_young(60.0)
