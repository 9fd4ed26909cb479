"""A directory of nodes for hubs whose tests are not about who may come in."""

from __future__ import annotations

from dataclasses import dataclass

from kubeedge.api.names import NodeName, TenantId


@dataclass(frozen=True, slots=True)
class Standing:
    join: str = ""  # as in certificates that name no join


class EveryNode:
    """Every name is a node's."""

    async def lookup(self, tenant: TenantId, node: NodeName) -> Standing | None:
        return Standing()


class SomeNodes(EveryNode):
    def __init__(self, *nodes: str) -> None:
        self.nodes = set(nodes)

    async def lookup(self, tenant: TenantId, node: NodeName) -> Standing | None:
        return Standing() if node in self.nodes else None
