"""Module "kubebuscondition": tells the cloud, over the hub's channel, whether this node has a link to a relay.

Lives elsewhere: when there is something to tell (core.py).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from kubeedge.api import keys
from kubeedge.conditions.core import Bus, condition
from kubeedge.store.model import Store

_LOOK = 2.0  # seconds


class ConditionReporter:
    """Module "kubebuscondition". `bus` None: KubeBus is switched off on this node, and nothing is said of it."""

    name = "kubebuscondition"

    def __init__(self, store: Store, look: Callable[[], Bus] | None) -> None:
        self._store = store
        self._look = look

    async def run(self, ready: asyncio.Event) -> None:
        """Writes a condition only when it changes. With KubeBus switched off an old one is deleted."""
        key = keys.reported("conditions", "", "kubebus")
        ready.set()
        if self._look is None:
            await self._store.delete(key)
            await asyncio.get_running_loop().create_future()
            return
        kv = await self._store.get(key)
        said: Any = json.loads(kv.value) if kv is not None else None
        while True:
            new = condition(self._look(), said, asyncio.get_running_loop().time())
            if new is not None:
                await self._store.put(key, json.dumps(new, sort_keys=True, separators=(",", ":")).encode())
                said = new
            await asyncio.sleep(_LOOK)
