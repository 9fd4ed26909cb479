"""Which node for a pod: tables of pods and nodes."""

from __future__ import annotations

import time
from typing import Any

import pytest

from kubeedge.api.names import Object
from kubeedge_cloud.controllers.scheduler.core import Placed, SchedulerCache, Unschedulable, ports_of, requests_of
from kubeedge_cloud.controllers.scheduler.fit import fits_labels, tolerates, untolerated


def node(
    name: str, *, cpu: str = "2", memory: str = "2Gi", pods: str = "10", ready: bool = True, **more: Any
) -> Object:
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **more.pop("labels", {})}},
        "spec": more,
        "status": {
            "allocatable": {"cpu": cpu, "memory": memory, "pods": pods},
            "conditions": [{"type": "Ready", "status": "True" if ready else "Unknown"}],
        },
    }


def pod(name: str = "p", *, on: str = "", cpu: str = "", memory: str = "", owner: str = "", **more: Any) -> Object:
    requests = {key: value for key, value in (("cpu", cpu), ("memory", memory)) if value}
    container: Object = {"name": "c", "image": "x", "resources": {"requests": requests}}
    if "port" in more:
        container["ports"] = [{"containerPort": 80, "hostPort": more.pop("port")}]
    labels = more.pop("labels", {})
    spec: Object = {"containers": [container], **more}
    if on:
        spec["nodeName"] = on
    references = [{"uid": owner, "controller": True}] if owner else []
    inner = {"name": name, "namespace": "n", "uid": name, "labels": labels, "ownerReferences": references}
    return {"metadata": inner, "spec": spec}


def cluster(*objects: Object) -> SchedulerCache:
    nodes = SchedulerCache()
    for obj in objects:
        if "containers" in obj["spec"]:
            nodes.set_pod(obj)
        else:
            nodes.set_node(obj)
    return nodes


TAINT = {"key": "camera", "value": "yes", "effect": "NoSchedule"}


