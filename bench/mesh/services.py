"""The Services that both proxies get: as rows of a node's store, and as objects of an API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kubeedge.api.names import TenantId
from kubeedge.gateway.model import CompiledRoutes, ListenPoint, RouteBackend, RouteEntry, RouteMatch, RouteRule

Object = dict[str, Any]


def address(number: int) -> str:
    """The cluster IP of a Service."""
    return f"10.96.{1 + number // 250}.{1 + number % 250}"


def endpoints(number: int, count: int, first: str = "") -> list[str]:
    """Addresses of pods on other nodes; `first` alone, when it is given."""
    return [first] if first else [f"10.{128 + number // 250}.{number % 250}.{n + 1}" for n in range(count)]


def service(number: int) -> Object:
    """A Service of one port."""
    ip = address(number)
    ports = [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]
    spec = {"type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip], "ports": ports}
    return {"metadata": {"name": f"web-{number}", "namespace": "default"}, "spec": spec}


def endpoint_slice(number: int, addresses: list[str]) -> Object:
    """What is behind it."""
    labels = {"kubernetes.io/service-name": f"web-{number}"}
    return {
        "metadata": {"name": f"web-{number}-a", "namespace": "default", "labels": labels},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [a], "conditions": {"ready": True}, "nodeName": "edge2"} for a in addresses],
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }


def rows(services: int, count: int, first: str = "") -> Iterator[dict[str, Object]]:
    """By key of a node's store, some hundred at a time; `first`: the one endpoint of the first Service."""
    for start in range(0, services, 250):
        found: dict[str, Object] = {}
        for number in range(start, min(start + 250, services)):
            listed = endpoints(number, count, first if number == 0 else "")
            found[f"/desired/services/default/web-{number}"] = service(number)
            found[f"/desired/endpointslices/default/web-{number}-a"] = endpoint_slice(number, listed)
        yield found


def routes(count: int) -> CompiledRoutes:
    """Of a node's Gateways: a path for each of so many Services, on one port."""
    at = ListenPoint("", 80)
    rules = [RouteRule(f"HTTPRoute default/r{n}", (RouteBackend("default", f"web-{n}", "http"),)) for n in range(count)]
    entries = tuple(
        RouteEntry("*", "http", RouteMatch(f"/s{n}"), rule, ("", rule.name, 0, 0), at=at)
        for n, rule in enumerate(rules)
    )
    return CompiledRoutes(TenantId("default"), entries, points={at: "HTTP"}, listeners={(at, "*"): "http"})
