"""What a node says of its container runtime and its links, and whether it is Ready then."""

from __future__ import annotations

import asyncio

from kubeedge.api.names import Object
from kubeedge.api.resources import EVENTS, NODES
from kubeedge.apiserver import printers
from kubeedge_cloud.controllers.objects import is_ready
from kubeedge_cloud.edgecontroller import core
from tests.unit.controllers.world import GRACE, Agent, World, in_world


async def condition(world: World, kind: str) -> Object:
    found = (await world.get(NODES, "edge1"))["status"].get("conditions", ())
    return next((c for c in found if c["type"] == kind), {"status": "none", "reason": "", "message": ""})


async def says(agent: Agent, name: str, kind: str, status: str, reason: str, message: str = "m") -> None:
    report = {"type": kind, "status": status, "reason": reason, "message": message}
    await agent.report(f"conditions/_/{name}", report)


async def runtime(agent: Agent, missing: str = "") -> None:
    status = "False" if missing else "True"
    await says(agent, "containerruntime", "ContainerRuntimeReady", status, "R", missing or "containers can start")


async def states(world: World) -> tuple[str, str]:
    return (await condition(world, "Ready"))["status"], (await condition(world, "ContainerRuntimeReady"))["status"]


async def events(world: World, kind: str = "Node") -> list[tuple[str, str, int]]:
    found = [e for e in await world.all(EVENTS) if e["involvedObject"]["kind"] == kind]
    return [(e["type"], e["reason"], e["count"]) for e in found if e["source"]["component"] == "edgecontroller"]


@in_world
async def test_a_node_that_cannot_start_containers_is_not_ready_until_it_can(world: World) -> None:
    async with world.cloud():
        agent = await world.join("edge1")
        await world.settle()
        assert await states(world) == ("True", "none"), "an agent that says nothing of it"
        await runtime(agent)
        await world.settle()
        before = await condition(world, "Ready")
        assert await states(world) == ("True", "True")
        await world.settle(5)
        await runtime(agent, "crun or runc missing on this node")
        await world.settle()
        ready = await condition(world, "Ready")
        assert (ready["status"], ready["reason"]) == ("False", "KubeletNotReady")
        assert ready["message"] == "container runtime is down: crun or runc missing on this node"
        assert ready["lastTransitionTime"] > before["lastTransitionTime"]
        assert ("Warning", "ContainerRuntimeNotReady", 1) in await events(world)
        node = await world.get(NODES, "edge1")
        assert printers._node(node, world.wall())[1] == "NotReady"
        await agent._report_node()  # which is not about its runtime
        await world.settle()
        assert await states(world) == ("False", "False")
        await agent.detach()
        await world.settle(GRACE + 1)
        assert await states(world) == ("Unknown", "Unknown")
        changes: list[str] = []
        await agent.attach()
        for _ in range(200):
            changes.append((await states(world))[0])
            await world.settle(0.01)
        assert set(changes) <= {"Unknown", "False"} and changes[-1] == "False", "never Ready in between"
        await runtime(agent)
        await world.settle()
        assert await states(world) == ("True", "True")


@in_world
async def test_a_node_is_ready_with_the_write_that_brings_its_status(world: World) -> None:
    """As a kubelet: whoever sees Ready sees the addresses, too."""
    versions: list[Object] = []

    async def follow() -> None:
        async for event in world.api().watch(NODES, "", resource_version=str(world.store.revision)):
            versions.append(event.object)

    async with world.cloud():
        following = asyncio.create_task(follow())
        agent = await world.join("edge1", silent=True)
        await says(agent, "kubebus", "KubeBusReady", "True", "LinkUp")
        await runtime(agent)
        await world.settle(5)
        ready = await condition(world, "Ready")
        assert (ready["status"], ready["reason"]) == ("False", "KubeletNotReady")
        assert ready["message"] == "the edge agent has not reported the node's status yet"
        assert printers._node(await world.get(NODES, "edge1"), world.wall())[1] == "NotReady"
        await agent._report_node()
        await world.settle()
        assert await states(world) == ("True", "True")
        following.cancel()
    assert [is_ready(v) for v in versions][-1] and not is_ready(versions[0])
    assert all(v["status"].get("addresses") for v in versions if is_ready(v))
    assert not any(v["status"].get("addresses") for v in versions if not is_ready(v)), "in the same write"


def test_an_info_of_empty_strings_is_no_report() -> None:
    """An API server shows it with every Node."""
    nothing = {"nodeInfo": {"kubeletVersion": "", "osImage": ""}, "daemonEndpoints": {"kubeletEndpoint": {"Port": 0}}}
    assert not core.is_reported(nothing) and not core.is_reported({}) and not core.is_reported({"nodeInfo": None})
    assert core.is_reported({"nodeInfo": {"kubeletVersion": "v1.32.0", "osImage": ""}})


