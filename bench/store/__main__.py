"""`make bench NAME=store`: what the local store costs above the disk it stands on, with etcd beside it in the same run.

    python -m bench.store [--puts 300] [--rounds 5] [--keys 20000] [--no-etcd]

*Put*: one client, one durable put after the other. Each put of the store is followed by the same key and value in a transaction of the sqlite3 module alone, and
by a bare pwrite and fdatasync of as many bytes as such a put writes; rounds of a real etcd member (mutual TLS, our own client)
follow, so that all see the same disk. *Apply*: what a node's sink does with the messages of a snapshot and of a delta, decoding
included, into SQLite; beside it the sqlite3 module alone, which writes the same keys and values in as many transactions as there are
messages. The bounds are ratios to SQLite alone in the same round, since a slower machine makes both slower: of seconds for a
put, of processor seconds for what is applied, which other work on the machine changes little. Microseconds and keys a second are
information. *Memory*: PSS of a fresh process with
10,000 objects in its store less that of one with none, both after the reads that an agent does at start. *Sealed*: Secrets that are encrypted in
the file, beside the same store without that (sealed.py).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.demo.memory import pss
from bench.report import Report
from bench.store.bare import BareDisk, BareSqlite, Stopwatch, Took, written
from bench.store.sealed import bench_sealed, bench_sealed_memory
from kubeedge.api import keys
from kubeedge.api.names import Revision
from kubeedge.store.memory import MemoryStore
from kubeedge.store.model import Put, Store
from kubeedge.store.sqlite import open_sqlite
from kubeedge.sync.progress import Progress
from kubeedge.sync.sink import run_sink
from kubeedge.sync.source import run_source

ROOT = Path(__file__).parents[2]
OBJECTS = 10_000
# ours / SQLite alone: seconds of a put, processor seconds of what is applied
PUT_MUST, PUT_AIM = 2.5, 1.3
DELTA_MUST, DELTA_AIM = 4.5, 2.7
SNAPSHOT_MUST, SNAPSHOT_AIM = 5.2, 3.1
WARM_UP = 400  # puts: beyond the first checkpoint, from where the log is overwritten and no longer grows


def value(n: int, length: int = 900) -> bytes:
    """A pod's size and something of its shape; bytes of its own for each n."""
    head = json.dumps({"metadata": {"name": f"pod-{n}", "namespace": "default", "uid": f"{n * 7919:032x}"}})
    return (head + "x" * length)[:length].encode()


# -- put ---------------------------------------------------------------------------------------------------------------


async def put_times(store: Store, count: int) -> list[float]:
    times = []
    for n in range(count):
        data = value(time.perf_counter_ns(), 300)
        begun = time.perf_counter()
        await store.put(f"/reported/pods/default/pod-{n % 100}", data)
        times.append(time.perf_counter() - begun)
    return times


async def in_turns(
    count: int, store: Store, alone: BareSqlite, disk: BareDisk
) -> tuple[list[float], list[float], list[float]]:
    """Seconds of so many puts of each. One after the other, so that a disk that others use as well is the same for all."""
    times: tuple[list[float], list[float], list[float]] = ([], [], [])
    for n in range(count):
        data, key = value(time.perf_counter_ns(), 300), f"/reported/pods/default/pod-{n % 100}"
        begun = time.perf_counter()
        await store.put(key, data)
        times[0].append(time.perf_counter() - begun)
        begun = time.perf_counter()
        alone.write([(key, data)])
        times[1].append(time.perf_counter() - begun)
        begun = time.perf_counter()
        disk.put()
        times[2].append(time.perf_counter() - begun)
    return times


@contextlib.asynccontextmanager
async def etcd_store(directory: Path) -> Any:
    from kubeedge_cloud.etcd.store import open_etcd
    from tests.kit.etcd import EtcdCluster

    with EtcdCluster(directory / "etcd") as cluster:
        store = await open_etcd(cluster.settings())
        try:
            yield store
        finally:
            await store.close()


