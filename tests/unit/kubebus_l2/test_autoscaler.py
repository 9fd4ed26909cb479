"""Links beyond those that are configured: where BBR is missing, while there is much to say."""

from __future__ import annotations

from kubeedge.kubebus.l2.autoscaler import CALM, MUCH, LinkAutoscaler


def test_more_links_come_with_traffic_on_a_long_path_without_bbr_and_go_when_it_is_calm() -> None:
    autoscaler, now, moved = LinkAutoscaler(), 100.0, 10_000_000
    assert not autoscaler.look(now, moved=moved, congestion="cubic", rtt=0.02)  # what was before is not known
    for _ in range(20):
        now, moved = now + 2.5, moved + 1000
        assert not autoscaler.look(now, moved=moved, congestion="cubic", rtt=0.02)
    now, moved = now + 0.5, moved + MUCH
    assert autoscaler.look(now, moved=moved, congestion="cubic", rtt=0.02)
    while now < 120.0 + CALM:
        now += 2.5
        wanted = autoscaler.look(now, moved=moved, congestion="cubic", rtt=0.02)
        assert wanted is (now - 150.5 < CALM)
        if not wanted:
            break


def test_short_paths_and_bbr_need_none() -> None:
    for congestion, rtt in (("bbr", 0.05), ("cubic", 0.001), ("cubic", 0.0), ("", 0.05)):
        autoscaler = LinkAutoscaler()
        for n in range(10):
            assert not autoscaler.look(float(n), moved=n * 10 * MUCH, congestion=congestion, rtt=rtt)


def test_links_that_ended_take_their_bytes_with_them() -> None:
    autoscaler = LinkAutoscaler()
    autoscaler.look(0.0, moved=10 * MUCH, congestion="cubic", rtt=0.02)
    assert not autoscaler.look(1.0, moved=0, congestion="cubic", rtt=0.02)
    assert autoscaler.look(2.0, moved=2 * MUCH, congestion="cubic", rtt=0.02)
