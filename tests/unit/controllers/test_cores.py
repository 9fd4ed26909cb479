"""ReplicaSets, DaemonSets, Endpoints and the garbage collector's graph: tables of situations."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.api import meta, patch
from kubeedge.api.names import Object
from kubeedge.api.resources import DEPLOYMENTS, PODS, REPLICASETS
from kubeedge_cloud.controllers import objects
from kubeedge_cloud.controllers.daemonset import core as daemonsets
from kubeedge_cloud.controllers.endpoints.core import subsets
from kubeedge_cloud.controllers.gc.core import FOREGROUND, Graph, Owned
from kubeedge_cloud.controllers.replicaset import core as replicasets

NOON = 1_790_000_000.0
NOON_TEXT = "2026-09-21T14:13:20Z"


def pod(name: str, *, ready: bool = True, node: str = "edge1", phase: str = "Running", **more: Any) -> Object:
    inner = {"name": name, "namespace": "n", "uid": name, "creationTimestamp": NOON_TEXT, **more}
    condition = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": NOON_TEXT}
    return {
        "metadata": inner,
        "spec": {"nodeName": node, "containers": []},
        "status": {"phase": phase, "conditions": [condition], "podIP": f"10.244.1.{len(name)}"},
    }


def replicaset(replicas: int, **spec: Any) -> Object:
    return {
        "metadata": {"name": "rs", "namespace": "n", "uid": "rs", "generation": 3},
        "spec": {"replicas": replicas, "template": {"metadata": {"labels": {}}}, **spec},
        "status": {},
    }


# ReplicaSets


@pytest.mark.parametrize(
    ("wanted", "found", "expected_deletions", "create", "delete"),
    [
        (2, [], (), 2, []),
        (1000, [], (), replicasets.BURST, []),
        (1, [pod("a")], (), 0, []),
        (1, [pod("a", deletionTimestamp="x")], (), 1, []),
        (1, [pod("a", phase="Succeeded")], (), 1, []),
        (1, [pod("a")], ("a",), 1, []),
        (1, [pod("a"), pod("b", ready=False)], (), 0, ["b"]),
        (1, [pod("a"), pod("b", node=""), pod("c", phase="Pending")], (), 0, ["b", "c"]),
        (0, [pod("a"), pod("b")], ("a",), 0, ["b"]),
    ],
)
def test_a_replicaset_makes_and_deletes_what_is_missing_and_too_much(
    wanted: int, found: list[Object], expected_deletions: tuple[str, ...], create: int, delete: list[str]
) -> None:
    plan = replicasets.plan(replicaset(wanted), found, expected_deletions, NOON + 100)
    assert (plan.create, [p["metadata"]["name"] for p in plan.delete]) == (create, delete)


def test_each_failed_pod_doubles_the_wait_for_the_next() -> None:
    for number, pause in ((1, 1.0), (2, 2.0), (4, 8.0), (8, 128.0)):
        failed = [pod(f"p{n}", phase="Failed") for n in range(number)]
        assert replicasets.plan(replicaset(1), failed, (), NOON + pause - 0.5) == replicasets.ReplicaSetPlan(0, (), 0.5)
        assert replicasets.plan(replicaset(1), failed, (), NOON + pause).create == 1
    failed = [pod(f"p{n:02}", phase="Failed") for n in range(11)]
    assert [p["metadata"]["name"] for p in replicasets.plan(replicaset(1), failed, (), NOON).delete] == [
        "p00", "p01", "p02"
    ]  # fmt: skip


def test_a_pod_is_available_once_it_was_ready_long_enough() -> None:
    status, later = replicasets.status(
        replicaset(2, minReadySeconds=10), [pod("a"), pod("b", ready=False)], (), NOON + 4
    )
    assert (status["readyReplicas"], status.get("availableReplicas"), later) == (1, None, 6.0)
    status, later = replicasets.status(replicaset(2, minReadySeconds=10), [pod("a")], (), NOON + 10)
    assert (status["availableReplicas"], later, status["observedGeneration"]) == (1, None, 3)


def test_nobody_waits_for_the_end_of_a_time_that_begins_in_ten_years() -> None:
    """The stamps of a node whose clock is ahead, or of our own time before our clock was set back."""
    now = NOON - 10 * 365 * 86400
    status, later = replicasets.status(replicaset(1, minReadySeconds=10), [pod("a")], (), now)
    assert (status["availableReplicas"], later) == (1, None)
    assert replicasets.plan(replicaset(1), [pod("p", phase="Failed")], (), now).create == 1
    plan = daemonsets.plan(daemonset(), [daemon("x", "a", phase="Failed")], [node("a")], (), now)
    assert names(plan) == (["a"], ["x"])
    # what fails now is stamped now: there is a pause again
    fresh = pod("q", phase="Failed", creationTimestamp=meta.timestamp(now))
    assert replicasets.plan(
        replicaset(1), [fresh, pod("p", phase="Failed")], (), now + 1
    ) == replicasets.ReplicaSetPlan(0, (), 1.0)
    # a clock that is a little ahead is nothing strange
    assert replicasets.status(replicaset(1, minReadySeconds=10), [pod("a")], (), NOON - 3)[1] == 13.0


# DaemonSets


def daemonset(image: str = "a", **more: Any) -> Object:
    spec = {"containers": [{"image": image}], **more.pop("pod", {})}
    return {
        "metadata": {"name": "ds", "namespace": "n", "uid": "ds", "generation": 1},
        "spec": {"template": {"metadata": {"labels": {}}, "spec": spec}, **more},
        "status": {},
    }


def daemon(name: str, node: str, image: str = "a", **more: Any) -> Object:
    labels = {daemonsets.REVISION: daemonsets.revision_of(daemonset(image))}
    return pod(name, node=node, labels=labels, **more)


def node(name: str, *taints: Object, **labels: str) -> Object:
    return {"metadata": {"name": name, "labels": labels}, "spec": {"taints": list(taints)}}


UNREACHABLE = {"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule"}
GONE_BAD = {"key": "broken", "effect": "NoExecute"}


def names(plan: daemonsets.DaemonSetPlan) -> tuple[list[str], list[str]]:
    return list(plan.create), [p["metadata"]["name"] for p in plan.delete]


@pytest.mark.parametrize(
    ("nodes", "pods", "expected"),
    [
        ([node("a"), node("b")], [daemon("x", "a")], (["b"], [])),
        ([node("a", UNREACHABLE)], [], ([], [])),  # nobody can start it there
        ([node("a", UNREACHABLE)], [daemon("x", "a")], ([], [])),  # and nobody takes it away
        ([node("a", GONE_BAD)], [daemon("x", "a")], ([], ["x"])),
        ([], [daemon("x", "a")], ([], ["x"])),
        ([node("a")], [daemon("x", "a", deletionTimestamp="x")], ([], [])),  # its place is not free yet
        ([node("a")], [daemon("x", "a"), daemon("y", "a")], ([], ["y"])),
        ([node("a")], [daemon("x", "a", phase="Failed")], (["a"], ["x"])),
    ],
)
def test_a_daemon_is_on_every_node_that_fits(
    nodes: list[Object], pods: list[Object], expected: tuple[list[str], list[str]]
) -> None:
    assert names(daemonsets.plan(daemonset(), pods, nodes, (), NOON + 100)) == expected


def test_a_daemon_that_just_failed_is_not_replaced_at_once() -> None:
    plan = daemonsets.plan(daemonset(), [daemon("x", "a", phase="Failed")], [node("a")], (), NOON + 4)
    assert names(plan) == ([], []) and plan.again_in == 6.0


def test_daemons_are_replaced_one_after_the_other_but_unhealthy_ones_at_once() -> None:
    nodes = [node(n) for n in "abc"]
    old = [daemon("x", "a"), daemon("y", "b"), daemon("z", "c")]
    assert names(daemonsets.plan(daemonset("b"), old, nodes, (), NOON)) == ([], ["x"])
    one_new = [daemon("x", "a", "b", ready=False), *old[1:]]
    assert names(daemonsets.plan(daemonset("b"), one_new, nodes, (), NOON)) == ([], [])
    sick = [old[0], daemon("y", "b", ready=False), daemon("z", "c", ready=False)]
    assert names(daemonsets.plan(daemonset("b"), sick, nodes, (), NOON)) == ([], ["y", "z"])
    on_delete = daemonset("b", updateStrategy={"type": "OnDelete"})
    assert names(daemonsets.plan(on_delete, old, nodes, (), NOON)) == ([], [])


def test_the_status_of_a_daemonset_counts_nodes() -> None:
    nodes = [node("a"), node("b"), node("c", UNREACHABLE), node("d", GONE_BAD)]
    pods = [daemon("x", "a"), daemon("y", "c", "b", ready=False), daemon("z", "d")]
    assert daemonsets.status(daemonset(), pods, nodes, (), NOON)[0] == {
        "currentNumberScheduled": 2,
        "numberMisscheduled": 1,
        "desiredNumberScheduled": 3,
        "numberReady": 1,
        "observedGeneration": 1,
        "updatedNumberScheduled": 1,
        "numberAvailable": 1,
        "numberUnavailable": 2,
    }


# Endpoints


def test_endpoints_are_grouped_by_the_ports_that_pods_give_a_name() -> None:
    def web(name: str, port: int, **more: Any) -> Object:
        made = pod(name, labels={"app": "web"}, **more)
        made["spec"]["containers"] = [{"ports": [{"name": "http", "containerPort": port}]}]
        return made

    service = {
        "metadata": {"name": "web", "namespace": "n"},
        "spec": {"selector": {"app": "web"}, "ports": [{"name": "web", "port": 80, "targetPort": "http"}]},
    }
    pods = [web("a", 8080), web("bb", 9090), web("ccc", 8080, ready=False), web("dddd", 8080, phase="Failed")]
    pods += [web("eeeee", 8080, deletionTimestamp="x"), pod("ffffff", labels={"app": "web"})]
    found = [
        (
            s["ports"][0]["port"],
            [a["ip"] for a in s.get("addresses", ())],
            [a["ip"] for a in s.get("notReadyAddresses", ())],
        )
        for s in subsets(service, pods)
    ]
    assert found == [(8080, ["10.244.1.1"], ["10.244.1.3"]), (9090, ["10.244.1.2"], [])]
    assert subsets(service, []) == []


# The garbage collector's graph


def owned(uid: str, *owners: str, resource: Any = PODS, deleting: bool = False, finalizers: Any = ()) -> Owned:
    references = tuple({"uid": owner, "blockOwnerDeletion": True} for owner in owners)
    return Owned(resource, "n", uid, uid, references, deleting, finalizers)


def test_what_loses_its_owner_is_looked_at() -> None:
    graph = Graph()
    assert graph.set(owned("deployment", resource=DEPLOYMENTS)) == []
    assert graph.set(owned("rs", "deployment", resource=REPLICASETS)) == []
    assert graph.set(owned("pod", "rs")) == []
    assert graph.set(owned("lost", "nobody")) == ["lost"]
    assert graph.remove("deployment") == ["rs"]
    assert graph.remove("rs") == ["pod"]
    assert graph.remove("rs") == []
    assert graph.remove("pod") == []


def test_an_owner_that_waits_hears_when_a_dependent_changes_or_goes() -> None:
    graph = Graph()
    graph.set(owned("pod", "rs"))
    waiting = owned("rs", resource=REPLICASETS, deleting=True, finalizers=(FOREGROUND,))
    assert graph.set(waiting) == ["rs"]
    assert graph.set(owned("pod", "rs", deleting=True)) == ["rs"]
    assert graph.remove("pod") == ["rs"]
    assert graph.dependents("rs") == []


# Helpers


def test_a_digest_is_the_same_for_equal_values_and_fits_a_label() -> None:
    assert objects.digest({"a": 1, "b": [2]}) == objects.digest({"b": [2], "a": 1})
    assert objects.digest({"a": 1}) != objects.digest({"a": 1}, 1)
    assert len(objects.digest({})) == 10 and objects.digest({}).isalnum()


values = st.recursive(
    st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=4),
    max_leaves=12,
)


@given(old=st.dictionaries(st.sampled_from("abcd"), values), new=st.dictionaries(st.sampled_from("abcd"), values))
def test_a_merge_patch_makes_the_new_of_the_old_and_is_empty_for_equals(old: Object, new: Object) -> None:
    difference = objects.merge_diff(old, new)
    assert patch.merge(old, difference) == new
    assert (difference == {}) is (old == new)
