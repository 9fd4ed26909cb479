"""Thousands of simulated agents in one process: the production hub client and sync over a store in memory, no containers.

    python -m tests.kit.agents '{"directory": ..., "endpoints": ["203.0.113.1:10000"], "nodes": [...]}'

Commands on stdin, one JSON object a line; each is answered with one line:
    {"attached": N}           wait until so many are attached and in sync
    {"forget": true}          what was heard so far does not count any more
    {"in_sync": N, "beyond": R}  wait until so many have caught up with a revision above R; {"times": [monotonic seconds]}
    {"keep": true}            remember all values from now on
    {"values": KEY}           {"values": [[each value of the key, in the order in which a node got them], ...]}
    {"report": KEY, "value": V}  every node writes that below /reported/; {node} in the key is its name
    {"heard": KEY, "count": N}  wait until so many stores have a new value of the key; {"times": [...]}
    {"below": PREFIX, "count": N}  wait until all stores together have heard of so many keys below it; {"times": [of the last one]}
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

from kubeedge.api import keys
from kubeedge.hub.driver import Channel
from kubeedge.hub.module import EdgeHub, EdgeHubSettings
from kubeedge.pki.trust import client_context
from kubeedge.store.memory import MemoryStore
from kubeedge.sync.driver import run_edge
from kubeedge.sync.progress import Progress

POLL = 0.2  # seconds: looking at thousands of agents costs milliseconds, which the cloud process needs


class Agent:
    keep = False

    def __init__(self, directory: Path, endpoints: list[str], node: str) -> None:
        self.node = node
        self.store = MemoryStore()
        self.down, self.up = Progress(), Progress()
        self.heard: dict[str, float] = {}
        self.values: dict[str, list[str]] = {}
        pem = directory / f"{node}.pem"
        context = client_context(directory / "ca.crt", pem, pem)
        self.hub = EdgeHub(EdgeHubSettings(endpoints=endpoints), lambda: context, self._use)

    async def run(self) -> None:
        await asyncio.gather(self.hub.run(asyncio.Event()), self._listen())

    async def _use(self, channel: Channel) -> None:
        await run_edge(channel, self.store, self.down, self.up)

    async def _listen(self) -> None:
        async for batch in self.store.watch(keys.DESIRED, after=self.store.revision):
            now = time.monotonic()
            for change in batch.changes:
                self.heard[change.key] = now
                if self.keep:
                    self.values.setdefault(change.key, []).append(change.value.decode())


class Fleet:
    def __init__(self, agents: list[Agent]) -> None:
        self.agents = agents

    async def obey(self, command: dict[str, Any]) -> dict[str, Any]:
        match command:
            case {"attached": count}:
                await self._until(lambda a: a.hub.status.attached and a.down.revision > 0, count)
                return {"attached": count}
            case {"forget": _}:
                for agent in self.agents:
                    agent.heard.clear()
                return {}
            case {"keep": keep}:
                Agent.keep = keep
                return {}
            case {"values": key}:
                return {"values": [agent.values.get(key, []) for agent in self.agents]}
            case {"report": key, "value": value}:
                for agent in self.agents:
                    await agent.store.put(keys.REPORTED + key.replace("{node}", agent.node), value.encode())
                return {}
            case {"in_sync": count, "beyond": revision}:
                return {
                    "times": await self._until(lambda a: a.hub.status.attached and a.down.revision > revision, count)
                }
            case {"heard": key, "count": count}:
                await self._until(lambda a: key in a.heard, count)
                return {"times": sorted(a.heard[key] for a in self.agents if key in a.heard)}
            case {"below": prefix, "count": count}:
                return {"times": [await self._below(prefix, count)]}
        raise ValueError(f"unknown command {command}")

    async def _below(self, prefix: str, count: int) -> float:
        while True:
            found = [at for agent in self.agents for key, at in agent.heard.items() if key.startswith(prefix)]
            if len(found) >= count:
                return max(found)
            await asyncio.sleep(POLL)

    async def _until(self, condition: Any, count: int) -> list[float]:
        """When each agent was first seen to meet the condition, to POLL seconds."""
        times: list[float] = []
        waiting = list(self.agents)
        while len(times) < count:
            still = [agent for agent in waiting if not condition(agent)]
            times += [time.monotonic()] * (len(waiting) - len(still))
            waiting = still
            await asyncio.sleep(POLL)
        return times


async def main(config: dict[str, Any]) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.set_threshold(
        2_000, 10, 10
    )  # as in the cloud: it shares the machine with us, and no node has thousands of neighbours
    directory = Path(config["directory"])
    fleet = Fleet([Agent(directory, config["endpoints"], node) for node in config["nodes"]])
    tasks = [asyncio.create_task(agent.run()) for agent in fleet.agents]
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        print(json.dumps(await fleet.obey(json.loads(line))), flush=True)
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
