"""What a node says of its links, with literal times."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

from kubeedge.api import keys
from kubeedge.conditions.core import DOWN_FOR, condition
from kubeedge.conditions.module import ConditionReporter
from kubeedge.store.memory import MemoryStore
from tests.kit import virtual_time


@dataclass
class Bus:
    up: bool
    since: float = 0.0
    relay: str = "203.0.113.1:10010"
    last_error: str = ""


def test_only_what_lasts_is_said() -> None:
    said = condition(Bus(True), None, 0.0)
    assert said is not None and (said["status"], said["reason"]) == ("True", "LinkUp")
    assert condition(Bus(True), said, 5.0) is None
    assert condition(Bus(False, since=6.0), said, 6.0 + DOWN_FOR - 0.1) is None, "a link is being replaced"
    down = condition(Bus(False, since=6.0, last_error="timed out"), said, 6.0 + DOWN_FOR)
    assert (
        down is not None and (down["status"], down["reason"]) == ("False", "NoLink") and "timed out" in down["message"]
    )
    assert condition(Bus(False, since=6.0, last_error="refused"), down, 99.0) is None, "a write for each attempt"
    assert condition(Bus(True, since=100.0), down, 100.0) == said


def test_a_node_without_kubebus_says_nothing_of_it() -> None:
    async def scenario() -> None:
        store, key = MemoryStore(), keys.reported("conditions", "", "kubebus")
        bus = Bus(True)
        task = asyncio.create_task(ConditionReporter(store, lambda: bus).run(asyncio.Event()))
        await asyncio.sleep(60)
        kv = await store.get(key)
        assert kv is not None and kv.version == 1 and json.loads(kv.value)["status"] == "True"
        bus.up, bus.since = False, asyncio.get_running_loop().time()
        await asyncio.sleep(60)
        kv = await store.get(key)
        assert kv is not None and kv.version == 2 and json.loads(kv.value)["status"] == "False"
        task.cancel()
        task = asyncio.create_task(ConditionReporter(store, None).run(asyncio.Event()))
        await asyncio.sleep(1)
        assert await store.get(key) is None
        task.cancel()

    virtual_time.run(scenario())
