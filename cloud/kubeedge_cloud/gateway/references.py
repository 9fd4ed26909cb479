"""What the objects of a tenant refer to: Services, Secrets, and whether another namespace allows it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from kubeedge.api import gateway, meta
from kubeedge.api.names import Object

MAX_GRANTS = 64  # ReferenceGrants of one namespace that count

#: of (namespace, name); "": the Secret has a certificate with its key
CertificateFault = Callable[[str, str], str]


@dataclass(frozen=True, slots=True)
class GatewayObjects:
    """The objects of a tenant that say something about its routes. `service(namespace, name)`: None: there is none. `unclassed`: an Ingress
    without a class may be ours."""

    classes: Sequence[Object] = ()
    gateways: Sequence[Object] = ()
    routes: Sequence[Object] = ()
    tlsroutes: Sequence[Object] = ()
    tcproutes: Sequence[Object] = ()
    grants: Mapping[str, Sequence[Object]] = field(default_factory=dict)  # by namespace
    ingresses: Sequence[Object] = ()
    ingressclasses: Sequence[Object] = ()
    namespaces: Mapping[str, Object] = field(default_factory=dict)  # by name
    service: Callable[[str, str], Object | None] = field(default=lambda namespace, name: None)
    certificate_fault: CertificateFault = field(default=lambda namespace, name: "")
    unclassed: bool = True


@dataclass(frozen=True, slots=True)
class ReferenceFault:
    """Why a reference does not hold: the reason of the condition ResolvedRefs, and a sentence."""

    reason: str
    message: str


def oldest(objects: Iterable[Object]) -> list[Object]:
    """By creation, namespace and name: the first has what two of them want."""
    return sorted(objects, key=age)


def age(obj: Object) -> tuple[str, str]:
    """The order of objects that want one thing."""
    return str(meta.metadata(obj).get("creationTimestamp") or ""), title(obj)


def title(obj: Object) -> str:
    """NAMESPACE/NAME of an object, as messages have it."""
    return f"{meta.namespace_of(obj)}/{meta.name_of(obj)}"


def granted(
    grants: Mapping[str, Sequence[Object]], kind: str, namespace: str, to_kind: str, to_namespace: str, name: str
) -> bool:
    """May a Gateway API object of a kind and namespace refer to that object (of the core group)? Of its own namespace always."""
    if namespace == to_namespace:
        return True
    for grant in grants.get(to_namespace, ())[:MAX_GRANTS]:
        spec = grant.get("spec") or {}
        if any(
            (f.get("group"), f.get("kind"), f.get("namespace")) == (gateway.GROUP, kind, namespace)
            for f in spec.get("from") or ()
        ) and any(
            (t.get("group") or "") == "" and t.get("kind") == to_kind and t.get("name") in (None, "", name)
            for t in spec.get("to") or ()
        ):
            return True
    return False


def service_port(service: Object, number: int = 0, name: str = "") -> str | None:
    """The name that EndpointSlices have for a port of the Service, by its number or name; None: it has no such port."""
    for port in (service.get("spec") or {}).get("ports") or ():
        if (port.get("protocol") or "TCP") == "TCP" and (
            port.get("port") == number if number else port.get("name") == name
        ):
            return str(port.get("name") or "")
    return None
