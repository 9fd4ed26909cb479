"""The harness itself: what tests take for granted of the control plane is so."""

from __future__ import annotations

import json

import pytest

from tests.kit.cluster import KubernetesCluster
from tests.kit.topology import until

pytestmark = pytest.mark.root


def test_a_node_can_do_what_a_kubelet_can_and_no_more(kubernetes: KubernetesCluster) -> None:
    kubelet = kubernetes.kubeconfig("system:node:kubelet1", ["system:nodes"])
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "kubelet1"}}
    kubernetes.kubectl("create", "-f", "-", input=json.dumps(node), user=kubelet)
    until(lambda: bool(kubernetes.json("get", "node", "kubelet1")["spec"].get("podCIDR")), what="a pod CIDR")
    with pytest.raises(RuntimeError, match="is not allowed to modify node"):
        other = {**node, "metadata": {"name": "kubelet2"}}
        kubernetes.kubectl("create", "-f", "-", input=json.dumps(other), user=kubelet)
    with pytest.raises(RuntimeError, match="secrets is forbidden"):
        kubernetes.kubectl("get", "secrets", user=kubelet)
    kubernetes.kubectl("delete", "node", "kubelet1")


def test_rbac_decides_what_a_user_may_do(kubernetes: KubernetesCluster) -> None:
    nobody = kubernetes.kubeconfig("jane", ["developers"])
    with pytest.raises(RuntimeError, match="jane"):
        kubernetes.kubectl("get", "pods", user=nobody)
    kubernetes.kubectl("create", "namespace", "rights")
    kubernetes.kubectl("create", "rolebinding", "view", "-n", "rights", "--clusterrole=view", "--group=developers")

    def allowed() -> bool:
        return (
            kubernetes.kubectl("auth", "can-i", "list", "pods", "-n", "rights", user=nobody, check=False).strip()
            == "yes"
        )

    until(allowed, what="the right to see pods")
    assert kubernetes.kubectl("get", "pods", "-n", "rights", "-o", "name", user=nobody) == ""


def test_the_api_server_comes_back_with_its_objects(kubernetes: KubernetesCluster) -> None:
    kubernetes.kubectl("create", "configmap", "kept", "--from-literal=a=b")
    kubernetes.kill("kube-apiserver")
    with pytest.raises(RuntimeError, match="refused"):
        kubernetes.kubectl("get", "configmap", "kept")
    kubernetes.start_part("kube-apiserver")
    kubernetes.wait()
    assert kubernetes.json("get", "configmap", "kept")["data"] == {"a": "b"}
