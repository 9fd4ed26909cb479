"""What a machine may say of its Node when it joins."""

from __future__ import annotations

from typing import Any

import pytest

from kubeedge.api import node_registration
from kubeedge.api.node_registration import NOTHING, NodeRegistration
from kubeedge.errors import Invalid


def test_labels_and_taints_are_read_as_a_kubelet_reads_them() -> None:
    found = node_registration.parse(
        ["rack=7", "topology.kubernetes.io/zone=hall", "rack=8", "example.com/gpu="],
        ["dedicated=video:NoSchedule", "dedicated=audio:NoSchedule", "slow:PreferNoSchedule"],
    )
    assert found.labels == {"rack": "8", "topology.kubernetes.io/zone": "hall", "example.com/gpu": ""}
    assert found.taints == (
        {"key": "dedicated", "value": "audio", "effect": "NoSchedule"},
        {"key": "slow", "effect": "PreferNoSchedule"},
    )
    assert node_registration.decode(found.encode()) == found
    assert node_registration.decode({}) == NOTHING and not NOTHING and NOTHING.encode() == {}


@pytest.mark.parametrize(
    "key",
    [
        "node-restriction.kubernetes.io/tenant",
        "x.node-restriction.kubernetes.io/a",
        "node-role.kubernetes.io/control-plane",
        "kubernetes.io/x",
        "k8s.io/x",
        "a.k8s.io/x",
        "topology.kubernetes.io/rack",
    ],
)
def test_labels_by_which_others_are_kept_apart_are_not_a_nodes(key: str) -> None:
    with pytest.raises(Invalid, match="not a node's to set"):
        node_registration.parse([f"{key}=a"], [])


@pytest.mark.parametrize(
    "key",
    ["node.kubernetes.io/a", "x.node.kubernetes.io/a", "kubelet.kubernetes.io/a", "kubernetes.io/arch", "notk8s.io/a"],
)
def test_those_of_a_kubelet_are(key: str) -> None:
    assert node_registration.parse([f"{key}=a"], []).labels == {key: "a"}


@pytest.mark.parametrize(
    ("labels", "taints"),
    [
        (["=a"], []),
        (["a=b c"], []),
        (["a/b/c=d"], []),
        ([f"{'a' * 64}=b"], []),
        ([f"a={'b' * 64}"], []),
        ([], ["a"]),
        ([], ["a=b:Never"]),
        ([], [":NoSchedule"]),
        ([], ["a=b c:NoExecute"]),
        ([f"l{n}=a" for n in range(65)], []),
        ([], [f"t{n}:NoExecute" for n in range(33)]),
    ],
)
def test_what_kubernetes_would_refuse_is_refused(labels: list[str], taints: list[str]) -> None:
    with pytest.raises(Invalid):
        node_registration.parse(labels, taints)


@pytest.mark.parametrize(
    "body",
    [
        {"labels": []},
        {"labels": {"a": 1}},
        {"labels": {"a": None}},
        {"labels": {f"l{n}": "" for n in range(65)}},
        {"taints": {}},
        {"taints": ["a:NoExecute"]},
        {"taints": [{"key": "a", "effect": "NoExecute", "timeAdded": "now"}]},
        {"taints": [{"key": "a", "effect": 1}]},
        {"taints": [{"key": "a", "effect": "NoExecute"}] * 2},
        {"taints": [{"effect": "NoExecute"}]},
    ],
)
def test_what_no_machine_of_ours_says_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        node_registration.decode(body)


def test_a_record_without_them_says_nothing() -> None:
    assert NodeRegistration(labels={"a": "b"}).encode() == {"labels": {"a": "b"}}
