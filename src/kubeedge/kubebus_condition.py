"""The condition KubeBusReady of this node, as it says it to the cloud over the hub's channel: links may be down while that is up.

Only what lasts is said: a link that is replaced within a few seconds is no news, and each word is a write to flash.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, Protocol

from kubeedge.api import keys
from kubeedge.store.model import Store

TYPE = "KubeBusReady"
DOWN_FOR = 10.0  # seconds without a link before it is said
_LOOK = 2.0  # seconds


class Bus(Protocol):
    @property
    def up(self) -> bool: ...
    @property
    def since(self) -> float:
        """Loop time of the last change of `up`."""
        ...

    @property
    def relay(self) -> str: ...
    @property
    def last_error(self) -> str: ...


def condition(bus: Bus, said: dict[str, str] | None, now: float) -> dict[str, str] | None:
    """What is to be said; None: what was `said` is still right."""
    if bus.up:
        new = {"type": TYPE, "status": "True", "reason": "LinkUp", "message": f"linked to relay {bus.relay}"}
    elif now - bus.since >= DOWN_FOR:
        why = bus.last_error or "no relay answers"
        new = {"type": TYPE, "status": "False", "reason": "NoLink", "message": f"no link to a relay: {why}"[:256]}
        if said is not None and said["status"] == "False":
            return None  # each attempt may fail in its own words
    else:
        return None
    return new if new != said else None


class ConditionReporter:
    """Module "kubebuscondition". `bus` None: KubeBus is switched off on this node, and nothing is said of it."""

    name = "kubebuscondition"

    def __init__(self, store: Store, look: Callable[[], Bus] | None) -> None:
        self._store = store
        self._look = look

    async def run(self, ready: asyncio.Event) -> None:
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
