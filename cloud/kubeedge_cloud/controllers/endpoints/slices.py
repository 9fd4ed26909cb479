"""The EndpointSlices of a Service, from the pods that it selects or from the Endpoints that a user wrote. Pure.

Pods that end stay in their slice, terminating, and serving for as long as they are ready: a proxy sends new connections to them only when there
is nothing else. A slice has one family of addresses and one set of ports; its name comes from them, so equal contents have equal names.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from kubeedge.api import meta
from kubeedge.api.names import Object
from kubeedge.api.resources import SERVICES
from kubeedge_cloud.controllers.endpoints.core import ports_of
from kubeedge_cloud.controllers.objects import (
    ips_of,
    is_deleting,
    is_finished,
    is_ready,
    reference_to,
    spec_of,
    uid_of,
)

SERVICE_NAME = "kubernetes.io/service-name"  # label: whose slice it is
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
US = "endpointslice-controller.kubeedge.io"
ZONE = "topology.kubernetes.io/zone"
MAX_ENDPOINTS = 100  # of one slice, as in Kubernetes: one change is one small object
_CLOSE = ("PreferClose", "PreferSameZone")

Ports: TypeAlias = tuple[tuple[str, int, str], ...]


def slices(service: Object, pods: Iterable[Object], zones: Mapping[str, str]) -> list[Object]:
    """The EndpointSlices of a Service with a selector. `zones` has the zones of nodes, by name."""
    spec, name, namespace = spec_of(service), meta.name_of(service), meta.namespace_of(service)
    selector = spec.get("selector") or {}
    groups: dict[tuple[str, Ports], list[Object]] = {}
    for pod in sorted(pods, key=meta.name_of):
        if meta.namespace_of(pod) != namespace or not selector.items() <= meta.labels_of(pod).items():
            continue
        ports = tuple(sorted(ports_of(spec, pod)))
        if is_finished(pod) or (not ports and spec.get("ports")):
            continue
        for family, address in _addresses(spec, pod):
            groups.setdefault((family, ports), []).append(_endpoint(spec, name, pod, address, zones))
    return [
        made
        for (family, ports), endpoints in sorted(groups.items(), key=lambda group: group[0])
        for made in _chunks(service, family, ports, endpoints)
    ]


def mirrored(service: Object, endpoints: Object) -> list[Object]:
    """The slices of a Service without a selector, whose Endpoints another client keeps."""
    groups: dict[tuple[str, Ports], list[Object]] = {}
    for subset in endpoints.get("subsets") or ():
        ports = tuple(
            sorted((str(p.get("name") or ""), int(p["port"]), str(p.get("protocol") or "TCP")) for p in subset.get("ports") or ())
        )  # fmt: skip
        for kind, ready in (("addresses", True), ("notReadyAddresses", False)):
            for entry in subset.get(kind) or ():
                if not (family := _family(entry.get("ip"))):
                    continue
                made: Object = {"addresses": [entry["ip"]], "conditions": _conditions(ready, ready, False)}
                made |= {key: entry[key] for key in ("nodeName", "hostname", "targetRef") if entry.get(key)}
                groups.setdefault((family, ports), []).append(made)
    return [
        made
        for (family, ports), found in sorted(groups.items(), key=lambda group: group[0])
        for made in _chunks(service, family, ports, found)
    ]


def is_ours(obj: Object) -> bool:
    """The slice was made here; others, a user's, are left alone."""
    return meta.labels_of(obj).get(MANAGED_BY) == US


def same(one: Object, other: Object) -> bool:
    """Nothing of what proxies read differs."""
    return all((one.get(key) or []) == (other.get(key) or []) for key in ("addressType", "endpoints", "ports"))


def _addresses(spec: Object, pod: Object) -> Iterator[tuple[str, str]]:
    """Of the families of the Service; of all, where its API does not say which it has."""
    families = spec.get("ipFamilies")
    for address in ips_of(pod):
        if (family := _family(address)) and (not families or family in families):
            yield family, address


def _family(address: object) -> str:
    try:
        return f"IPv{ipaddress.ip_address(str(address)).version}"
    except ValueError:
        return ""


def _endpoint(spec: Object, service: str, pod: Object, address: str, zones: Mapping[str, str]) -> Object:
    serving = is_ready(pod) or spec.get("publishNotReadyAddresses") is True
    ends = is_deleting(pod)
    ready = (serving and not ends) or spec.get("publishNotReadyAddresses") is True
    made: Object = {
        "addresses": [address],
        "conditions": _conditions(ready, serving, ends),
        "targetRef": {
            "kind": "Pod",
            "namespace": meta.namespace_of(pod),
            "name": meta.name_of(pod),
            "uid": uid_of(pod),
        },
    }
    if node := spec_of(pod).get("nodeName"):
        made["nodeName"] = node
        if zone := zones.get(node):
            made["zone"] = zone
            if spec.get("trafficDistribution") in _CLOSE and ready:
                made["hints"] = {"forZones": [{"name": zone}]}
    if spec_of(pod).get("hostname") and spec_of(pod).get("subdomain") == service:
        made["hostname"] = spec_of(pod)["hostname"]
    return made


def _conditions(ready: bool, serving: bool, terminating: bool) -> Object:
    return {"ready": ready, "serving": serving, "terminating": terminating}


def _chunks(service: Object, family: str, ports: Ports, endpoints: Sequence[Object]) -> Iterator[Object]:
    for start in range(0, len(endpoints), MAX_ENDPOINTS):
        digest = hashlib.sha256(repr((family, ports, start)).encode()).hexdigest()
        yield {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"{meta.name_of(service)}-{digest[:8]}",
                "namespace": meta.namespace_of(service),
                "labels": {SERVICE_NAME: meta.name_of(service), MANAGED_BY: US},
                "ownerReferences": [reference_to(SERVICES, service)],
            },
            "addressType": family,
            "endpoints": list(endpoints[start : start + MAX_ENDPOINTS]),
            "ports": [{"name": name, "port": number, "protocol": protocol} for name, number, protocol in ports],
        }
