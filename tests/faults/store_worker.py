"""A process that writes until a fault point ends it: python -m tests.faults.store_worker PATH POINT HITS

Each acknowledged write is a line "key number revision" on standard output, in one write(2): what the parent has read was
acknowledged before the end.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from kubeedge import faults
from kubeedge.store.model import Put
from kubeedge.store.sqlite import SqliteSettings, SqliteStore, open_sqlite


async def write(store: SqliteStore, writer: int) -> None:
    first = store.revision  # numbers grow over many lives
    for n in range(first, first + 100_000):
        key = f"/w{writer}/{n % 5}"
        result = await store.txn((), [Put(key, b"%d" % n + b" " * 200), Put(f"/w{writer}/last", b"%d" % n)])
        os.write(1, f"{key} {n} {result.revision}\n".encode())


async def main(path: Path, point: str, hits: int) -> None:
    store = await open_sqlite(path, settings=SqliteSettings(keep_revisions=40, compact_every=20))
    print("open", store.store_id, store.revision, flush=True)
    left = hits

    def maybe_exit() -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            os._exit(137)

    if point != "none":
        faults.arm(point, maybe_exit)
    await asyncio.gather(*(write(store, n) for n in range(4)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
