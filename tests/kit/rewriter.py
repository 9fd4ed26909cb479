"""A node that rewrites what it reports as fast as the cloud takes it: the production hub client and sync over a store in memory.

    python -m tests.kit.rewriter '{"endpoint": "203.0.113.1:10000", "ca": ..., "cert": ..., "key": ..., "keys": 100, "size": 20000,
                                   "seconds": 6}'

With "share": [BYTES, PACE] it goes on for as long as it was not acknowledged about BYTES and PACE more each second: on a slow machine longer.
With "status": NODE it rewrites the status of the node of that name instead: JSON with as many values as "size" says. On stderr it says
"attached" when it begins.

Then it is silent until the cloud has all, and prints {"rounds": N, "changes": N, "took": s, "last": TEXT}: how often it wrote its
keys, how many changes it was acknowledged in so many seconds since it was attached, and how each of its values begins now.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from pathlib import Path
from typing import Any

from kubeedge.api import keys
from kubeedge.hub.driver import Channel
from kubeedge.hub.module import EdgeHub, EdgeHubSettings
from kubeedge.pki.trust import client_context
from kubeedge.store.memory import MemoryStore
from kubeedge.store.model import Put
from kubeedge.sync.driver import run_edge
from kubeedge.sync.progress import Progress


async def main(config: dict[str, Any]) -> None:
    store, up = MemoryStore(), Progress()
    context = client_context(Path(config["ca"]), Path(config["cert"]), Path(config["key"]))

    async def use(channel: Channel) -> None:
        await run_edge(channel, store, Progress(), up)

    hub = EdgeHub(EdgeHubSettings(endpoints=[config["endpoint"]]), lambda: context, use)
    running = asyncio.create_task(hub.run(asyncio.Event()))
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(240):
        while not hub.status.attached:
            await asyncio.sleep(0.05)
        print("attached", file=sys.stderr, flush=True)
        begun, rounds = loop.time(), 0
        noise = random.Random(1).randbytes(config["size"])  # nothing to compress
        share, pace = config.get("share", (0, 0))

        def goes_on() -> bool:
            took = loop.time() - begun
            return took < config["seconds"] or up.changes * config["size"] < share + pace * took - (2 << 20)

        while goes_on():
            rounds += 1
            await store.txn((), _puts(config, rounds, noise))
            while store.revision - up.revision > 2:  # a newer value is only worth a commit when the last one was sent
                await asyncio.sleep(0.005)
        while up.revision < store.revision:
            await asyncio.sleep(0.05)
    took = loop.time() - begun
    print(json.dumps({"rounds": rounds, "changes": up.changes, "took": took, "last": f"{rounds:08}"}))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def _puts(config: dict[str, Any], rounds: int, noise: bytes) -> list[Put]:
    if node := config.get("status"):
        status = json.dumps({"round": rounds, "addresses": [rounds % 10] * config["size"]})
        return [Put(keys.reported("nodes", "", node), status.encode())]
    turned = rounds % len(noise)  # and no small patch
    value = b"%08d" % rounds + noise[turned:] + noise[:turned]
    return [Put(f"{keys.REPORTED}junk/x/{n:04}", value) for n in range(config["keys"])]


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
