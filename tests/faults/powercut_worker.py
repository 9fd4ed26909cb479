"""The workload of the power cuts: python -m tests.faults.powercut_worker DIRECTORY SEED TRANSACTIONS

Each acknowledged transaction is a line "number revision" written to DIRECTORY/ack, so that the recorder sees it in its order among
the store's own writes.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from kubeedge.store.model import Delete, Op, Put
from kubeedge.store.sqlite import SqliteSettings, open_sqlite

SETTINGS = SqliteSettings(keep_revisions=40, compact_every=20)
AT_ONCE = 3


def transactions(seed: int, count: int) -> list[Sequence[Op]]:
    rng = random.Random(seed)
    found: list[Sequence[Op]] = []
    for n in range(count):
        names = rng.sample(range(24), rng.choice((1, 1, 2, 5)))
        ops: list[Op] = []
        for name in names:
            key = f"/k/{name:02}"
            if rng.random() < 0.2:
                ops.append(Delete(key))
            else:
                ops.append(Put(key, b"%d " % n + rng.randbytes(rng.choice((10, 300, 3000)))))
        found.append([Put("/last", b"%d" % n), *ops])  # so that each has a change
    return found


async def main(directory: Path, seed: int, count: int) -> None:
    acknowledged = os.open(directory / "ack", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    store = await open_sqlite(directory / "store.db", settings=SETTINGS)
    waiting = list(enumerate(transactions(seed, count)))
    waiting.reverse()

    async def write() -> None:
        while waiting:
            number, ops = waiting.pop()
            result = await store.txn((), ops)
            os.write(acknowledged, b"%d %d\n" % (number, result.revision))

    await asyncio.gather(*(write() for _ in range(AT_ONCE)))
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
