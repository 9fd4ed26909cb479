"""Who a certificate speaks for. Identity comes from the certificate's one URI name and from nothing else.

The URI is a SPIFFE ID (SPIFFE-ID specification, section 2) in the trust domain "kubeedge":

    spiffe://kubeedge/tenant/<tenant>/node/<node>     an edge node
    spiffe://kubeedge/tenant/<tenant>/user/<user>     a user of a tenant's Kubernetes API
    spiffe://kubeedge/cloud/<name>                    a process of the cloud side
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from kubeedge.api.names import NodeName, TenantId, node_name, tenant_id
from kubeedge.errors import Invalid, Refused

_SCHEME = "spiffe://kubeedge/"


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    tenant: TenantId
    node: NodeName

    @property
    def uri(self) -> str:
        return f"{_SCHEME}tenant/{self.tenant}/node/{self.node}"


@dataclass(frozen=True, slots=True)
class UserIdentity:
    tenant: TenantId
    user: str

    @property
    def uri(self) -> str:
        return f"{_SCHEME}tenant/{self.tenant}/user/{self.user}"


@dataclass(frozen=True, slots=True)
class CloudIdentity:
    name: str

    @property
    def uri(self) -> str:
        return f"{_SCHEME}cloud/{self.name}"


Identity: TypeAlias = NodeIdentity | UserIdentity | CloudIdentity


def parse(uri: str) -> Identity:
    """Raises Refused for anything that is not exactly one of the three forms."""
    if not uri.startswith(_SCHEME) or len(uri) > 256:
        raise Refused(f"{uri[:256]!r} is not an identity of this system")
    try:
        match uri.removeprefix(_SCHEME).split("/"):
            case ["tenant", tenant, "node", node]:
                return NodeIdentity(tenant_id(tenant), node_name(node))
            case ["tenant", tenant, "user", user]:
                return UserIdentity(tenant_id(tenant), str(node_name(user)))
            case ["cloud", name]:
                return CloudIdentity(str(node_name(name)))
    except Invalid as exc:
        raise Refused(f"{uri!r} is not an identity of this system") from exc
    raise Refused(f"{uri!r} is not an identity of this system")


def of_peer(certificate: Mapping[str, Any] | None) -> Identity:
    """Identity of a verified peer, from ssl.SSLSocket.getpeercert(). Raises Refused without exactly one URI name."""
    names = [value for kind, value in (certificate or {}).get("subjectAltName", ()) if kind == "URI"]
    if len(names) != 1:
        raise Refused(f"the peer's certificate has {len(names)} URI names instead of one")
    return parse(names[0])
