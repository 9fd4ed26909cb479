"""What a cluster's scheduler, admission and controllers do with pods, seen on edge nodes: priorities, quotas, defaults, budgets, generations."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.kit.cluster.site import Site
from tests.kit.topology import until
from tests.kubernetes.workloads import eventually, gone, pod, template, wait_ready, workload

pytestmark = pytest.mark.root


def in_namespace(obj: dict[str, Any], namespace: str) -> dict[str, Any]:
    return {**obj, "metadata": {**obj["metadata"], "namespace": namespace}}


def namespace(site: Site, name: str) -> None:
    """With the account that its pods need."""
    site.cluster.kubectl("create", "namespace", name)
    until(
        lambda: bool(site.cluster.kubectl("get", "sa", "default", "-n", name, "--ignore-not-found")),
        what="its account",
        interval=0.2,
    )


def asking(name: str, cpu: str, priority: str) -> dict[str, Any]:
    """A pod at edge1 of that priority class."""
    made = pod(name, priorityClassName=priority)
    made["spec"]["containers"][0]["resources"] = {"requests": {"cpu": cpu}}
    return made


def test_a_pod_of_higher_priority_takes_the_room_of_another(site: Site) -> None:
    for name, value in (("low", 1), ("high", 1000)):
        site.cluster.apply(
            {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value}
        )
    cores = str(site.cluster.json("get", "node", "edge1")["status"]["allocatable"]["cpu"])
    whole = int(cores.removesuffix("m")) * (1 if cores.endswith("m") else 1000)
    most = f"{whole * 6 // 10}m"  # there is room for one
    site.cluster.apply(asking("yields", most, "low"))
    before = wait_ready(site, "yields")
    assert before["spec"]["priority"] == 1
    site.cluster.apply(asking("urgent", most, "high"))
    found = wait_ready(site, "urgent")
    assert found["spec"]["priority"] == 1000 and found["spec"]["nodeName"] == "edge1"
    gone(site, "pod", "yields")

    def preempted() -> set[str]:
        events = site.cluster.json("get", "events", "--field-selector=reason=Preempted")["items"]
        return {event["involvedObject"]["uid"] for event in events}

    eventually(lambda: preempted() == {before["metadata"]["uid"]}, "the Event, which the scheduler writes by the way")
    site.cluster.kubectl("delete", "pod", "urgent", timeout=150)
    site.cluster.kubectl("delete", "priorityclass", "low", "high")


def test_a_quota_and_defaults_of_a_namespace_hold_at_the_edge(site: Site) -> None:
    namespace(site, "bounded")
    site.cluster.apply(
        {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "defaults", "namespace": "bounded"},
         "spec": {"limits": [{"type": "Container", "default": {"memory": "48Mi"}, "defaultRequest": {"memory": "16Mi"},
                              "max": {"memory": "64Mi"}}]}},
        {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "one", "namespace": "bounded"},
         "spec": {"hard": {"pods": "1", "requests.memory": "100Mi"}}},
    )  # fmt: skip

    def used() -> str:
        quota = site.cluster.json("get", "quota", "one", "-n", "bounded")
        return str((quota.get("status") or {}).get("used", {}).get("pods", ""))

    eventually(lambda: used() == "0", "the quota is counted")
    site.cluster.apply(in_namespace(pod("first"), "bounded"))
    site.cluster.kubectl("wait", "--for=condition=Ready", "pod/first", "-n", "bounded", "--timeout=120s", timeout=150)
    found = site.cluster.json("get", "pod", "first", "-n", "bounded")
    assert found["spec"]["containers"][0]["resources"] == {"limits": {"memory": "48Mi"}, "requests": {"memory": "16Mi"}}
    assert found["status"]["qosClass"] == "Burstable"
    status = found["status"]["containerStatuses"][0]
    assert status["resources"]["limits"]["memory"] == "48Mi"  # what its container has there
    with pytest.raises(RuntimeError, match="exceeded quota: one"):
        site.cluster.apply(in_namespace(pod("second"), "bounded"))
    large = in_namespace(pod("large"), "bounded")
    large["spec"]["containers"][0]["resources"] = {"limits": {"memory": "65Mi"}}
    with pytest.raises(RuntimeError, match="maximum memory usage per Container is 64Mi"):
        site.cluster.apply(large)
    site.cluster.kubectl("delete", "pod", "first", "-n", "bounded", timeout=150)
    eventually(lambda: used() == "0", "the room is given back")
    site.cluster.kubectl("delete", "namespace", "bounded", timeout=150)


def test_a_status_says_of_which_generation_it_is(site: Site) -> None:
    site.cluster.apply(pod("generations"))
    first = wait_ready(site, "generations")
    assert first["metadata"]["generation"] == first["status"]["observedGeneration"] == 1
    patch = {"spec": {"activeDeadlineSeconds": 3600}}
    site.cluster.kubectl("patch", "pod", "generations", "-p", json.dumps(patch))

    def observed() -> bool:
        found = site.cluster.json("get", "pod", "generations")
        conditions = {c["type"]: c.get("observedGeneration") for c in found["status"]["conditions"]}
        said = {found["status"].get("observedGeneration"), *conditions.values()}
        return bool(found["metadata"]["generation"] == 2 and said == {2})

    eventually(observed, "the status of the second generation")
    found = site.cluster.json("get", "pod", "generations")["status"]["containerStatuses"][0]
    assert found["restartCount"] == 0 and found["containerID"] == first["status"]["containerStatuses"][0]["containerID"]
    site.cluster.kubectl("delete", "pod", "generations", timeout=150)


def test_a_statefulset_is_rolled_out_from_the_last_pod_to_the_first(site: Site) -> None:
    def uids() -> dict[str, str]:
        items = site.cluster.json("get", "pods", "-l", "app=store")["items"]
        return {item["metadata"]["name"]: item["metadata"]["uid"] for item in items}

    def rolled_out() -> dict[str, Any]:
        site.cluster.kubectl("rollout", "status", "statefulset/store", "--timeout=120s", timeout=150)
        found: dict[str, Any] = site.cluster.json("get", "statefulset", "store")["status"]
        return found

    update = {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}
    site.cluster.apply(workload("StatefulSet", "store", 2, serviceName="store", updateStrategy=update))
    rolled_out()
    first = uids()
    assert set(first) == {"store-0", "store-1"}
    site.cluster.kubectl("set", "env", "statefulset/store", "A=b")
    status = rolled_out()
    second = uids()
    assert status["updatedReplicas"] == 1 and status["currentRevision"] != status["updateRevision"]
    assert second["store-0"] == first["store-0"] and second["store-1"] != first["store-1"]
    site.cluster.kubectl(
        "patch", "statefulset", "store", "-p", '{"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}}'
    )
    eventually(lambda: uids().get("store-0") not in (None, first["store-0"]), "the first pod is replaced, too")
    status = rolled_out()
    eventually(
        lambda: (s := rolled_out())["currentRevision"] == s["updateRevision"] and s["readyReplicas"] == 2,
        "one revision",
    )
    assert uids()["store-1"] == second["store-1"]
    site.cluster.kubectl("delete", "statefulset/store", timeout=150)


def test_a_drain_of_an_edge_node_waits_for_the_budget(site: Site) -> None:
    """The pods go to the other node, one after the other, so that one is always there."""
    spread = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
              "labelSelector": {"matchLabels": {"app": "served"}}}  # fmt: skip
    deployment = workload("Deployment", "served", 2)
    deployment["spec"]["template"] = template("served", topologySpreadConstraints=[spread])
    site.cluster.apply(
        deployment,
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "served"},
         "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "served"}}}},
    )  # fmt: skip
    site.cluster.kubectl("rollout", "status", "deployment/served", "--timeout=120s", timeout=150)
    try:
        site.cluster.kubectl(
            "drain", "edge1", "--pod-selector=app=served", "--ignore-daemonsets", "--timeout=120s", timeout=150
        )
        site.cluster.kubectl("rollout", "status", "deployment/served", "--timeout=120s", timeout=150)
        eventually(lambda: _nodes_of(site, "served") == ["edge2", "edge2"], "both are at edge2")
    finally:
        site.cluster.kubectl("uncordon", "edge1")
        site.cluster.kubectl("delete", "deployment/served", "pdb/served", timeout=150)


def _nodes_of(site: Site, app: str) -> list[str]:
    items = site.cluster.json("get", "pods", "-l", f"app={app}")["items"]
    return [item["spec"].get("nodeName", "") for item in items]
