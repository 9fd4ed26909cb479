"""The objects that clients take for granted. Pure.

    in each namespace    ServiceAccount default; ConfigMap kube-root-ca.crt, the certificate of the authority that signed the API's
    in default           Service kubernetes with the Endpoints of the API server

In Kubernetes the controllers of service accounts and root certificates, and kube-apiserver itself, make them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from kubeedge.api.client import Resource
from kubeedge.api.names import Object
from kubeedge.api.resources import CONFIGMAPS, ENDPOINTS, SERVICEACCOUNTS, SERVICES

ACCOUNT, ROOT, API = "default", "kube-root-ca.crt", "kubernetes"
HOME = "default"  # the namespace of the Service


@dataclass(frozen=True, slots=True)
class Server:
    """The API server as clients reach it. Of its names only addresses can be in Endpoints, and no loopback."""

    ca: str  # PEM
    hosts: Sequence[str]
    port: int

    @property
    def addresses(self) -> Sequence[str]:
        """The IP addresses among `hosts`, without loopback, link-local and unspecified ones."""
        return [host for host in self.hosts if _is_reachable(host)]


def _is_reachable(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified or address.is_link_local)


def wanted(namespace: str, server: Server) -> Sequence[tuple[Resource, Object]]:
    """What has to be in a namespace."""
    found: list[tuple[Resource, Object]] = [
        (SERVICEACCOUNTS, {"metadata": {"name": ACCOUNT, "namespace": namespace}}),
        (CONFIGMAPS, {"metadata": {"name": ROOT, "namespace": namespace}, "data": {"ca.crt": server.ca}}),
    ]
    if namespace == HOME:
        inner = {"name": API, "namespace": namespace, "labels": {"component": "apiserver", "provider": "kubernetes"}}
        port = {"name": "https", "protocol": "TCP", "port": 443, "targetPort": server.port}
        found.append((SERVICES, {"metadata": inner, "spec": {"ports": [port]}}))
        if server.addresses:
            subset = {
                "addresses": [{"ip": address} for address in server.addresses],
                "ports": [{"name": "https", "port": server.port, "protocol": "TCP"}],
            }
            found.append((ENDPOINTS, {"metadata": {"name": API, "namespace": namespace}, "subsets": [subset]}))
    return found


def mended(resource: Resource, current: Object, obj: Object) -> Object | None:
    """The patch that makes what matters of it right again; None when it is."""
    patch: Object = {
        field: obj[field] for field in ("data", "subsets") if field in obj and current.get(field) != obj[field]
    }
    if resource == SERVICES:
        ports = (current.get("spec") or {}).get("ports") or []
        target = obj["spec"]["ports"][0]["targetPort"]
        if len(ports) != 1 or ports[0].get("port") != 443 or ports[0].get("targetPort") != target:
            patch["spec"] = {"ports": obj["spec"]["ports"]}
    return patch or None
