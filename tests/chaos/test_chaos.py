"""A short run over real processes; `make chaos` has the long ones."""

from __future__ import annotations

import pytest

from tests.chaos.scenario import ENOUGH, run

pytestmark = pytest.mark.root


@pytest.mark.parametrize(("store", "seconds", "agents"), [("etcd", 9.0, 2), ("sqlite", 5.0, 1)])
def test_no_acknowledged_write_is_missing_or_doubled_after_faults(store: str, seconds: float, agents: int) -> None:
    result = run(12, seconds, store=store, agents=agents)
    print(result)
    assert result.wrong == []
    assert result.faults >= 4 and result.acknowledged > ENOUGH and result.readings > ENOUGH
