"""Edge nodes of an unmodified cluster, by their users' choice: what they are registered with, and what goes on while they are away."""

from __future__ import annotations

import ipaddress
import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from kubeedge_cloud.edgecontroller.tolerations import AUTONOMY, LABEL
from tests.kit.cluster.site import Site
from tests.kubernetes.workloads import eventually, gone, pod, ready, runs, wait_ready

pytestmark = pytest.mark.root

EDGE = "edge3"
TAINT = {"key": "dedicated", "value": "video", "effect": "NoSchedule"}
OPTIONS = ("--label", "rack=7,topology.kubernetes.io/zone=hall", "--taint", "dedicated=video:NoSchedule")


@pytest.fixture(scope="module")
def edge(site: Site) -> Iterator[Site]:
    """With a third node that has joined with labels and a taint."""
    site.join(EDGE, "default", *OPTIONS)
    site.cluster.kubectl("wait", "--for=condition=Ready", f"node/{EDGE}", "--timeout=120s", timeout=150)
    yield site
    site.cluster.kubectl("delete", "node", EDGE, "--ignore-not-found", timeout=150)
    eventually(lambda: EDGE not in site.admin("node", "list"), "removed from the network")
    site.reset(EDGE)
    del site.agents[EDGE]


def there(name: str, command: str, seconds: int | None = None, **labels: str) -> dict[str, Any]:
    """A pod at that node; it is evicted so many seconds after the node was found to be away."""
    tolerations: list[dict[str, Any]] = [{"key": "dedicated", "operator": "Exists"}]
    if seconds is not None:
        tolerations += [
            {
                "key": f"node.kubernetes.io/{kind}",
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": seconds,
            }
            for kind in ("not-ready", "unreachable")
        ]
    made = pod(name, EDGE, command, tolerations=tolerations)
    made["metadata"]["labels"] |= labels
    return made


def test_a_node_is_registered_with_the_labels_and_taints_of_its_join(edge: Site) -> None:
    node = edge.cluster.json("get", "node", EDGE)
    labels = node["metadata"]["labels"]
    assert labels["rack"] == "7" and labels["topology.kubernetes.io/zone"] == "hall"
    assert TAINT in node["spec"]["taints"]
    edge.cluster.apply(pod("refused", EDGE))
    condition = "--for=jsonpath={.status.conditions[0].reason}=Unschedulable"
    edge.cluster.kubectl("wait", condition, "pod/refused", "--timeout=120s", timeout=150)
    edge.cluster.kubectl("delete", "pod", "refused", timeout=150)


@pytest.mark.parametrize("label", ["node-restriction.kubernetes.io/x=y", "node-role.kubernetes.io/control-plane="])
def test_labels_that_are_not_a_nodes_to_say_are_refused_by_both_sides(edge: Site, label: str) -> None:
    with pytest.raises(RuntimeError, match="not a node's to set"):
        edge.join(EDGE, "default", "--force", "--label", label, replace=True)
    key, _, value = label.partition("=")
    forged = (  # a machine that does not ask itself
        "import kubeedge.api.node_registration as r; r.checked = lambda found: found;"
        "import sys; from kubeedge.cli.main import main; sys.exit(main())"
    )
    token = edge.admin("token", "create", "--node", EDGE, "--replace")
    argv = [
        "join",
        "--token-file",
        "-",
        "--name",
        EDGE,
        "--root-dir",
        str(edge.directory / EDGE),
        "--force",
        "--no-start",
    ]
    with pytest.raises(RuntimeError, match="not a node's to set"):
        edge.edges[EDGE].run(
            sys.executable, "-c", forged, *argv, "--label", f"{key}={value}", "203.0.113.1", input=token
        )
    assert key not in edge.cluster.json("get", "node", EDGE)["metadata"]["labels"]


