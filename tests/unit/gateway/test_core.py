"""What Gateways, routes and Ingresses say together: the table, and the conditions of each."""

from __future__ import annotations

from typing import Any

import pytest

from kubeedge.api.names import Object
from kubeedge.gateway import table
from kubeedge.gateway.model import WEB, ListenPoint
from kubeedge_cloud.gateway import core
from kubeedge_cloud.gateway.core import MAX_HOSTNAMES, MAX_MATCHES
from kubeedge_cloud.gateway.ports import GatewayPorts
from tests.unit.gateway.objects import (
    TLS_PORTS,
    backend,
    compiled,
    conditions,
    gateway,
    listener,
    named,
    parent_conditions,
    path,
    route,
    rule,
    taken_by,
)


def listener_conditions(status: Object, name: str = "web") -> dict[str, str]:
    return next(conditions(entry) for entry in status["listeners"] if entry["name"] == name)


def test_a_gateway_and_its_route_are_accepted_and_serve() -> None:
    found = compiled(gateway(), route(hostnames=["shop.example"]))
    assert backend(taken_by(found)) == "web" and taken_by(found, host="other.example") is None
    status = found.statuses["gateways"]["default", "edge"]
    assert conditions(status) == {"Accepted": "Accepted", "Programmed": "Programmed"}
    assert status["addresses"] == [
        {"type": "Hostname", "value": "cloud.example"},
        {"type": "IPAddress", "value": "203.0.113.1"},
    ]
    (web,) = status["listeners"]
    assert web["attachedRoutes"] == 1 and web["supportedKinds"][0]["kind"] == "HTTPRoute"
    assert conditions(web) == {
        "Accepted": "Accepted", "Programmed": "Programmed", "ResolvedRefs": "ResolvedRefs", "Conflicted": "!NoConflicts"
    }  # fmt: skip
    assert parent_conditions(found) == {"Accepted": "Accepted", "ResolvedRefs": "ResolvedRefs"}
    assert conditions(found.statuses["gatewayclasses"]["", "kubeedge"]) == {"Accepted": "Accepted"}
    assert found.routes.hostnames == {"shop.example"}


def test_the_time_of_a_condition_stays_while_its_status_does() -> None:
    one, shop = gateway(), route()
    first = compiled(one, shop)
    one["status"], shop["status"] = (
        first.statuses["gateways"]["default", "edge"], first.statuses["httproutes"]["default", "shop"]
    )  # fmt: skip
    again = compiled(one, shop)
    assert again.statuses["gateways"]["default", "edge"] == one["status"]
    assert again.statuses["httproutes"]["default", "shop"] == shop["status"]


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"namespace": "elsewhere"}, None),
        ({"sectionName": "other"}, "!NoMatchingParent"),
        ({"port": 81}, "!NoMatchingParent"),
        ({"sectionName": "web", "port": 80}, "Accepted"),
    ],
)
def test_parents(more: dict[str, Any], reason: str | None) -> None:
    found = compiled(gateway(), route(**more))
    if reason is None:  # a Gateway that is not ours is not ours to speak of
        assert found.statuses["httproutes"] == {} and not found.routes.entries
    else:
        assert parent_conditions(found)["Accepted"] == reason


def test_what_another_controller_says_of_a_route_stays() -> None:
    theirs = {"parentRef": {"name": "x"}, "controllerName": "other.example/c", "conditions": []}
    ours = {"parentRef": {"name": "gone"}, "controllerName": "kubeedge.io/gateway", "conditions": []}
    shop = {**route(), "status": {"parents": [theirs, ours]}}
    parents = compiled(gateway(), shop).statuses["httproutes"]["default", "shop"]["parents"]
    assert [p["parentRef"]["name"] for p in parents] == ["x", "edge"] and parents[0] == theirs


@pytest.mark.parametrize(
    ("allowed", "namespace", "reason"),
    [
        (None, "default", "Accepted"),
        (None, "team", "!NotAllowedByListeners"),
        ({"namespaces": {"from": "All"}}, "team", "Accepted"),
        ({"namespaces": {"from": "None"}}, "default", "!NotAllowedByListeners"),
        ({"namespaces": {"from": "Selector", "selector": {"matchLabels": {"web": "y"}}}}, "team", "Accepted"),
        (
            {"namespaces": {"from": "Selector", "selector": {"matchLabels": {"web": "n"}}}},
            "team",
            "!NotAllowedByListeners",
        ),
        ({"namespaces": {"from": "All"}, "kinds": [{"kind": "TCPRoute"}]}, "team", "!NotAllowedByListeners"),
    ],
)
def test_which_routes_a_listener_takes(allowed: Object | None, namespace: str, reason: str) -> None:
    team = {"metadata": {"name": "team", "labels": {"web": "y"}}}
    one = gateway(listener(allowedRoutes=allowed) if allowed else listener())
    found = compiled(one, within(namespace), namespaces={"team": team})
    assert parent_conditions(found, namespace=namespace)["Accepted"] == reason


