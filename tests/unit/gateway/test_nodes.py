"""Which node serves which Gateway and Ingress, and what their status says of it."""

from __future__ import annotations

from typing import Any

from kubeedge.api.names import NodeName, Object
from kubeedge.gateway.model import ListenPoint
from kubeedge.gateway.reports import ListenReport
from kubeedge_cloud.gateway.core import Compilation, compile_routes
from kubeedge_cloud.gateway.nodes import MAX_SITES, NODES, NodeCompilation, NodeSite, compile_nodes, concerned
from kubeedge_cloud.gateway.references import GatewayObjects
from tests.unit.gateway.objects import CLASS, PORTS, T, conditions, gateway, listener, named, route, service

NODE_CLASS: Object = {"metadata": {"name": "site"}, "spec": {"controllerName": "kubeedge.io/node-gateway"}}
INGRESS_CLASS: Object = {"metadata": {"name": "lan"}, "spec": {"controller": "kubeedge.io/node-ingress"}}
ONE = NodeSite(NodeName("edge1"), {"site": "a", "n": "1"}, ListenReport("192.168.1.2"))
TWO = NodeSite(NodeName("edge2"), {"site": "a", "n": "2"}, ListenReport("192.168.1.3"))


def at_node(*listeners: Object, name: str = "edge", where: str = "") -> Object:
    found = gateway(*listeners, name=name)
    found["spec"]["gatewayClassName"] = "site"
    if where:
        found["metadata"]["annotations"] = {NODES: where}
    return found


def ingress(*, tls: bool = False) -> Object:
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    paths = [{"path": "/", "pathType": "Prefix", "backend": backend}]
    spec: Object = {"ingressClassName": "lan", "rules": [{"host": "i.example", "http": {"paths": paths}}]}
    if tls:
        spec["tls"] = [{"hosts": ["i.example"], "secretName": "tls"}]
    return named("i", spec)


def compiled(
    *objects: Object, sites: Any = (ONE, TWO), classes: Any = (CLASS, NODE_CLASS), **more: Any
) -> tuple[Compilation, NodeCompilation]:
    found = GatewayObjects(
        classes=list(classes),
        gateways=[o for o in objects if "listeners" in o["spec"]],
        routes=[o for o in objects if "parentRefs" in o["spec"]],
        ingresses=[o for o in objects if "ingressClassName" in o["spec"]],
        ingressclasses=[INGRESS_CLASS],
        service=service,
        **more,
    )
    assert concerned(found)
    before = compile_routes(T, found, PORTS, taken={}, addresses=["cloud.example"], now=1_800_000_000)
    return before, compile_nodes(T, found, sites, before, 1_800_000_000)


def status(found: NodeCompilation, name: str = "edge", plural: str = "gateways") -> Object:
    return found.statuses[plural]["default", name]


def addresses(found: Object) -> list[str]:
    return [entry["value"] for entry in found["addresses"]]


def test_a_gateway_is_on_all_nodes_that_its_class_and_itself_select() -> None:
    _, found = compiled(at_node(), route())
    assert set(found.tables) == {"edge1", "edge2"}
    assert addresses(status(found)) == ["192.168.1.2", "192.168.1.3"]
    assert conditions(status(found)) == {"Accepted": "Accepted", "Programmed": "Programmed"}
    _, found = compiled(at_node(where="n=2"), route())
    assert set(found.tables) == {"edge2"} and addresses(status(found)) == ["192.168.1.3"]
    assert found.tables[NodeName("edge2")].points == {ListenPoint("", 80): "HTTP"}
    [parent] = status(found, "shop", "httproutes")["parents"]
    assert parent["controllerName"] == "kubeedge.io/node-gateway" and conditions(parent)["Accepted"] == "Accepted"


def test_a_gateway_on_many_nodes_has_as_many_addresses_as_its_status_may_have() -> None:
    sites = [NodeSite(NodeName(f"edge{n:02}"), {}, ListenReport(f"192.168.1.{n + 1}")) for n in range(MAX_SITES)]
    _, found = compiled(at_node(), route(), sites=sites)
    assert len(found.tables) == MAX_SITES
    assert addresses(status(found)) == [f"192.168.1.{n + 1}" for n in range(16)]


def test_a_gateway_is_on_no_node_that_its_class_does_not_allow() -> None:
    narrow = {**NODE_CLASS, "metadata": {"name": "site", "annotations": {NODES: "n=1"}}}
    _, found = compiled(at_node(where="site=a"), route(), classes=[narrow])
    assert set(found.tables) == {"edge1"}
    for where in ("n=2", "site=a,,", "site=elsewhere"):
        _, found = compiled(at_node(where=where), route(), classes=[narrow])
        assert found.tables == {} and conditions(status(found))["Programmed"] == "!AddressNotUsable"
        assert status(found)["addresses"] == []
        assert "no node" in status(found)["conditions"][1]["message"]