async def bench_put(out: Report, directory: Path, puts: int, rounds: int, with_etcd: bool) -> None:
    async with contextlib.AsyncExitStack() as stack:
        store = await open_sqlite(directory / "put.db")
        stack.push_async_callback(store.close)
        etcd = await stack.enter_async_context(etcd_store(directory)) if with_etcd else None
        log = directory / "put.db-wal"
        await put_times(store, WARM_UP)
        disk = BareDisk(directory / "bare", await _written_by_a_put(store, log))
        stack.callback(disk.close)
        if etcd:
            await put_times(etcd, WARM_UP)
        alone = BareSqlite(directory / "bare.db")
        stack.callback(alone.close)
        await in_turns(WARM_UP, store, alone, disk)
        for _ in range(rounds):
            ours, raw, bare = await in_turns(puts, store, alone, disk)
            mine, sqlite, floor = (statistics.median(times) * 1e6 for times in (ours, raw, bare))
            out.add("one durable put / SQLite alone", mine / sqlite, unit="x", must=PUT_MUST, aim=PUT_AIM)
            out.add("one durable put, above the fsync itself", mine - floor, unit="us")
            out.add("SQLite alone, all-in", sqlite, unit="us")
            out.add("one durable put, all-in", mine, unit="us")
            out.add("one durable put, all-in, p99", sorted(ours)[int(0.99 * len(ours))] * 1e6, unit="us")
            out.add("the fsync itself", floor, unit="us")
            if etcd:
                theirs = statistics.median(await put_times(etcd, puts)) * 1e6
                out.add("etcd, one client, all-in", theirs, unit="us")
                out.add("etcd, one client, above the fsync itself", theirs - floor, unit="us")


async def _written_by_a_put(store: Store, log: Path) -> int:
    """Bytes of the log that one put takes: the log's header counts frames (sqlite.org, WAL file format)."""
    db = sqlite3.connect(log.with_name(log.name.removesuffix("-wal")), isolation_level=None)
    try:
        frames = []
        for _ in range(2):
            frames.append(db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1])
            if len(frames) == 1:
                await put_times(store, 20)
    finally:
        db.close()
    # a checkpoint that finished lets the log start over: then the frames of the second count are all ours
    written = frames[1] - frames[0] if frames[1] > frames[0] else frames[1]
    return max(1, round(written / 20)) * (4096 + 24)


# -- apply -------------------------------------------------------------------------------------------------------------


async def recorded(keys_count: int) -> tuple[list[bytes], list[bytes]]:
    """What a source says to a new sink of so many keys (a snapshot), and then when each of them has changed (a delta)."""
    source, sink = MemoryStore(), MemoryStore()
    names = [f"{keys.DESIRED}pods/default/pod-{n:05}" for n in range(keys_count)]
    for start in range(0, keys_count, 1000):
        await source.txn((), [Put(name, value(n)) for n, name in enumerate(names[start : start + 1000], start)])
    said: list[bytes] = []
    down: asyncio.Queue[bytes] = asyncio.Queue()
    up: asyncio.Queue[bytes] = asyncio.Queue()
    progress = Progress()

    async def tell(message: bytes) -> None:
        said.append(message)
        await down.put(message)

    async def until(revision: Revision) -> list[bytes]:
        while progress.revision < revision:
            await asyncio.sleep(0.005)
        found = said[:]
        said.clear()
        return found

    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(run_source(source, keys.DESIRED, tell, up.get, Progress())),
            group.create_task(run_sink(sink, keys.DESIRED, keys.SYNC_DOWN, up.put, down.get, progress)),
        ]
        snapshot = await until(source.revision)
        for start in range(0, keys_count, 500):
            changed = [Put(name, value(-n - 1)) for n, name in enumerate(names[start : start + 500], start)]
            await source.txn((), changed)
            await asyncio.sleep(0)
        delta = await until(source.revision)
        for task in tasks:
            task.cancel()
    return snapshot, delta


async def applied(store: Store, first: list[bytes], second: list[bytes]) -> tuple[Took, Took]:
    """What a sink needs for each of two runs of messages that are all there."""
    progress = Progress()
    loop = asyncio.get_running_loop()
    waiting = list(reversed(first))
    resumed: asyncio.Future[None] = loop.create_future()

    async def receive() -> bytes:
        if not waiting and not resumed.done():
            await resumed
        if not waiting:
            await loop.create_future()
        return waiting.pop()

    async def send(message: bytes) -> None:
        pass

    sink = asyncio.ensure_future(run_sink(store, keys.DESIRED, keys.SYNC_DOWN, send, receive, progress))
    try:
        watch = Stopwatch()
        await _settled(sink, waiting, store)
        snapshot = watch.read()
        waiting.extend(reversed(second))
        watch = Stopwatch()
        resumed.set_result(None)
        await _settled(sink, waiting, store)
        return snapshot, watch.read()
    finally:
        sink.cancel()
        await asyncio.gather(sink, return_exceptions=True)


async def _settled(sink: asyncio.Future[None], waiting: list[bytes], store: Store) -> None:
    """All messages are taken and the last of them is durable: a put of our own comes behind it in the store's queue."""
    while waiting:
        await asyncio.sleep(0.002)
        if sink.done():
            sink.result()
    revision = Revision(-1)
    while store.revision != revision:
        revision = store.revision
        await asyncio.sleep(0.01)
        if sink.done():
            sink.result()


