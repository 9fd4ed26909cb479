"""From `kubectl apply` to the node and back: all controllers over the embedded API."""

from __future__ import annotations

import asyncio
from typing import Any

from kubeedge.api.client import Resource
from kubeedge.api.names import Object, TenantId
from kubeedge.api.resources import (
    CONFIGMAPS,
    DAEMONSETS,
    DEPLOYMENTS,
    ENDPOINTS,
    LEASES,
    NAMESPACES,
    NODES,
    PODS,
    REPLICASETS,
    SERVICES,
    Row,
)
from kubeedge.apiserver.core import DeleteOptions
from kubeedge.errors import NotFound
from tests.unit.controllers.world import (
    TENANT,
    World,
    daemonset,
    deployment,
    in_world,
    new_image,
    template,
)


async def rolled_out(world: World, name: str = "web") -> None:
    await world.until(lambda: world.is_rolled_out(name), f"rollout of {name}", within=120)


@in_world
async def test_a_deployment_reaches_its_node_and_its_status_comes_back(world: World) -> None:
    async with world.cloud():
        await world.join("edge1")
        await world.api().create(CONFIGMAPS, "default", {"metadata": {"name": "pages"}, "data": {"a": "1"}})
        wanted = deployment("web", 1)
        wanted["spec"]["template"]["spec"]["volumes"] = [{"name": "v", "configMap": {"name": "pages"}}]
        await world.api().create(DEPLOYMENTS, "default", wanted)
        await rolled_out(world)

        (pod,) = await world.all(PODS)
        assert pod["spec"]["nodeName"] == "edge1"
        assert pod["status"]["phase"] == "Running" and pod["status"]["podIP"] == "10.244.1.5"
        desired = await world.desired("edge1")
        name = pod["metadata"]["name"]
        assert set(desired) == {"configmaps/default/pages", f"pods/default/{name}", "nodes/_/edge1"}
        assert desired[f"pods/default/{name}"]["metadata"]["uid"] == pod["metadata"]["uid"]
        assert "status" not in desired[f"pods/default/{name}"]

        found = await world.get(DEPLOYMENTS, "web")
        assert found["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1"
        reasons = {c["type"]: (c["status"], c["reason"]) for c in found["status"]["conditions"]}
        assert reasons == {
            "Available": ("True", "MinimumReplicasAvailable"),
            "Progressing": ("True", "NewReplicaSetAvailable"),
        }
        await world.settle()
        assert {"ScalingReplicaSet", "SuccessfulCreate", "Scheduled"} <= await world.reasons()


@in_world
async def test_nothing_is_written_while_nothing_changes(world: World) -> None:
    async with world.cloud():
        await world.join("edge1")
        await world.api().create(DEPLOYMENTS, "default", deployment("web", 3))
        await world.api().create(DAEMONSETS, "default", daemonset("agent"))
        await rolled_out(world)
        await world.settle(5)
        before = world.store.revision
        await world.settle(3600)
        assert world.store.revision == before
    async with world.cloud():  # a restart finds everything as it should be
        await world.settle(5)
        assert world.store.revision == before


@in_world
async def test_a_rolling_update_keeps_its_promises_all_the_way(world: World) -> None:
    async with world.cloud():
        agent = await world.join("edge1")
        strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}
        await world.api().create(DEPLOYMENTS, "default", deployment("web", 4, strategy=strategy))
        await rolled_out(world)
        agent.starts_after = 2.0
        seen: list[tuple[int, int]] = []

        async def observe() -> None:
            async for _ in world.api().watch(PODS, "default", resource_version=str(world.store.revision)):
                pods = await world.all(PODS)
                alive = [p for p in pods if not p["metadata"].get("deletionTimestamp")]
                seen.append((len(alive), sum(is_ready(p) for p in alive)))

        observer = asyncio.create_task(observe())
        await world.api().merge_patch(DEPLOYMENTS, "default", "web", new_image("busybox:2"))
        await rolled_out(world)
        observer.cancel()
        assert len(seen) > 10
        assert max(alive for alive, _ in seen) <= 5
        assert min(ready for _, ready in seen) >= 3
        assert await world.sizes("web") == {"1": 0, "2": 4}
        assert {p["spec"]["containers"][0]["image"] for p in await world.all(PODS)} == {"busybox:2"}


