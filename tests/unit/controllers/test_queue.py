"""Workers of a queue: each key in its turn, and no worker wakes that has nothing to do."""

from __future__ import annotations

import asyncio

from kubeedge_cloud.controllers.queue import WorkQueue


def test_a_key_wakes_one_worker_and_is_handled_once_more_when_it_came_meanwhile() -> None:
    async def run() -> None:
        handled: list[str] = []
        gate = asyncio.Event()

        async def handle(key: str) -> None:
            handled.append(key)
            if key == "slow":
                await gate.wait()

        queue: WorkQueue[str] = WorkQueue("q", handle, workers=4)
        queue.add("before")
        for _ in range(2):  # a tenant whose leader changes: the workers of before are no workers any more
            serving = asyncio.create_task(queue.run())
            try:
                async with asyncio.timeout(60):
                    while len(queue._idle) < 4:
                        await asyncio.sleep(0)
                    queue.add("slow")
                    queue.add("slow")
                    assert sum(not one.done() for one in queue._idle) == 3
                    while handled[-1:] != ["slow"]:
                        await asyncio.sleep(0)
                    for key in ("slow", "a", "b", "a", "c", "d", "e"):
                        queue.add(key)
                    while len(handled) < 6 + ("before" in handled):
                        await asyncio.sleep(0)
                    gate.set()
                    while handled.count("slow") < 2:
                        await asyncio.sleep(0)
            finally:
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)
            assert set(handled) - {"before"} == {"slow", "a", "b", "c", "d", "e"}
            handled.clear()
            gate.clear()

    asyncio.run(run())
