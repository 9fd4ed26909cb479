"""A small cloud in memory, on virtual time: tenants, the embedded API, EdgeController, all controllers, and agents.

An Agent stands for an edge node as the cloud sees it: it reads its desired pods from the store and writes what it
reports there, exactly as sync would bring it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import Any

from kubeedge.api import keys, meta
from kubeedge.api.client import Resource
from kubeedge.api.names import NodeName, Object, TenantId
from kubeedge.api.resources import DEPLOYMENTS, EVENTS, NODES, PODS, REPLICASETS
from kubeedge.apiserver.quota import TenantLimits
from kubeedge.apiserver.registry import Registry
from kubeedge.errors import NotFound
from kubeedge.store.memory import MemoryStore
from kubeedge.store.model import Store
from kubeedge.store.reflector import reflect
from kubeedge_cloud.controllers.module import ControllersModule
from kubeedge_cloud.edgecontroller.module import EdgeController, EdgeControllerSettings
from kubeedge_cloud.tenants import TenantManager
from tests.kit import virtual_time

NOON = 1_790_000_000.0
TENANT = TenantId("default")
GRACE = 10.0


class World:
    def __init__(self) -> None:
        self.store: Store = MemoryStore()
        self.tenants = TenantManager(self.store, wall=self.wall)
        self.limits: Callable[[TenantId], TenantLimits] | None = None  # of what nodes' copies are measured by
        self.registries: dict[TenantId, Registry] = {}
        self.agents: dict[tuple[TenantId, NodeName], Agent] = {}
        counter = itertools.count(1)
        self._randbytes = lambda size: (
            (next(counter) * 0x9E3779B97F4A7C15 % 2**64).to_bytes(8, "big").rjust(size, b"\1")
        )

    def wall(self) -> float:
        return NOON + asyncio.get_running_loop().time()

    def api(self, tenant: TenantId = TENANT) -> Registry:
        if tenant not in self.registries:
            self.registries[tenant] = Registry(
                self.store, tenant, wall=self.wall, randbytes=lambda n: self._randbytes(n)[-n:], foreground=True
            )
        return self.registries[tenant]

    @contextlib.asynccontextmanager
    async def cloud(self) -> AsyncIterator[None]:
        """The cloud process. Leaving it is a crash: whatever was under way stops where it is."""
        modules = (
            EdgeController(
                self.store,
                self.api,
                self.tenants,
                EdgeControllerSettings(node_grace=GRACE),
                limits=self.limits,
                wall=self.wall,
            ),
            ControllersModule(self.api, self.tenants, wall=self.wall),
        )
        tasks = []
        try:
            for module in modules:
                ready = asyncio.Event()
                tasks.append(asyncio.create_task(module.run(ready), name=module.name))
                await asyncio.wait_for(ready.wait(), 60)
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def join(self, node: str, tenant: TenantId = TENANT, *, silent: bool = False) -> Agent:
        """A node joins and attaches; a silent one has not reported its status yet."""
        await self.tenants.ensure_tenant(tenant)
        await self.tenants.ensure_node(tenant, node)
        agent = self.agents[tenant, NodeName(node)] = Agent(self, tenant, NodeName(node))
        await agent.attach(silent=silent)
        return agent

    async def close(self) -> None:
        for agent in self.agents.values():
            await agent.stop()
        await self.store.close()

    # Looking

    async def get(self, resource: Resource, name: str, namespace: str = "default", tenant: TenantId = TENANT) -> Object:
        return await self.api(tenant).get(resource, namespace if resource.namespaced else "", name)

    async def all(self, resource: Resource, tenant: TenantId = TENANT, selector: str = "") -> list[Object]:
        return list((await self.api(tenant).list(resource, label_selector=selector)).items)

    async def desired(self, node: str, tenant: TenantId = TENANT) -> dict[str, Object]:
        prefix = keys.edge_desired(tenant, NodeName(node))
        found = await self.store.range(prefix, keys.prefix_end(prefix))
        return {kv.key.removeprefix(prefix): json.loads(kv.value) for kv in found.kvs}

    async def is_rolled_out(self, name: str, tenant: TenantId = TENANT) -> bool:
        """What `kubectl rollout status` waits for."""
        deployment = await self.get(DEPLOYMENTS, name, tenant=tenant)
        status, wanted = deployment["status"], deployment["spec"]["replicas"]
        return (
            status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
            and status.get("updatedReplicas", 0) == wanted
            and status.get("replicas", 0) == wanted
            and status.get("availableReplicas", 0) == wanted
        )

    async def ready_of(self, node: str, tenant: TenantId = TENANT) -> str:
        try:
            obj = await self.get(NODES, node, tenant=tenant)
        except NotFound:
            return "absent"
        return next((c["status"] for c in obj["status"].get("conditions", ()) if c["type"] == "Ready"), "none")

    async def reasons(self, tenant: TenantId = TENANT) -> set[str]:
        return {event["reason"] for event in await self.all(EVENTS, tenant)}

    async def sizes(self, app: str) -> dict[str, int]:
        """revision -> replicas of the ReplicaSets of an app."""
        return {
            rs["metadata"]["annotations"]["deployment.kubernetes.io/revision"]: rs["spec"]["replicas"]
            for rs in await self.all(REPLICASETS, selector=f"app={app}")
        }

    async def until(self, condition: Callable[[], Awaitable[Any]], what: str, within: float = 30.0) -> Any:
        """Virtual seconds."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within
        while not (found := await condition()):
            assert loop.time() < deadline, f"{what}: not within {within:g} s; pods: {await self._pods()}"
            await asyncio.sleep(0.01)
        return found

    async def settle(self, seconds: float = 1.0) -> None:
        await asyncio.sleep(seconds)

    async def _pods(self) -> list[tuple[Any, ...]]:
        return [
            (
                p["metadata"]["name"],
                p["spec"].get("nodeName"),
                p["status"].get("phase"),
                p["metadata"].get("deletionTimestamp"),
            )
            for p in await self.all(PODS)
        ]