@in_world
async def test_a_rollout_of_a_broken_image_stops_in_time_reports_it_and_is_undone(world: World) -> None:
    async with world.cloud():
        agent = await world.join("edge1")
        agent.sick = lambda pod: bool(pod["spec"]["containers"][0]["image"] == "sick:1")
        await world.api().create(DEPLOYMENTS, "default", deployment("web", 4, progressDeadlineSeconds=60))
        await rolled_out(world)
        await world.api().merge_patch(DEPLOYMENTS, "default", "web", new_image("sick:1"))
        await world.settle(30)
        healthy = [p for p in await world.all(PODS) if is_ready(p)]
        assert len(healthy) == 3  # 4 less maxUnavailable

        async def gave_up() -> bool:
            status = (await world.get(DEPLOYMENTS, "web"))["status"]
            return any(c.get("reason") == "ProgressDeadlineExceeded" for c in status["conditions"])

        assert not await gave_up()
        await world.until(gave_up, "the deadline", within=60)
        await world.api().merge_patch(DEPLOYMENTS, "default", "web", new_image("busybox:1"))
        await rolled_out(world)
        assert await world.sizes("web") == {"2": 0, "3": 4}  # the first ReplicaSet has come back
        assert (await world.get(DEPLOYMENTS, "web"))["metadata"]["annotations"][
            "deployment.kubernetes.io/revision"
        ] == "3"


@in_world
async def test_recreate_starts_nothing_before_everything_has_ended(world: World) -> None:
    async with world.cloud():
        agent = await world.join("edge1")
        await world.api().create(DEPLOYMENTS, "default", deployment("web", 2, strategy={"type": "Recreate"}))
        await rolled_out(world)
        await agent.stop()  # nobody says that the old pods are gone
        await world.api().merge_patch(DEPLOYMENTS, "default", "web", new_image("busybox:2"))
        await world.settle(30)
        pods = await world.all(PODS)
        assert len(pods) == 2 and all(p["metadata"].get("deletionTimestamp") for p in pods)
        await agent.attach()
        await rolled_out(world)
        assert {p["spec"]["containers"][0]["image"] for p in await world.all(PODS)} == {"busybox:2"}


@in_world
async def test_scaling_goes_both_ways_and_never_too_far(world: World) -> None:
    async with world.cloud():
        await world.join("edge1")
        await world.api().create(DEPLOYMENTS, "default", deployment("web", 2))
        await rolled_out(world)
        for replicas in (7, 1, 0, 3):
            patch = {"spec": {"replicas": replicas}}
            await world.api().merge_patch(DEPLOYMENTS, "default", "web", patch)
            await rolled_out(world)
            await world.until(lambda n=replicas: is_count(world, n), f"{replicas} pods")  # type: ignore[misc]
        assert await world.sizes("web") == {"1": 3}


@in_world
async def test_a_paused_deployment_scales_but_does_not_roll(world: World) -> None:
    async with world.cloud():
        await world.join("edge1")
        await world.api().create(DEPLOYMENTS, "default", deployment("web", 2))
        await rolled_out(world)
        await world.api().merge_patch(DEPLOYMENTS, "default", "web", {"spec": {"paused": True, "replicas": 4}})
        await world.api().merge_patch(DEPLOYMENTS, "default", "web", new_image("busybox:2"))
        await world.until(lambda: is_count(world, 4), "4 pods")
        await world.settle()
        assert await world.sizes("web") == {"1": 4}
        await world.api().merge_patch(DEPLOYMENTS, "default", "web", {"spec": {"paused": False}})
        await rolled_out(world)
        assert await world.sizes("web") == {"1": 0, "2": 4}


