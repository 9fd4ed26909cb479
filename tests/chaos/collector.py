"""Every change of a store in etcd, as lines of JSON: python -m tests.chaos.collector SETTINGS

The first line is what was there: [revision, [[key, value or null], ...]]; one line for each revision follows, for ever.
Values are JSON text in our stores.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import aclosing
from pathlib import Path
from typing import Any

from kubeedge.errors import KubeEdgeError
from kubeedge.store.model import ChangeKind
from kubeedge_cloud.etcd.members import EtcdSettings
from kubeedge_cloud.etcd.store import open_etcd


def _say(revision: int, changes: list[tuple[str, str | None]]) -> None:
    print(json.dumps([revision, changes]), flush=True)


async def main(config: dict[str, Any]) -> None:
    tls = {name: Path(config[name]) for name in ("ca", "cert", "key")}
    store = await open_etcd(EtcdSettings(endpoints=config["endpoints"], keep_revisions=0, **tls))
    while True:
        try:
            found = await store.range("/", "0")
            break
        except KubeEdgeError:
            await asyncio.sleep(0.1)
    _say(found.revision, [(kv.key, kv.value.decode(errors="surrogateescape")) for kv in found.kvs])
    batches = store.watch("/", after=found.revision)
    async with aclosing(batches):
        async for batch in batches:
            by_revision: dict[int, list[tuple[str, str | None]]] = {}
            for change in batch.changes:
                value = change.value.decode(errors="surrogateescape") if change.kind is ChangeKind.PUT else None
                by_revision.setdefault(change.revision, []).append((change.key, value))
            for revision, changes in by_revision.items():
                _say(revision, changes)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
