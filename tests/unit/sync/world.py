"""A source and a sink on a wire that counts and takes its time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from kubeedge.kit.bucket import Bucket
from kubeedge.store.model import Put, Store
from kubeedge.sync.bounds import Bounds
from kubeedge.sync.codec import Message, decode
from kubeedge.sync.progress import Progress
from kubeedge.sync.sink import run_sink
from kubeedge.sync.source import run_source

SOURCE, SINK, LSR = "/t/default/edge/e1/desired/", "/desired/", "/sync/down"


class Sync:
    """`delay`: seconds one way. `rich`: both speak "sync2". `bounds`: of the sink, which then says what it refuses; `pace`: how often that
    may change."""

    def __init__(
        self,
        source: Store,
        sink: Store,
        *,
        rich: bool = False,
        delay: float = 0.0,
        bounds: Bounds | None = None,
        pace: Bucket | None = None,
    ) -> None:
        self.down: asyncio.Queue[bytes] = asyncio.Queue()
        self.up: asyncio.Queue[bytes] = asyncio.Queue()
        self.delay = delay
        self._on_the_way: dict[int, deque[bytes]] = {}
        self.bytes_down = self.bytes_up = self.messages_up = 0
        self.told: list[Message] = []  # by the source
        self.at_source, self.at_sink = Progress(), Progress()
        self.source = asyncio.create_task(run_source(source, SOURCE, self._to_sink, self.up.get, self.at_source))
        self.sink = asyncio.create_task(
            run_sink(
                sink,
                SINK,
                LSR,
                self._to_source,
                self.down.get,
                self.at_sink,
                rich=rich,
                bounds=bounds,
                pace=pace,
                tells=bool(bounds),
            )
        )

    async def _to_sink(self, data: bytes) -> None:
        self.bytes_down += len(data)
        self.told.append(decode(data))
        self._carry(self.down, data)

    async def _to_source(self, data: bytes) -> None:
        self.bytes_up += len(data)
        self.messages_up += 1
        self._carry(self.up, data)

    def _carry(self, wire: asyncio.Queue[bytes], data: bytes) -> None:
        if not self.delay:
            wire.put_nowait(data)
            return
        on_the_way = self._on_the_way.setdefault(id(wire), deque())  # timers of one moment fire in any order
        on_the_way.append(data)
        asyncio.get_running_loop().call_later(self.delay, lambda: wire.put_nowait(on_the_way.popleft()))

    async def settled(self) -> bool:
        return self.at_source.revision == self.at_sink.revision > 0

    async def stop(self) -> None:
        for task in (self.source, self.sink):
            task.cancel()
        await asyncio.gather(self.source, self.sink, return_exceptions=True)


async def contents(store: Store, prefix: str) -> dict[str, bytes]:
    return {kv.key.removeprefix(prefix): kv.value for kv in (await store.range(prefix, prefix[:-1] + "0")).kvs}


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await condition():
            await asyncio.sleep(0.001)


def same(source: Store, sink: Store) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return await contents(source, SOURCE) == await contents(sink, SINK)

    return check


def play(scenario: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(30):
            await scenario()

    asyncio.run(limited())


async def fill(store: Store, count: int) -> None:
    for start in range(0, count, 1000):
        await store.txn(
            (), [Put(f"{SOURCE}pods/default/p{n:05}", b"%05d" % n * 10) for n in range(start, min(count, start + 1000))]
        )
