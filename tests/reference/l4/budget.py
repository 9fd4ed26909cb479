"""Who may hold how much of L4's memory, connections and half-open connections: the reference implementation of _fastpath/l4/budget.c.

A tenant may hold what is free in the process, a node what is free of its tenant's (dynamic thresholds: Choudhury and Hahne, 1998): one alone gets
a third, several share evenly, and something is always free for who comes next. Below its reserve a tenant is never refused, whatever others
hold. Within a node the connections that hold most wait first.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kubeedge.api.names import NodeNumber, TenantNumber

BYTES = 64 << 20  # that wait in all connections of a process
MAX_CONNECTIONS = 65_536
MAX_CONNECTIONS_OF_NODE = 16_384
MAX_OPENING = 4_096  # that a peer has begun and not completed
MAX_OPENING_OF_NODE = 1_024
TIGHT_WINDOW = 64 * 1024  # bytes that a connection of a node that holds much may have for its reader
LEAST_SHARE = 4_096  # bytes of a connection on their way, always: else two full buffers wait for each other
_RESERVE = 64  # of the bytes: one part of so many is each tenant's in any case
_CONNECTIONS_RESERVE = 1_024
_OPENING_RESERVE = 64


@dataclass(slots=True)
class Held:
    """By a process, a tenant or a node."""

    bytes: int = 0
    connections: int = 0
    opening: int = 0

    def add(self, bytes: int, connections: int, opening: int) -> None:
        self.bytes += bytes
        self.connections += connections
        self.opening += opening


@dataclass(slots=True)
class Budget:
    """Of a process."""

    bytes: int = BYTES
    held: Held = field(default_factory=Held)
    _tenants: dict[TenantNumber, Held] = field(default_factory=dict)
    _nodes: dict[tuple[TenantNumber, NodeNumber], Held] = field(default_factory=dict)

    def node(self, tenant: TenantNumber, number: NodeNumber) -> Node:
        held = self._nodes.setdefault((tenant, number), Held())
        return Node(self, self._tenants.setdefault(tenant, Held()), held)

    def forget(self, tenant: TenantNumber, number: NodeNumber) -> None:
        """What holds nothing any more."""
        if not self._nodes[tenant, number].connections:
            del self._nodes[tenant, number]
            if not self._tenants[tenant].connections:
                del self._tenants[tenant]


@dataclass(frozen=True, slots=True)
class Node:
    """One node of a tenant, and what it may do."""

    budget: Budget
    tenant: Held
    held: Held

    def add(self, *, bytes: int = 0, connections: int = 0, opening: int = 0) -> None:
        for held in (self.budget.held, self.tenant, self.held):
            held.add(bytes, connections, opening)

    @property
    def allowed(self) -> int:
        """Bytes."""
        return _allowed(self.budget.bytes, self.budget.held.bytes, self.budget.bytes // _RESERVE, self.tenant.bytes)

    def may_connect(self) -> bool:
        of_tenant, all = self.tenant.connections, self.budget.held.connections
        limit = min(MAX_CONNECTIONS_OF_NODE, _allowed(MAX_CONNECTIONS, all, _CONNECTIONS_RESERVE, of_tenant))
        return self.held.connections < limit and self.held.bytes <= 2 * self.allowed

    def may_open(self) -> bool:
        limit = _allowed(MAX_OPENING, self.budget.held.opening, _OPENING_RESERVE, self.tenant.opening)
        return self.may_connect() and self.held.opening < min(MAX_OPENING_OF_NODE, limit)

    def window_limit(self, limit: int) -> int:
        """The most that a connection may promise its peer."""
        if self.held.bytes > 2 * self.allowed:
            return 0
        return min(limit, TIGHT_WINDOW) if self.held.bytes > self.allowed // 4 else limit

    def may_keep(self, length: int, receiving: int) -> bool:
        """What has arrived in order, by a connection that holds `receiving`?"""
        used = self.held.bytes + length
        return used <= self.allowed or (used <= 2 * self.allowed and receiving + length <= TIGHT_WINDOW)

    def may_keep_beyond(self, length: int) -> bool:
        """And beyond a hole? The other half is for what fills holes: only that can be read, and so be freed."""
        return self.held.bytes + length <= self.allowed // 2

    def room(self, room: int, sending: int) -> int:
        """Bytes that a writer may leave: of a node that holds much each connection has an equal share."""
        if self.held.bytes <= self.allowed // 2:
            return room
        return min(room, max(0, max(LEAST_SHARE, self.allowed // max(1, self.held.connections)) - sending))


def _allowed(budget: int, used: int, reserve: int, of_tenant: int) -> int:
    """What one node may have, of `budget` of which all hold `used`, and its tenant `of_tenant`."""
    return max(0, max(budget - used, reserve) - of_tenant)
