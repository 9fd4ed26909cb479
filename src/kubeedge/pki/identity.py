"""Who a certificate speaks for. Identity comes from the certificate's one URI name and from nothing else.

The URI is a SPIFFE ID (SPIFFE-ID specification, section 2) in the trust domain "kubeedge":

    spiffe://kubeedge/tenant/<tenant>/node/<node>/join/<id>          an edge node, by that join
    spiffe://kubeedge/tenant/<tenant>/user/<user>/kubeconfig/<id>    a user of a tenant's Kubernetes API, by that kubeconfig
    spiffe://kubeedge/cloud/<name>                                   a process of the cloud side

A name outlives what it stood for: a node is removed and another machine joins under its name, a kubeconfig is lost and its user gets another.
So a listener that admits a node compares the join with that of the node's record, and the API compares the kubeconfig with those that are valid
(ADR 0025). Certificates of earlier versions have neither; their id is "".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from kubeedge.api.names import NodeName, TenantId, node_name, tenant_id
from kubeedge.errors import Invalid, Refused
from kubeedge.kit.dataclasses import dataclass

_SCHEME = "spiffe://kubeedge/"


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """A node, by the join that its certificate was issued for."""

    tenant: TenantId
    node: NodeName
    join: str = ""

    @property
    def uri(self) -> str:
        """The URI name of its certificate."""
        return f"{_SCHEME}tenant/{self.tenant}/node/{self.node}" + (f"/join/{self.join}" if self.join else "")

    @property
    def common_name(self) -> str:
        """The common name, for display; no decision depends on it."""
        return str(self.node)


@dataclass(frozen=True, slots=True)
class UserIdentity:
    """A user of a tenant's API, by the kubeconfig that the certificate was issued for."""

    tenant: TenantId
    user: str
    kubeconfig: str = ""

    @property
    def uri(self) -> str:
        """The URI name of the certificate."""
        which = f"/kubeconfig/{self.kubeconfig}" if self.kubeconfig else ""
        return f"{_SCHEME}tenant/{self.tenant}/user/{self.user}{which}"

    @property
    def common_name(self) -> str:
        """The common name, for display; no decision depends on it."""
        return self.user


@dataclass(frozen=True, slots=True)
class CloudIdentity:
    """A process of the cloud."""

    name: str

    @property
    def uri(self) -> str:
        """The URI name of its certificate."""
        return f"{_SCHEME}cloud/{self.name}"

    @property
    def common_name(self) -> str:
        """The common name, for display; no decision depends on it."""
        return self.name


Identity: TypeAlias = NodeIdentity | UserIdentity | CloudIdentity


def parse(uri: str) -> Identity:
    """Raises Refused for anything that is not exactly one of these forms."""
    if not uri.startswith(_SCHEME) or len(uri) > 256:
        raise Refused(f"{uri[:256]!r} is not an identity of this system")
    try:
        match uri.removeprefix(_SCHEME).split("/"):
            case ["tenant", tenant, "node", node]:
                return NodeIdentity(tenant_id(tenant), node_name(node))
            case ["tenant", tenant, "node", node, "join", join]:
                return NodeIdentity(tenant_id(tenant), node_name(node), str(node_name(join)))
            case ["tenant", tenant, "user", user]:
                return UserIdentity(tenant_id(tenant), str(node_name(user)))
            case ["tenant", tenant, "user", user, "kubeconfig", kubeconfig]:
                return UserIdentity(tenant_id(tenant), str(node_name(user)), str(node_name(kubeconfig)))
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
