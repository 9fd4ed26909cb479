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
    """A reported status, with that address before its own. Its hostname goes: an API server may be set to prefer hostnames, and that of an
    edge machine is known nowhere in the cluster. None: as it is."""
    if endpoint is None:
        return dict(status)
    ours = {"type": "InternalIP" if _is_address(endpoint.host) else "Hostname", "address": endpoint.host}
    reported = status.get("addresses") or ()
    others = [
        a
        for a in reported
        if isinstance(a, Mapping) and a.get("type") != "Hostname" and a.get("address") != endpoint.host
    ]
    return {
        **status,
        "addresses": [ours, *others],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": endpoint.port}},
    }


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
