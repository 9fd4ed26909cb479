"""What users write is compared with as much of what users write: steps grow with what there is, not with its product. All tenants wait for them."""

from __future__ import annotations

from typing import Any

import pytest

from kubeedge.api.names import Object
from kubeedge_cloud.controllers.endpoints import core as endpoints
from kubeedge_cloud.controllers.endpoints.slices import slices
from kubeedge_cloud.controllers.scheduler.core import SchedulerCache, Unschedulable
from kubeedge_cloud.controllers.scheduler.fit import untolerated
from kubeedge_cloud.controllers.taints import core as taints

MANY = 300


class Counted(dict[str, Any]):
    """Counts how often one of them is looked at."""

    looks = 0

    def get(self, key: str, default: Any = None) -> Any:
        Counted.looks += 1
        return super().get(key, default)


@pytest.fixture(autouse=True)
def from_nothing() -> None:
    Counted.looks = 0


def node(name: str, **spec: Any) -> Object:
    status = {
        "allocatable": {"cpu": "64", "memory": "1Ti", "pods": "9999"},
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    return {"metadata": {"name": name, "labels": {"host": name}}, "spec": spec, "status": status}


def pod(name: str, ports: list[Object] | None = None, **spec: Any) -> Object:
    container = {"name": "c", "image": "i", "ports": ports or []}
    return {
        "metadata": {"name": name, "namespace": "n", "uid": name, "labels": {"app": "x"}},
        "spec": {"containers": [container], **spec},
        "status": {"podIP": "10.0.0.1", "phase": "Running"},
    }


def test_named_ports_of_services_and_of_pods() -> None:
    wanted = [Counted(name=f"p{n}", port=n + 1, protocol="TCP", targetPort=f"t{n}") for n in range(MANY)]
    service = {
        "metadata": {"name": "s", "namespace": "n", "uid": "s"},
        "spec": {"selector": {"app": "x"}, "ports": wanted},
    }
    theirs = [Counted(name=f"t{n}", containerPort=1000 + n) for n in reversed(range(MANY))]
    pods = [pod("a", theirs), pod("b", theirs)]
    (subset,) = endpoints.subsets(service, pods)
    assert len(subset["ports"]) == MANY and subset["ports"][0] == {"name": "p0", "port": 1000, "protocol": "TCP"}
    assert len(slices(service, pods, {})[0]["ports"]) == MANY
    assert Counted.looks < 4 * 20 * MANY  # in each of four passes


def test_a_named_port_is_of_its_protocol_and_the_first_of_its_name_counts() -> None:
    ports = [{"name": "dns", "containerPort": 1, "protocol": "UDP"}, {"name": "dns", "containerPort": 2}]
    ports += [{"name": "dns", "containerPort": 3}, {"name": "53", "containerPort": 7}]
    wanted = [{"name": t + p, "protocol": p, "targetPort": t} for t in ("dns", "53", "none") for p in ("TCP", "UDP")]
    found = list(endpoints.ports_of({"ports": wanted}, pod("a", ports)))
    assert found == [("dnsTCP", 2, "TCP"), ("dnsUDP", 1, "UDP"), ("53TCP", 7, "TCP"), ("53UDP", 53, "UDP")]


def test_tolerations_and_taints() -> None:
    given = [Counted(key=f"k{n}", operator="Exists", tolerationSeconds=n) for n in reversed(range(MANY))]
    found = [Counted(key=f"k{n}", value="v", effect="NoExecute") for n in range(MANY)]
    assert untolerated(given, found, ("NoExecute",)) is None
    assert taints.stay(given, found) == 0.0 and taints.stay(given[:-7], found[7:]) == 7.0
    cache = SchedulerCache()
    for n in range(20):
        cache.set_node(
            node(f"n{n}", taints=[Counted(key=f"k{n}", value="v", effect="NoSchedule") for n in range(MANY)])
        )
    assert isinstance(cache.schedule(pod("p", tolerations=given[1:])), Unschedulable)
    assert Counted.looks < 30 * 20 * MANY


@pytest.mark.parametrize(
    ("toleration", "stays"),
    [
        ({"operator": "Exists", "tolerationSeconds": 9}, 9.0),
        ({"key": "k", "operator": "Exists", "effect": "NoExecute"}, None),
        ({"key": "k", "value": "v", "tolerationSeconds": -1}, 0.0),
        ({"key": "k", "value": "w"}, 0.0),
        ({"key": "k", "operator": "Exists", "effect": "NoSchedule"}, 0.0),
        ({"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}, 5.0),
    ],
)
def test_the_shortest_time_of_those_that_cover_a_taint(toleration: Object, stays: float | None) -> None:
    taint = {"key": "k", "value": "v", "effect": "NoExecute"}
    assert taints.stay([toleration], [taint]) == stays
    longer = {"key": "k", "value": "v", "effect": "NoExecute", "tolerationSeconds": 7}
    if stays is None or stays > 0:
        assert taints.stay([longer, toleration], [taint]) == min(7.0, 7.0 if stays is None else stays)


def test_ports_of_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them was compared with each that was taken."""
    cache = SchedulerCache()
    cache.set_node(node("edge1"))
    for n in range(10):
        ports = [{"containerPort": 1, "hostPort": 1000 + n * MANY + k, "hostIP": "10.0.0.1"} for k in range(MANY)]
        cache.set_pod(pod(f"p{n}", ports, nodeName="edge1"))
    info = cache._nodes["edge1"]

    class Unwalked(type(info.ports)):  # type: ignore[misc]
        def items(self) -> Any:
            raise AssertionError("all that are taken are looked at")

    info.ports = Unwalked(info.ports)
    free = [{"containerPort": 1, "hostPort": 10_000 + k} for k in range(MANY)]
    assert not isinstance(cache.schedule(pod("new", free)), Unschedulable)
    for taken in (
        {"hostPort": 1000},
        {"hostPort": 1000, "hostIP": "10.0.0.1"},
        {"hostPort": 1000, "hostIP": "0.0.0.0"},
    ):
        assert isinstance(cache.schedule(pod("new", [*free, {"containerPort": 1, **taken}])), Unschedulable), taken
    for other in ({"hostPort": 1000, "hostIP": "10.0.0.2"}, {"hostPort": 1000, "protocol": "UDP"}):
        assert not isinstance(cache.schedule(pod("new", [{"containerPort": 1, **other}])), Unschedulable), other
    info.ports = type(info.ports).__mro__[1](info.ports)
    cache.remove_pod("p0")
    assert not isinstance(cache.schedule(pod("new", [{"containerPort": 1, "hostPort": 1000}])), Unschedulable)
    assert len(info.ports) == len(info.numbers) == 9 * MANY


def test_terms_of_affinity_are_looked_at_once_for_all_nodes() -> None:
    selector = Counted(matchLabels={"app": "y"})
    term = {"labelSelector": selector, "topologyKey": "host"}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": [term]}
    expression = Counted(key="host", operator="In", values=["n3"])
    of_nodes = {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    }
    cache = SchedulerCache()
    for n in range(MANY):
        cache.set_node(node(f"n{n}"))
    new = pod("p", affinity={"podAntiAffinity": required, "nodeAffinity": of_nodes})
    assert not isinstance(cache.schedule(new), Unschedulable)
    assert Counted.looks < 40
