"""The virtual clock that other tests trust."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.kit import virtual_time


def test_an_hour_passes_in_no_time() -> None:
    async def scenario() -> float:
        start = asyncio.get_running_loop().time()
        await asyncio.sleep(3600)
        return asyncio.get_running_loop().time() - start

    real = time.monotonic()
    assert virtual_time.run(scenario()) == pytest.approx(3600)
    assert time.monotonic() - real < 1.0


def test_timers_fire_in_order() -> None:
    async def scenario() -> list[int]:
        order: list[int] = []

        async def note(n: int, after: float) -> None:
            await asyncio.sleep(after)
            order.append(n)

        await asyncio.gather(note(3, 30), note(1, 1), note(2, 5))
        return order

    assert virtual_time.run(scenario()) == [1, 2, 3]
