"""Identifiers are types: swapped arguments become type errors instead of cross-tenant bugs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NewType, TypeAlias

from kubeedge.errors import Invalid

TenantId = NewType("TenantId", str)  # RFC 1123 label, at most 63 characters
NodeName = NewType("NodeName", str)  # RFC 1123 label: it is a path element of URLs and a part of certificates
Revision = NewType("Revision", int)  # the store's counter: global, grows by one with every committed transaction
TenantNumber = NewType("TenantNumber", int)  # of a tenant in the data plane, 16 bits; 0: there is only one
NodeNumber = NewType("NodeNumber", int)  # of a node in its tenant, 16 bits; 0: the cloud; the highest are relays
L4Port = NewType("L4Port", int)  # 0 to 65535, of L4 within a node
PortId = NewType("PortId", int)  # a link or a TUN interface of one data plane; never used again by the same one

NodeKey: TypeAlias = tuple[TenantId, NodeName]  # a node among those of all tenants
NamespacedName: TypeAlias = tuple[str, str]  # (namespace, name) of an object of one kind; namespace "": of the cluster
Object: TypeAlias = dict[str, Any]  # a Kubernetes object as JSON: camelCase names, as on the wire
JsonObject: TypeAlias = Mapping[str, Any]  # an object of JSON as it was parsed; whoever has it does not change it

DEFAULT_TENANT = TenantId("default")
KUBELET_PORT = L4Port(10250)  # L4, on every node: its kubelet API
RULES_PORT = L4Port(10253)  # L4, on every node: what rules of its tenant's API reach

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def tenant_id(text: str) -> TenantId:
    """Raises Invalid when `text` is not an RFC 1123 label."""
    if not _LABEL.fullmatch(text):
        raise Invalid(f"tenant {text!r} is not an RFC 1123 label (lower case letters, digits and '-')")
    return TenantId(text)


def node_name(text: str) -> NodeName:
    """Raises Invalid when `text` is not an RFC 1123 label."""
    if not _LABEL.fullmatch(text):
        raise Invalid(f"node name {text!r} is not an RFC 1123 label (lower case letters, digits and '-')")
    return NodeName(text)
