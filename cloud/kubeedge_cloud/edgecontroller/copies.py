"""How many bytes the copies may have that a tenant's nodes get of its objects. Pure.

A ConfigMap of 1 MB is stored once in the tenant's quota, and once more for each node with a pod that refers to it; so is a web service for each
node with pods behind it. All copies together may have COPIES times what the tenant's objects may. What a node has already, and what becomes
smaller, stays; beyond the limit the Node comes first, then policies and pods, then data, the smallest first, until the rest does not fit. It is
written when there is room. No pod comes to a node that has no room for a policy of its namespace: it would begin without what isolates it. For the same
reason policies are before pods in what is written.

Lives elsewhere: what a node should have (core.py), writing it (desired.py), the quota of objects (kubeedge_cloud.tenants.usage).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from kubeedge.api.names import NodeName

COPIES = 4  # times the quota of the tenant's objects
_FIRST = ("kubeconfigs/", "nodes/", "writes/")
_POLICIES, _PODS = "networkpolicies/", "pods/"


@dataclass(frozen=True, slots=True)
class Fitting:
    """What is written of what a node should have."""

    wanted: Mapping[str, bytes]
    refused: Sequence[str]  # keys whose new value does not fit; an old one stays


class Copies:
    """The sizes of what each node has. `limit` in bytes, asked each time: the administrator may change it."""

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit = limit
        self._sizes: dict[NodeName, int] = {}
        self._short: dict[NodeName, None] = {}  # nodes that do not have all of theirs
        self._total = 0

    @property
    def limit(self) -> int:
        """Bytes of all copies, as it is now."""
        return self._limit()

    @property
    def total(self) -> int:
        """Bytes of keys and values of all nodes that were looked at."""
        return self._total

    def found(self, node: NodeName, have: Mapping[str, bytes]) -> None:
        """What the node has at the start, before any node gets more."""
        self._count(node, _size(have))

    def fit(self, node: NodeName, have: Mapping[str, bytes], wanted: Mapping[str, bytes]) -> Fitting:
        """Counts the result as what the node has."""
        room = self._limit() - (self._total - self._sizes.get(node, 0))
        kept = {key: value for key, value in wanted.items() if len(value) <= len(have.get(key, b""))}
        grown = sorted(wanted.keys() - kept.keys(), key=lambda key: (_rank(key), len(wanted[key]), key))
        for key in grown:
            if key in have:
                kept[key] = have[key]
        size, refused = _size(kept), []
        unprotected: set[str] = set()  # namespaces
        for key in grown:
            if key not in have and key.startswith(_PODS) and _namespace(key) in unprotected:
                refused.append(key)
                continue
            more = len(wanted[key]) - len(have[key]) if key in have else len(key) + len(wanted[key])
            if size + more <= room:
                kept[key] = wanted[key]
                size += more
            else:
                refused.append(key)
                if key not in have and key.startswith(_POLICIES):
                    unprotected.add(_namespace(key))
        self._count(node, size)
        if refused:
            self._short[node] = None
        else:
            self._short.pop(node, None)
        return Fitting(kept, refused)

    def forget(self, node: NodeName) -> None:
        """The node was removed, with all it had."""
        self._count(node, 0)
        self._sizes.pop(node, None)
        self._short.pop(node, None)

    def short(self) -> Sequence[NodeName]:
        """Nodes that wait for room, if there is some."""
        return tuple(self._short) if self._total < self._limit() else ()

    def _count(self, node: NodeName, size: int) -> None:
        self._total += size - self._sizes.get(node, 0)
        self._sizes[node] = size


def _rank(key: str) -> int:
    if key.startswith(_FIRST):
        return 0
    return 1 if key.startswith(_POLICIES) else 2 if key.startswith(_PODS) else 3


def _namespace(key: str) -> str:
    return key.split("/", 2)[1]


def _size(values: Mapping[str, bytes]) -> int:
    return sum(len(key) + len(value) for key, value in values.items())
