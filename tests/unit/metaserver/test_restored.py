"""Stores restored from a backup meet the other side: agreement, over the real sync, between real SQLite stores."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kubeedge.api import keys
from kubeedge.store import upkeep
from kubeedge.store.model import Put, Store
from kubeedge.store.sqlite import SqliteStore, open_sqlite
from kubeedge.sync.progress import Progress
from kubeedge.sync.sink import run_sink
from kubeedge.sync.source import run_source

CLOUD, LSR = "/t/default/edge/edge1/desired/", keys.SYNC_DOWN


async def contents(store: Store, prefix: str) -> dict[str, bytes]:
    found = await store.range(prefix, keys.prefix_end(prefix))
    return {kv.key.removeprefix(prefix): kv.value for kv in found.kvs}


async def sync_until_equal(cloud: Store, edge: Store) -> None:
    there: asyncio.Queue[bytes] = asyncio.Queue()
    back: asyncio.Queue[bytes] = asyncio.Queue()
    tasks = [
        asyncio.create_task(run_source(cloud, CLOUD, there.put, back.get, Progress())),
        asyncio.create_task(run_sink(edge, keys.DESIRED, LSR, back.put, there.get, Progress())),
    ]
    try:
        async with asyncio.timeout(20):
            while await contents(cloud, CLOUD) != await contents(edge, keys.DESIRED):
                assert not any(task.done() for task in tasks)
                await asyncio.sleep(0.01)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("restored", ["cloud", "edge"])
def test_after_a_restore_both_sides_agree_and_what_the_cloud_lost_goes(tmp_path: Path, restored: str) -> None:
    async def scenario() -> None:
        paths = {name: tmp_path / f"{name}.db" for name in ("cloud", "edge")}
        stores: dict[str, SqliteStore] = {name: await open_sqlite(path) for name, path in paths.items()}
        for n in range(20):
            await stores["cloud"].txn((), [Put(f"{CLOUD}pods/default/p{n}", b"{%d}" % n)])
        await sync_until_equal(stores["cloud"], stores["edge"])
        upkeep.backup(paths[restored], tmp_path / "backup")
        for n in range(10, 30):  # what only one of them will remember
            await stores["cloud"].put(f"{CLOUD}pods/default/p{n}", b"later %d" % n)
        await stores["cloud"].delete(f"{CLOUD}pods/default/p1")
        await sync_until_equal(stores["cloud"], stores["edge"])
        await stores[restored].close()
        upkeep.restore(tmp_path / "backup", paths[restored])
        stores[restored] = await open_sqlite(paths[restored])
        # as many changes as the other side has seen of the past that did not happen
        for n in range(20):
            await stores["cloud"].put(f"{CLOUD}pods/default/q{n}", b"after")
        await sync_until_equal(stores["cloud"], stores["edge"])
        found = await contents(stores["edge"], keys.DESIRED)
        assert found["pods/default/p15"] == (b"{15}" if restored == "cloud" else b"later 15")
        assert ("pods/default/p1" in found) is (restored == "cloud") and "pods/default/q19" in found
        for store in stores.values():
            await store.close()

    asyncio.run(scenario())