async def bench_apply(out: Report, directory: Path, count: int, rounds: int) -> None:
    snapshot, delta = await recorded(count)
    rows = [(f"{keys.DESIRED}pods/default/pod-{n:05}", value(n)) for n in range(count)]
    for n in range(rounds):
        store = await open_sqlite(directory / f"apply{n}.db")
        try:
            first, again = await applied(store, snapshot, delta)
            found = await store.range(keys.DESIRED, keys.prefix_end(keys.DESIRED), keys_only=True)
            assert found.count == count and found.kvs[0].version == 2, "everything was applied twice"
        finally:
            await store.close()
        for what, messages, took, must, aim in (
            ("a delta", delta, again, DELTA_MUST, DELTA_AIM),
            ("a snapshot", snapshot, first, SNAPSHOT_MUST, SNAPSHOT_AIM),
        ):
            alone = written(directory / f"alone{n}-{what[2:]}.db", rows, len(messages))
            name = f"apply at the edge, {what}"
            out.add(f"{name}, processor / SQLite alone", took[1] / alone[1], unit="x", must=must, aim=aim)
            out.add(f"{name}, time / SQLite alone", took[0] / alone[0], unit="x")
            out.add(name, count / took[0], unit="keys/s", higher=True)
            out.add(f"SQLite alone, in transactions of {what}", count / alone[0], unit="keys/s", higher=True)


# -- memory ------------------------------------------------------------------------------------------------------------

_AGENT = """
import asyncio, contextlib, sys
from pathlib import Path
from kubeedge.api import keys
from kubeedge.store.sqlite import open_sqlite

async def main():
    store = await open_sqlite(Path(sys.argv[1]))
    for plural in ("nodes", "webservices", "configmaps", "secrets"):
        prefix = f"{keys.DESIRED}{plural}/"
        await store.range(prefix, keys.prefix_end(prefix))
    start = keys.DESIRED
    while True:  # page by page, as sync reads a snapshot
        page = await store.range(start, keys.prefix_end(keys.DESIRED), limit=64)
        if not page.more:
            break
        start = page.kvs[-1].key + "\\0"
    watch = store.watch(keys.DESIRED, after=store.revision, progress=True)
    async with contextlib.aclosing(watch):
        await anext(watch)
        for n in range(200):
            await store.put(f"{keys.REPORTED}pods/default/pod-{n}", b"x" * 300)
        print("ready", flush=True)
        sys.stdin.read()
    await store.close()

asyncio.run(main())
"""


async def fill(path: Path, count: int) -> None:
    store = await open_sqlite(path)
    try:
        for start in range(0, count, 1000):
            puts = [Put(f"{keys.DESIRED}pods/default/pod-{n:05}", value(n, 1000)) for n in range(start, start + 1000)]
            await store.txn((), puts)
    finally:
        await store.close()


def memory_of_agent(path: Path) -> float:
    process = subprocess.Popen(
        [sys.executable, "-c", _AGENT, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdin and process.stdout
        line = process.stdout.readline()
        assert line == "ready\n", "the process with the store ended"
        found = pss(process.pid)
        process.stdin.close()
    return found


def bench_memory(out: Report, directory: Path, rounds: int) -> None:
    full, empty = directory / "full.db", directory / "empty.db"
    asyncio.run(fill(full, OBJECTS))
    asyncio.run(fill(empty, 0))
    for _ in range(rounds):
        added = (memory_of_agent(full) - memory_of_agent(empty)) / 1e6
        out.add("10,000 objects of 1 KB in the local store, memory added", added, unit="MB", must=5, aim=3)


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    """On the disk that the repository is on: a tmpfs has no fsync."""
    (ROOT / "build").mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="bench-store-", dir=ROOT / "build"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench NAME=store", description=__doc__)
    parser.add_argument("--puts", type=int, default=300, help="in each round")
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("ROUNDS", "5")))
    parser.add_argument("--keys", type=int, default=20_000)
    parser.add_argument("--no-etcd", action="store_true")
    parser.add_argument("--only", choices=["put", "apply", "memory", "sealed"])
    options = parser.parse_args()
    out = Report("store")
    with workplace() as directory:
        if options.only in (None, "put"):
            asyncio.run(bench_put(out, directory, options.puts, options.rounds, not options.no_etcd))
        if options.only in (None, "apply"):
            asyncio.run(bench_apply(out, directory, options.keys, options.rounds))
        if options.only in (None, "memory"):
            bench_memory(out, directory, min(3, options.rounds))
        if options.only in (None, "sealed"):
            asyncio.run(bench_sealed(out, directory, options.puts, options.rounds))
            bench_sealed_memory(out, directory, min(3, options.rounds))
    return 0 if out.finish() else 1


if __name__ == "__main__":
    sys.exit(main())
