"""The writes of nodes that wait for their answers, merged in the order in which they were made.

Lives elsewhere: how one write is merged (writes.py); the answers go down with what the merges have changed (desired.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kubeedge.api import edge_writes, keys
from kubeedge.api.names import NodeName
from kubeedge.errors import Invalid
from kubeedge.kit.bucket import Bucket
from kubeedge_cloud.controllers.queue import WorkQueue
from kubeedge_cloud.edgecontroller.state import EdgeState
from kubeedge_cloud.edgecontroller.writes import WriteMerger

PREFIX = f"{edge_writes.RESOURCE}/"
#: writes of one node, a second in the long run and at once after a pause; 256 at most wait at an edge
_WRITE_RATE, _WRITE_BURST = 5.0, 300.0
_WRITE_LATER = 2.0  # seconds: each look costs as much as there are writes whose answers the node has not taken
_WRITES_LOOKED_AT = 512  # the first ones; twice as many as may wait at an edge


class PendingWrites:
    """`send_down` is told of the nodes for which there are answers, or something to take away."""

    def __init__(self, state: EdgeState, send_down: Callable[[NodeName], None]) -> None:
        self._state = state
        self._send_down = send_down
        self._waiting: dict[NodeName, dict[str, bytes]] = {}  # "writes/_/SEQ" -> value
        self._answers: dict[NodeName, dict[str, bytes]] = {}  # that are not in the store yet
        self._paces: dict[NodeName, Bucket] = {}
        self._merger = WriteMerger(
            state.tenant, state.store, state.client, pods=lambda: state.pods, refresh=self._refresh, wall=state.wall
        )
        self.queue: WorkQueue[NodeName] = WorkQueue(f"writes of nodes of {state.tenant}", self._merge_writes)

    def node_added(self, name: NodeName) -> None:
        """The node has a record now: writes that came before it are merged."""
        if name in self._waiting:
            self.queue.add(name)

    def forget(self, name: NodeName) -> None:
        """The node was removed: its rate limit starts over if it comes back."""
        self._paces.pop(name, None)

    def changed(self, name: NodeName, rest: str, value: bytes | None) -> None:
        """`rest` is the key below reported/ ("writes/_/SEQ"); None: the node has taken the answer and deleted its write."""
        here = self._waiting.setdefault(name, {})
        if value is not None:
            here[rest] = value
            self.queue.add(name)
            return
        here.pop(rest, None)  # the node has taken the answer
        self._answers.get(name, {}).pop(rest, None)
        if not here:
            del self._waiting[name]
            self._answers.pop(name, None)
        self._send_down(name)

    async def _merge_writes(self, name: NodeName) -> float | None:
        """In the order in which they were made. The answers go down with what the merge has changed, in one transaction."""
        if name not in self._state.records:
            return None
        wait = 0.0
        prefix = keys.edge_desired(self._state.tenant, name)
        there = await self._state.store.range(prefix + PREFIX, keys.prefix_end(prefix + PREFIX))
        have = {kv.key.removeprefix(prefix): kv.value for kv in there.kvs}
        for rest, value in sorted(self._waiting.get(name, {}).items())[:_WRITES_LOOKED_AT]:
            if rest in have and _answers(have[rest], value):
                continue
            if rest not in self._answers.get(name, {}):
                now = asyncio.get_running_loop().time()
                if wait := self._paces.setdefault(name, Bucket(_WRITE_RATE, _WRITE_BURST, now)).take(now):
                    break
                answer = await self._merger.merge(name, value)
                if self._waiting.get(name, {}).get(rest) == value:
                    self._answers.setdefault(name, {})[rest] = answer
        self._send_down(name)
        return max(wait, _WRITE_LATER) if wait else None

    def answered(self, name: NodeName, have: dict[str, bytes]) -> dict[str, bytes]:
        """Answers that the node has not taken yet."""
        waiting = self._waiting.get(name, {})
        fresh = self._answers.get(name, {})
        return {
            rest: answer
            for rest, value in waiting.items()
            if (answer := fresh.get(rest) or have.get(rest)) is not None and _answers(answer, value)
        }

    async def _refresh(self, resource: str, namespace: str, name: str) -> None:
        """The caches know of a merge before its answer goes down."""
        await self._state.informer_of(resource).refresh(namespace, name)


def _answers(answer: bytes, write: bytes) -> bool:
    try:
        return edge_writes.decode_result(answer)[0] in (edge_writes.decode(write).id, "")
    except Invalid:
        return True  # what is no write has one answer