class Agent:
    """`starts_after` is how long a pod takes to become ready; 0 is at once."""

    def __init__(self, world: World, tenant: TenantId, node: NodeName) -> None:
        self._world = world
        self._tenant = tenant
        self._node = node
        self._task: asyncio.Task[None] | None = None
        self.starts_after = 0.0
        self.sick: Callable[[Object], bool] = lambda pod: False

    async def attach(self, *, silent: bool = False) -> None:
        if not silent:
            await self._report_node()
        await self._world.store.put(keys.session(self._tenant, self._node), b"{}")
        self._task = asyncio.create_task(self._run(), name=f"agent {self._node}")

    async def detach(self) -> None:
        await self.stop()
        await self._world.store.delete(keys.session(self._tenant, self._node))

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def report(self, rest: str, value: Object) -> None:
        """{"uid", "status"} below /reported/."""
        await self._world.store.put(keys.edge_reported(self._tenant, self._node) + rest, json.dumps(value).encode())

    async def _report_node(self) -> None:
        capacity = {"cpu": "4", "memory": "4Gi", "pods": "110"}
        status = {
            "capacity": capacity,
            "allocatable": capacity,
            "nodeInfo": {"architecture": "arm64", "operatingSystem": "linux", "kubeletVersion": "v1.32.0"},
            "addresses": [{"type": "InternalIP", "address": "100.64.0.1"}],
        }
        await self.report(f"nodes/_/{self._node}", {"status": status})

    async def _run(self) -> None:
        prefix = keys.edge_desired(self._tenant, self._node) + "pods/"
        starting: set[asyncio.Task[None]] = set()
        try:
            async with aclosing(reflect(self._world.store, prefix)) as changes:
                async for values, changed in changes:
                    for key in sorted(changed):
                        rest = "pods/" + key.removeprefix(prefix)
                        if key not in values:
                            await self._world.store.delete(keys.edge_reported(self._tenant, self._node) + rest)
                            continue
                        pod = json.loads(values[key])
                        if pod["metadata"].get("deletionTimestamp"):
                            await self.report(rest, {"uid": pod["metadata"]["uid"], "gone": True})
                        elif self.starts_after:
                            task = asyncio.create_task(self._start_later(rest, pod))
                            starting.add(task)
                            task.add_done_callback(starting.discard)
                        else:
                            await self._start(rest, pod)
        finally:
            for task in starting:
                task.cancel()
            await asyncio.gather(*starting, return_exceptions=True)

    async def _start_later(self, rest: str, pod: Object) -> None:
        await asyncio.sleep(self.starts_after)
        await self._start(rest, pod)

    async def _start(self, rest: str, pod: Object) -> None:
        await self.report(rest, {"uid": pod["metadata"]["uid"], "status": self._status(pod)})

    def _status(self, pod: Object) -> Object:
        stamp = meta.timestamp(self._world.wall())
        ready = "False" if self.sick(pod) else "True"
        return {
            "phase": "Running",
            "podIP": "10.244.1.5",
            "hostIP": "100.64.0.1",
            "qosClass": "BestEffort",
            "startTime": stamp,
            "conditions": [
                {"type": kind, "status": state, "lastTransitionTime": stamp, "lastProbeTime": None}
                for kind, state in (("Ready", ready), ("PodScheduled", "True"))
            ],
        }


Scenario = Callable[[World], Coroutine[Any, Any, None]]


def in_world(scenario: Scenario) -> Callable[[], None]:
    """A test of virtual time."""

    def run() -> None:
        async def inside() -> None:
            world = World()
            await world.tenants.ensure_tenant(TENANT)
            try:
                await asyncio.wait_for(scenario(world), 100_000)
            finally:
                await world.close()

        virtual_time.run(inside())

    run.__name__, run.__doc__ = scenario.__name__, scenario.__doc__
    return run


def template(app: str, image: str = "busybox:1", **spec: Any) -> Object:
    return {"metadata": {"labels": {"app": app}}, "spec": {"containers": [{"name": "c", "image": image}], **spec}}


def deployment(name: str, replicas: int = 2, *, strategy: Object | None = None, **more: Any) -> Object:
    return {
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": template(name),
            **({"strategy": strategy} if strategy else {}),
            **more,
        },
    }


def new_image(image: str) -> Object:
    return {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}}


def daemonset(name: str, **spec: Any) -> Object:
    return {
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": template(name, **spec)},
    }
