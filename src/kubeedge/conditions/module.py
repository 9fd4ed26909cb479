"""Module "conditions": reports to the cloud, over the hub's channel, whether this node has a link to a relay, can start containers, encrypts its
Secrets, and whether Services work, policies are enforced and pods have IPv6.

Lives elsewhere: when there is something to report (core.py).
"""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Callable, Mapping
from typing import TypeAlias

from kubeedge.api import keys
from kubeedge.conditions.core import (
    PRESSURES,
    Bus,
    Condition,
    of_bus,
    of_encryption,
    of_ipv6,
    of_mesh,
    of_policy,
    of_pressure,
    of_runtime,
)
from kubeedge.kit.ticks import tick
from kubeedge.store.model import Store
from kubeedge.store.sealing_status import SealingStatus

_LOOK = 2.0  # seconds
_LOOK_AT_PRESSURE = 10.0  # seconds; AppEngine itself looks no more often

Look: TypeAlias = Callable[
    [Condition | None], Condition | None
]  # what was reported -> what is to be reported; None: no change


class ConditionReporter:
    """Module "conditions". What is None is switched off on this node, and not reported."""

    name = "conditions"

    def __init__(
        self,
        store: Store,
        *,
        bus: Callable[[], Bus] | None,
        runtime: Callable[[], str] | None,
        encryption: SealingStatus | None = None,
        pressures: Callable[[], Mapping[str, Condition]] | None = None,
        mesh: Callable[[], str | None] | None = None,
        policy: Callable[[], str | None] | None = None,
        gateways: bool = False,
        ipv6: str | None = None,
    ) -> None:
        """`runtime`: why no container can start, "" when they can; `mesh`: why Services do not work, `policy`: policies, `ipv6`: IPv6 of pods.
        `pressures`: conditions of pressure, by type. `gateways`: this node has some, which say themselves where they listen."""
        self._store = store
        self._gateways = gateways
        sealing = encryption if encryption and (encryption.enabled or encryption.unreadable) else None
        self._looks: dict[str, Look | None] = {
            "kubebus": (lambda reported: of_bus(bus(), reported, asyncio.get_running_loop().time())) if bus else None,
            "containerruntime": (lambda reported: of_runtime(runtime(), reported)) if runtime else None,
            "secretsencryption": (lambda reported: of_encryption(sealing, reported)) if sealing else None,
            "mesh": (lambda reported: of_mesh(mesh(), reported)) if mesh else None,
            "networkpolicy": (lambda reported: of_policy(policy(), reported)) if policy else None,
            "podipv6": (lambda reported: of_ipv6(ipv6, reported)) if ipv6 is not None else None,
        }
        for kind in PRESSURES:
            self._looks[kind.lower()] = functools.partial(_pressure, pressures, kind) if pressures else None

    async def run(self, ready: asyncio.Event) -> None:
        """Writes a condition only when it changes. An old one of what is switched off is deleted."""
        ready.set()
        if not self._gateways:
            await self._store.delete(keys.reported("gateways", "", "node"))
        async with asyncio.TaskGroup() as group:
            for name, look in self._looks.items():
                every = _LOOK_AT_PRESSURE if name.endswith("pressure") else _LOOK
                key = keys.reported("conditions", "", name)
                group.create_task(self._follow(key, look, every), name=f"condition {name}")
            await asyncio.get_running_loop().create_future()

    async def _follow(self, key: str, look: Look | None, every: float) -> None:
        if look is None:
            await self._store.delete(key)
            return
        kv = await self._store.get(key)
        reported: Condition | None = json.loads(kv.value) if kv is not None else None
        while True:
            new = look(reported)
            if new is not None:
                await self._store.put(key, json.dumps(new, sort_keys=True, separators=(",", ":")).encode())
                reported = new
            await tick(every)


def _pressure(
    pressures: Callable[[], Mapping[str, Condition]], kind: str, reported: Condition | None
) -> Condition | None:
    return of_pressure(pressures()[kind], reported)
