from __future__ import annotations

from itertools import pairwise

import pytest

from tests.chaos.faults import KINDS, QUORUM_LOST, schedule

SITE = {"agents": 2, "clouds": 2, "members": 3}


def test_a_seed_gives_the_same_faults_and_another_seed_others() -> None:
    assert schedule(5, 60, **SITE) == schedule(5, 60, **SITE) != schedule(6, 60, **SITE)


@pytest.mark.parametrize("seed", range(40))
def test_faults_are_over_by_the_end_and_no_target_has_two_at_a_time(seed: int) -> None:
    faults = schedule(seed, 90, **SITE)
    assert list(faults) == sorted(faults, key=lambda s: s.at) and all(s.ends <= 90 and s.lasts > 0 for s in faults)
    for target in {s.target for s in faults}:
        mine = [s for s in faults if s.target == target]
        assert all(before.ends <= after.at for before, after in pairwise(mine)), target
    hit = {(s.kind, s.target[:-1]) for s in faults}
    assert hit == {(kind, name) for kind in KINDS for name in ("agent", "cloud", "etcd")}


@pytest.mark.parametrize("seed", range(40))
def test_a_majority_of_etcd_is_never_gone_for_long(seed: int) -> None:
    faults = [s for s in schedule(seed, 300, **SITE) if s.target.startswith("etcd")]
    moments = sorted({t for s in faults for t in (s.at, s.ends)})
    lost = 0.0
    for begin, end in pairwise(moments):
        down = {s.target for s in faults if s.at <= begin and s.ends >= end}
        assert len(down) < 3
        lost = lost + end - begin if len(down) > 1 else 0.0
        assert lost <= QUORUM_LOST + 1e-6


def test_the_majority_is_gone_now_and_then() -> None:
    for seed in range(20):
        faults = [s for s in schedule(seed, 300, **SITE) if s.target.startswith("etcd")]
        if any(a.ends > b.at for a, b in pairwise(faults)):
            return
    raise AssertionError("no schedule takes two members at once")
