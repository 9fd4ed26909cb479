"""What the agent may cost a small machine: the part of bench/budgets that a loaded machine does not change.

All modules, three pods, nothing to do. Memory is counted in pages that the process has (bench/budgets/readings.py), whoever runs beside it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.budgets import readings
from bench.budgets.readings import MB
from bench.budgets.site import BudgetSite, site
from tests.kit.topology import until

pytestmark = pytest.mark.root

#: every module is on, and bytecode has its docstrings, which are 1.2 MB: 37.0 and 23.9 now. ADR 54 wants 36 and 23 without them
RSS, PRIVATE_DIRTY = 38.5 * MB, 25 * MB
EACH_POD = 1 * MB  # of the agent and of its conmon
WAKEUPS = 200  # a minute
WATCHED = 15.0  # seconds


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BudgetSite]:
    """An agent that found all of its bytecode, as from the second start on, with three pods that it found, too."""
    bytecode = tmp_path_factory.mktemp("bytecode")
    environment = ("env", "-u", "PYTHONDONTWRITEBYTECODE", f"PYTHONPYCACHEPREFIX={bytecode}")

    def agent(*arguments: str) -> list[str]:
        return [*environment, sys.executable, "-m", "kubeedge", *arguments]

    with site(agent) as it:
        it.join()
        it.start()
        it.pods(3)
        it.stop()
        it.start()
        it.wait(lambda: Path(f"/proc/{it.pid}").exists() and it.is_up(), "the agent's modules")
        it.wait(it.ready, "the node Ready")
        yield it


def settled(it: BudgetSite) -> readings.ProcessMemory:
    """Once it has stopped growing: what it was given to do is done."""
    seen: list[int] = []

    def steady() -> bool:
        seen.append(readings.memory(it.pid).rss)
        return len(seen) > 2 and max(seen[-3:]) - min(seen[-3:]) < 128 * 1024

    until(steady, timeout=120, what="a steady size", interval=1)
    return readings.memory(it.pid)


def test_memory_with_three_pods_and_what_one_more_costs(started: BudgetSite) -> None:
    three = settled(started)
    print(f"rss {three.rss / MB:.1f} MB, private dirty {three.private_dirty / MB:.1f} MB")
    assert three.rss < RSS
    assert three.private_dirty < PRIVATE_DIRTY
    started.pods(8)
    eight = settled(started)
    monitors = [readings.memory(pid).private for pid in started.monitors()]
    each = (eight.private_dirty - three.private_dirty) / 5 + max(monitors)
    print(f"each further pod {each / MB:.2f} MB, its conmon {max(monitors) / MB:.2f} MB")
    assert len(monitors) == 8 and each < EACH_POD


def test_an_idle_agent_sleeps(started: BudgetSite) -> None:
    """Timers are counted, not processor time. Where the processors are busy its threads wait for each other, which counts, too: the least is
    what it cannot do without."""
    settled(started)
    least = math.inf

    def quiet() -> bool:
        nonlocal least
        seen = readings.idleness(started.pid, WATCHED)
        print({name: round(count) for name, count in seen.wakeups.items()}, f"{seen.cpu:.2%} of a core")
        least = min(least, seen.wakeups_a_minute)
        return least < WAKEUPS

    until(quiet, timeout=180, what="a quarter of a minute with few wake-ups")