def within(namespace: str) -> Object:
    """A route in a namespace, of the Gateway in the default one."""
    found = route()
    found["metadata"]["namespace"] = namespace
    found["spec"]["parentRefs"][0]["namespace"] = "default"
    return found


@pytest.mark.parametrize(
    ("of_listener", "of_route", "served"),
    [
        (None, ["a.example"], ["a.example"]),
        ("a.example", [], ["a.example"]),
        ("*.example", ["a.example", "other.test"], ["a.example"]),
        ("a.example", ["*.example"], ["a.example"]),
        ("a.example", ["b.example"], []),
    ],
)
def test_host_names_of_listener_and_route_meet(of_listener: str | None, of_route: list[str], served: list[str]) -> None:
    found = compiled(gateway(listener(hostname=of_listener)), route(hostnames=of_route))
    assert sorted({entry.hostname for entry in found.routes.entries}) == served
    assert parent_conditions(found)["Accepted"] == ("Accepted" if served else "!NoMatchingListenerHostname")


@pytest.mark.parametrize(
    ("one", "reasons"),
    [
        (listener(port=81), {"Accepted": "!PortUnavailable", "Programmed": "!Invalid"}),
        (listener(protocol="UDP"), {"Accepted": "!UnsupportedProtocol"}),
        (listener(protocol="TCP"), {"Accepted": "!PortUnavailable"}),
        (listener(port=443, protocol="HTTPS"), {"Accepted": "!PortUnavailable"}),
        (listener(allowedRoutes={"kinds": [{"kind": "UDPRoute"}]}), {"ResolvedRefs": "!InvalidRouteKinds"}),
    ],
)
def test_a_listener_that_does_not_work_says_why(one: Object, reasons: dict[str, str]) -> None:
    found = compiled(gateway(one), route())
    status = found.statuses["gateways"]["default", "edge"]
    assert reasons.items() <= listener_conditions(status).items()
    assert not found.routes.entries


def test_listeners_of_one_host_and_port_are_in_conflict_and_the_others_serve() -> None:
    listeners = [
        listener("a", hostname="x.example"),
        listener("b", hostname="x.example"),
        listener(hostname="y.example"),
    ]
    status = compiled(gateway(*listeners), route()).statuses["gateways"]["default", "edge"]
    assert listener_conditions(status, "a")["Conflicted"] == "HostnameConflict"
    assert listener_conditions(status)["Programmed"] == "Programmed"
    assert conditions(status) == {"Accepted": "ListenersNotValid", "Programmed": "Programmed"}


@pytest.mark.parametrize(
    ("ref", "reason"),
    [
        ({"name": "web", "port": 80}, "ResolvedRefs"),
        ({"name": "absent", "port": 80}, "!BackendNotFound"),
        ({"name": "web", "port": 82}, "!BackendNotFound"),
        ({"name": "web", "port": 80, "kind": "Bucket", "group": "x.example"}, "!InvalidKind"),
        ({"name": "web", "port": 80, "namespace": "team"}, "!RefNotPermitted"),
    ],
)
def test_a_backend_that_is_none_is_a_500_and_a_condition(ref: Object, reason: str) -> None:
    found = compiled(gateway(), route({"backendRefs": [ref]}))
    assert parent_conditions(found) == {"Accepted": "Accepted", "ResolvedRefs": reason}
    entry = taken_by(found)
    assert entry is not None and bool(entry.rule.backends[0].fault) is (reason != "ResolvedRefs")


def grant(kind: str, to: Object, namespace: str = "team") -> Object:
    origin = {"group": "gateway.networking.k8s.io", "kind": kind, "namespace": "default"}
    return named("allow", {"from": [origin], "to": [to]}, namespace)


def test_a_grant_allows_references_into_its_namespace() -> None:
    shop = route({"backendRefs": [{"name": "web", "port": 80, "namespace": "team"}]})
    for to, allowed in (
        ({"kind": "Service"}, True),
        ({"kind": "Service", "name": "x"}, False),
        ({"kind": "Secret"}, False),
    ):
        reason = parent_conditions(compiled(gateway(), shop, grant("HTTPRoute", to)))["ResolvedRefs"]
        assert reason == ("ResolvedRefs" if allowed else "!RefNotPermitted")
    elsewhere = grant("HTTPRoute", {"kind": "Service"}, "other")
    assert parent_conditions(compiled(gateway(), shop, elsewhere))["ResolvedRefs"] == "!RefNotPermitted"


