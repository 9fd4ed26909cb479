"""`kubectl apply --server-side`: fields have owners, and a second manager hears of a conflict."""

from __future__ import annotations

import json
from typing import Any

from kubeedge.api.resources import PODS, SERVICEACCOUNTS
from tests.kubectl.conftest import Cluster, Kubectl


def manifest(replicas: int | None = 2, **annotations: str) -> str:
    spec: dict[str, Any] = {
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "image": "busybox:1", "ports": [{"containerPort": 80}]}]},
        },
    }
    if replicas is not None:
        spec["replicas"] = replicas
    metadata = {"name": "web", "annotations": annotations} if annotations else {"name": "web"}
    return json.dumps({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec})


def owners(kubectl: Kubectl, namespace: str) -> dict[str, Any]:
    found = json.loads(kubectl("get", "--raw", f"/apis/apps/v1/namespaces/{namespace}/deployments/web"))
    return {e["manager"]: e["fieldsV1"] for e in found["metadata"]["managedFields"]}


def apply(kubectl: Kubectl, namespace: str, text: str, manager: str, *more: str) -> str:
    return kubectl(
        "apply", "--server-side", f"--field-manager={manager}", *more, "-n", namespace, "-f", "-", stdin=text
    )


def replicas(kubectl: Kubectl, namespace: str) -> str:
    return kubectl("get", "deploy", "web", "-n", namespace, "-o", "go-template={{.spec.replicas}}")


def test_a_second_manager_hears_of_a_conflict(kubectl: Kubectl, namespace: str) -> None:
    assert "serverside-applied" in apply(kubectl, namespace, manifest(2), "ci")
    refused = kubectl.fails(
        "apply", "--server-side", "--field-manager=people", "-n", namespace, "-f", "-", stdin=manifest(5)
    )
    assert "conflict with" in refused and '"ci"' in refused and ".spec.replicas" in refused
    assert replicas(kubectl, namespace) == "2"
    apply(kubectl, namespace, manifest(5), "people", "--force-conflicts")
    assert replicas(kubectl, namespace) == "5"
    assert "f:replicas" not in owners(kubectl, namespace)["ci"]["f:spec"]


def test_what_a_manager_does_not_name_any_more_goes(kubectl: Kubectl, namespace: str) -> None:
    apply(kubectl, namespace, manifest(a="1", b="2"), "ci")
    apply(kubectl, namespace, manifest(a="1"), "ci")
    found = json.loads(kubectl("get", "deploy", "web", "-n", namespace, "-o", "json"))
    assert found["metadata"]["annotations"] == {"a": "1"}


def test_scaling_takes_the_field_from_who_applied_it(kubectl: Kubectl, namespace: str) -> None:
    apply(kubectl, namespace, manifest(2), "ci")
    kubectl("scale", "deploy/web", "--replicas=7", "-n", namespace)
    assert "conflict" in kubectl.fails(
        "apply", "--server-side", "--field-manager=ci", "-n", namespace, "-f", "-", stdin=manifest(2)
    )
    apply(kubectl, namespace, manifest(None), "ci")
    assert replicas(kubectl, namespace) == "7"


def test_a_plain_apply_becomes_a_server_side_one(kubectl: Kubectl, namespace: str) -> None:
    kubectl("apply", "-n", namespace, "-f", "-", stdin=manifest(2))
    apply(kubectl, namespace, manifest(2), "kubectl")
    assert "kubectl" in owners(kubectl, namespace)


def test_a_pod_that_was_applied_plainly_and_bound_is_applied_on_the_server(
    kubectl: Kubectl, cluster: Cluster, namespace: str
) -> None:
    """kubectl takes over what it had applied itself: neither the node nor what the admission has added, which no update may take away."""
    pod = """
apiVersion: v1
kind: Pod
metadata: {name: p, labels: {colour: COLOUR}}
spec: {containers: [{name: main, image: "busybox:1", command: [sleep, "1"]}]}
"""
    cluster.call(cluster.registry.create(SERVICEACCOUNTS, namespace, {"metadata": {"name": "default"}}))
    kubectl("apply", "-n", namespace, "-f", "-", stdin=pod)
    cluster.call(cluster.registry.bind(namespace, "p", "edge1"))
    before = cluster.call(cluster.registry.get(PODS, namespace, "p"))
    assert before["spec"]["nodeName"] == "edge1" and before["spec"]["volumes"]
    for colour in ("COLOUR", "blue", "green"):
        kubectl("apply", "--server-side", "-n", namespace, "-f", "-", stdin=pod.replace("COLOUR", colour))
        after = cluster.call(cluster.registry.get(PODS, namespace, "p"))
        assert after["spec"] == before["spec"] and after["metadata"]["labels"] == {"colour": colour}
