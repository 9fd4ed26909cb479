"""What listeners ask about nodes: the interface of the Tenant Manager to relay and hub."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Protocol

from kubeedge.api.names import NodeName, TenantId, TenantNumber
from kubeedge_cloud.tenants.model import NodeRecord


class NodeLookup(Protocol):
    """One node at a time: what a listener asks when a connection arrives."""

    async def lookup(self, tenant: TenantId, node: NodeName) -> NodeRecord | None:
        """None: there is no such node; its certificate is revoked. Raises Unavailable without the store."""
        ...


class NodeFollower(Protocol):
    """The nodes of a tenant and their changes."""

    def follow_nodes(self, tenant: TenantId) -> AsyncGenerator[Mapping[NodeName, NodeRecord], None]:
        """All nodes, now and after every change. The mapping may be one and the same each time."""
        ...

    def follow_subnets(self, tenant: TenantId) -> AsyncGenerator[Mapping[NodeName, Sequence[str]], None]:
        """Networks that may be behind nodes, likewise."""
        ...


class NodeDirectory(NodeLookup, NodeFollower, Protocol):
    """All that the relay asks about tenants and nodes."""

    async def tenant_number(self, tenant: TenantId) -> TenantNumber | None:
        """The number of a tenant; None when there is no such tenant."""
        ...

    async def subnets(self, tenant: TenantId, node: NodeName) -> Sequence[str]:
        """Networks that the tenant allows behind this node."""
        ...
