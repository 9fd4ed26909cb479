"""Services and EndpointSlices as a node needs them, read from the objects of the store. Pure.

The objects come from users by way of the cloud: what makes no sense is left out and never raises; what is too much is cut off.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Any

from kubeedge.api.known_services import OTHER_PROXY
from kubeedge.api.names import JsonObject
from kubeedge.kit.dataclasses import dataclass, field
from kubeedge.kit.ip import IpAddress, address_of

MAX_PORTS = 100  # of one Service
MAX_ENDPOINTS = 1000  # of one port that this node uses; connections go to those
MAX_ADDRESSES = 32  # external ones of one Service
PROTOCOLS = ("TCP", "UDP", "SCTP")
_VERSIONS = {"IPv4": 4, "IPv6": 6}
_AFFINITY = 10_800  # seconds; the default of Kubernetes
_LABEL = re.compile(r"[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?")
_HOST = re.compile(r"([a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?", re.I)


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of a Service. `node_port` 0: none; `target` is a number or the name of a container's port."""

    name: str
    protocol: str
    port: int
    target: int | str
    node_port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A Service. `local_inside`, `local_outside`: internalTrafficPolicy and externalTrafficPolicy are Local; `affinity`: seconds, 0 for none."""

    namespace: str
    name: str
    kind: str = "ClusterIP"
    addresses: tuple[IpAddress, ...] = ()
    external: tuple[IpAddress, ...] = ()
    external_name: str = ""
    headless: bool = False
    ports: tuple[ServicePort, ...] = ()
    selector: Mapping[str, str] = field(default_factory=dict)
    local_inside: bool = False
    local_outside: bool = False
    affinity: int = 0
    not_ready_too: bool = False
    distribution: str = ""
    proxied: bool = True  # False: its addresses are another proxy's
    versions: tuple[int, ...] = ()  # of IP, by its ipFamilies; (): they do not say

    @property
    def key(self) -> str:
        """ "NAMESPACE/NAME", as the tables of a node name the Service."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An address behind a Service, with its ports by name. `zones`: of its hints."""

    address: IpAddress
    ports: Mapping[str, tuple[str, int]]  # by name: (protocol, number)
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    node: str = ""
    hostname: str = ""
    zones: tuple[str, ...] = ()
    proxied: bool = True  # False: no connection of ours goes there


def service_of(namespace: str, name: str, value: JsonObject) -> Service | None:
    """None for what is no Service. Names are those of the key."""
    spec = value.get("spec")
    if not isinstance(spec, Mapping) or not is_label(namespace) or not is_label(name):
        return None
    listed = spec.get("clusterIPs") or [spec.get("clusterIP")]
    listed = listed if isinstance(listed, list) else []
    status = mapping(mapping(value.get("status")).get("loadBalancer"))
    ingress = [entry.get("ip") for entry in dicts(status.get("ingress"))]
    affinity = mapping(mapping(spec.get("sessionAffinityConfig")).get("clientIP")).get("timeoutSeconds")
    external_name = spec.get("externalName")
    kind = str(spec.get("type") or "ClusterIP")
    return Service(
        namespace=namespace,
        name=name,
        kind=kind,
        addresses=tuple(_addresses(listed[:2])) if kind != "ExternalName" else (),
        external=tuple(_addresses([*items(spec.get("externalIPs")), *ingress][:MAX_ADDRESSES])),
        external_name=str(external_name) if kind == "ExternalName" and is_host(external_name) else "",
        headless="None" in listed,
        ports=tuple(_ports(spec)),
        selector={str(k): str(v) for k, v in mapping(spec.get("selector")).items()},
        local_inside=spec.get("internalTrafficPolicy") == "Local",
        local_outside=spec.get("externalTrafficPolicy") == "Local",
        affinity=_between(affinity, 1, 86_400, _AFFINITY) if spec.get("sessionAffinity") == "ClientIP" else 0,
        not_ready_too=spec.get("publishNotReadyAddresses") is True,
        distribution=str(spec.get("trafficDistribution") or ""),
        proxied=_is_ours(value),
        versions=tuple(
            _VERSIONS[f] for f in items(spec.get("ipFamilies"))[:2] if isinstance(f, str) and f in _VERSIONS
        ),
    )