def test_a_selector_that_is_long_to_read_selects_no_node() -> None:
    """Thousands of objects may have one of 16 KiB each, which is read for each node in the thread of all tenants."""
    _, found = compiled(
        at_node(where="site in (a)," * 80 + "site"), at_node(where="site in (a)," * 90 + "site", name="l")
    )
    assert set(found.tables) == {"edge1", "edge2"} and addresses(status(found))
    assert conditions(status(found, "l"))["Programmed"] == "!AddressNotUsable"


def test_the_status_is_that_of_the_node_where_least_works() -> None:
    busy = NodeSite(NodeName("edge0"), TWO.labels, ListenReport("192.168.1.4", (), {ListenPoint("", 80): "in use"}))
    _, found = compiled(at_node(), route(), sites=[ONE, busy])
    assert conditions(status(found))["Programmed"] == "!Invalid"
    assert addresses(status(found)) == ["192.168.1.4", "192.168.1.2"]
    assert found.tables[NodeName("edge0")].entries == () and len(found.tables[NodeName("edge1")].entries) == 1


def test_what_the_cloud_says_of_a_route_stays_and_what_was_said_of_nodes_goes() -> None:
    both = route()
    both["spec"]["parentRefs"].append({"name": "lan"})
    before, found = compiled(gateway(), at_node(name="lan"), both)
    parents = status(found, "shop", "httproutes")["parents"]
    assert [(p["parentRef"]["name"], p["controllerName"]) for p in parents] == [
        ("edge", "kubeedge.io/gateway"), ("lan", "kubeedge.io/node-gateway"),
    ]  # fmt: skip
    assert len(before.routes.entries) == 1 and {e.at for e in found.tables[ONE.name].entries} == {ListenPoint("", 80)}
    written = {**both, "status": {"parents": parents}}
    _, found = compiled(gateway(), written)
    [parent] = status(found, "shop", "httproutes")["parents"]
    assert parent["controllerName"] == "kubeedge.io/gateway" and found.tables == {}


def test_every_port_of_a_node_is_its_tenants_and_two_protocols_conflict() -> None:
    tcp = listener("db", port=5432, protocol="TCP")
    _, found = compiled(at_node(listener(port=8080), tcp), at_node(listener(port=5432), name="later"))
    table = found.tables[ONE.name]
    assert table.points == {ListenPoint("", 8080): "HTTP", ListenPoint("", 5432): "TCP"}
    [told] = status(found, "later")["listeners"]
    assert conditions(told)["Accepted"] == "!PortUnavailable"


def test_a_gateway_may_have_an_address_of_a_node_to_itself() -> None:
    own = NodeSite(NodeName("edge1"), {}, ListenReport("192.168.1.2", ["192.168.1.9"]))
    _, found = compiled(at_node(name="a"), at_node(name="b"), sites=[own])
    assert addresses(status(found, "a")) == ["192.168.1.9"] and addresses(status(found, "b")) == ["192.168.1.2"]
    assert set(found.tables[own.name].points) == {ListenPoint("192.168.1.9", 80), ListenPoint("", 80)}
    [of_class] = found.statuses["gatewayclasses"].values()
    assert "GatewayStaticAddresses" in {entry["name"] for entry in of_class["supportedFeatures"]}
    _, found = compiled(at_node(), sites=[NodeSite(NodeName("edge1"), {}, ListenReport())])
    assert conditions(status(found))["Programmed"] == "!Invalid", "it has no address at all"


def test_an_ingress_opens_the_ports_that_everybody_means() -> None:
    _, found = compiled(ingress(), sites=[ONE])
    table = found.tables[ONE.name]
    assert table.points == {ListenPoint("", 80): "HTTP"}
    assert {(e.scheme, e.at) for e in table.entries} == {("http", ListenPoint("", 80))}
    assert status(found, "i", "ingresses") == {"loadBalancer": {"ingress": [{"ip": "192.168.1.2"}]}}
    _, found = compiled(ingress(tls=True), sites=[ONE, TWO])
    assert set(found.tables[ONE.name].points) == {ListenPoint("", 80), ListenPoint("", 443)}
    assert status(found, "i", "ingresses")["loadBalancer"]["ingress"] == [{"ip": "192.168.1.2"}, {"ip": "192.168.1.3"}]
    tcp = at_node(listener(port=80, protocol="TCP"))
    _, found = compiled(tcp, ingress(), sites=[ONE])
    assert found.tables[ONE.name].entries == ()
    assert found.faults["default", "i"] == ["port 80 is in use for another protocol"]


def test_the_cloud_leaves_to_nodes_what_is_theirs() -> None:
    before, _ = compiled(at_node(), route(), ingress())
    assert before.routes.entries == () and before.routes.points == {}
    assert before.statuses["gateways"] == {} and before.statuses["ingresses"] == {}
