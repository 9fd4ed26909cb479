"""What the Gateways on a node need besides their table of routes: certificates, and the Services behind the routes. Pure.

The table is the row of the leader of the tenant's Gateways (kubeedge_cloud.gateway.sites); what it refers to is sent by EdgeController, as what pods
refer to is.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubeedge.gateway import codec

GATEWAYS = "gateways/"  # below a node's desired prefix, and below what it reports


@dataclass(frozen=True, slots=True)
class GatewayNeeds:
    """`secrets`: (resource, namespace, name) of each."""

    secrets: frozenset[tuple[str, str, str]] = frozenset()
    namespaces: frozenset[str] = frozenset()


NO_NEEDS = GatewayNeeds()


def gateway_needs(row: bytes) -> GatewayNeeds:
    """Of the table of one node."""
    secrets, namespaces = codec.needs(row)
    return GatewayNeeds(frozenset(("secrets", *name) for name in secrets), namespaces)
