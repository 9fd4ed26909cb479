"""Round robin between those who wait."""

from __future__ import annotations

import asyncio

from kubeedge.kit.turns import Turns
from tests.kit import virtual_time


def test_each_key_is_asked_in_turn_however_much_one_of_them_wants() -> None:
    async def scenario() -> None:
        turns, order = Turns(), []

        async def work(key: str, number: int) -> None:
            async with turns.of(key):
                order.append(f"{key}{number}")
                await asyncio.sleep(1)

        tasks = [asyncio.create_task(work("a", n)) for n in range(4)]
        await asyncio.sleep(0.5)
        tasks += [asyncio.create_task(work("b", n)) for n in range(2)]
        await asyncio.gather(*tasks)
        assert order == ["a0", "a1", "b0", "a2", "b1", "a3"]
        assert asyncio.get_running_loop().time() == 6.0  # one at a time

    virtual_time.run(scenario())


def test_who_leaves_while_waiting_takes_no_turn_along() -> None:
    async def scenario() -> None:
        turns = Turns()
        await turns.take("a")
        waiting = [asyncio.create_task(turns.take("a")) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        turns.give()  # goes to the second; the first is gone
        waiting[1].cancel()  # before it could use it
        await asyncio.sleep(0)
        await waiting[2]
        turns.give()
        await asyncio.wait_for(turns.take("b"), 1)

    virtual_time.run(scenario())