@in_world
async def test_a_cloud_that_crashes_in_the_middle_finishes_after_its_restart(world: World) -> None:
    async with world.cloud():
        agent = await world.join("edge1")
        await world.api().create(DEPLOYMENTS, "default", deployment("web", 6))
        await rolled_out(world)
        agent.starts_after = 1.0
        await world.api().merge_patch(DEPLOYMENTS, "default", "web", new_image("busybox:2"))
    for moments in (0.0, 0.005, 1.0, 1.5):
        async with world.cloud():
            await world.settle(moments)
    async with world.cloud():
        await rolled_out(world)
        await world.until(lambda: is_count(world, 6), "6 pods")
        assert await world.sizes("web") == {"1": 0, "2": 6}


@in_world
async def test_a_deployment_that_is_deleted_takes_everything_along(world: World) -> None:
    async with world.cloud():
        await world.join("edge1")
        for name in ("web", "other"):
            await world.api().create(DEPLOYMENTS, "default", deployment(name, 2))
            await rolled_out(world, name)
        await world.api().delete(DEPLOYMENTS, "default", "web")
        await world.until(lambda: is_count(world, 2), "only the other one's pods")
        assert [rs["metadata"]["labels"]["app"] for rs in await world.all(REPLICASETS)] == ["other"]

        async def has_left() -> bool:
            return len([key for key in await world.desired("edge1") if key.startswith("pods/")]) == 2

        await world.until(has_left, "the node has only the other one's pods")


@in_world
async def test_a_deletion_in_the_foreground_waits_for_the_pods(world: World) -> None:
    async with world.cloud():
        agent = await world.join("edge1")
        await world.api().create(DEPLOYMENTS, "default", deployment("web", 2))
        await rolled_out(world)
        await agent.stop()
        options = DeleteOptions(propagation="Foreground")
        await world.api().delete_object(DEPLOYMENTS, "default", "web", options)
        await world.settle(20)
        assert (await world.get(DEPLOYMENTS, "web"))["metadata"]["deletionTimestamp"]
        assert len(await world.all(PODS)) == 2
        await agent.attach()
        await world.until(lambda: is_absent(world, DEPLOYMENTS, "web"), "the deployment is gone")
        assert not await world.all(PODS) and not await world.all(REPLICASETS)


@in_world
async def test_what_lost_its_owner_while_no_process_ran_is_collected(world: World) -> None:
    async with world.cloud():
        await world.join("edge1")
        await world.api().create(DEPLOYMENTS, "default", deployment("web", 2))
        await rolled_out(world)
    await world.api().delete(DEPLOYMENTS, "default", "web")
    assert await world.all(REPLICASETS)
    owner = {"apiVersion": "example.org/v1", "kind": "Robot", "name": "r", "uid": "u"}
    kept = {"metadata": {"name": "robots", "ownerReferences": [owner]}}  # of a kind that nobody here knows
    await world.api().create(CONFIGMAPS, "default", kept)
    async with world.cloud():
        await world.until(lambda: is_count(world, 0), "no pods")
        assert not await world.all(REPLICASETS)
        await world.settle(60)
        assert await world.get(CONFIGMAPS, "robots")


@in_world
async def test_orphaned_pods_are_adopted_again(world: World) -> None:
    async with world.cloud():
        await world.join("edge1")
        await world.api().create(DEPLOYMENTS, "default", deployment("web", 2))
        await rolled_out(world)
        names = {p["metadata"]["name"] for p in await world.all(PODS)}
        (replicaset,) = await world.all(REPLICASETS)
        options = DeleteOptions(propagation="Orphan")
        await world.api().delete_object(REPLICASETS, "default", replicaset["metadata"]["name"], options)

        async def is_adopted() -> bool:
            found = await world.all(REPLICASETS)
            if not found or found[0]["metadata"]["uid"] == replicaset["metadata"]["uid"]:
                return False
            owners = {p["metadata"].get("ownerReferences", [{}])[0].get("uid") for p in await world.all(PODS)}
            return owners == {found[0]["metadata"]["uid"]}

        await world.until(is_adopted, "the next ReplicaSet adopts the pods")
        assert {p["metadata"]["name"] for p in await world.all(PODS)} == names


