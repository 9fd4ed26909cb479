"""What `kubeedge mesh trace` says of each kind of Service."""

from __future__ import annotations

from typing import Any

import pytest

from kubeedge.errors import NotFound
from kubeedge.mesh.service_trace import trace
from kubeedge.mesh.table import MeshTable
from tests.unit.mesh.test_table import POD, RUNS, WEB, far, put, table


def said(of: MeshTable, name: str = "web.d", *, alone: bool = False) -> dict[str, Any]:
    return trace(of, name, "cluster.local", alone=alone)


def both() -> MeshTable:
    """A Service with a pod here and one elsewhere."""
    known = table()
    put(known, "/desired/services/d/web", {"spec": WEB})
    put(known, "/desired/pods/d/p", POD)
    put(known, "/reported/pods/d/p", RUNS)
    put(known, "/desired/endpointslices/d/web-1", far("10.244.2.2"))
    return known


def test_a_cluster_ip_and_what_is_out_of_reach() -> None:
    known = both()
    found = said(known, "web.d.svc.cluster.local.")
    assert found["resolves to"] == ["10.96.0.1"] and found["why"].startswith("cluster IP")
    assert found["ports"][0]["goes to"] == ["10.244.1.2:8080", "10.244.2.2:8080"]
    assert found["ports"][0]["why"] == "every endpoint" and "out of reach" not in found["ports"][0]
    (port,) = said(known, alone=True)["ports"]
    assert port["goes to"] == ["10.244.1.2:8080"] and port["out of reach"] == ["10.244.2.2"]
    assert port["why"] == "no link to other nodes: those on this node come first"
    put(known, "/desired/pods/d/p", None)
    (port,) = said(known, alone=True)["ports"]
    assert port["why"] == "no link to other nodes, and no endpoint on this one: not reachable now"


def test_a_node_port_and_its_traffic_policy() -> None:
    known = both()
    ports = [{**WEB["ports"][0], "nodePort": 30080}]
    spec = {**WEB, "type": "NodePort", "ports": ports, "externalTrafficPolicy": "Local"}
    put(known, "/desired/services/d/web", {"spec": spec})
    (port,) = said(known)["ports"]
    assert port["port"] == "80:30080/TCP" and len(port["goes to"]) == 2
    assert port["from outside"] == {"goes to": ["10.244.1.2:8080"], "why": "externalTrafficPolicy is Local"}
    put(known, "/desired/pods/d/p", None)
    (port,) = said(known)["ports"]
    assert port["from outside"]["goes to"] == ["nothing: dropped"]
    assert port["from outside"]["why"] == "externalTrafficPolicy is Local, and no ready endpoint is on this node"


def test_no_endpoints_and_why() -> None:
    known = table()
    put(known, "/desired/services/d/web", {"spec": WEB})
    (port,) = said(known)["ports"]
    assert port["goes to"] == ["nothing: refused"] and "no pod with an address has the labels" in port["why"]
    put(known, "/desired/services/d/web", {"spec": {k: v for k, v in WEB.items() if k != "selector"}})
    assert "no EndpointSlice names it" in said(known)["ports"][0]["why"]
    other = far("10.244.2.2") | {"ports": [{"name": "admin", "port": 1}]}
    put(known, "/desired/endpointslices/d/web-1", other)
    assert said(known)["ports"][0]["why"] == "no pod has this port: the endpoints have admin"
    put(known, "/desired/endpointslices/d/web-1", far("10.244.2.2", conditions={"ready": False}))
    assert said(known)["ports"][0]["why"] == "none is ready"


def test_headless_and_external_names() -> None:
    known = both()
    put(known, "/desired/services/d/web", {"spec": {**WEB, "clusterIP": "None", "clusterIPs": ["None"]}})
    found = said(known)
    assert found["type"] == "Headless" and found["resolves to"] == ["10.244.1.2", "10.244.2.2"]
    assert found["ports"][0]["why"] == "headless: clients choose among the addresses"
    for alias, why in (
        ("www.example.com", "it stands for www.example.com, which the machine's resolvers are asked for"),
        ("web.d.svc.cluster.local", "it stands for web.d.svc.cluster.local, which is traced by itself"),
        ("gone.d.svc.cluster.local", "it stands for gone.d.svc.cluster.local, which is no Service here"),
    ):
        put(known, "/desired/services/d/out", {"spec": {"type": "ExternalName", "externalName": alias}})
        found = said(known, "d/out")
        assert found["resolves to"] == [alias] and found["why"] == f"ExternalName: {why}" and found["ports"] == []


@pytest.mark.parametrize(
    ("rule", "allowed"),
    [
        ([], "from this node alone"),
        ([{"ports": [{"port": 1}], "all": True}], "from this node alone"),
        ([{"ports": [{"port": 8000, "endPort": 8100}], "all": True}], "from everybody"),
        ([{"blocks": [{"cidr": "10.0.0.0/8"}]}], "from the peers of these policies and this node alone"),
    ],
)
def test_a_policy_in_the_way_is_named(rule: list[Any], allowed: str) -> None:
    known = both()
    assert said(known)["policies"] == []
    spec = {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": rule}
    put(known, "/desired/networkpolicies/d/deny", {"spec": spec})
    put(known, "/desired/networkpolicies/other/deny", {"spec": spec})
    assert said(known)["policies"] == [
        {"endpoint": "10.244.1.2:8080/TCP", "isolated by": ["d/deny"], "allowed": allowed}
    ]


def test_a_service_that_is_not_here_says_which_annotation_brings_it() -> None:
    with pytest.raises(NotFound, match="mesh-namespaces"):
        said(table(), "web.elsewhere")
