"""What `kubectl get` shows: the words under STATUS, the ages, the columns of each kind."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from kubeedge.api.client import Resource
from kubeedge.api.names import Object
from kubeedge.api.resources import (
    DAEMONSETS,
    DEPLOYMENTS,
    ENDPOINTS,
    EVENTS,
    LEASES,
    NAMESPACES,
    NODES,
    PODS,
    REPLICASETS,
    SECRETS,
    SERVICES,
    Resources,
    Row,
)
from kubeedge.apiserver.builtin import BUILT_IN
from kubeedge.apiserver.durations import age, since
from kubeedge.apiserver.tables import table

NOW = 1_790_000_000.0  # 2026-09-21T14:13:20Z
BORN = "2026-09-21T14:08:20Z"  # five minutes ago


def row(resource: Resource, obj: Object) -> dict[str, Any]:
    obj = {**obj, "metadata": {"name": "x", "creationTimestamp": BORN, **obj.get("metadata", {})}}
    known = Resources(BUILT_IN).by_path(resource.group, resource.version, resource.plural)
    made = table(known or Row(resource, "custom"), [obj], version="v1", include="None", now=NOW, list_metadata={})
    names = [column["name"] for column in made["columnDefinitions"]]
    cells = made["rows"][0]["cells"]
    assert len(names) == len(cells), "one cell a column"
    return dict(zip(names, cells, strict=True))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (150, "2m30s"),
        (599, "9m59s"),
        (600, "10m"),
        (3 * 3600 - 1, "179m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 1200, "3h20m"),
        (8 * 3600, "8h"),
        (47 * 3600, "47h"),
        (48 * 3600, "2d"),
        (55 * 3600, "2d7h"),
        (8 * 86400, "8d"),
        (729 * 86400, "729d"),
        (730 * 86400, "2y"),
        (800 * 86400, "2y70d"),
        (9 * 365 * 86400, "9y"),
    ],
)
def test_durations_read_as_kubectl_writes_them(seconds: float, text: str) -> None:
    assert since(seconds) == text


def test_an_age_of_nothing_is_unknown() -> None:
    assert age(None, NOW) == age("yesterday", NOW) == "<unknown>"
    assert age(BORN, NOW) == "5m"


def waiting(reason: str) -> Object:
    return {"ready": False, "restartCount": 0, "state": {"waiting": {"reason": reason}}}


def ended(code: int, reason: str = "", restarts: int = 0) -> Object:
    state: Object = {"exitCode": code}
    if reason:
        state["reason"] = reason
    return {"ready": False, "restartCount": restarts, "state": {"terminated": state}}


RUNNING: Object = {"ready": True, "restartCount": 0, "state": {"running": {}}}
UNREADY: Object = {"ready": False, "restartCount": 0, "state": {"running": {}}}
READY = [{"type": "Ready", "status": "True"}]


@pytest.mark.parametrize(
    ("status", "word", "ready"),
    [
        ({"phase": "Pending"}, "Pending", "0/1"),
        ({"phase": "Pending", "containerStatuses": [waiting("ContainerCreating")]}, "ContainerCreating", "0/1"),
        ({"phase": "Pending", "containerStatuses": [waiting("ErrImagePull")]}, "ErrImagePull", "0/1"),
        ({"phase": "Running", "containerStatuses": [RUNNING]}, "Running", "1/1"),
        ({"phase": "Running", "containerStatuses": [UNREADY]}, "Running", "0/1"),
        ({"phase": "Running", "containerStatuses": [waiting("CrashLoopBackOff")]}, "CrashLoopBackOff", "0/1"),
        ({"phase": "Running", "containerStatuses": [waiting("CrashLoopBackOff"), RUNNING]}, "CrashLoopBackOff", "1/1"),
        ({"phase": "Succeeded", "containerStatuses": [ended(0, "Completed")]}, "Completed", "0/1"),
        ({"phase": "Failed", "containerStatuses": [ended(3)]}, "ExitCode:3", "0/1"),
        ({"phase": "Failed", "containerStatuses": [ended(1, "Error")]}, "Error", "0/1"),
        ({"phase": "Failed", "containerStatuses": [ended(137, "OOMKilled")]}, "OOMKilled", "0/1"),
        ({"phase": "Failed", "reason": "Evicted"}, "Evicted", "0/1"),
        (
            {"phase": "Running", "conditions": READY, "containerStatuses": [ended(0, "Completed"), RUNNING]},
            "Running",
            "1/1",
        ),
        ({"phase": "Running", "containerStatuses": [ended(0, "Completed"), RUNNING]}, "NotReady", "1/1"),
        ({"phase": "Pending", "initContainerStatuses": [{"state": {"running": {}}}]}, "Init:0/2", "0/1"),
        ({"phase": "Pending", "initContainerStatuses": [ended(0), waiting("PodInitializing")]}, "Init:1/2", "0/1"),
        ({"phase": "Pending", "initContainerStatuses": [waiting("CrashLoopBackOff")]}, "Init:CrashLoopBackOff", "0/1"),
        ({"phase": "Pending", "initContainerStatuses": [ended(2, "Error")]}, "Init:Error", "0/1"),
        ({"phase": "Pending", "initContainerStatuses": [ended(2)]}, "Init:ExitCode:2", "0/1"),
        ({}, "", "0/1"),
    ],
)
def test_the_status_of_a_pod_is_the_word_that_kubectl_users_know(status: Object, word: str, ready: str) -> None:
    spec = {"containers": [{}], "initContainers": [{}, {}]}
    cells = row(PODS, {"spec": spec, "status": status})
    assert (cells["Status"], cells["Ready"]) == (word, ready)


@pytest.mark.parametrize(
    ("status", "word"),
    [
        ({"phase": "Running", "containerStatuses": [RUNNING]}, "Terminating"),
        ({"phase": "Running", "reason": "NodeLost"}, "Unknown"),
        ({"phase": "Succeeded", "containerStatuses": [ended(0, "Completed")]}, "Completed"),
    ],
)
def test_a_pod_that_is_being_deleted_says_so(status: Object, word: str) -> None:
    pod = {"metadata": {"deletionTimestamp": BORN}, "spec": {"containers": [{}]}, "status": status}
    assert row(PODS, pod)["Status"] == word


def test_restarts_say_when_the_last_one_was() -> None:
    container = {**waiting("CrashLoopBackOff"), "restartCount": 3, "lastState": {"terminated": {"finishedAt": BORN}}}
    pod = {"spec": {"containers": [{}]}, "status": {"containerStatuses": [container]}}
    assert row(PODS, pod)["Restarts"] == "3 (5m ago)"


def test_a_sidecar_counts_as_a_container_once_it_has_started() -> None:
    spec = {"containers": [{}], "initContainers": [{"name": "side", "restartPolicy": "Always"}, {"name": "init"}]}

    def cells(phase: str, side: Object, init: Object, main: Object) -> tuple[str, str, str]:
        status = {"phase": phase, "initContainerStatuses": [{**side, "name": "side"}, {**init, "name": "init"}],
                  "containerStatuses": [main]}  # fmt: skip
        found = row(PODS, {"spec": spec, "status": status})
        return found["Ready"], found["Status"], found["Restarts"]

    started, again = {**RUNNING, "started": True}, {**RUNNING, "started": True, "restartCount": 2}
    assert cells("Pending", RUNNING, waiting("PodInitializing"), waiting("PodInitializing")) == ("0/2", "Init:0/2", "0")
    assert cells("Pending", started, {"state": {"running": {}}}, waiting("PodInitializing")) == ("1/2", "Init:1/2", "0")
    assert cells("Running", again, ended(0), RUNNING) == ("2/2", "Running", "2")
    assert cells("Running", {**UNREADY, "started": True}, ended(0), RUNNING) == ("1/2", "Running", "0")


def test_wide_columns_of_a_pod() -> None:
    pod = {"spec": {"containers": [{}], "nodeName": "edge1"}, "status": {"podIP": "10.244.1.2"}}
    cells = row(PODS, pod)
    assert (cells["IP"], cells["Node"], cells["Nominated Node"], cells["Readiness Gates"]) == (
        "10.244.1.2",
        "edge1",
        "<none>",
        "<none>",
    )


@pytest.mark.parametrize(
    ("ready", "unschedulable", "word"),
    [
        ("True", False, "Ready"),
        ("False", False, "NotReady"),
        ("Unknown", True, "NotReady,SchedulingDisabled"),
        (None, False, "Unknown"),
    ],
)
def test_the_status_of_a_node(ready: str | None, unschedulable: bool, word: str) -> None:
    conditions = [{"type": "Ready", "status": ready}] if ready else []
    node = {
        "metadata": {"labels": {"node-role.kubernetes.io/edge": "", "node-role.kubernetes.io/agent": "", "x": "y"}},
        "spec": {"unschedulable": unschedulable},
        "status": {"conditions": conditions, "nodeInfo": {"kubeletVersion": "v1"}},
    }
    cells = row(NODES, node)
    assert (cells["Status"], cells["Roles"], cells["Version"]) == (word, "agent,edge", "v1")


TEMPLATE = {"spec": {"containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "j"}]}}


def test_workloads_count_and_name_their_containers() -> None:
    spec = {"replicas": 3, "selector": {"matchLabels": {"app": "x"}}, "template": TEMPLATE}
    cells = row(
        DEPLOYMENTS, {"spec": spec, "status": {"readyReplicas": 1, "updatedReplicas": 2, "availableReplicas": 1}}
    )
    assert (cells["Ready"], cells["Up-to-date"], cells["Available"]) == ("1/3", 2, 1)
    assert (cells["Containers"], cells["Images"], cells["Selector"]) == ("a,b", "i,j", "app=x")
    assert row(REPLICASETS, {"spec": spec, "status": {"replicas": 2}})["Current"] == 2
    cells = row(DAEMONSETS, {"spec": spec, "status": {"desiredNumberScheduled": 2}})
    assert (cells["Desired"], cells["Node Selector"]) == (2, "<none>")


def test_services_show_addresses_and_ports() -> None:
    spec = {"type": "NodePort", "clusterIP": "10.96.0.9", "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30000}]}
    cells = row(SERVICES, {"spec": spec})
    assert (cells["Cluster-IP"], cells["External-IP"], cells["Port(s)"]) == ("10.96.0.9", "<none>", "80:30000/TCP")
    assert row(SERVICES, {"spec": {"type": "LoadBalancer"}})["External-IP"] == "<pending>"
    assert row(SERVICES, {"spec": {"type": "ExternalName", "externalName": "a.b"}})["External-IP"] == "a.b"


def test_events_tell_how_often_and_since_when() -> None:
    event = {
        "involvedObject": {"kind": "Pod", "name": "p"},
        "reason": "BackOff",
        "type": "Warning",
        "message": "again\n",
        "count": 4,
        "firstTimestamp": BORN,
        "lastTimestamp": "2026-09-21T14:13:10Z",
        "source": {"component": "kubelet", "host": "edge1"},
    }
    cells = row(EVENTS, event)
    assert cells["Last Seen"] == "10s (x4 over 5m)"
    assert (cells["Object"], cells["Message"], cells["Source"]) == ("pod/p", "again", "kubelet, edge1")


def test_the_other_kinds() -> None:
    assert row(SECRETS, {"type": "Opaque", "data": {"a": ""}})["Data"] == 1
    assert row(NAMESPACES, {"status": {"phase": "Active"}})["Status"] == "Active"
    assert row(LEASES, {"spec": {"holderIdentity": "me"}})["Holder"] == "me"
    subsets = [{"addresses": [{"ip": f"10.0.0.{i}"} for i in range(5)], "ports": [{"port": 80}]}]
    assert row(ENDPOINTS, {"subsets": subsets})["Endpoints"] == "10.0.0.0:80,10.0.0.1:80,10.0.0.2:80 + 2 more..."
    assert row(Resource("example.com", "v1", "flowers", "Flower"), {})["Created At"] == BORN


@pytest.mark.parametrize("junk", [7, "x", ["x"], [None], {"a": 1}])
def test_a_strange_status_costs_its_own_row_only(junk: Any) -> None:
    for each in BUILT_IN:
        obj = {"spec": junk, "status": junk, "subsets": junk, "source": junk, "involvedObject": junk, "data": junk}
        assert row(each.resource, obj)["Name"] == "x"
    row(PODS, {"spec": {"containers": junk}, "status": {"containerStatuses": junk, "conditions": junk}})


def test_endpoints_are_counted_and_not_made_one_by_one() -> None:
    """Thousands of addresses with thousands of ports fit into one object: what `kubectl get` shows of it took gigabytes."""
    addresses = [{"ip": f"10.0.{n // 250}.{n % 250}"} for n in range(1000)]
    subset = {"addresses": addresses, "ports": [{"port": n + 1} for n in range(1000)]}
    tracemalloc.start()
    try:
        shown = row(ENDPOINTS, {"subsets": [{"addresses": addresses[:1]}, subset, subset]})["Endpoints"]
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert shown == "10.0.0.0,10.0.0.0:1,10.0.0.0:2 + 1999998 more..." and most < 1024 * 1024