@in_world
async def test_a_pod_that_loses_its_label_is_let_go_and_replaced(world: World) -> None:
    async with world.cloud():
        await world.join("edge1")
        await world.api().create(DEPLOYMENTS, "default", deployment("web", 2))
        await rolled_out(world)
        name = (await world.all(PODS))[0]["metadata"]["name"]
        await world.api().merge_patch(PODS, "default", name, {"metadata": {"labels": {"app": "debug"}}})
        await world.until(lambda: is_count(world, 3), "a replacement")
        assert "ownerReferences" not in (await world.get(PODS, name))["metadata"]


@in_world
async def test_pods_that_every_node_refuses_are_not_made_in_a_hot_loop(world: World) -> None:
    async with world.cloud():
        agent = await world.join("edge1")
        await agent.stop()
        failed = {"phase": "Failed", "reason": "InvalidPod"}
        made = 0

        async def refuse() -> None:
            nonlocal made
            async for event in world.api().watch(PODS, "default", resource_version="0"):
                pod = event.object
                if event.type != "DELETED" and pod["spec"].get("nodeName") and pod["status"]["phase"] == "Pending":
                    made += 1
                    place = f"pods/default/{pod['metadata']['name']}"
                    await agent.report(place, {"uid": pod["metadata"]["uid"], "status": failed})

        refusing = asyncio.create_task(refuse())
        await world.api().create(DEPLOYMENTS, "default", deployment("web", 1))
        await world.settle(600)
        refusing.cancel()
        assert 4 <= made <= 30
        assert len(await world.all(PODS)) <= 10  # the history does not grow for ever


@in_world
async def test_a_daemonset_follows_the_nodes(world: World) -> None:
    async with world.cloud():
        await world.join("edge1")
        await world.api().create(DAEMONSETS, "default", daemonset("agent"))
        await world.until(lambda: is_count(world, 1), "one pod")
        await world.join("edge2")
        await world.until(lambda: is_count(world, 2), "a pod on the new node")
        assert {p["spec"]["nodeName"] for p in await world.all(PODS)} == {"edge1", "edge2"}
        patch = {"spec": {"template": {"spec": {"nodeSelector": {"kind": "camera"}}}}}
        await world.api().merge_patch(NODES, "", "edge2", {"metadata": {"labels": {"kind": "camera"}}})
        await world.api().merge_patch(DAEMONSETS, "default", "agent", patch)
        await world.until(lambda: is_count(world, 1), "only the camera's pod")
        await world.until(lambda: is_updated(world, 1), "the update of the camera's pod")
        assert [p["spec"]["nodeName"] for p in await world.all(PODS)] == ["edge2"]


@in_world
async def test_a_daemonset_updates_one_node_after_the_other(world: World) -> None:
    async with world.cloud():
        agents = [await world.join(f"edge{n}") for n in (1, 2, 3)]
        await world.api().create(DAEMONSETS, "default", daemonset("agent"))
        await world.until(lambda: is_updated(world, 3), "three pods")
        for agent in agents:
            agent.starts_after = 2.0
        least = 3

        async def observe() -> None:
            nonlocal least
            async for _ in world.api().watch(PODS, "default", resource_version=str(world.store.revision)):
                pods = [p for p in await world.all(PODS) if not p["metadata"].get("deletionTimestamp")]
                least = min(least, sum(is_ready(p) for p in pods))

        observer = asyncio.create_task(observe())
        await world.api().merge_patch(DAEMONSETS, "default", "agent", new_image("busybox:2"))
        await world.until(lambda: is_updated(world, 3), "three new pods")
        observer.cancel()
        assert least == 2
        assert {p["spec"]["containers"][0]["image"] for p in await world.all(PODS)} == {"busybox:2"}


@in_world
async def test_a_pod_waits_for_a_node_that_fits_and_says_why(world: World) -> None:
    async with world.cloud():
        await world.join("edge1")
        pod = {"metadata": {"name": "p"}, "spec": template("p", nodeSelector={"kind": "camera"})["spec"]}
        await world.api().create(PODS, "default", pod)

        async def has_said() -> bool:
            conditions = (await world.get(PODS, "p"))["status"].get("conditions", ())
            return any(
                c.get("message") == "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."
                for c in conditions
            )

        await world.until(has_said, "the reason")
        await world.settle()
        assert "FailedScheduling" in await world.reasons()
        await world.api().merge_patch(NODES, "", "edge1", {"metadata": {"labels": {"kind": "camera"}}})
        await world.until(lambda: is_bound(world, "p"), "the pod is bound")


@in_world
async def test_endpoints_hold_the_ready_pods(world: World) -> None:
    async with world.cloud():
        agent = await world.join("edge1")
        agent.sick = lambda pod: bool(pod["metadata"]["name"] == "b")
        for name in ("a", "b"):
            pod = {"metadata": {"name": name, "labels": {"app": "web"}}, "spec": template("web")["spec"]}
            await world.api().create(PODS, "default", pod)
        service = {"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}
        await world.api().create(SERVICES, "default", service)

        async def named() -> tuple[list[str], list[str]] | None:
            try:
                subsets = (await world.get(ENDPOINTS, "web"))["subsets"]
            except NotFound:
                return None
            if len(subsets) != 1 or len(subsets[0].get("notReadyAddresses", ())) != 1:
                return None
            subset = subsets[0]
            return (
                [a["targetRef"]["name"] for a in subset.get("addresses", ())],
                [a["targetRef"]["name"] for a in subset["notReadyAddresses"]],
            )

        assert await world.until(named, "endpoints") == (["a"], ["b"])
        await world.api().delete(SERVICES, "default", "web")
        await world.until(lambda: is_absent(world, ENDPOINTS, "web"), "endpoints of a service that is gone")


@in_world
async def test_a_namespace_is_emptied_before_it_goes(world: World) -> None:
    async with world.cloud():
        agent = await world.join("edge1")
        await world.api().create(NAMESPACES, "", {"metadata": {"name": "x"}})
        await world.api().create(CONFIGMAPS, "x", {"metadata": {"name": "c"}})
        await world.api().create(DEPLOYMENTS, "x", deployment("web", 2))

        async def runs() -> bool:
            return all(is_ready(p) for p in await world.all(PODS)) and len(await world.all(PODS)) == 2

        await world.until(runs, "two pods")
        await agent.stop()
        await world.api().delete(NAMESPACES, "", "x")
        await world.settle(30)
        assert (await world.get(NAMESPACES, "x"))["status"]["phase"] == "Terminating"
        assert len(await world.all(PODS)) == 2  # their node has not stopped them
        await agent.attach()
        await world.until(lambda: is_absent(world, NAMESPACES, "x"), "the namespace is gone", within=10)


@in_world
async def test_two_tenants_with_the_same_names_do_not_touch_each_other(world: World) -> None:
    async with world.cloud():
        other = TenantId("other")  # appears while everything runs
        await world.join("edge1")
        await world.join("edge1", other)
        await world.api(other).create(DEPLOYMENTS, "default", deployment("web", 3))

        async def theirs_run() -> bool:
            return await world.is_rolled_out("web", other)

        await world.until(theirs_run, "the other tenant's rollout")
        assert not await world.all(PODS) and not await world.all(DEPLOYMENTS)
        assert not [key for key in await world.desired("edge1", TENANT) if key.startswith("pods/")]
        await world.api().create(DEPLOYMENTS, "default", deployment("web", 1))
        await rolled_out(world)
        await world.api().delete(DEPLOYMENTS, "default", "web")
        await world.until(lambda: is_count(world, 0), "ours are gone")
        assert len(await world.all(PODS, other)) == 3


def is_ready(pod: Object) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))


async def is_count(world: World, number: int) -> bool:
    return len(await world.all(PODS)) == number


async def is_absent(world: World, resource: Any, name: str) -> bool:
    try:
        await world.get(resource, name)
    except NotFound:
        return True
    return False


async def is_bound(world: World, name: str) -> bool:
    return bool((await world.get(PODS, name))["spec"].get("nodeName"))


async def is_updated(world: World, number: int) -> bool:
    found = await world.get(DAEMONSETS, "agent")
    status = found["status"]
    return (
        status.get("observedGeneration") == found["metadata"]["generation"]
        and status.get("updatedNumberScheduled") == status.get("numberAvailable") == number
        and status["desiredNumberScheduled"] == number
    )


@in_world
async def test_what_a_deleted_deployment_orphans_stays(world: World) -> None:
    """The deployment's controller must not adopt again what has just been let go."""
    async with world.cloud():
        await world.join("edge1")
        for round in range(8):
            name = f"web{round}"
            await world.api().create(DEPLOYMENTS, "default", deployment(name, 1))
            await world.until(lambda name=name: world.is_rolled_out(name), "the rollout")
            (replicaset,) = await world.all(REPLICASETS, selector=f"app={name}")
            (pod,) = await world.all(PODS, selector=f"app={name}")
            await world.api().delete_object(DEPLOYMENTS, "default", name, DeleteOptions(propagation="Orphan"))

            async def is_gone(name: str = name) -> bool:
                return name not in {d["metadata"]["name"] for d in await world.all(DEPLOYMENTS)}

            await world.until(is_gone, "the deployment goes")
            await world.settle(30)
            (left,) = await world.all(REPLICASETS, selector=f"app={name}")
            assert (
                left["metadata"]["uid"] == replicaset["metadata"]["uid"] and "ownerReferences" not in left["metadata"]
            )
            assert [p["metadata"]["uid"] for p in await world.all(PODS, selector=f"app={name}")] == [
                pod["metadata"]["uid"]
            ]


@in_world
async def test_a_cloud_that_crashes_while_it_orphans_finishes_after_its_restart(world: World) -> None:
    async with world.cloud():
        await world.join("edge1")
        await world.api().create(DEPLOYMENTS, "default", deployment("web", 1))
        await rolled_out(world)
    await world.api().delete_object(DEPLOYMENTS, "default", "web", DeleteOptions(propagation="Orphan"))
    assert (await world.get(DEPLOYMENTS, "web"))["metadata"]["finalizers"] == ["orphan"]
    async with world.cloud():
        await world.until(lambda: is_empty(world, DEPLOYMENTS), "the deployment goes")
        await world.settle(30)
        assert len(await world.all(REPLICASETS)) == len(await world.all(PODS)) == 1


async def is_empty(world: World, resource: Resource) -> bool:
    return not await world.all(resource)


@in_world
async def test_a_kind_without_a_collector_is_deleted_in_every_way(world: World) -> None:
    async with world.cloud():
        await world.join("edge1")
        for propagation in ("Foreground", "Orphan", "Background"):
            lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}, "spec": {}}
            await world.api().create(LEASES, "default", lease)
            _, gone = await world.api().delete_object(LEASES, "default", "l", DeleteOptions(propagation=propagation))
            assert gone


@in_world
async def test_a_node_object_that_is_deleted_comes_back_whole(world: World) -> None:
    """The agent runs on and reports nothing new: what it has said before counts."""
    async with world.cloud():
        agent = await world.join("edge1")
        await world.until(lambda: node_is_ready(world, "edge1"), "Ready")
        await agent.report("nodes/_/edge1", {"status": NODE_STATUS})
        await world.until(lambda: has_version(world), "what the node says of itself")
        before = await world.get(NODES, "edge1")
        await world.api().merge_patch(NODES, "", "edge1", {"metadata": {"labels": {"zone": "old"}}})
        await world.api().delete(NODES, "", "edge1")
        await world.until(lambda: is_another(world, before["metadata"]["uid"]), "another Node")
        await world.until(lambda: node_is_ready(world, "edge1"), "Ready")
        after = await world.get(NODES, "edge1")
        for part in ("capacity", "allocatable", "nodeInfo", "addresses"):
            assert after["status"][part] == before["status"][part] == NODE_STATUS[part]
        assert after["metadata"]["labels"] == before["metadata"]["labels"] and after["spec"] == before["spec"]


