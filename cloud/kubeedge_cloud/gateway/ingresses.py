"""Ingresses, as entries of the table. Pure.

An Ingress is ours by its class: one whose controller is ours, or that is called like ours and is not there; without a class it is ours unless
another class is the default.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from kubeedge.api import meta
from kubeedge.api.names import Object
from kubeedge.gateway.model import (
    EVERY_HOST,
    CertificateRef,
    RouteBackend,
    RouteEntry,
    RouteMatch,
    RouteRule,
)
from kubeedge_cloud.gateway.ports import GatewayPorts
from kubeedge_cloud.gateway.references import GatewayObjects, age, service_port, title

INGRESS_CONTROLLER = "kubeedge.io/ingress"
NODE_INGRESS_CONTROLLER = "kubeedge.io/node-ingress"  # of Ingresses that are served by nodes
CLASS_NAME = "kubeedge"

_DEFAULT = "ingressclass.kubernetes.io/is-default-class"
_OLD_CLASS = "kubernetes.io/ingress.class"


@dataclass(slots=True)
class ParsedIngress:
    """`faults`: references that lead nowhere, in sentences."""

    entries: list[RouteEntry] = field(default_factory=list)
    certificates: list[CertificateRef] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def class_of(ingress: Object) -> str:
    """The name of its class; "": it has none."""
    annotations = meta.metadata(ingress).get("annotations") or {}
    return str((ingress.get("spec") or {}).get("ingressClassName") or annotations.get(_OLD_CLASS) or "")


def controller_of(found: Object) -> str:
    """The controller that an IngressClass names, ours or another one; "": none."""
    return str((found.get("spec") or {}).get("controller") or "")


def is_ours(ingress: Object, classes: Iterable[Object], *, unclassed: bool = True) -> bool:
    """Whether requests for the Ingress are the cloud's to answer, by its class. `unclassed`: without any they are."""
    known = {meta.name_of(c): c for c in classes}
    if name := class_of(ingress):
        found = known.get(name)
        return name == CLASS_NAME if found is None else controller_of(found) == INGRESS_CONTROLLER
    defaults = [c for c in known.values() if (meta.metadata(c).get("annotations") or {}).get(_DEFAULT) == "true"]
    return (not defaults and unclassed) or any(controller_of(c) == INGRESS_CONTROLLER for c in defaults)


def size(ingress: Object) -> int:
    """How much work it is: its paths, and the hosts of its certificates."""
    spec = ingress.get("spec") or {}
    rules, tls = spec.get("rules") or (), spec.get("tls") or ()
    paths = sum(1 + len((rule.get("http") or {}).get("paths") or ()) for rule in rules)
    return 1 + paths + sum(len(entry.get("hosts") or ()) or paths for entry in tls)


def parsed(ingress: Object, objects: GatewayObjects, ports: GatewayPorts) -> ParsedIngress:
    """Of an Ingress that is well-formed. Over plain HTTP and HTTPS alike, as far as the cloud's addresses speak them."""
    found, spec = ParsedIngress(), ingress.get("spec") or {}
    where = [(scheme, at) for scheme in ("http", "https") for at in ports.of_ingress(scheme)]
    created, name = age(ingress)
    for number, (host, match, backend) in enumerate(_paths(spec)):
        rule = RouteRule(
            name=f"Ingress {title(ingress)}", backends=(_backend(ingress, backend, objects, found.faults),)
        )
        origin = (created, name, number, 0)
        found.entries += [
            RouteEntry(host, scheme, match, rule, origin, host.startswith("*."), at) for scheme, at in where
        ]
    for entry in spec.get("tls") or ():
        if secret := entry.get("secretName"):
            hosts = entry.get("hosts") or [host for host, _, _ in _paths(spec)]
            found.certificates += [
                CertificateRef(str(host), meta.namespace_of(ingress), secret, at)
                for host in hosts
                for at in ports.of_ingress("https")
            ]
            if fault := objects.certificate_fault(meta.namespace_of(ingress), secret):
                found.faults.append(fault)
    return found


def _paths(spec: Object) -> Iterator[tuple[str, RouteMatch, Object]]:
    hosts: dict[str, None] = {}
    for rule in spec.get("rules") or ():
        host = str(rule.get("host") or EVERY_HOST)
        hosts[host] = None
        for entry in (rule.get("http") or {}).get("paths") or ():
            path, exact = str(entry.get("path") or "/"), entry.get("pathType") == "Exact"
            yield host, RouteMatch(path if exact else path.rstrip("/"), exact), entry.get("backend") or {}
    if default := spec.get("defaultBackend"):  # what no rule takes, also of the hosts that rules name
        for host in {**hosts, **({} if hosts else {EVERY_HOST: None})}:
            yield host, RouteMatch(), default


def _backend(ingress: Object, backend: Object, objects: GatewayObjects, faults: list[str]) -> RouteBackend:
    namespace, wanted = meta.namespace_of(ingress), backend.get("service") or {}
    name, port = str(wanted.get("name") or ""), wanted.get("port") or {}
    service = objects.service(namespace, name)
    port_name, fault = "", ""
    if not wanted:
        fault = "backends other than Services are not supported"
    elif service is None:
        fault = f"there is no Service {namespace}/{name}"
    elif (found := service_port(service, int(port.get("number") or 0), str(port.get("name") or ""))) is None:
        fault = f"Service {namespace}/{name} has no TCP port {port.get('number') or port.get('name')}"
    else:
        port_name = found
    if fault:
        faults.append(fault)
    return RouteBackend(namespace, name, port_name, fault=fault)
