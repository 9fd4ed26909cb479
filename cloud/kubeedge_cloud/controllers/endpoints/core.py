"""The subsets of an Endpoints object, from a Service and the pods. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kubeedge.api import meta, sidecars
from kubeedge.api.names import Object
from kubeedge_cloud.controllers.objects import ips_of, is_deleting, is_finished, is_ready, spec_of, uid_of

_MAX_ADDRESSES = 1000  # as in Kubernetes


def subsets(service: Object, pods: Iterable[Object]) -> list[Object]:
    """Pods with the same ports share a subset: a named port may have another number in another version of a pod."""
    spec = spec_of(service)
    namespace, selector = meta.namespace_of(service), spec.get("selector") or {}
    groups: dict[tuple[tuple[str, int, str], ...], dict[str, list[Object]]] = {}
    for pod in sorted(pods, key=meta.name_of):
        address = _address(spec, pod)
        if meta.namespace_of(pod) != namespace or not selector.items() <= meta.labels_of(pod).items():
            continue
        if not address or is_finished(pod) or is_deleting(pod):
            continue
        ports = tuple(sorted(ports_of(spec, pod)))
        if not ports and spec.get("ports"):
            continue  # none of the Service's ports exists in this pod
        entry: Object = {
            "ip": address,
            "targetRef": {"kind": "Pod", "namespace": namespace, "name": meta.name_of(pod), "uid": uid_of(pod)},
        }
        if spec_of(pod).get("nodeName"):
            entry["nodeName"] = spec_of(pod)["nodeName"]
        if spec_of(pod).get("hostname") and spec_of(pod).get("subdomain") == meta.name_of(service):
            entry["hostname"] = spec_of(pod)["hostname"]
        ready = is_ready(pod) or spec.get("publishNotReadyAddresses") is True
        group = groups.setdefault(ports, {"addresses": [], "notReadyAddresses": []})
        group["addresses" if ready else "notReadyAddresses"].append(entry)
    result = []
    for ports, group in sorted(groups.items()):
        subset: Object = {kind: entries[:_MAX_ADDRESSES] for kind, entries in group.items() if entries}
        if ports:
            subset["ports"] = [_port(*port) for port in ports]
        result.append(subset)
    return result


def _address(spec: Object, pod: Object) -> str:
    """Of the first family of the Service: an Endpoints object has one for each pod."""
    wanted, found = (spec.get("ipFamilies") or [None])[0], ips_of(pod)
    if wanted is None:
        return found[0] if found else ""
    return next((address for address in found if (":" in address) == (wanted == "IPv6")), "")


def _port(name: str, number: int, protocol: str) -> Object:
    return {**({"name": name} if name else {}), "port": number, "protocol": protocol}


def ports_of(spec: Object, pod: Object) -> Iterable[tuple[str, int, str]]:
    """(name, number, protocol) of the Service's ports, as this pod has them; what it does not have is left out."""
    named = _named(pod) if any(isinstance(port.get("targetPort"), str) for port in spec.get("ports") or ()) else {}
    for port in spec.get("ports") or ():
        protocol = str(port.get("protocol") or "TCP")
        number = _number(port.get("targetPort", port.get("port")), protocol, named)
        if number:
            yield str(port.get("name") or ""), number, protocol


def _named(pod: Object) -> dict[tuple[str, str], int]:
    """Its ports by name and protocol, looked through once for all ports of a Service: both may have thousands."""
    found: dict[tuple[str, str], int] = {}
    for container in sidecars.lasting(spec_of(pod)):
        for port in container.get("ports") or ():
            if port.get("name"):
                found.setdefault((port["name"], port.get("protocol", "TCP")), int(port.get("containerPort") or 0))
    return found


def _number(target: Any, protocol: str, named: Mapping[tuple[str, str], int]) -> int:
    if isinstance(target, int):
        return target
    if not isinstance(target, str):
        return 0
    if (target, protocol) in named:
        return named[target, protocol]
    return int(target) if target.isascii() and target.isdigit() else 0