def test_labelled_pods_go_on_at_a_node_that_is_away_and_the_others_are_evicted(edge: Site) -> None:
    edge.cluster.apply(there("stays", "exec sleep 66123", 0, **{LABEL: AUTONOMY}), there("goes", "exec sleep 66124", 0))
    uid = wait_ready(edge, "stays")["metadata"]["uid"]
    wait_ready(edge, "goes")

    def endless() -> bool:
        tolerations = edge.cluster.json("get", "pod", "stays")["spec"]["tolerations"]
        return not any("tolerationSeconds" in toleration for toleration in tolerations)

    eventually(endless, "tolerations without an end")
    edge.nats[EDGE].cut()
    try:
        eventually(lambda: ready(edge, EDGE) == "Unknown", "NotReady, by the cluster's own controller")
        eventually(
            lambda: "deletionTimestamp" in edge.cluster.json("get", "pod", "goes")["metadata"], "the other is evicted"
        )
        assert "deletionTimestamp" not in edge.cluster.json("get", "pod", "stays")["metadata"]
        assert runs(edge, EDGE, b"66123") and runs(edge, EDGE, b"66124")  # nobody has told it
    finally:
        edge.nats[EDGE].heal()
    eventually(lambda: ready(edge, EDGE) == "True", "Ready again")
    gone(edge, "pod", "goes")
    found = wait_ready(edge, "stays")
    assert found["metadata"]["uid"] == uid and found["status"]["containerStatuses"][0]["restartCount"] == 0
    eventually(lambda: not runs(edge, EDGE, b"66124"), "its process ends")
    edge.cluster.kubectl("delete", "pod", "stays", timeout=150)


def test_a_label_of_the_node_is_for_all_its_pods(edge: Site) -> None:
    edge.cluster.apply(there("inherits", "exec sleep 66125", 300))
    wait_ready(edge, "inherits")
    edge.cluster.kubectl("label", "node", EDGE, f"{LABEL}={AUTONOMY}")

    def endless() -> bool:
        tolerations = edge.cluster.json("get", "pod", "inherits")["spec"]["tolerations"]
        return not any("tolerationSeconds" in toleration for toleration in tolerations)

    eventually(endless, "tolerations without an end")
    edge.cluster.kubectl("label", "node", EDGE, f"{LABEL}-")
    edge.cluster.kubectl("delete", "pod", "inherits", timeout=150)


def test_a_node_that_was_deleted_joins_with_force_and_its_pods_have_new_addresses(edge: Site) -> None:
    """Those that come then, and one that was bound to the Node before, whose processes were left running with the old address."""
    credentials = edge.directory / EDGE / "etc/kubeedge/node.json"
    edge.cluster.apply(there("before", "exec sleep 66126"))
    old = json.loads(credentials.read_text())["podCIDR"]
    before = wait_ready(edge, "before")
    assert ipaddress.ip_address(before["status"]["podIP"]) in ipaddress.ip_network(old)
    edge.cluster.kubectl("delete", "node", EDGE, timeout=150)
    eventually(lambda: EDGE not in edge.admin("node", "list"), "removed from the network")
    edge.stop_agent(EDGE)
    left = edge.edges[EDGE].running(b"66126")  # none, when the agent still heard of the removal
    edge.join(EDGE, "default", "--force", *OPTIONS)
    edge.cluster.kubectl("wait", "--for=condition=Ready", f"node/{EDGE}", "--timeout=120s", timeout=150)
    node = edge.cluster.json("get", "node", EDGE)
    new = json.loads(credentials.read_text())["podCIDR"]
    assert new == node["spec"]["podCIDR"] and new != old and TAINT in node["spec"]["taints"]
    edge.cluster.apply(there("after", "exec sleep 66127"))
    address = wait_ready(edge, "after")["status"]["podIP"]
    assert ipaddress.ip_address(address) in ipaddress.ip_network(new)
    assert "PONG" in edge.edges[EDGE].run("sh", "-c", f"ping -c 1 -W 5 {address} >&2 && echo PONG")
    status: dict[str, Any] = {}

    def has_a_new_address() -> bool:
        found = edge.cluster.kubectl("get", "pod", "before", "-o", "json", "--ignore-not-found")
        if not found:  # it took us more than 40 s to come back: the cluster has deleted it
            status.clear()
            return True
        status.update(json.loads(found)["status"])
        is_new = ipaddress.ip_address(status.get("podIP") or "0.0.0.0") in ipaddress.ip_network(new)
        return is_new and any(c["type"] == "Ready" and c["status"] == "True" for c in status["conditions"])

    try:
        eventually(has_a_new_address, "the pod from before runs with a new address")
    except AssertionError as exc:
        raise AssertionError(f"{exc}: {status}") from exc
    if status:
        assert not set(left) & set(edge.edges[EDGE].running(b"66126"))
        edge.edges[EDGE].run("ping", "-c", "1", "-W", "5", status["podIP"])
    edge.cluster.kubectl("delete", "pod", "before", "after", "--ignore-not-found", timeout=150)
