"""Where a cluster's API server finds the kubelet API of a node, in the status of the Node. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any


@dataclass(frozen=True, slots=True)
class KubeletEndpoint:
    """`host`: an address, or a name that the API server can resolve. `port`: the node's own among those of the cloud process."""

    host: str
    port: int


def with_endpoint(status: Mapping[str, Any], endpoint: KubeletEndpoint | None) -> dict[str, Any]:
    """A reported status, with that address before its own, and as its hostname: an API server may be set to prefer hostnames, and that of an
    edge machine is known nowhere in the cluster. None: as it is."""
    if endpoint is None:
        return dict(status)
    host = endpoint.host
    reported = (a for a in status.get("addresses") or () if isinstance(a, Mapping))
    own = [a for a in reported if a.get("type") != "Hostname" and a.get("address") != host]
    ours = [{"type": "InternalIP", "address": host}] if _is_address(host) else []
    return {
        **status,
        "addresses": [*ours, *own, {"type": "Hostname", "address": host}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": endpoint.port}},
    }


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
