"""The workload of the power cuts: python -m tests.faults.powercut_worker DIRECTORY SEED TRANSACTIONS [MISTAKE]

Writers, and a sink of sync that follows a source through reconnects, on one store that is closed and opened again once. What they say
goes to DIRECTORY/told, so that the recorder sees it in its order among the store's own writes:

    store ID            it is open
    wants NUMBER OPS    a transaction that begins: JSON, key -> hexadecimal value, or null
    has NUMBER REVISION it was acknowledged
    sync REVISION       the sink acknowledged that revision to its source
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import kubeedge.sync.core as sync_core
from kubeedge.errors import PeerError
from kubeedge.store.memory import MemoryStore
from kubeedge.store.model import Delete, Get, Op, Put, TxnResult
from kubeedge.store.sqlite import SqliteSettings, SqliteStore, open_sqlite
from kubeedge.sync.codec import Ack, Batch, End, Fill, Start, decode
from kubeedge.sync.progress import Progress
from kubeedge.sync.sink import run_sink
from kubeedge.sync.source import run_source

SETTINGS = SqliteSettings(keep_revisions=40, compact_every=20)
AT_ONCE = 3
TOLD = "told"
SOURCE_PREFIX = "/t/default/edge/edge1/desired/"
PREFIX = "/desired/"
LSR_KEY = "/sync/down"


def transactions(seed: int, count: int) -> list[Sequence[Put | Delete]]:
    """Each changes something."""
    return _transactions(random.Random(seed), count, "/k/")


def source_transactions(seed: int, count: int) -> list[Sequence[Put | Delete]]:
    """Of the source of sync; the n-th makes its revision n + 2."""
    return _transactions(random.Random(f"{seed} source"), count // 2, SOURCE_PREFIX)


def _transactions(rng: random.Random, count: int, prefix: str) -> list[Sequence[Put | Delete]]:
    found: list[Sequence[Put | Delete]] = []
    for n in range(count):
        ops: list[Put | Delete] = [Put(prefix + "last", b"%d" % n)]
        for name in rng.sample(range(24), rng.choice((1, 1, 2, 5))):
            key = f"{prefix}{name:02}"
            if rng.random() < 0.2:
                ops.append(Delete(key))
            else:
                ops.append(Put(key, b"%d " % n + rng.randbytes(rng.choice((10, 300, 3000)))))
        found.append(ops)
    return found


class Telling:
    """A store that tells of its transactions."""

    def __init__(self, store: SqliteStore, told: int, first: int) -> None:
        self._store = store
        self._told = told
        self.count = first
        self.unanswered: set[asyncio.Task[TxnResult]] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def txn(self, compares: Any, success: Sequence[Op], failure: Sequence[Op] = ()) -> TxnResult:
        if all(isinstance(op, Get) for op in success):
            return await self._store.txn(compares, success, failure)
        self.count += 1
        number = self.count
        ops = {op.key: op.value.hex() if isinstance(op, Put) else None for op in success if not isinstance(op, Get)}
        os.write(self._told, f"wants {number} {json.dumps(ops, separators=(',', ':'))}\n".encode())
        task = asyncio.create_task(self._store.txn(compares, success, failure))
        task.add_done_callback(lambda task: self._done(number, task))
        self.unanswered.add(task)
        return await asyncio.shield(task)  # whoever is cut off meanwhile does not take it back

    def _done(self, number: int, task: asyncio.Task[TxnResult]) -> None:
        self.unanswered.discard(task)
        if not task.cancelled() and not task.exception() and task.result().succeeded:
            os.write(self._told, f"has {number} {task.result().revision}\n".encode())


class HastyTelling(Telling):
    """The mistake that the cuts have to find: the last sync revision is written before the data."""

    async def txn(self, compares: Any, success: Sequence[Op], failure: Sequence[Op] = ()) -> TxnResult:
        first = [op for op in success if op.key == LSR_KEY]
        rest = [op for op in success if op.key != LSR_KEY]
        if not first or not rest or isinstance(success[0], Get):
            return await super().txn(compares, success, failure)
        result = await super().txn(compares, first, failure)
        await super().txn((), rest)
        return result


async def _follow(source: MemoryStore, store: Telling, told: int, seconds: float) -> None:
    """One connection of sync, for so long."""
    to_sink: asyncio.Queue[bytes] = asyncio.Queue()
    to_source: asyncio.Queue[bytes] = asyncio.Queue()

    snapshot = False
    complete: deque[bool] = deque()  # of what the sink has not acknowledged yet: is it there with it?

    async def ask(data: bytes) -> None:
        nonlocal snapshot
        match decode(data):
            case Start(snapshot=mode):
                snapshot = mode
            case End():
                snapshot = False
                complete.append(True)
            case Batch() | Fill():
                complete.append(not snapshot)
        await to_sink.put(data)

    async def answer(data: bytes) -> None:
        if isinstance(message := decode(data), Ack) and complete.popleft():
            os.write(told, f"sync {message.revision}\n".encode())
        await to_source.put(data)

    ends = [
        asyncio.create_task(
            run_sink(store, PREFIX, LSR_KEY, answer, to_sink.get, Progress(), rich=True)  # type: ignore[arg-type]
        ),
        asyncio.create_task(run_source(source, SOURCE_PREFIX, ask, to_source.get, Progress())),
    ]
    await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for end in ends:
        end.cancel()
    for error in await asyncio.gather(*ends, return_exceptions=True):
        # a commit of the connection before may come after our look at the last sync revision: that is told, and ends this one
        if isinstance(error, Exception) and not isinstance(error, PeerError):
            raise error


async def main(directory: Path, seed: int, count: int, mistake: str) -> None:
    told = os.open(directory / TOLD, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    sync_core.TARGET_BODY, sync_core.MAX_ITEMS, sync_core.PROGRESS_EVERY = 4000, 4, 10
    source = MemoryStore(store_id="source")
    waiting = list(reversed(transactions(seed, count)))
    changes = list(reversed(source_transactions(seed, count)))
    number = 0
    for left in (count // 2, 0):  # twice: opened, used, closed
        store = await open_sqlite(directory / "store.db", settings=SETTINGS)
        os.write(told, f"store {store.store_id}\n".encode())
        telling = (HastyTelling if mistake else Telling)(store, told, number)
        written = asyncio.Event()

        async def write(telling: Telling = telling, left: int = left) -> None:
            while len(waiting) > left:
                await telling.txn((), waiting.pop())

        async def change(left: int = left // 2) -> None:
            while len(changes) > left:
                await source.txn((), changes.pop())
                await asyncio.sleep(0.001 if len(changes) % 3 else 0)

        async def follow(telling: Telling = telling, written: asyncio.Event = written) -> None:
            while not written.is_set():
                await _follow(source, telling, told, 0.05)
            await _follow(source, telling, told, 0.2)

        following = asyncio.create_task(follow())
        await asyncio.gather(change(), *(write() for _ in range(AT_ONCE)))
        written.set()
        await following
        while telling.unanswered:
            await asyncio.wait(telling.unanswered)
        number = telling.count
        await store.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:5]))
