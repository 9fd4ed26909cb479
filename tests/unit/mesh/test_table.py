"""What a node makes of Services and EndpointSlices, whatever users put into them."""

from __future__ import annotations

import ipaddress
import json
import random
from typing import Any

import pytest

from kubeedge.mesh import observe
from kubeedge.mesh.model import Endpoint, Service, ServicePort
from kubeedge.mesh.ruleset import LocalNode, Rules, changes, header, rules_of
from kubeedge.mesh.service_trace import trace
from kubeedge.mesh.table import MeshTable, choose

WEB = {
    "clusterIPs": ["10.96.0.1"],
    "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
    "selector": {"app": "web"},
}
POD = {
    "metadata": {"uid": "u", "labels": {"app": "web"}},
    "spec": {"containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]},
}
RUNS = {
    "uid": "u",
    "status": {"podIP": "10.244.1.2", "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
}


def table() -> MeshTable:
    return MeshTable("edge1", [ipaddress.ip_network("10.244.0.0/16"), ipaddress.ip_network("100.64.0.0/16")])


def put(to: MeshTable, key: str, value: Any) -> set[str]:
    return set(to.apply(key, None if value is None else json.dumps(value).encode()))


def far(*addresses: str, **more: Any) -> Any:
    endpoints = [{"addresses": [a], "nodeName": "edge2", **more} for a in addresses]
    inner = {"labels": {"kubernetes.io/service-name": "web"}}
    return {"metadata": inner, "addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "http", "port": 8080}]}


def targets(of: MeshTable, **how: Any) -> list[str]:
    service = of.services["d/web"]
    chosen = choose(service, of.endpoints(service), "http", node="edge1", **{"zone": "", "local": False, **how})
    return [f"{address}:{port}" for address, port in chosen]


def test_own_pods_count_as_they_are_now_and_others_as_the_cloud_saw_them() -> None:
    known = table()
    put(known, "/desired/services/d/web", {"spec": WEB})
    put(known, "/desired/endpointslices/d/web-1", far("10.244.2.2"))
    stale = far("10.244.1.99", nodeName="edge1")
    put(known, "/desired/endpointslices/d/web-2", stale)
    assert targets(known) == ["10.244.2.2:8080"], "the slice is wrong about this node"
    assert put(known, "/desired/pods/d/p", POD) == {"d/web"} and put(known, "/reported/pods/d/p", RUNS) == {"d/web"}
    assert targets(known) == ["10.244.1.2:8080", "10.244.2.2:8080"]
    assert put(known, "/reported/pods/d/p", {**RUNS, "more": "of no interest"}) == set()
    assert targets(known, local=True) == targets(known, alone=True) == ["10.244.1.2:8080"]
    put(known, "/reported/pods/d/p", {**RUNS, "uid": "of another pod"})
    assert targets(known) == ["10.244.2.2:8080"] and targets(known, local=True) == []
    assert put(known, "/desired/endpointslices/d/web-1", None) == {"d/web"} and targets(known) == []


def test_addresses_of_others_are_not_taken() -> None:
    known = table()
    put(known, "/desired/services/d/web", {"spec": WEB})
    put(known, "/desired/services/d/thief", {"spec": {**WEB, "externalIPs": ["10.244.3.3", "100.64.0.9", "192.0.2.1"]}})
    thief = known.services["d/thief"]
    assert thief.addresses == () and [str(a) for a in thief.external] == ["192.0.2.1"]
    said = known.refused["d/thief"]
    assert "10.96.0.1 belongs to d/web" in said and "10.244.3.3 is in a network of nodes or pods" in said
    for address in ("127.0.0.1", "0.0.0.0", "224.0.0.1", "169.254.20.10", "::1", "::ffff:127.0.0.1", "x", 7, None):
        put(known, "/desired/services/d/odd", {"spec": {"clusterIPs": [address], "ports": [{"port": 80}]}})
        assert known.services["d/odd"].addresses == (), address
    put(known, "/desired/endpointslices/d/web-1", far("10.96.0.1", "127.0.0.1", "10.244.2.2"))
    assert targets(known) == ["10.244.2.2:8080"], "neither a cluster IP nor loopback is behind a Service"
    put(known, "/desired/services/d/web", None)
    put(known, "/desired/services/d/thief", {"spec": WEB})
    assert known.services["d/thief"].addresses, "free again"


def test_zones_and_nodes_come_first_when_a_service_wants_it() -> None:
    def endpoint(address: str, node: str, *zones: str) -> Endpoint:
        return Endpoint(address=ipaddress.ip_address(address), ports={"": ("TCP", 80)}, node=node, zones=zones)

    three = [endpoint("10.0.0.1", "edge1", "a"), endpoint("10.0.0.2", "edge2", "a"), endpoint("10.0.0.3", "edge3", "b")]
    close = Service(namespace="d", name="s", distribution="PreferClose")
    node = Service(namespace="d", name="s", distribution="PreferSameNode")

    def chosen(service: Service, endpoints: list[Endpoint], zone: str) -> list[str]:
        found = choose(service, endpoints, "", node="edge1", zone=zone, local=False)
        return [str(address)[-1] for address, _ in found]

    assert chosen(close, three, "a") == ["1", "2"] and chosen(close, three, "c") == ["1", "2", "3"]
    assert chosen(node, three, "") == ["1"] and chosen(node, three[1:], "") == ["2", "3"]
    assert chosen(close, [*three, endpoint("10.0.0.4", "edge4")], "a") == ["1", "2", "3", "4"], (
        "one without hints: none count"
    )


def test_trace_says_where_a_service_leads_and_why() -> None:
    known = table()
    put(known, "/desired/services/d/web", {"spec": WEB})
    put(known, "/desired/endpointslices/d/web-1", far("10.244.2.2"))
    said = trace(known, "web.d.svc.cluster.local", "cluster.local", alone=False)
    assert said["ports"][0]["goes to"] == ["10.244.2.2:8080"] and said["ports"][0]["why"] == "every endpoint"
    assert observe.services(known, "")["services"][0]["endpoints"] == 1


@pytest.mark.parametrize("label", ["service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"])
def test_what_is_left_to_another_proxy_has_no_rules_here_but_a_name(label: str) -> None:
    known = table()
    labelled = {"metadata": {"labels": {label: ""}}, "spec": WEB}
    put(known, "/desired/services/d/web", labelled)
    put(known, "/desired/endpointslices/d/web-1", far("10.244.2.2"))

    def made() -> Rules:
        web = known.services["d/web"]
        return rules_of(web, known.endpoints(web), LocalNode(node="edge1"), 4)

    assert made() == Rules()
    said = trace(known, "web.d.svc.cluster.local", "cluster.local", alone=False)
    assert said["ports"][0]["goes to"] == ["nothing"] and "another proxy" in str(said)
    put(known, "/desired/services/d/web", {"spec": WEB})
    ours = made()
    assert ours != Rules()
    slice = far("10.244.2.3")
    slice["metadata"]["labels"][label] = "x"
    put(known, "/desired/endpointslices/d/web-2", slice)
    assert made() == ours, "one slice of a Service that is ours"


def rules(name: str, address: str, *endpoints: str, node_port: int = 0) -> Rules:
    service = Service(
        namespace="d",
        name=name,
        addresses=(ipaddress.ip_address(address),),
        ports=(ServicePort("", "TCP", 80, 80, node_port),),
    )
    behind = [Endpoint(address=ipaddress.ip_address(a), ports={"": ("TCP", 80)}, node="edge1") for a in endpoints]
    return rules_of(service, behind, LocalNode(node="edge1"), 4)


def test_one_endpoint_more_is_one_rule_and_one_service_more_is_one_element() -> None:
    old = {f"d/{n}": rules(f"s{n}", f"10.96.0.{n}", "10.244.1.2") for n in range(1, 100)}
    new = {**old, "d/1": rules("s1", "10.96.0.1", "10.244.1.2", "10.244.1.3")}
    lines = changes(old, new, ["d/1"], 4).splitlines()
    assert [line.split(" ip ")[0] for line in lines] == ["flush chain", "add rule", "add element"]
    assert changes(old, old, list(old), 4) == ""
    gone = {key: value for key, value in old.items() if key != "d/1"}
    text = changes(old, gone, ["d/1"], 4)
    assert "services { 10.96.0.1 . tcp . 80 }" in text and "hairpin" not in text, "another Service has that pod, too"


def test_of_two_services_that_want_one_node_port_the_first_has_it_until_it_goes() -> None:
    one, two = (
        rules("a", "10.96.0.1", "10.0.0.1", node_port=30000),
        rules("b", "10.96.0.2", "10.0.0.2", node_port=30000),
    )
    both = {"d/a": one, "d/b": two}
    first = changes({"d/b": two}, both, ["d/a"], 4)
    chain = next(iter(n for n in one.chains if n.startswith("out")))
    assert f"add element ip kubeedge-mesh node-ports {{ tcp . 30000 : goto {chain} }}" in first
    after = changes(both, {"d/b": two}, ["d/a"], 4)
    other = next(iter(n for n in two.chains if n.startswith("out")))
    assert f"add element ip kubeedge-mesh node-ports {{ tcp . 30000 : goto {other} }}" in after


def test_objects_of_any_shape_stop_nothing_and_reach_no_rule_as_text() -> None:
    seed = 20261128
    rng = random.Random(seed)
    evil: list[Any] = [
        None, 7, -1, 1 << 70, 1.5, True, "", "x", "a } ; flush ruleset", "\n", [], {}, [None], [[]], {"a": {}}, "10.96.0.1", [{"port": "x"}],
    ]  # fmt: skip
    known = table()
    for _ in range(1500):
        spec = {
            **json.loads(json.dumps(WEB)),
            "type": "NodePort",
            "externalIPs": ["192.0.2.1"],
            "sessionAffinity": "ClientIP",
        }
        value: Any = {"spec": spec}
        slices, pod, status = far("10.244.2.2"), json.loads(json.dumps(POD)), json.loads(json.dumps(RUNS))
        for target in rng.sample([value, spec, spec["ports"][0], slices, slices["endpoints"][0], slices["ports"][0], pod, pod["metadata"], pod["spec"], status, status["status"]], 2):  # fmt: skip
            target[rng.choice([*target, "x"])] = rng.choice(evil)
        for key, obj in (
            ("/desired/services/d/web", value), ("/desired/endpointslices/d/web-1", slices),
            ("/desired/pods/d/p", pod), ("/reported/pods/d/p", status),
        ):  # fmt: skip
            put(known, key, obj)
        if (service := known.services.get("d/web")) is not None:
            made = {"d/web": rules_of(service, known.endpoints(service), LocalNode(node="edge1"), 4)}
            assert "flush ruleset" not in changes({}, made, ["d/web"], 4)
    assert "delete table ip kubeedge-mesh" in header(4, [], bridged=True)


def test_an_address_with_a_zone_is_none() -> None:
    zone = "%x } accept\nflush ruleset\n#"
    known = table()
    bad = [f"2001:db8::{n}{zone}" for n in range(4)]
    spec = {**WEB, "clusterIPs": ["fd00::1", bad[0]], "externalIPs": [bad[1], "2001:db8::9"]}
    status = {"loadBalancer": {"ingress": [{"ip": bad[2]}]}}
    put(known, "/desired/services/d/web", {"spec": spec, "status": status})
    put(known, "/desired/endpointslices/d/web-1", far(bad[3], "fd00::3") | {"addressType": "IPv6"})
    web = known.services["d/web"]
    assert [str(a) for a in (*web.addresses, *web.external)] == ["fd00::1", "2001:db8::9"]
    assert [str(e.address) for e in known.endpoints(web)] == ["fd00::3"]
    commands = changes({}, {"d/web": rules_of(web, known.endpoints(web), LocalNode(node="edge1"), 6)}, {"d/web"}, 6)
    assert "fd00::3" in commands and "%" not in commands and "flush ruleset" not in commands


def test_a_pod_with_both_versions_is_behind_the_addresses_that_its_service_has() -> None:
    known = table()
    status = {**RUNS["status"], "podIPs": [{"ip": "10.244.1.2"}, {"ip": "fd00:10:244:1::2"}, {"ip": "fd00::99"}]}
    put(known, "/desired/pods/d/p", POD)
    put(known, "/reported/pods/d/p", {**RUNS, "status": status})
    for families, addresses in (
        (["IPv4"], ["10.244.1.2:8080"]),
        (["IPv6"], ["fd00:10:244:1::2:8080"]),
        (["IPv4", "IPv6"], ["10.244.1.2:8080", "fd00:10:244:1::2:8080"]),
        (None, ["10.244.1.2:8080", "fd00:10:244:1::2:8080"]),
    ):
        put(known, "/desired/services/d/web", {"spec": {**WEB, "ipFamilies": families}})
        assert targets(known) == addresses
    assert [str(a) for a in known.addresses()] == ["10.244.1.2", "fd00:10:244:1::2"]
    assert [str(p.address) for p in known.pods()] == ["10.244.1.2", "fd00:10:244:1::2"]
