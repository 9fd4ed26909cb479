"""A node's twins and broker, for the benches of devices."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from kubeedge.store.model import Store

if TYPE_CHECKING:
    from kubeedge.devices.eventbus.module import EventBus
    from kubeedge.devices.module import DeviceTwins


def row(name: str, properties: int, **more: object) -> bytes:
    known = {f"property{n}": {"type": "FLOAT", "minimum": "-100", "maximum": "1000", **more} for n in range(properties)}
    metadata = {"name": name, "namespace": "default", "uid": f"00000000-0000-4000-8000-{name:>12}"}
    return json.dumps({"metadata": metadata, "generation": 1, "properties": known}).encode()


@contextlib.asynccontextmanager
async def broker(store: Store) -> AsyncIterator[tuple[DeviceTwins, EventBus]]:
    """Twins and broker of a node, once both serve. Imported here: a bare process is measured, too."""
    from kubeedge.devices.eventbus.module import EventBus
    from kubeedge.devices.module import DeviceTwins

    twins = DeviceTwins(store, wall=time.time)
    bus = EventBus(twins, "edge1", "127.0.0.1", 0)
    tasks = []
    try:
        for module in (twins, bus):
            ready = asyncio.Event()
            tasks.append(asyncio.create_task(module.run(ready)))
            await ready.wait()
        yield twins, bus
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
