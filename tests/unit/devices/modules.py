"""Modules of the agent that run for the length of a test."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from kubeedge.beehive.module import Module
from tests.kit.condition import explained

WITHIN = 90.0  # seconds


@contextlib.asynccontextmanager
async def running(*modules: Module) -> AsyncIterator[None]:
    """One after another, each when the one before is ready; all are cancelled at the end."""
    tasks = []
    try:
        for module in modules:
            ready = asyncio.Event()
            tasks.append(asyncio.create_task(module.run(ready)))
            await asyncio.wait_for(ready.wait(), WITHIN)
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what needs the loop, or other processes."""
    end = asyncio.get_running_loop().time() + WITHIN
    while not condition():
        assert asyncio.get_running_loop().time() < end, f"not within {WITHIN:.0f} s{explained(condition)}"
        await asyncio.sleep(0.02)
