"""Ticks: who waits for the same moment waits together."""

from __future__ import annotations

import asyncio

import pytest

from kubeedge.kit.ticks import tick
from tests.kit import virtual_time


def test_all_of_one_period_come_at_once_whenever_they_began() -> None:
    async def scenario() -> list[float]:
        loop = asyncio.get_running_loop()

        async def look(first: float) -> float:
            await asyncio.sleep(first)
            await tick(2.0)
            return loop.time()

        await tick(10.0)  # a moment that is a multiple of both
        return await asyncio.gather(look(0.0), look(0.3), look(1.9))

    at = virtual_time.run(scenario())
    assert len(set(at)) == 1 and at[0] % 2.0 == 0.0


@pytest.mark.parametrize(("at_least", "expected"), [(0.0, 10.0), (9.9, 10.0), (10.0, 20.0), (37.0, 40.0)])
def test_there_is_as_much_time_between_two_as_was_asked_for(at_least: float, expected: float) -> None:
    async def scenario() -> float:
        loop = asyncio.get_running_loop()
        await tick(10.0)
        began = loop.time()
        await tick(10.0, at_least=at_least)
        return loop.time() - began

    assert virtual_time.run(scenario()) == expected


def test_one_that_is_cancelled_leaves_no_timer() -> None:
    async def scenario() -> None:
        waiting = asyncio.create_task(tick(3600.0))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        loop = asyncio.get_running_loop()
        assert not [timer for timer in loop._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]

    virtual_time.run(scenario())