def _is_ours(value: JsonObject) -> bool:
    labels = mapping(mapping(value.get("metadata")).get("labels"))
    return not any(label in labels for label in OTHER_PROXY)


def endpoints_of(value: JsonObject) -> tuple[str, list[Endpoint]]:
    """Of a slice: the name of its Service, "" for none, and what is in it."""
    labels = mapping(mapping(value.get("metadata")).get("labels"))
    name = labels.get("kubernetes.io/service-name")
    if not isinstance(name, str) or value.get("addressType") not in ("IPv4", "IPv6"):
        return "", []
    ports = {
        str(port.get("name") or ""): (str(port.get("protocol") or "TCP"), number)
        for port in dicts(value.get("ports"))[:MAX_PORTS]
        if (number := _between(port.get("port"), 1, 65_535, 0)) and port.get("protocol", "TCP") in PROTOCOLS
    }
    found, proxied = [], _is_ours(value)
    for entry in dicts(value.get("endpoints"))[:MAX_ENDPOINTS]:
        conditions = mapping(entry.get("conditions"))
        ready = conditions.get("ready") is not False
        hostname = entry.get("hostname")
        hints = dicts(mapping(entry.get("hints")).get("forZones"))[:8]
        for address in _addresses(items(entry.get("addresses"))[:1]):
            found.append(
                Endpoint(
                    address=address,
                    ports=ports,
                    ready=ready,
                    serving=conditions.get("serving", ready) is not False,
                    terminating=conditions.get("terminating") is True,
                    node=str(entry.get("nodeName") or ""),
                    hostname=hostname if isinstance(hostname, str) and is_label(hostname) else "",
                    zones=tuple(str(hint.get("name")) for hint in hints),
                    proxied=proxied,
                )
            )
    return name, found


def is_label(text: object) -> bool:
    """One label of a DNS name, in small letters."""
    return isinstance(text, str) and _LABEL.fullmatch(text) is not None


def is_host(text: object) -> bool:
    """A DNS name, with or without the last dot."""
    return isinstance(text, str) and len(text) <= 253 and _HOST.fullmatch(text.rstrip(".")) is not None


def is_usable(address: IpAddress) -> bool:
    """Not this machine itself, nor more than one machine: nothing behind a Service may be there."""
    return not (
        address.is_loopback
        or address.is_unspecified
        or address.is_multicast
        or address.is_link_local
        or _mapped(address)
    )


def _mapped(address: IpAddress) -> bool:
    return isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None


def _addresses(values: list[Any]) -> Iterator[IpAddress]:
    for value in dict.fromkeys(v for v in values if isinstance(v, str)):
        try:
            address = address_of(value)
        except ValueError:
            continue
        if is_usable(address) and str(address) != "255.255.255.255":
            yield address


def _ports(spec: JsonObject) -> Iterator[ServicePort]:
    for entry in dicts(spec.get("ports"))[:MAX_PORTS]:
        number, protocol = _between(entry.get("port"), 1, 65_535, 0), entry.get("protocol", "TCP")
        target, name = entry.get("targetPort", number), entry.get("name") or ""
        if number and protocol in PROTOCOLS and isinstance(target, int | str) and (not name or is_label(name)):
            yield ServicePort(name, protocol, number, target, _between(entry.get("nodePort"), 1, 65_535, 0))


def _between(value: object, low: int, high: int, otherwise: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high else otherwise


def mapping(value: object) -> JsonObject:
    """Itself; an empty one for anything else."""
    return value if isinstance(value, Mapping) else {}


def items(value: object) -> list[Any]:
    """A list; nothing of anything else."""
    return value if isinstance(value, list) else []


def dicts(value: object) -> list[JsonObject]:
    """The mappings in a list; nothing of anything else."""
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []
