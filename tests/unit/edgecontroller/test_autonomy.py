"""Pods that go on at the edge while their node is away, in a cluster that is a user's own; and what a node is registered with."""

from __future__ import annotations

from typing import Any

import pytest

from kubeedge.api.node_registration import NodeRegistration
from kubeedge.api.resources import EVENTS, NODES, PODS
from kubeedge.api.status import Forbidden
from kubeedge_cloud.edgecontroller import tolerations
from kubeedge_cloud.edgecontroller.tolerations import AUTONOMY, LABEL
from tests.unit.controllers.world import TENANT, template
from tests.unit.edgecontroller.test_cluster import EDGE1, ClusterWorld, in_cluster

NOT_READY, UNREACHABLE = "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"


def default(key: str, seconds: int | None = 300) -> dict[str, Any]:
    """As Kubernetes' admission gives it to each pod."""
    end = {} if seconds is None else {"tolerationSeconds": seconds}
    return {"key": key, "operator": "Exists", "effect": "NoExecute", **end}


ENDLESS = [default(NOT_READY, None), default(UNREACHABLE, None)]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], ENDLESS),
        ([default(NOT_READY), default(UNREACHABLE)], ENDLESS),
        (ENDLESS, None),
        ([{"operator": "Exists"}], None),
        (
            [{"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 9}],
            [{"operator": "Exists", "effect": "NoExecute"}],
        ),
        ([{"key": UNREACHABLE, "value": "x", "effect": "NoExecute"}, *ENDLESS], None),
        ([{"key": UNREACHABLE, "effect": "NoSchedule"}, *ENDLESS], None),
        (
            [{"key": UNREACHABLE, "effect": "NoExecute", "tolerationSeconds": 0}, default("other", 5)],
            [{"key": UNREACHABLE, "effect": "NoExecute"}, default("other", 5), default(NOT_READY, None)],
        ),
    ],
)
def test_tolerations_are_without_an_end_and_the_others_stay(before: list[Any], after: list[Any] | None) -> None:
    """kube-apiserver lets tolerations be added, and their tolerationSeconds be changed: nothing else."""
    assert tolerations.without_end(before) == after
    if after is not None:
        assert tolerations.without_end(after) is None
        kept = [{k: v for k, v in t.items() if k != "tolerationSeconds"} for t in before]
        assert [{k: v for k, v in t.items() if k != "tolerationSeconds"} for t in after][: len(before)] == kept


async def pod(world: ClusterWorld, name: str, **labels: str) -> None:
    spec = {**template(name)["spec"], "nodeName": "edge1", "tolerations": [default(NOT_READY), default(UNREACHABLE)]}
    await world.cluster.registry.create(PODS, "default", {"metadata": {"name": name, "labels": labels}, "spec": spec})


async def ends(world: ClusterWorld, name: str) -> list[int | None]:
    found = await world.get(PODS, name, "default")
    return [toleration.get("tolerationSeconds") for toleration in found["spec"]["tolerations"]]


@in_cluster
async def test_a_pod_that_is_labelled_is_never_evicted_from_a_node_that_is_away(world: ClusterWorld) -> None:
    async with world.cloud():
        await world.join("edge1")
        await world.settle(2)
        await pod(world, "stays", **{LABEL: AUTONOMY})
        await pod(world, "goes")
        await pod(world, "other", **{LABEL: "never"})
        await world.settle(2)
        assert await ends(world, "stays") == [None, None]
        assert await ends(world, "goes") == await ends(world, "other") == [300, 300]
        await world.cluster.registry.merge_patch(NODES, "", "edge1", {"metadata": {"labels": {LABEL: AUTONOMY}}})
        await world.settle(2)
        assert await ends(world, "goes") == await ends(world, "other") == [None, None]
        patches = [asked for asked in world.cluster.asked if asked[1] == "patch" and asked[2] == "pods"]
        assert patches.count(("", "patch", "pods", "stays")) == 1  # and not again


@in_cluster
async def test_without_the_right_the_pod_says_so_and_nothing_is_asked_in_a_hurry(world: ClusterWorld) -> None:
    allowed = False
    check = world.cluster.check

    async def strict(who: str, verb: str, resource: Any, namespace: str, name: str) -> None:
        await check(who, verb, resource, namespace, name)
        if not who and verb == "patch" and resource == PODS and not allowed:
            raise Forbidden("pods is forbidden")

    world.cluster.check = strict  # type: ignore[method-assign]
    async with world.cloud():
        await world.join("edge1")
        await world.settle(2)
        await pod(world, "stays", **{LABEL: AUTONOMY})
        await world.settle(60)
        assert await ends(world, "stays") == [300, 300]
        events = (await world.cluster.registry.list(EVENTS, "default")).items
        (said,) = [event for event in events if event["reason"] == "TolerationsNotSet"]
        assert said["involvedObject"]["name"] == "stays" and "may not patch pods" in said["message"]
        assert sum(1 for asked in world.cluster.asked if asked == ("", "patch", "pods", "stays")) == 1
        allowed = True
        await world.settle(300)
        assert await ends(world, "stays") == [None, None]


@in_cluster
async def test_a_node_is_made_with_the_labels_and_taints_of_its_machine_and_is_the_clusters_then(
    world: ClusterWorld,
) -> None:
    said = NodeRegistration({"rack": "7"}, ({"key": "new", "effect": "NoSchedule"},))
    async with world.cloud():
        await world.tenants.ensure_node(TENANT, EDGE1, "", said)
        await world.join("edge1")
        await world.settle(2)
        node = await world.get(NODES, "edge1")
        assert node["metadata"]["labels"]["rack"] == "7" and node["spec"]["taints"] == [dict(said.taints[0])]
        assert node["metadata"]["labels"]["node.kubernetes.io/edge"] == ""
        patch = {"metadata": {"labels": {"rack": None}}, "spec": {"taints": None}}
        await world.cluster.registry.merge_patch(NODES, "", "edge1", patch)
        again = NodeRegistration({"rack": "8"})
        record = await world.tenants.ensure_node(TENANT, EDGE1, "", again)
        assert record.registration == again
        await world.settle(30)
        node = await world.get(NODES, "edge1")
        assert "rack" not in node["metadata"]["labels"] and not node["spec"].get("taints")


@in_cluster
async def test_a_kubeconfig_of_another_cluster_removes_no_node(world: ClusterWorld) -> None:
    """It was set wrong, and all Nodes seem to be deleted."""
    cluster = "one"

    async def identity(client: object) -> str:
        return cluster

    with pytest.MonkeyPatch.context() as patched:
        for module in ("node_registration", "cluster_nodes"):
            patched.setattr(f"kubeedge_cloud.edgecontroller.{module}.identity_of", identity)
        async with world.cloud():
            await world.join("edge1")
            await world.settle(2)
            record = await world.tenants.node(TENANT, EDGE1)
            assert record is not None and record.cluster == "one"
            cluster = "two"
            await world.cluster.registry.delete(NODES, "", "edge1")
            await world.settle(60)
            assert await world.tenants.node(TENANT, EDGE1) == record
            cluster = "one"
            await world.settle(60)  # it is looked at again
            assert await world.tenants.node(TENANT, EDGE1) is None
