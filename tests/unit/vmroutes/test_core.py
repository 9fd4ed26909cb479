"""On which machine the router is, and which routes the others have."""

from __future__ import annotations

from typing import Any

from kubeedge_cloud.vmroutes import core

LABELS = {"component": "cloud", "instance": "kubeedge"}
NETWORKS = ("100.64.0.0/16", "10.244.0.0/16")


def pod(host: str, ready: str = "True", *, ending: bool = False, **labels: str) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": f"at-{host}", "namespace": "n", "labels": {**LABELS, **labels}}
    if ending:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    conditions = [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": ready}]
    spec = {"containers": [{"name": "c", "image": "i"}]}
    return core.reduced(
        {"metadata": metadata, "spec": spec, "status": {"hostIP": host, "podIP": host, "conditions": conditions}}
    )


def test_the_router_is_where_its_pod_is_ready() -> None:
    assert core.router_of([], LABELS, "") == ""
    assert core.router_of([pod("10.0.0.1")], LABELS, "") == "10.0.0.1"
    for other in (pod("10.0.0.1", "False"), pod("10.0.0.1", ending=True), pod("10.0.0.1", component="routes"), pod("")):
        assert core.router_of([other], LABELS, "") == ""


def test_a_restart_changes_nothing_and_a_move_does() -> None:
    assert core.router_of([pod("10.0.0.1", "False")], LABELS, "10.0.0.1") == "10.0.0.1"
    assert core.router_of([pod("10.0.0.1", "False"), pod("10.0.0.2")], LABELS, "10.0.0.1") == "10.0.0.2"
    both = [pod("10.0.0.1"), pod("10.0.0.2")]
    assert core.router_of(both, LABELS, "10.0.0.2") == "10.0.0.2" and core.router_of(both, LABELS, "") == "10.0.0.1"


def test_a_pod_without_a_status_is_nobody() -> None:
    assert core.router_of([core.reduced({"metadata": {"name": "a", "labels": LABELS}})], LABELS, "") == ""


def test_the_router_s_own_machine_has_no_routes() -> None:
    assert core.gateways(NETWORKS, "10.0.0.1", "10.0.0.2") == dict.fromkeys(NETWORKS, "10.0.0.1")
    assert core.gateways(NETWORKS, "10.0.0.1", "10.0.0.1") == core.gateways(NETWORKS, "", "10.0.0.2") == {}