def secure(**ref: Any) -> Object:
    return gateway(listener(port=443, protocol="HTTPS", tls={"certificateRefs": [{"name": "tls", **ref}]}))


def test_certificates_come_from_secrets_that_are_there_good_and_granted() -> None:
    shop = route(hostnames=["shop.example"])
    found = compiled(secure(), shop, ports=TLS_PORTS)
    (ref,) = found.routes.certificates
    assert (ref.hostname, ref.namespace, ref.secret) == ("shop.example", "default", "tls")
    assert taken_by(found, scheme="https") and not taken_by(found, scheme="http")
    for one, more, reason in (
        (secure(), {"certificate_fault": lambda namespace, name: "is no certificate"}, "!InvalidCertificateRef"),
        (secure(kind="ConfigMap"), {}, "!InvalidCertificateRef"),
        (secure(namespace="team"), {}, "!RefNotPermitted"),
    ):
        found = compiled(one, shop, ports=TLS_PORTS, **more)
        status = found.statuses["gateways"]["default", "edge"]
        assert listener_conditions(status)["ResolvedRefs"] == reason
        assert not found.routes.certificates and not found.routes.entries
    granted = compiled(secure(namespace="team"), shop, grant("Gateway", {"kind": "Secret"}), ports=TLS_PORTS)
    assert granted.routes.certificates[0].namespace == "team"


@pytest.mark.parametrize(
    "more",
    [
        {"matches": [{"path": {"type": "RegularExpression", "value": "/.*"}}]},
        {"matches": [{"headers": [{"type": "RegularExpression", "name": "a", "value": ".*"}]}]},
        {"filters": [{"type": "ExtensionRef", "extensionRef": {}}]},
        {"filters": [{"type": "CORS", "cors": {}}]},
        {"retry": {"attempts": 2}},
    ],
)
def test_a_route_that_asks_for_what_there_is_not_is_not_accepted(more: dict[str, Any]) -> None:
    found = compiled(gateway(), route(rule(**more), rule("other")))
    assert parent_conditions(found)["Accepted"] == "!UnsupportedValue" and not found.routes.entries


def test_a_host_that_another_tenant_has_is_refused_with_a_reason() -> None:
    taken = {"a.example": "a.example is not ours"}
    found = compiled(gateway(), route(hostnames=["a.example"]), taken=taken)
    assert parent_conditions(found)["Accepted"] == "!HostnameTaken" and not found.routes.entries
    assert found.routes.hostnames == {"a.example"}  # it is wanted all the same
    found = compiled(gateway(), route(hostnames=["a.example", "b.example"]), taken=taken)
    assert parent_conditions(found)["PartiallyInvalid"] == "HostnameTaken"
    assert [entry.hostname for entry in found.routes.entries] == ["b.example"]


def test_matches_and_host_names_of_a_tenant_are_bounded_and_the_older_ones_stay() -> None:
    many = [rule(matches=[path(f"/{n}-{m}") for m in range(64)]) for n in range(16)]
    found = compiled(gateway(), route(*many, name="first"), route(rule("late"), name="late"))
    assert len(found.routes.entries) == MAX_MATCHES == 1024
    assert parent_conditions(found, "first")["Accepted"] == "Accepted"
    assert parent_conditions(found, "late")["Accepted"] == "!TooManyRoutes"
    routes = [route(name=f"r{n}", hostnames=[f"h{n}-{m}.example" for m in range(16)]) for n in range(17)]
    found = compiled(gateway(), *routes)
    assert len(found.routes.hostnames) == MAX_HOSTNAMES == 256
    assert parent_conditions(found, "r15")["Accepted"] == "Accepted"
    assert parent_conditions(found, "r16")["Accepted"] == "!HostnameTaken"


def ingress(*paths: tuple[str, str, str], host: str = "shop.example", **more: Any) -> Object:
    entries = [
        {"path": p, "pathType": kind, "backend": {"service": {"name": name, "port": {"name": "http"}}}}
        for p, kind, name in paths
    ]
    return named("old", {"rules": [{"host": host, "http": {"paths": entries}}], **more})


def test_an_ingress_is_a_part_of_the_same_table() -> None:
    one = ingress(("/a", "Prefix", "prefix"), ("/a", "Exact", "exact"), ("/a/b/", "ImplementationSpecific", "longer"))
    found = compiled(one)
    for target, wanted in (("/a", "exact"), ("/a/", "prefix"), ("/a/b", "longer"), ("/ab", "")):
        assert backend(taken_by(found, target)) == wanted
    assert found.statuses["ingresses"]["default", "old"]["loadBalancer"]["ingress"] == [
        {"hostname": "cloud.example"}, {"ip": "203.0.113.1"}
    ]  # fmt: skip
    assert found.faults == {}


