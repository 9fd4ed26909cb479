"""Which kubelet port is whose, and who may connect to it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from kubeedge.api.names import NodeNumber, TenantNumber

_LAST = 65535


def port_of(first: int, nodes: int, tenant: TenantNumber, node: NodeNumber) -> int | None:
    """The same in every cloud process and after every restart, without being written down: `first` is that of node 1 of tenant 1, and each
    tenant has as many ports as it may have nodes. None: there are no ports left for this one."""
    port = first + (tenant - 1) * nodes + node - 1
    return port if port <= _LAST else None


def may_use(certificate: Mapping[str, Any] | None, allowed: Collection[str]) -> bool:
    """`certificate`: as getpeercert() has it, verified. Its subject's common name must be one of those, as the kubelet's authentication by
    certificate takes the user from it."""
    names = [
        value for part in (certificate or {}).get("subject", ()) for key, value in part if key == "commonName" and value
    ]
    return len(names) == 1 and names[0] in allowed
