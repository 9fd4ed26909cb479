"""Mirror pods and CSINodes: what a node may have shown of itself, and what it may not."""

from __future__ import annotations

from typing import Any

import pytest

from kubeedge.api.names import NodeName
from kubeedge.errors import Invalid
from kubeedge_cloud.edgecontroller import csi_nodes
from kubeedge_cloud.edgecontroller.mirror_pods import mirror_pod
from kubeedge_cloud.edgecontroller.state import is_mirror, mirrored

EDGE = NodeName("edge1")


def reported(**spec: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "web-edge1", "namespace": "default", "labels": {"app": "web"}, "annotations": {"a": "b"},
            "uid": "made-up", "ownerReferences": [{"uid": "made-up"}], "finalizers": ["f"],
        },
        "spec": {"containers": [{"name": "c", "image": "i"}], "nodeName": "other", **spec},
    }  # fmt: skip


def test_a_mirror_is_what_node_restriction_lets_a_node_create() -> None:
    made = mirror_pod(reported(), EDGE, "node-uid", "u1")
    assert set(made["metadata"]) == {"name", "namespace", "labels", "annotations", "ownerReferences"}
    assert made["metadata"]["ownerReferences"] == [
        {"apiVersion": "v1", "kind": "Node", "name": "edge1", "uid": "node-uid", "controller": True}
    ]
    assert made["spec"]["nodeName"] == "edge1" and is_mirror(made) and mirrored(made) == "u1"
    assert made["metadata"]["annotations"]["a"] == "b"
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
        mirror_pod(reported(**spec), EDGE, "node-uid", "u1")


def test_words_that_are_labels_refer_to_nothing() -> None:
    mirror_pod(reported(nodeSelector={"secret": "yes"}), EDGE, "node-uid", "u1")
    with pytest.raises(Invalid):
        mirror_pod({"metadata": {"name": "x"}, "spec": []}, EDGE, "node-uid", "u1")


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
