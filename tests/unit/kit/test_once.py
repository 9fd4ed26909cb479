"""One result for all who ask while it is made."""

from __future__ import annotations

import asyncio

import pytest

from kubeedge.kit.once import Once


def test_who_asks_while_it_is_made_shares_it_and_who_leaves_does_not_end_it() -> None:
    async def scenario() -> None:
        once, go, made = Once[str](), asyncio.Event(), []

        async def make() -> object:
            await go.wait()
            made.append(object())
            return made[-1]

        first, *others = [asyncio.create_task(once.of("a", make)) for _ in range(4)]
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        go.set()
        assert await asyncio.gather(*others) == made * 3 and len(made) == 1
        assert await once.of("a", make) is made[1]  # nothing is kept
        assert len(once) == 0

    asyncio.run(scenario())


def test_a_failure_is_everybodys_and_the_next_one_tries_again() -> None:
    async def scenario() -> None:
        once = Once[str]()

        async def fail() -> None:
            await asyncio.sleep(0)
            raise ValueError("no")

        asked = await asyncio.gather(*(once.of("a", fail) for _ in range(3)), return_exceptions=True)
        assert [str(one) for one in asked] == ["no"] * 3 and len(once) == 0
        with pytest.raises(ValueError, match="no"):
            await once.of("a", fail)

    asyncio.run(scenario())
