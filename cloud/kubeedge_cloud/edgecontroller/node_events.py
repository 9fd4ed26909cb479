"""Events that nodes report, brought into the API: each once, counted when it repeats, at a rate that a node may have, and with times that can be.

An event that was there before this process is brought again while the API might still keep it; one that arrives is always brought, whatever the
node's clock says. A repetition changes the Event that was made here; of those from before only a new one follows, once the API has let the old one go.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from typing import Any, NamedTuple

from kubeedge.api.names import NamespacedName, NodeName, Object
from kubeedge.api.resources import EVENTS
from kubeedge.errors import Conflict, NotFound, Refused
from kubeedge.kit.bucket import Bucket
from kubeedge_cloud.edgecontroller import core
from kubeedge_cloud.edgecontroller.state import EdgeState

#: events of one node, a second in the long run and at once after a pause. Each becomes an object here, though the node may have taken its
#: key away at once to make room for the next. An agent keeps 100 events
_RATE, _BURST = 1.0, 300.0
_LATER = 30.0  # seconds until one that was too many is looked at again: its node may have thousands
_REMEMBERED = 100  # Events of one node whose count can be raised: as many as an agent counts
_BACKLOG = 60.0  # seconds after a node has attached in which it may still tell of what happened while it was away


class _Arrival(NamedTuple):
    at: float  # seconds since 1970, by our clock
    backlog: bool


class _OneNode:
    __slots__ = ("arrived", "made", "pace")

    def __init__(self, now: float) -> None:
        self.pace = Bucket(_RATE, _BURST, now)
        self.arrived: dict[NamespacedName, _Arrival] = {}  # those that are not written yet
        self.made: OrderedDict[NamespacedName, None] = OrderedDict()


class NodeEvents:
    """Of the nodes of one tenant. An Event is named by its namespace and name."""

    def __init__(self, state: EdgeState) -> None:
        self._state = state
        self._nodes: dict[NodeName, _OneNode] = {}

    def arrived(self, node: NodeName, key: NamespacedName) -> None:
        """The node reports it, or that it has happened again, in this moment."""
        backlog = self._state.attached_for(node) < _BACKLOG
        self._of(node).arrived[key] = _Arrival(self._state.wall(), backlog)

    def taken_back(self, node: NodeName, key: NamespacedName) -> None:
        """The node has no room for it any more."""
        if (found := self._nodes.get(node)) is not None:
            found.arrived.pop(key, None)

    def forget(self, node: NodeName) -> None:
        """The node was removed."""
        self._nodes.pop(node, None)

    async def write(self, node: NodeName, key: NamespacedName, report: dict[str, Any]) -> float | None:
        """Brings it into the API; the seconds after which to try again when there are too many. Raises Invalid, Unavailable."""
        event = core.event(report, node, *key)
        if event is None or not self._is_its_own(node, key[0], event["involvedObject"]):
            return None
        found, now = self._of(node), self._state.wall()
        arrival = found.arrived.get(key)
        if core.is_over(event, now) if arrival is None else arrival.at < now - core.EVENT_LIFE:
            return None
        if wait := found.pace.take(asyncio.get_running_loop().time()):
            return max(wait, _LATER)
        if arrival is not None:
            event = core.with_plausible_times(event, arrival.at, backlog=arrival.backlog)
        # it is there already, its namespace is gone, the quota is full
        with contextlib.suppress(Conflict, NotFound, Refused):
            await self._write(node, found, key, event)
        if found.arrived.get(key) is arrival:
            found.arrived.pop(key, None)
        return None

    def _of(self, node: NodeName) -> _OneNode:
        if (found := self._nodes.get(node)) is None:
            found = self._nodes[node] = _OneNode(asyncio.get_running_loop().time())
        return found

    def _is_its_own(self, node: NodeName, namespace: str, involved: dict[str, Any]) -> bool:
        if involved.get("kind") != "Pod":
            return True
        pod = self._state.pods.get(namespace, str(involved.get("name", "")))
        return pod is None or pod.get("spec", {}).get("nodeName") == node

    async def _write(self, node: NodeName, found: _OneNode, key: NamespacedName, event: Object) -> None:
        client = self._state.client_of(node)
        if key in found.made:  # nobody else's of that name
            again: Object = {name: event[name] for name in ("count", "lastTimestamp") if name in event}
            with contextlib.suppress(NotFound):  # it has expired
                await client.merge_patch(EVENTS, *key, again)
                found.made.move_to_end(key)
                return
        await client.create(EVENTS, key[0], event)
        found.made[key] = None
        if len(found.made) > _REMEMBERED:
            found.made.popitem(last=False)