def test_a_wildcard_of_an_ingress_is_one_label_and_its_default_takes_the_rest() -> None:
    default = {"service": {"name": "rest", "port": {"number": 81}}}
    found = compiled(ingress(("/a", "Prefix", "web"), host="*.example", defaultBackend=default))
    assert backend(taken_by(found, "/a")) == "web" and backend(taken_by(found, "/z")) == "rest"
    assert taken_by(found, "/a", host="x.shop.example") is None
    assert backend(taken_by(compiled(named("d", {"defaultBackend": default})), host="any")) == "rest"


@pytest.mark.parametrize(
    ("name", "classes", "ours"),
    [
        (None, [], True),
        ("kubeedge", [], True),
        ("nginx", [], False),
        ("web", [("web", "kubeedge.io/ingress", False)], True),
        ("kubeedge", [("kubeedge", "k8s.io/nginx", False)], False),
        (None, [("nginx", "k8s.io/nginx", True)], False),
        (None, [("nginx", "k8s.io/nginx", True), ("web", "kubeedge.io/ingress", True)], True),
    ],
)
def test_which_ingresses_are_ours(name: str | None, classes: list[tuple[str, str, bool]], ours: bool) -> None:
    known = [
        {
            "metadata": {
                "name": n,
                "annotations": {"ingressclass.kubernetes.io/is-default-class": str(default).lower()},
            },
            "spec": {"controller": controller},
        }
        for n, controller, default in classes
    ]
    found = compiled(ingress(("/", "Prefix", "web"), ingressClassName=name), ingressclasses=known)
    assert bool(found.routes.entries) is ours and bool(found.statuses["ingresses"]) is ours


def test_what_is_wrong_with_an_ingress_is_told() -> None:
    one = ingress(("/", "Prefix", "absent"), tls=[{"hosts": ["shop.example"], "secretName": "s"}])
    found = compiled(one, certificate_fault=lambda namespace, name: "there is no Secret default/s")
    assert found.faults["default", "old"] == [
        "there is no Service default/absent",
        "there is no Secret default/s",
        "tls: the web listener of this cloud does not speak HTTPS",
    ]
    found = compiled(one, taken={"shop.example": "shop.example is not ours"})
    assert found.faults["default", "old"][-1] == "shop.example is not ours" and not found.routes.entries
    assert found.statuses["ingresses"]["default", "old"] == {"loadBalancer": {"ingress": []}}


def test_a_compilation_is_so_much_work_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a time, but entries looked at: 64 Gateways of 64 listeners, and routes that name all of them, many times over."""
    made: list[str] = []
    monkeypatch.setattr(core, "intersection", lambda one, other: made.append(one) or table.intersection(one, other))
    listeners = [listener(f"l{n}", hostname=f"h{n}.example") for n in range(64)]
    gateways = [{**gateway(*listeners, name=f"g{n}")} for n in range(80)]
    routes = []
    for n in range(300):
        one = route(
            *[rule(matches=[path(f"/{m}") for m in range(64)])] * 16, name=f"r{n}", hostnames=["*.example"] * 16
        )
        one["spec"]["parentRefs"] = [{"name": f"g{m}"} for m in range(32)]
        routes.append(one)
    small = route(name="small", hostnames=["h1.example"])
    small["spec"]["parentRefs"] = [{"name": "g1"}]
    found = compiled(*gateways, *routes, small)
    assert len(made) <= core.MAX_WORK and len(found.routes.entries) <= MAX_MATCHES
    assert parent_conditions(found, "small")["Accepted"] == "Accepted"
    last = found.statuses["httproutes"]["default", "r299"]["parents"]
    assert [conditions(p) for p in last] == [{"Accepted": "!TooManyRoutes"}] * 32
    assert conditions(found.statuses["gateways"]["default", "g79"])["Accepted"] == "!TooManyGateways"


def test_an_ingress_opens_a_port_that_the_operator_has_given_to_gateways() -> None:
    ports = GatewayPorts(http=frozenset((80,)), shared={443: "TLS"})
    secured = ingress(("/", "Prefix", "web"), tls=[{"hosts": ["shop.example"], "secretName": "tls"}])
    found = compiled(secured, ports=ports)
    assert found.routes.points == {ListenPoint("", 443): "TLS"}
    assert {(e.scheme, e.at) for e in found.routes.entries} == {("http", WEB), ("https", ListenPoint("", 443))}
    assert found.faults == {}
    found = compiled(ingress(("/", "Prefix", "web")), ports=ports)
    assert found.routes.points == {} and {e.scheme for e in found.routes.entries} == {"http"}
