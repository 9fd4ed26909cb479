"""Which nodes are linked to this relay, by which links. Pure.

A node has links of one instance of its agent, one in each slot. A link of another instance replaces them: the agent was restarted. An instance
that was replaced and comes back while the other one is alive is proof of two machines with one identity: it is refused, and so the
two do not replace each other for ever.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from kubeedge.api.names import NodeKey, PortId

DUPLICATE_RETRY_AFTER = 60.0  # seconds that a refused duplicate stays away


@dataclass(slots=True)
class LinkedNode:
    """The links of one node's agent, and the instances of the agent that it has replaced."""

    instance: str
    slots: dict[int, PortId] = field(default_factory=dict)  # slot -> port
    replaced: deque[str] = field(default_factory=lambda: deque(maxlen=4))  # instances
    refused: int = 0  # links of a duplicate
    duplicate_at: float = 0.0  # when the last one came
    removed: bool = False  # the node does not exist any more


@dataclass(frozen=True, slots=True)
class JoinDecision:
    """`refuse`: why the link may not join. `drop`: ports that give way to it, and why."""

    refuse: str = ""
    drop: Sequence[tuple[PortId, str]] = ()


class LinkedNodes:
    """Keys are (tenant, node); an entry stays, with what was replaced, when the last link goes, until the node is removed."""

    def __init__(self) -> None:
        self._nodes: dict[NodeKey, LinkedNode] = {}

    def __contains__(self, node: NodeKey) -> bool:
        return node in self._nodes

    def get(self, node: NodeKey) -> LinkedNode | None:
        """Only of nodes that are linked."""
        linked = self._nodes.get(node)
        return linked if linked is not None and linked.slots else None

    def join(
        self, node: NodeKey, instance: str, slot: int, port: PortId, now: float, *, elsewhere: str = ""
    ) -> JoinDecision:
        """`elsewhere`: the instance that is linked to another relay, if one is."""
        linked = self._nodes.setdefault(node, LinkedNode(instance))
        if instance and instance in linked.replaced and (linked.slots or elsewhere not in ("", instance)):
            linked.refused += 1
            linked.duplicate_at = now
            return JoinDecision(
                refuse=f"another machine uses the identity of node {node[1]}; reset one of the two (`kubeedge reset`) and join it under a name of its own"
            )
        drop: list[tuple[PortId, str]] = []
        if linked.instance != instance:
            drop = [(p, "the agent of this node was restarted") for p in linked.slots.values()]
            linked.slots.clear()
            self.replaced(node, linked.instance)
            linked.instance = instance
        elif (older := linked.slots.get(slot)) is not None and older != port:
            drop = [(older, "the node has a newer link")]
        linked.slots[slot] = port
        linked.removed = False
        return JoinDecision(drop=tuple(drop))

    def replaced(self, node: NodeKey, instance: str) -> None:
        """Remembers an instance (the last four): if it comes back, another machine has the same identity."""
        linked = self._nodes.setdefault(node, LinkedNode(instance))
        if instance and instance not in linked.replaced:
            linked.replaced.append(instance)

    def leave(self, node: NodeKey, port: PortId) -> bool:
        """True: that was the node's last link."""
        linked = self._nodes.get(node)
        if linked is None:
            return False
        slots = [slot for slot, p in linked.slots.items() if p == port]
        for slot in slots:
            del linked.slots[slot]
        last = bool(slots) and not linked.slots
        if last and linked.removed:
            del self._nodes[node]
        return last

    def forget(self, node: NodeKey) -> None:
        """The node was removed: its entry goes, when its last link does."""
        linked = self._nodes.get(node)
        if linked is None:
            return
        linked.removed = True
        if not linked.slots:
            del self._nodes[node]
