"""Mirror pods and CSINodes: what a node may have shown of itself, and what it may not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kubeedge.api.names import NodeName
from kubeedge.api.resources import PODS
from kubeedge.errors import Invalid
from kubeedge_cloud.edgecontroller import csi_nodes
from kubeedge_cloud.edgecontroller.mirror_pods import MAX_PODS, mirror_pod
from kubeedge_cloud.edgecontroller.state import is_mirror, mirrored
from tests.unit.controllers.world import TENANT, World, in_world, template

EDGE = NodeName("edge1")


def reported(**spec: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "web-edge1", "namespace": "default", "labels": {"app": "web"}, "annotations": {"a": "b"},
            "uid": "made-up", "ownerReferences": [{"uid": "made-up"}], "finalizers": ["f"],
        },
        "spec": {"containers": [{"name": "c", "image": "i"}], "nodeName": "other", **spec},
    }  # fmt: skip


def made(wanted: dict[str, Any], name: str = "web-edge1") -> dict[str, Any]:
    return mirror_pod(wanted, "default", name, EDGE, "node-uid", "u1")


def test_a_mirror_is_what_node_restriction_lets_a_node_create() -> None:
    mirror = made(reported())
    assert set(mirror["metadata"]) == {"name", "namespace", "labels", "annotations", "ownerReferences"}
    assert mirror["metadata"]["ownerReferences"] == [
        {"apiVersion": "v1", "kind": "Node", "name": "edge1", "uid": "node-uid", "controller": True}
    ]
    assert mirror["spec"]["nodeName"] == "edge1" and is_mirror(mirror) and mirrored(mirror) == "u1"
    assert mirror["metadata"]["annotations"]["a"] == "b"
    assert not is_mirror(reported()) and mirrored(reported()) == ""


@pytest.mark.parametrize(
    "spec",
    [
        {"volumes": [{"name": "v", "secret": {"secretName": "s"}}]},
        {"volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "s"}}]}}]},
        {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]},
        {"containers": [{"name": "c", "envFrom": [{"secretRef": {"name": "s"}}]}]},
        {"initContainers": [{"name": "c", "env": [{"valueFrom": {"configMapKeyRef": {"name": "s"}}}]}]},
        {"serviceAccountName": "admin"},
        {"imagePullSecrets": [{"name": "s"}]},
    ],
)
def test_a_node_cannot_reach_an_object_by_a_mirror(spec: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match="cannot refer to an object of the API"):
        made(reported(**spec))


def test_words_that_are_labels_refer_to_nothing() -> None:
    made(reported(nodeSelector={"secret": "yes"}))
    with pytest.raises(Invalid):
        made({"metadata": {"name": "x"}, "spec": []})
    with pytest.raises(Invalid, match="name of its node"):
        made(reported(), "database")


def test_a_csinode_says_what_the_node_has_reported() -> None:
    driver = {"name": "b", "nodeID": "n", "topologyKeys": ["z/a"], "allocatable": {"count": 3}, "more": 1}
    found = csi_nodes.drivers({"drivers": [driver, {"name": "a", "nodeID": "n", "topologyKeys": []}]})
    assert found == [
        {"name": "a", "nodeID": "n", "topologyKeys": None},
        {"name": "b", "nodeID": "n", "topologyKeys": ["z/a"], "allocatable": {"count": 3}},
    ]
    assert csi_nodes.topology({"topology": {"z/a": "1"}}) == {"z/a": "1"}


@pytest.mark.parametrize(
    "report",
    [
        {}, {"drivers": {}}, {"drivers": [1]}, {"drivers": [{}]}, {"drivers": [{"name": "a", "nodeID": ""}]},
        {"drivers": [{"name": "a" * 300, "nodeID": "n"}]}, {"drivers": [{"name": "a", "nodeID": "n", "topologyKeys": "x"}]},
        {"drivers": [{"name": "a", "nodeID": "n", "allocatable": {"count": "7"}}]},
        {"drivers": [{"name": str(n), "nodeID": "n"} for n in range(33)]},
    ],
)  # fmt: skip
def test_what_no_csinode_can_say_is_refused(report: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        csi_nodes.drivers(report)


async def shown(world: World) -> dict[str, str]:
    """Mirror pods by name, with what they show."""
    return {pod["metadata"]["name"]: mirrored(pod) for pod in await world.all(PODS) if is_mirror(pod)}


@in_world
async def test_the_api_shows_static_pods_for_as_long_as_their_node_has_them(world: World) -> None:
    async with world.cloud():
        agent = await world.join("edge1")
        row = {"uid": "u1", "status": {"phase": "Running", "podIP": "10.244.1.9"}, "mirror": reported()}
        await agent.report("pods/default/web-edge1", row)

        async def is_shown() -> bool:
            return await shown(world) == {"web-edge1": "u1"}

        await world.until(is_shown, "the mirror")
        await world.settle()
        pod = await world.get(PODS, "web-edge1")
        assert pod["status"]["podIP"] == "10.244.1.9" and pod["spec"]["nodeName"] == "edge1"
        assert not [key for key in await world.desired("edge1") if key.startswith("pods/")]  # it is not sent back
        await world.api().delete(PODS, "default", "web-edge1")

        async def is_another() -> bool:
            found = [p for p in await world.all(PODS) if p["metadata"]["uid"] != pod["metadata"]["uid"]]
            return bool(found) and found[0].get("status", {}).get("podIP") == "10.244.1.9"

        await world.until(is_another, "another mirror of the same pod")
        await agent.report("pods/default/web-edge1", {**row, "uid": "u2"})

        async def is_changed() -> bool:
            return await shown(world) == {"web-edge1": "u2"}

        await world.until(is_changed, "the mirror of another file")
        await world.store.delete(f"/t/{TENANT}/edge/edge1/reported/pods/default/web-edge1")

        async def is_gone() -> bool:
            return await shown(world) == {}

        await world.until(is_gone, "no mirror")


@in_world
async def test_a_node_shows_no_more_than_its_own_and_takes_no_name(world: World) -> None:
    async with world.cloud():
        agent, other = await world.join("edge1"), await world.join("edge2")
        theirs = {"metadata": {"name": "web-edge1"}, "spec": {**template("web")["spec"], "nodeName": "edge2"}}
        await world.api().create(PODS, "default", theirs)
        row = {"uid": "u1", "status": {"phase": "Running"}, "mirror": reported()}
        await agent.report("pods/default/web-edge1", row)
        for number in range(70):
            inner = json.loads(json.dumps(reported()))
            inner["metadata"]["name"] = f"web{number}-edge1"
            await agent.report(f"pods/default/web{number}-edge1", {**row, "mirror": inner})
        lies = {"metadata": {"name": "lies", "namespace": "kube-system"}, "spec": reported()["spec"]}
        await other.report("pods/default/lies", {**row, "mirror": lies})
        await world.settle(120)
        found = await world.all(PODS)
        assert len([pod for pod in found if is_mirror(pod)]) == MAX_PODS
        assert not is_mirror(next(pod for pod in found if pod["metadata"]["name"] == "web-edge1"))
        assert not [pod for pod in found if pod["metadata"]["name"] == "lies"]
