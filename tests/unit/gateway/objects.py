"""Objects of Gateway API and Ingress for the tests, short to write."""

from __future__ import annotations

import base64
import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kubeedge.api import meta
from kubeedge.api.names import Object, TenantId
from kubeedge.gateway.model import RouteEntry, RouteRequest
from kubeedge.gateway.table import RouteTable
from kubeedge_cloud.gateway.core import Compilation, compile_routes
from kubeedge_cloud.gateway.ports import GatewayPorts
from kubeedge_cloud.gateway.references import GatewayObjects
from tests.kit.certs import TestAuthority

T = TenantId("acme")
PORTS = GatewayPorts(http=frozenset((80, 8080)))
TLS_PORTS = GatewayPorts(https=frozenset((443, 8443)))
CLASS: Object = {"metadata": {"name": "kubeedge", "generation": 1}, "spec": {"controllerName": "kubeedge.io/gateway"}}
_created = itertools.count()


def named(name: str, spec: Object, namespace: str = "default", **metadata: Any) -> Object:
    """Each is a second younger than the one before."""
    stamp = meta.timestamp(1_700_000_000 + next(_created))
    inner = {"name": name, "namespace": namespace, "generation": 1, "creationTimestamp": stamp, **metadata}
    return {"metadata": inner, "spec": spec}


def listener(name: str = "web", *, port: int = 80, protocol: str = "HTTP", **more: Any) -> Object:
    return {"name": name, "port": port, "protocol": protocol, **more}


def gateway(*listeners: Object, name: str = "edge", namespace: str = "default") -> Object:
    spec = {"gatewayClassName": "kubeedge", "listeners": list(listeners or (listener(),))}
    return named(name, spec, namespace)


def route(*rules: Object, name: str = "shop", hostnames: Sequence[str] = (), **parent: Any) -> Object:
    spec: Object = {
        "parentRefs": [{"name": "edge", **parent}],
        "hostnames": list(hostnames),
        "rules": list(rules) or [rule()],
    }
    return named(name, spec)


def rule(*backends: str, **more: Any) -> Object:
    refs = [{"name": name, "port": 80} for name in backends or ("web",)]
    return {"backendRefs": refs, **more}


def path(value: str, kind: str = "PathPrefix", **more: Any) -> Object:
    return {"path": {"type": kind, "value": value}, **more}


def service(namespace: str, name: str) -> Object | None:
    """Every Service but "absent" is there, with the ports 80 (http) and 81 (admin)."""
    if name == "absent":
        return None
    ports = [{"name": "http", "port": 80, "targetPort": 8080}, {"name": "admin", "port": 81}]
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"ports": ports}}


def compiled(
    *objects: Object, taken: dict[str, str] | None = None, ports: GatewayPorts = PORTS, **more: Any
) -> Compilation:
    """Sorted by what they are."""
    gateways = [o for o in objects if "listeners" in o["spec"]]
    routes = [o for o in objects if "parentRefs" in o["spec"]]
    grants = [o for o in objects if "from" in o["spec"]]
    rest = [o for o in objects if not any(o is other for other in (*gateways, *routes, *grants))]
    by_namespace = {o["metadata"]["namespace"]: [o] for o in grants}
    found = GatewayObjects(
        classes=[CLASS], gateways=gateways, routes=routes, grants=by_namespace, ingresses=rest, service=service, **more
    )
    return compile_routes(
        T, found, ports, taken=taken or {}, addresses=["cloud.example", "203.0.113.1"], now=1_800_000_000
    )


def taken_by(
    found: Compilation,
    target: str = "/",
    host: str = "shop.example",
    *,
    method: str = "GET",
    scheme: str = "http",
    **headers: str,
) -> RouteEntry | None:
    """The entry that takes a request."""
    where, _, query = target.partition("?")
    fields = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return RouteTable(found.routes.entries).find(RouteRequest(scheme, host, where, query, method, fields))


def backend(entry: RouteEntry | None) -> str:
    """The first backend of an entry; "" without one."""
    return entry.rule.backends[0].service if entry is not None else ""


def conditions(status: Object) -> dict[str, str]:
    """Type -> reason; with a ! where it is not True."""
    return {c["type"]: ("" if c["status"] == "True" else "!") + c["reason"] for c in status["conditions"]}


def parent_conditions(found: Compilation, name: str = "shop", namespace: str = "default") -> dict[str, str]:
    """Of the only parent of a route."""
    (parent,) = found.statuses["httproutes"][namespace, name]["parents"]
    return conditions(parent)


def tls_secret(name: str, host: str) -> tuple[Object, bytes]:
    """A Secret with a certificate for the host, and the authority that has signed it, PEM."""
    with tempfile.TemporaryDirectory() as directory:
        issued = TestAuthority(Path(directory)).issue(host, hosts=[host])
        files = {"tls.crt": issued.cert, "tls.key": issued.key}
        data = {key: base64.b64encode(file.read_bytes()).decode() for key, file in files.items()}
        return {"metadata": {"name": name}, "type": "kubernetes.io/tls", "data": data}, issued.ca.read_bytes()