NODE_STATUS = {
    "capacity": {"cpu": "4", "memory": "1Gi", "pods": "50"},
    "allocatable": {"cpu": "3", "memory": "900Mi", "pods": "50"},
    "nodeInfo": {"kubeletVersion": "v1.32.0", "operatingSystem": "linux", "architecture": "arm64"},
    "addresses": [{"type": "InternalIP", "address": "192.0.2.7"}],
}


async def node_is_ready(world: World, node: str) -> bool:
    return await world.ready_of(node) == "True"


async def has_version(world: World) -> bool:
    return (await world.get(NODES, "edge1"))["status"].get("capacity") == NODE_STATUS["capacity"]


async def is_another(world: World, uid: str) -> bool:
    try:
        node = await world.get(NODES, "edge1")
    except NotFound:
        return False
    return node["metadata"]["uid"] != uid and bool(node["status"].get("nodeInfo"))


@in_world
async def test_a_taint_evicts_pods_that_do_not_tolerate_it_and_others_in_their_time(world: World) -> None:
    def tolerating(name: str, *tolerations: dict[str, object]) -> dict[str, object]:
        container = {"name": "c", "image": "demo:1"}
        spec = {"nodeName": "edge1", "containers": [container], "tolerations": list(tolerations)}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}

    maintenance = {"key": "maintenance", "operator": "Exists", "effect": "NoExecute"}
    async with world.cloud():
        await world.join("edge1")
        await world.until(lambda: node_is_ready(world, "edge1"), "Ready")
        pods = {
            "plain": tolerating("plain"),
            "stays": tolerating("stays", maintenance),
            "another": tolerating("another", {**maintenance, "key": "other"}),
            "briefly": tolerating("briefly", {**maintenance, "tolerationSeconds": 60}),
            "shortest": tolerating(
                "shortest", {**maintenance, "tolerationSeconds": 60}, {**maintenance, "tolerationSeconds": 20}
            ),
        }
        for pod in pods.values():
            await world.api().create(PODS, "default", pod)

        async def left() -> set[str]:
            return {p["metadata"]["name"] for p in await world.all(PODS) if not p["metadata"].get("deletionTimestamp")}

        async def taint(*taints: dict[str, str]) -> None:
            await world.api().merge_patch(NODES, "", "edge1", {"spec": {"taints": list(taints) or None}})

        await world.settle(5)
        assert await left() == pods.keys()
        await taint({"key": "maintenance", "effect": "NoSchedule"})
        await world.settle(5)
        assert await left() == pods.keys(), "that keeps new pods away, and ends none"
        await taint({"key": "maintenance", "effect": "NoExecute"})
        await world.settle(10)
        assert await left() == {"stays", "briefly", "shortest"}
        assert "TaintManagerEviction" in await world.reasons()
        await world.settle(15)
        assert await left() == {"stays", "briefly"}
        await taint()  # in time
        await world.settle(120)
        assert await left() == {"stays", "briefly"}
        await taint({"key": "maintenance", "effect": "NoExecute"})
        await world.settle(50)
        assert await left() == {"stays", "briefly"}, "its time starts again"
        await world.settle(15)
        assert await left() == {"stays"}
        await world.api().create(PODS, "default", tolerating("late"))
        await world.settle(5)
        assert await left() == {"stays"}, "also a pod that comes while the taint is there"