def affinity(kind: str = "podAntiAffinity", **labels: str) -> Object:
    term = {"labelSelector": {"matchLabels": labels}, "topologyKey": "kubernetes.io/hostname"}
    return {"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}


@pytest.mark.parametrize(
    ("nodes", "wanted", "message"),
    [
        ([], pod(), "no nodes available to schedule pods"),
        (
            [node("a", unschedulable=True), node("b", ready=False)],
            pod(),
            "0/2 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/unreachable: }, "
            "1 node(s) were unschedulable.",
        ),
        (
            [node("a", taints=[TAINT])],
            pod(),
            "0/1 nodes are available: 1 node(s) had untolerated taint {camera: yes}.",
        ),
        (
            [node("a"), node("b")],
            pod(nodeSelector={"kind": "camera"}),
            "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.",
        ),
        (
            [node("a", cpu="1"), node("b", cpu="1", memory="1Mi")],
            pod(cpu="1500m", memory="64Mi"),
            "0/2 nodes are available: 1 Insufficient memory, 2 Insufficient cpu.",
        ),
        ([node("a", pods="0")], pod(), "0/1 nodes are available: 1 Too many pods."),
        (
            [node("a"), pod("other", on="a", port=8080)],
            pod(port=8080),
            "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.",
        ),
        (
            [node("a"), pod("other", on="a", labels={"app": "web"})],
            pod(labels={"app": "web"}, **affinity(app="web")),
            "0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules.",
        ),
        (
            [node("a"), pod("other", on="a", **affinity(app="web"))],
            pod(labels={"app": "web"}),
            "0/1 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules.",
        ),
        (
            [node("a")],
            pod(**affinity("podAffinity", app="cache")),
            "0/1 nodes are available: 1 node(s) didn't match pod affinity rules.",
        ),
    ],
)
def test_why_not(nodes: list[Object], wanted: Object, message: str) -> None:
    assert cluster(*nodes).schedule(wanted) == Unschedulable(message)


@pytest.mark.parametrize(
    ("nodes", "wanted", "chosen"),
    [
        ([node("a"), node("b")], pod(), "a"),
        ([node("a"), node("b"), pod("other", on="a")], pod(), "b"),
        ([node("a"), node("b", cpu="8", memory="8Gi")], pod(cpu="1"), "b"),
        ([node("a"), node("b", cpu="1"), pod("o", on="a", owner="rs")], pod(owner="rs"), "b"),
        ([node("a", taints=[{**TAINT, "effect": "PreferNoSchedule"}]), node("b", cpu="1")], pod(), "b"),
        ([node("a", taints=[TAINT]), node("b", unschedulable=True)], pod(tolerations=[{"operator": "Exists"}]), "a"),
        ([node("a"), node("b", labels={"kind": "camera"})], pod(nodeSelector={"kind": "camera"}), "b"),
        ([node("a"), node("b"), pod("o", on="a", port=80)], pod(port=80), "b"),
        ([node("a"), node("b"), pod("o", on="b", labels={"app": "x"})], pod(**affinity("podAffinity", app="x")), "b"),
        ([node("a")], pod(labels={"app": "x"}, **affinity("podAffinity", app="x")), "a"),
        ([node("a"), pod("o", on="a", cpu="2", memory="1Gi", phase="x")], pod(), "a"),
    ],
)
def test_which(nodes: list[Object], wanted: Object, chosen: str) -> None:
    assert cluster(*nodes).schedule(wanted) == Placed(chosen)


def test_what_pods_take_is_given_back_when_they_end_or_go() -> None:
    nodes = cluster(node("a", cpu="1"))
    for number in range(3):
        taking = pod(f"p{number}", on="a", cpu="1")
        nodes.set_pod(taking)
        nodes.set_pod(taking)  # the same pod again takes nothing more
        assert isinstance(nodes.schedule(pod(cpu="1")), Unschedulable)
        if number:
            nodes.remove_pod(f"p{number}")
        else:
            nodes.set_pod({**taking, "status": {"phase": "Succeeded"}})
        assert nodes.schedule(pod(cpu="1")) == Placed("a")


def test_pods_that_are_known_before_their_node_count_too() -> None:
    nodes = cluster(pod("first", on="a", cpu="2"), node("a"))
    assert isinstance(nodes.schedule(pod(cpu="1")), Unschedulable)
    nodes.remove_node("a")
    nodes.set_node(node("a"))
    assert isinstance(nodes.schedule(pod(cpu="1")), Unschedulable)


def test_requests_are_the_sum_or_the_largest_init_container() -> None:
    spec = {
        "containers": [{"resources": {"requests": {"cpu": "100m", "memory": "1Mi"}}}] * 2,
        "initContainers": [{"resources": {"requests": {"cpu": "50m", "memory": "5Mi"}}}],
    }
    assert requests_of(spec) == {"cpu": 200, "memory": 5 * 1024 * 1024}


def test_what_a_pod_asks_for_as_a_whole_counts_and_not_its_containers() -> None:
    containers = [{"resources": {"requests": {"cpu": "100m", "memory": "1Mi"}}}]
    spec = {"containers": containers, "resources": {"requests": {"cpu": "2"}}, "overhead": {"cpu": "10m"}}
    assert requests_of(spec) == {"cpu": 2010, "memory": 1024 * 1024}


def test_sidecars_count_beside_the_others_and_beside_the_init_containers_after_them() -> None:
    def of(cpu: str, **fields: str) -> dict[str, Any]:
        return {"resources": {"requests": {"cpu": cpu}}, **fields}

    side = of("100m", restartPolicy="Always")
    assert requests_of({"containers": [of("200m")], "initContainers": [of("250m"), side]}) == {"cpu": 300}
    assert requests_of({"containers": [of("200m")], "initContainers": [side, of("250m")]}) == {"cpu": 350}
    port = {"ports": [{"containerPort": 80, "hostPort": 80}]}
    assert ports_of({"initContainers": [{**port, "restartPolicy": "Always"}]}) == {("TCP", "0.0.0.0", 80)}
    assert ports_of({"initContainers": [port]}) == frozenset()


@pytest.mark.parametrize(
    ("operator", "values", "fits"),
    [
        ("In", ["a", "c"], True),
        ("In", ["b"], False),
        ("NotIn", ["b"], True),
        ("Exists", [], True),
        ("DoesNotExist", [], False),
        ("Near", ["a"], False),
    ],
)
def test_node_affinity_has_the_operators_of_kubernetes(operator: str, values: list[str], fits: bool) -> None:
    term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": operator, "values": values}]}
    required = {"nodeSelectorTerms": [{}, term]}  # an empty term matches nothing, and any one of them is enough
    spec = {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}}
    assert fits_labels(spec, node("a")) is fits


@pytest.mark.parametrize(
    ("toleration", "expected"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "camera", "operator": "Exists"}, True),
        ({"key": "camera", "operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "camera", "value": "yes"}, True),
        ({"key": "camera", "operator": "Equal", "value": "no"}, False),
        ({"key": "other", "operator": "Exists"}, False),
    ],
)
def test_tolerations(toleration: Object, expected: bool) -> None:
    assert tolerates(toleration, TAINT) is expected
    assert (untolerated([toleration], [TAINT], ("NoSchedule",)) is None) is expected


def test_a_decision_in_a_full_tenant_takes_milliseconds() -> None:
    nodes = cluster(*(node(f"edge{n}", pods="110") for n in range(255)))
    for number in range(5000):
        nodes.set_pod(pod(f"p{number}", on=f"edge{number % 255}", cpu="1m"))
    begun = time.perf_counter()
    for _ in range(10):
        assert isinstance(nodes.schedule(pod(cpu="10m")), Placed)
    assert (time.perf_counter() - begun) / 10 < 0.1  # about 3 ms; the bound only notices another order of magnitude
