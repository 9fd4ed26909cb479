"""Others in the same cluster: a second cloud of ours, a second tenant, and people who edit a Node by hand. Each keeps what is its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.cluster.site import ADDRESS, Site
from tests.kubernetes.workloads import eventually, gone, pod, ready, runs, said, wait_ready

pytestmark = pytest.mark.root

EDGE, MARK = "edge3", "kubeedge.io/managed"
SECOND = "203.0.113.200"


@pytest.fixture(scope="module")
def second(site: Site) -> Iterator[Site]:
    """Another cloud with the same cluster, for the third machine."""
    directory = site.directory / "second"
    directory.mkdir()
    edges, nats = [site.edges[EDGE]], [site.nats[EDGE]]
    other = Site(directory, site.internet, edges, nats, site.internet, site.prefix, site.net, SECOND)
    other.cluster = site.cluster
    other.start_cloud([f"default={other.kubeconfig()}"])
    yield other
    other.stop_cloud()


def node(site: Site, name: str) -> dict[str, Any]:
    found: dict[str, Any] = site.cluster.json("get", "node", name)
    return found


def wait_for_node(site: Site, name: str) -> None:
    site.cluster.kubectl("wait", "--for=condition=Ready", f"node/{name}", "--timeout=120s", timeout=150)


def restarts(site: Site, name: str) -> int:
    return int(site.cluster.json("get", "pod", name)["status"]["containerStatuses"][0]["restartCount"])


def test_two_clouds_in_one_cluster_have_nodes_of_their_own(site: Site, second: Site) -> None:
    mark = node(site, "edge1")["metadata"]["annotations"][MARK]
    with pytest.raises(RuntimeError, match="not one of this cloud's: choose another name"):
        second.join(EDGE, "default", "--wait", "0", node="edge1")
    assert node(site, "edge1")["metadata"]["annotations"][MARK] == mark
    second.join(EDGE)
    wait_for_node(site, EDGE)
    site.cluster.apply(pod("first", "edge1", "exec sleep 95123"), pod("second", EDGE, "exec sleep 95124"))
    uid = wait_ready(site, "first")["metadata"]["uid"]
    wait_ready(site, "second")
    for name in ("first", "second"):  # by the ports of two clouds
        assert site.cluster.kubectl("exec", name, "--", "sh", "-c", f"echo in {name}") == f"in {name}\n"
    assert EDGE not in site.admin("node", "list") and "edge1" not in second.admin("node", "list")
    other = node(site, EDGE)
    assert other["metadata"]["annotations"][MARK] != mark
    assert other["spec"]["podCIDR"] != node(site, "edge1")["spec"]["podCIDR"]
    assert not runs(site, EDGE, b"95123") and not runs(site, "edge1", b"95124")

    second.admin("node", "remove", EDGE)
    gone(site, "node", EDGE)
    second.reset(EDGE)
    wait_for_node(site, "edge1")
    assert "edge1" in site.admin("node", "list")
    assert wait_ready(site, "first")["metadata"]["uid"] == uid and restarts(site, "first") == 0
    site.cluster.kubectl("delete", "pod", "second", "--force", "--grace-period=0", "--ignore-not-found", timeout=150)
    site.cluster.kubectl("delete", "pod", "first", timeout=150)


def test_two_tenants_of_one_cloud_with_one_cluster_do_too(site: Site) -> None:
    site.admin("tenant", "create", "twin", "--kubeconfig", str(site.kubeconfig()))
    mark = node(site, "edge1")["metadata"]["annotations"][MARK]
    with pytest.raises(RuntimeError, match="not one of this cloud's: choose another name"):
        site.join(EDGE, "twin", "--wait", "0", node="edge1")
    assert "edge1" not in site.admin("node", "list", "--tenant", "twin")
    assert "tenant twin is removed" in site.admin("tenant", "remove", "twin")
    assert node(site, "edge1")["metadata"]["annotations"][MARK] == mark and ready(site, "edge1") == "True"
    assert {"edge1", "edge2"} <= set(site.admin("node", "list").split())


@pytest.fixture
def edited(site: Site) -> Iterator[Site]:
    """With the third machine as a Node that is edited, and removed in the end."""
    site.join(EDGE)
    wait_for_node(site, EDGE)
    yield site
    site.cluster.kubectl("patch", "node", EDGE, "--type=merge", "-p", '{"metadata": {"finalizers": null}}', check=False)
    site.cluster.kubectl("delete", "node", EDGE, "--ignore-not-found", timeout=150)
    eventually(lambda: EDGE not in site.admin("node", "list"), "removed from the network")
    site.reset(EDGE)
    del site.agents[EDGE]


def patch(site: Site, change: dict[str, Any], *options: str) -> None:
    site.cluster.kubectl("patch", "node", EDGE, "--type=merge", "-p", json.dumps(change), *options)


def test_a_node_that_is_edited_by_hand_stays_what_its_machine_is(edited: Site) -> None:
    """Labels, taints and extended resources are people's to set; addresses and readiness are not."""
    site = edited
    site.cluster.apply(pod("worker", EDGE, "exec sleep 95125"))
    uid = wait_ready(site, "worker")["metadata"]["uid"]
    before = node(site, EDGE)
    with pytest.raises(RuntimeError, match="podCIDR"):  # the API server's own rule
        patch(site, {"spec": {"podCIDR": "10.244.250.0/24", "podCIDRs": ["10.244.250.0/24"]}})
    conditions = [
        {**c, "status": "False", "reason": "ByHand"} if c["type"] == "Ready" else c
        for c in before["status"]["conditions"]
    ]
    wrong = {
        "addresses": [{"type": "InternalIP", "address": "192.0.2.9"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 1}},
        "capacity": {**before["status"]["capacity"], "cpu": "999", "example.com/dongle": "2"},
        "allocatable": {**before["status"]["allocatable"], "example.com/dongle": "2"},
        "conditions": conditions,
    }
    patch(site, {"status": wrong}, "--subresource=status")
    patch(site, {"metadata": {"labels": {"rack": "9", "kubernetes.io/arch": "pdp11"}}})
    patch(site, {"spec": {"taints": [{"key": "own", "value": "v", "effect": "NoSchedule"}]}})
    seen: dict[str, Any] = {}

    def is_right() -> bool:
        seen.update(node(site, EDGE))
        status = seen["status"]
        same = all(status[key] == before["status"][key] for key in ("addresses", "daemonEndpoints", "nodeInfo"))
        return same and status["capacity"]["cpu"] != "999" and ready(site, EDGE) == "True"

    eventually(is_right, "what the machine says of itself is said again")
    assert seen["status"]["addresses"][0] == {"type": "InternalIP", "address": ADDRESS}
    assert seen["status"]["capacity"]["example.com/dongle"] == "2"
    assert site.cluster.kubectl("exec", "worker", "--", "sh", "-c", "echo reached") == "reached\n"
    found = node(site, EDGE)
    assert found["metadata"]["labels"]["rack"] == "9"
    assert {"key": "own", "value": "v", "effect": "NoSchedule"} in found["spec"]["taints"]
    arch = before["metadata"]["labels"]["kubernetes.io/arch"]
    eventually(lambda: node(site, EDGE)["metadata"]["labels"]["kubernetes.io/arch"] == arch, "its architecture")

    # a finalizer keeps a Node that is deleted: it is at work until that is gone
    patch(site, {"metadata": {"finalizers": ["example.com/inventory"]}})
    site.cluster.kubectl("delete", "node", EDGE, "--wait=false")
    assert node(site, EDGE)["metadata"]["deletionTimestamp"]
    site.cluster.apply(pod("late", EDGE, "exec sleep 95126", nodeName=EDGE))
    wait_ready(site, "late")
    assert site.cluster.kubectl("exec", "late", "--", "sh", "-c", "echo reached") == "reached\n"
    assert EDGE in site.admin("node", "list") and ready(site, EDGE) == "True"
    assert site.cluster.json("get", "pod", "worker")["metadata"]["uid"] == uid and restarts(site, "worker") == 0
    site.cluster.kubectl("delete", "pod", "worker", "late", timeout=150)
    patch(site, {"metadata": {"finalizers": None}})
    eventually(lambda: EDGE not in site.admin("node", "list"), "removed from the network")
    log: Path = site.directory / f"{EDGE}.log"
    eventually(lambda: f"node {EDGE} is not known; join it again" in log.read_text(), "the agent says why")
    assert "NotFound" in said(site, "node", EDGE)
