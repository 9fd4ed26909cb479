"""Of a node that was removed nothing is left in memory: tables that are kept by node do not grow with all nodes that there ever were."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

from kubeedge.api.devices import DEVICEMODELS, DEVICES
from kubeedge.api.names import NodeName
from kubeedge.api.resources import PODS, SECRETS
from kubeedge_cloud.controllers.recorder import Recorder
from kubeedge_cloud.devicecontroller.driver import TenantDeviceController
from kubeedge_cloud.edgecontroller.driver import TenantEdgeController
from tests.unit.controllers.world import GRACE, TENANT, World, in_world
from tests.unit.devices.test_controller import MODEL, cloud, device
from tests.unit.edgecontroller.test_edgecontroller import pod_on


def tables(root: object) -> Iterator[tuple[str, Any]]:
    """(where, key) of each dictionary and set that the object holds, through other objects of the cloud."""
    seen: set[int] = set()
    todo: list[tuple[str, Any]] = [(type(root).__name__, root)]
    while todo:
        where, found = todo.pop()
        if id(found) in seen or isinstance(found, World | Recorder):
            continue
        seen.add(id(found))
        if isinstance(found, dict):
            yield from ((where, key) for key in found)
            todo += [(f"{where}[]", value) for value in found.values()]
        elif isinstance(found, set | frozenset):
            yield from ((where, key) for key in found)
        elif isinstance(found, list | tuple):
            todo += [(f"{where}[]", value) for value in found]
        elif type(found).__module__.startswith("kubeedge_cloud."):
            names = [*getattr(found, "__dict__", ()), *getattr(type(found), "__slots__", ())]
            todo += [(f"{where}.{name}", getattr(found, name, None)) for name in names]


def names_node(key: object) -> bool:
    if isinstance(key, tuple):
        return any(names_node(part) for part in key)
    return isinstance(key, str) and ("edge1" in key.split("/"))


@in_world
async def test_what_was_known_of_a_removed_node_is_forgotten(world: World) -> None:
    gc.collect()
    before = {id(o) for o in gc.get_objects() if isinstance(o, TenantEdgeController | TenantDeviceController)}
    async with cloud(world):
        agent = await world.join("edge1")
        await world.join("edge2")
        await world.api().create(SECRETS, "default", {"metadata": {"name": "s"}, "stringData": {"k": "v"}})
        volumes = [{"name": "s", "secret": {"secretName": "s"}}]
        await world.api().create(PODS, "default", pod_on("edge1", volumes=volumes))
        await world.api().create(DEVICEMODELS, "default", MODEL)
        await world.api().create(DEVICES, "default", device())
        condition = {"type": "ContainerRuntimeReady", "status": "True", "reason": "R", "message": "m"}
        await agent.report("conditions/_/containerruntime", condition)
        await world.settle(5)
        roots = [
            o
            for o in gc.get_objects()
            if isinstance(o, TenantEdgeController | TenantDeviceController) and id(o) not in before
        ]
        assert {type(root) for root in roots} == {TenantEdgeController, TenantDeviceController}
        found = [where for root in roots for where, key in tables(root) if names_node(key)]
        assert len(found) > 8, found
        await world.api().delete(DEVICES, "default", "hall")
        await world.api().delete(PODS, "default", "p", grace_period=0)
        await world.settle(5)
        await agent.stop()
        await world.tenants.remove_node(TENANT, NodeName("edge1"))
        await world.settle(1)
        await agent.detach()  # the hub takes the session away when it hears of it
        await world.settle(3 * GRACE + 60)
        left = [(where, key) for root in roots for where, key in tables(root) if names_node(key)]
        assert left == []