@in_world
async def test_a_cloud_that_restarts_gives_such_a_node_time_to_come_back_too(world: World) -> None:
    async with world.cloud():
        agent = await world.join("edge1")
        await runtime(agent, "conmon missing")
        await world.settle()
    await agent.detach()
    async with world.cloud():
        await world.settle(GRACE / 2)
        assert await states(world) == ("False", "False")
        await world.settle(GRACE)
        assert await states(world) == ("Unknown", "Unknown")


@in_world
async def test_a_runtime_that_is_switched_off_while_the_node_is_away_says_no_more(world: World) -> None:
    async with world.cloud():
        agent = await world.join("edge1")
        await runtime(agent, "conmon missing")
        await world.settle()
        assert await states(world) == ("False", "False")
        await agent.detach()
        await world.settle(GRACE + 1)
        await world.store.delete("/t/default/edge/edge1/reported/conditions/_/containerruntime")
        await agent.attach()
        await world.settle(5)
        assert await states(world) == ("True", "none")


@in_world
async def test_a_report_counts_for_its_own_condition_alone(world: World) -> None:
    async with world.cloud():
        agent = await world.join("edge1")
        await says(agent, "containerruntime", "KubeBusReady", "False", "NoLink")
        await says(agent, "kubebus", "ContainerRuntimeReady", "False", "R")
        await says(agent, "other", "ContainerRuntimeReady", "False", "R")
        await world.settle(5)
        assert await states(world) == ("True", "none")
        assert (await condition(world, "KubeBusReady"))["status"] == "none"


@in_world
async def test_a_conflict_of_addresses_is_the_message_of_the_condition_and_a_warning(world: World) -> None:
    async with world.cloud():
        agent = await world.join("edge1")
        await says(agent, "kubebus", "KubeBusReady", "True", "LinkUp")
        await world.settle(5)
        text = "eth0 is in 100.64.0.0/16 and KubeBus uses 100.64.0.0/16"
        await says(agent, "kubebus", "KubeBusReady", "True", "AddressConflict", text)
        await world.settle(5)
        bus = await condition(world, "KubeBusReady")
        assert (bus["status"], bus["reason"], bus["message"]) == ("True", "AddressConflict", text)
        assert (await condition(world, "Ready"))["status"] == "True"
        assert ("Warning", "KubeBusAddressConflict", 1) in await events(world)
        await world.settle(60)
        assert ("Warning", "KubeBusAddressConflict", 1) in await events(world), "once"


@in_world
async def test_a_node_that_runs_short_is_tainted_until_it_has_enough(world: World) -> None:
    """And what others have tainted stays."""

    async def taints() -> list[tuple[str, str]]:
        found = (await world.get(NODES, "edge1"))["spec"].get("taints") or ()
        return sorted((t["key"].rsplit("/")[-1], t["effect"]) for t in found)

    async with world.cloud():
        agent = await world.join("edge1")
        await world.settle()
        before = await condition(world, "DiskPressure")
        assert (before["status"], before["reason"]) == ("False", "NoDiskPressure") and await taints() == []
        await world.api().merge_patch(
            NODES, "", "edge1", {"spec": {"taints": [{"key": "mine", "effect": "NoExecute"}]}}
        )
        await says(agent, "diskpressure", "DiskPressure", "True", "KubeletHasDiskPressure")
        await says(agent, "memorypressure", "MemoryPressure", "True", "KubeletHasInsufficientMemory")
        await world.settle()
        assert (await condition(world, "DiskPressure"))["reason"] == "KubeletHasDiskPressure"
        assert await taints() == [
            ("disk-pressure", "NoSchedule"),
            ("memory-pressure", "NoSchedule"),
            ("mine", "NoExecute"),
        ]
        assert ("Warning", "NodeHasDiskPressure", 1) in await events(world)
        assert (await states(world))[0] == "True", "it is Ready all the same"
        await says(agent, "diskpressure", "DiskPressure", "False", "KubeletHasNoDiskPressure")
        await world.store.delete("/t/default/edge/edge1/reported/conditions/_/memorypressure")
        await world.settle()
        assert await taints() == [("mine", "NoExecute")]
        assert [(await condition(world, k))["status"] for k in ("DiskPressure", "MemoryPressure")] == ["False", "False"]
        assert ("Normal", "NodeHasNoDiskPressure", 1) in await events(world)
