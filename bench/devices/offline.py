"""What a node without its cloud keeps, and what goes over the line when it is back: 100 devices with 10 properties at 1 Hz.

Time is virtual: a day is as many seconds of reports as are asked for, since each of them costs the same. The line is a pair of queues, whose bytes are
those of sync, before TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from bench.devices.node import row
from bench.report import Report
from kubeedge.api import keys
from kubeedge.api.names import NodeName, TenantId
from kubeedge.devices.history.driver import HistoryFiles
from kubeedge.devices.module import DeviceTwins
from kubeedge.store.memory import MemoryStore
from kubeedge.store.model import Store
from kubeedge.store.sqlite import open_sqlite
from kubeedge.sync.progress import Progress
from kubeedge.sync.sink import run_sink
from kubeedge.sync.source import run_source

DEVICES, PROPERTIES = 100, 10
NOON = 1_790_000_000
TENANT, NODE = TenantId("default"), NodeName("edge1")


@contextlib.asynccontextmanager
async def line(edge: Store, cloud: Store) -> AsyncIterator[Progress]:
    """Sync from the node to the cloud."""
    up, down, progress = asyncio.Queue[bytes](), asyncio.Queue[bytes](), Progress()
    prefix, mark = keys.edge_reported(TENANT, NODE), keys.edge_sync_up(TENANT, NODE)
    tasks = [
        asyncio.create_task(run_source(edge, keys.REPORTED, up.put, down.get, progress)),
        asyncio.create_task(run_sink(cloud, prefix, mark, down.put, up.get, Progress(), rich=True)),
    ]
    try:
        yield progress
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def same(edge: Store, cloud: Store) -> int:
    """Waits until the cloud has what the node has; its bytes."""
    prefix = keys.edge_reported(TENANT, NODE)
    while True:
        have = await edge.range(keys.REPORTED, keys.prefix_end(keys.REPORTED))
        there = await cloud.range(prefix, keys.prefix_end(prefix))
        mine = {kv.key.removeprefix(keys.REPORTED): kv.value for kv in have.kvs}
        if mine == {kv.key.removeprefix(prefix): kv.value for kv in there.kvs}:
            return sum(map(len, mine.values()))
        await asyncio.sleep(0.02)


async def _reports(twins: DeviceTwins, first: int, seconds: int) -> None:
    for second in range(first, first + seconds):
        waiting = []
        for n in range(DEVICES):
            values: dict[str, str | None] = {
                f"property{p}": f"{(second * 7 + n + p) % 900}.{p}" for p in range(PROPERTIES)
            }
            times = dict.fromkeys(values, (NOON + second) * 1000)
            _, done = twins.report(("default", f"device{n}"), values, durable=True, times=times)
            waiting.append(done)
        for done in waiting:
            if done is not None:
                await done


async def offline(report: Report, seconds: int) -> None:
    """History on, then off."""
    for history in (True, False):
        async with contextlib.AsyncExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            edge, cloud = await open_sqlite(directory / "edge.db"), MemoryStore()
            stack.push_async_callback(edge.close)
            for n in range(DEVICES):
                await edge.put(
                    keys.desired("devices", "default", f"device{n}"), row(f"device{n}", PROPERTIES, history=history)
                )
            files = HistoryFiles(directory / "history", 1 << 30, 1e9)
            twins, ready = DeviceTwins(edge, wall=lambda: NOON + 1e6, history=files), asyncio.Event()
            task = asyncio.create_task(twins.run(ready))
            await ready.wait()
            try:
                await _reports(twins, 0, 2)
                async with line(edge, cloud):
                    await same(edge, cloud)
                await _reports(twins, 2, seconds)
                async with line(edge, cloud) as progress:
                    changed = await same(edge, cloud)
                    wire = progress.bytes
                if not history:
                    report.add("wire_after_return", wire / changed, unit="x", must=1.3, aim=1.1)
                    continue
                wrong = 0
                for n in range(DEVICES):
                    key, uid = ("default", f"device{n}"), twins.twins.devices["default", f"device{n}"].uid
                    for p in range(PROPERTIES):
                        found = files.read(key, uid, f"property{p}", 0, 10**7)
                        wanted = [(NOON + s) * 1000 for s in range(seconds + 2)]
                        wrong += len(set(wanted) ^ {at for at, _ in found}) + len(found) - len({at for at, _ in found})
                size = sum(path.stat().st_size for path in (directory / "history").iterdir())
                count = DEVICES * PROPERTIES * (seconds + 2)
                report.add("history_lost_or_doubled", wrong, unit="values", must=0, aim=0)
                report.add("history_bytes", size / count, unit="B", must=80, aim=30)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
