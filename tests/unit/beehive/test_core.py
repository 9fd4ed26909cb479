from hypothesis import given
from hypothesis import strategies as st

from kubeedge.beehive.core import RestartPolicy, Restarts
from kubeedge.kit.backoff import Backoff

POLICY = RestartPolicy(backoff=Backoff(0.5, 30.0), healthy_after=60.0)


def test_each_crash_in_a_row_doubles_the_wait_up_to_the_limit():
    restarts = Restarts(POLICY)
    delays = []
    now = 0.0
    for _ in range(9):
        restarts.started(now)
        now += 1.0
        delays.append(restarts.ended(now))
        now += delays[-1]
    assert delays == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert restarts.total == 9


def test_a_minute_of_health_earns_trust_again():
    restarts = Restarts(POLICY)
    restarts.started(0.0)
    assert restarts.ended(1.0) == 0.5
    restarts.started(1.5)
    assert restarts.ended(61.4) == 1.0  # 59.9 s: not quite
    restarts.started(62.4)
    assert restarts.ended(122.4) == 0.5
    assert restarts.total == 3


@given(st.integers(1, 10**9))
def test_no_number_of_crashes_overflows_the_delay(crashes):
    assert 0.5 <= POLICY.backoff.delay(crashes) <= 30.0
