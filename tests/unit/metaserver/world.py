"""A cloud and an edge on virtual time: EdgeController, real sync over queues that can be cut, and the edge's API over its store."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from kubeedge.api import keys
from kubeedge.api.names import NodeName, Object
from kubeedge.apiserver.registry import Registry
from kubeedge.errors import KubeEdgeError
from kubeedge.metaserver.edgewrites.module import EdgeWrites
from kubeedge.metaserver.effective import EffectiveStore
from kubeedge.metaserver.view import RegistryView
from kubeedge.store.memory import MemoryStore
from kubeedge.sync.progress import Progress
from kubeedge.sync.sink import run_sink
from kubeedge.sync.source import run_source
from tests.kit import virtual_time
from tests.unit.controllers.world import TENANT, World, template

NODE = NodeName("edge1")


class EdgeNode:
    """The edge's half: its store, its API, and a wire to the cloud that is up or not."""

    def __init__(self, cloud: World, node: NodeName = NODE) -> None:
        self.cloud, self.node = cloud, node
        self.store = MemoryStore()
        self.effective = EffectiveStore(self.store)
        self.view = RegistryView(self.store, TENANT, wall=cloud.wall)
        self.api = Registry(self.view, TENANT, wall=cloud.wall, bootstrap=False)
        self.settle = EdgeWrites(self.store, node, wall=cloud.wall)
        self._settling: asyncio.Task[None] | None = None
        self._wire: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        await self.cloud.tenants.ensure_node(TENANT, self.node)
        await self.store.put(f"/reported/nodes/_/{self.node}", b'{"status":{"capacity":{"cpu":"4"}}}')
        self._settling = asyncio.create_task(self.settle.run(asyncio.Event()))

    async def connect(self) -> None:
        edge, cloud, t, n = self.store, self.cloud.store, TENANT, self.node
        await cloud.put(keys.session(t, n), b"{}")

        def pair(source: Any, source_prefix: str, sink: Any, sink_prefix: str, lsr: str) -> None:
            there: asyncio.Queue[bytes] = asyncio.Queue()
            back: asyncio.Queue[bytes] = asyncio.Queue()
            self._wire.append(asyncio.create_task(run_source(source, source_prefix, there.put, back.get, Progress())))
            self._wire.append(asyncio.create_task(run_sink(sink, sink_prefix, lsr, back.put, there.get, Progress())))

        pair(cloud, keys.edge_desired(t, n), edge, keys.DESIRED, keys.SYNC_DOWN)
        pair(edge, keys.REPORTED, cloud, keys.edge_reported(t, n), keys.edge_sync_up(t, n))

    async def cut(self) -> None:
        for task in self._wire:
            task.cancel()
        await asyncio.gather(*self._wire, return_exceptions=True)
        self._wire.clear()
        await self.cloud.store.delete(keys.session(TENANT, self.node))

    async def pending(self) -> int:
        return await self.settle.pending()

    async def settled(self) -> bool:
        return await self.pending() == 0

    async def effective_value(self, resource: str, name: str) -> Object:
        kv = await self.effective.get(keys.desired(resource, "default", name))
        return json.loads(kv.value) if kv else {}

    async def close(self) -> None:
        await self.cut()
        if self._settling:
            self._settling.cancel()
            await asyncio.gather(self._settling, return_exceptions=True)
        await self.store.close()


def pod(name: str, *, uses: str = "", node: str = NODE) -> Object:
    spec = {**template(name)["spec"], "nodeName": node}
    if uses:
        spec["volumes"] = [{"name": "v", "configMap": {"name": uses}}]
    return {"metadata": {"name": name, "labels": {"app": name}}, "spec": spec}


def configmap(name: str, **data: str) -> Object:
    return {"metadata": {"name": name}, "data": data}


Scenario = Callable[[World, EdgeNode], Coroutine[Any, Any, None]]


def at_the_edge(scenario: Scenario) -> Callable[[], None]:
    def run() -> None:
        async def inside() -> None:
            world = World()
            await world.tenants.ensure_tenant(TENANT)
            edge = EdgeNode(world)
            try:
                await edge.start()
                await asyncio.wait_for(scenario(world, edge), 100_000)
            finally:
                await edge.close()
                await world.close()

        virtual_time.run(inside())

    run.__name__, run.__doc__ = scenario.__name__, scenario.__doc__
    return run


@contextlib.asynccontextmanager
async def refused(error: type[KubeEdgeError], words: str = "") -> AsyncIterator[None]:
    try:
        yield
    except error as exc:
        assert words in str(exc), exc
    else:
        raise AssertionError(f"not refused with {error.__name__}")
