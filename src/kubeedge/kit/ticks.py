"""Looks from time to time that need no moment of their own: all of one period come at once, and those of 2 and of 10 seconds share what they can.

A machine that sleeps is woken once for all of them. What must not fall together, as requests of many nodes to one server, is not for this.
"""

from __future__ import annotations

import asyncio


async def tick(every: float, at_least: float = 0.0) -> None:
    """Return at a multiple of `every` seconds by the loop's clock: the next one, or the next that is more than `at_least` seconds away."""
    loop = asyncio.get_running_loop()
    come = loop.create_future()
    # computed, not added up: the same number for all who wait for it, so that the loop has one moment for them
    timer = loop.call_at(((loop.time() + at_least) // every + 1) * every, _come, come)
    try:
        await come
    finally:
        timer.cancel()


def _come(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():  # cancelled in the same turn of the loop
        waiting.set_result(None)