@in_world
async def test_the_links_of_a_node_are_a_condition_of_its_node_object(world: World) -> None:
    async def kubebus() -> tuple[str, str]:
        found = (await world.get(NODES, "edge1"))["status"].get("conditions", ())
        return next(((c["status"], c["reason"]) for c in found if c["type"] == "KubeBusReady"), ("none", ""))

    async def says(status: str, reason: str) -> None:
        report = {"type": "KubeBusReady", "status": status, "reason": reason, "message": "m"}
        await agent.report("conditions/_/kubebus", report)

    async def is_said(*wanted: str) -> bool:
        return await kubebus() == wanted

    async with world.cloud():
        agent = await world.join("edge1")
        await world.until(lambda: node_is_ready(world, "edge1"), "Ready")
        assert await kubebus() == ("none", "")
        await says("False", "NoLink")
        await world.until(lambda: is_said("False", "NoLink"), "the condition")
        assert await node_is_ready(world, "edge1"), "its pods run"
        await world.settle()
        assert "KubeBusNotReady" in await world.reasons()
        await agent.report(
            "conditions/_/kubebus", {"type": "Ready", "status": "False", "reason": "no word", "message": 1}
        )
        await world.until(lambda: is_said("none", ""), "nonsense is no condition")
        await says("True", "LinkUp")
        await world.until(lambda: is_said("True", "LinkUp"), "the links are back")
        await agent.detach()
        await world.until(lambda: is_said("Unknown", "NodeStatusUnknown"), "nobody knows of a node that is away")
        await agent.attach()
        await world.until(lambda: is_said("True", "LinkUp"), "its word counts again")
        before = await world.get(NODES, "edge1")
        await world.api().delete(NODES, "", "edge1")
        await world.until(lambda: is_another(world, before["metadata"]["uid"]), "another Node")
        await world.until(lambda: is_said("True", "LinkUp"), "with all of its conditions")


SENSORS = Resource("devices.example.com", "v1", "sensors", "Sensor")


@in_world
async def test_a_custom_object_owns_and_is_owned_like_every_other(world: World) -> None:
    """The collector hears of the resource while it runs; when the resource goes, what it owned stays: nobody can say that its owner is gone."""
    served = world.api().served

    async def sensor(name: str) -> Object:
        return await world.api().create(SENSORS, "default", {"metadata": {"name": name}})

    async def owned_by(owner: Object, name: str) -> None:
        reference = {"apiVersion": SENSORS.api_version, "kind": "Sensor", "name": owner["metadata"]["name"]}
        inner = {"name": name, "ownerReferences": [{**reference, "uid": owner["metadata"]["uid"]}]}
        await world.api().create(CONFIGMAPS, "default", {"metadata": inner})

    async with world.cloud():
        served.register(Row(SENSORS, "sensor"))
        await owned_by(await sensor("a"), "of-a")
        await owned_by(await sensor("b"), "of-b")
        await asyncio.sleep(60)
        await world.api().delete(SENSORS, "default", "a")
        await world.until(lambda: is_absent(world, CONFIGMAPS, "of-a"), "the dependent is collected")
        served.remove(SENSORS)
        await asyncio.sleep(60)
        assert (await world.get(CONFIGMAPS, "of-b"))["metadata"]["name"] == "of-b"
        served.register(Row(SENSORS, "sensor"))
        await asyncio.sleep(60)
        assert (await world.get(CONFIGMAPS, "of-b"))["metadata"]["name"] == "of-b", "its owner was there all the time"
        await world.api().unregister(SENSORS)
        await world.until(lambda: is_absent(world, CONFIGMAPS, "of-b"), "the owner went with its resource")


@in_world
async def test_a_namespace_is_emptied_of_custom_objects(world: World) -> None:
    world.api().served.register(Row(SENSORS, "sensor"))
    async with world.cloud():
        await world.api().create(NAMESPACES, "", {"metadata": {"name": "n"}})
        await world.api().create(SENSORS, "n", {"metadata": {"name": "a"}})
        await world.api().delete(NAMESPACES, "", "n")

        async def gone() -> bool:
            return not (await world.api().list(SENSORS, "n")).items and await is_absent(world, NAMESPACES, "n")

        await world.until(gone, "the namespace is gone")
