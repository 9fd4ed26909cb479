"""Module "nodestreams": connections to nodes' kubelet APIs, ended when their node is known to be lost.

A connection through KubeBus outlives a cut of its link for a minute, and idle ones are asked after two: an exec whose agent was killed would stay as
long. The node's session key tells earlier. When it goes, or another session takes its place, the peer of each connection is asked at once, and an
agent that has started anew knows nothing of it. A node that has no session after LOST seconds, and cannot be connected to either, has lost
them all. A cut of a few seconds ends nothing.

Lives elsewhere: who uses the connections (module.py, kubeedge.apiserver), asking a peer (kubeedge.kubebus.l4).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from weakref import WeakSet

from kubeedge.api import keys
from kubeedge.api.names import NodeKey, NodeName, TenantId
from kubeedge.errors import KubeEdgeError
from kubeedge.kit.streams import StreamPair, abort_writer
from kubeedge.kit.tasks import TaskSet
from kubeedge.kubebus.l4.driver import KEEPALIVE, ask_peer
from kubeedge.store.model import Store
from kubeedge.store.reflector import reflect

log = logging.getLogger("kubeedge.kubelets")


LOST = 15.0  # seconds without a session after which the node has to show that it is there
ASK = 5.0  # seconds of silence after which the peer of a connection is asked meanwhile
_ANSWER = 5.0  # seconds in which a node accepts a connection


class NodeStreams:
    """`connect` makes a connection to a node's kubelet API. It raises NotFound (no such node), Unavailable (no link, no answer) or OSError."""

    name = "nodestreams"

    def __init__(self, store: Store, connect: Callable[[TenantId, NodeName], Awaitable[StreamPair]]) -> None:
        self._store = store
        self._connect = connect
        self._open: dict[NodeKey, WeakSet[asyncio.StreamWriter]] = {}
        self._sessions: dict[NodeKey, bytes] = {}
        self._watched: dict[NodeKey, float] = {}  # when its session came or went last, by the loop's clock
        self._tasks: TaskSet | None = None

    async def connect(self, tenant: TenantId, node: NodeName) -> StreamPair:
        """A byte stream to a node's kubelet API. Raises what `connect` of the constructor raises."""
        reader, writer = await self._connect(tenant, node)
        key = (tenant, node)
        self._open.setdefault(key, WeakSet()).add(writer)
        if key not in self._sessions and key not in self._watched:
            self._watch(key)
        return reader, writer

    async def run(self, ready: asyncio.Event) -> None:
        """Ready once the sessions are known."""
        async with TaskSet("nodes whose connections are looked at") as self._tasks:
            async with aclosing(reflect(self._store, keys.SESSIONS)) as changes:
                async for values, changed in changes:
                    for key in changed:
                        self._session_changed(key, values.get(key))
                    self._forget_ended()
                    ready.set()

    def _session_changed(self, key: str, value: bytes | None) -> None:
        tenant, _, name = key.removeprefix(keys.SESSIONS).partition("/")
        node = (TenantId(tenant), NodeName(name))
        if value is None:
            self._sessions.pop(node, None)
        else:
            self._sessions[node] = value
        if self._open.get(node):
            self._watch(node)

    def _forget_ended(self) -> None:
        for node in [node for node, writers in self._open.items() if not writers]:
            del self._open[node]

    def _watch(self, node: NodeKey) -> None:
        if self._tasks is None:
            return
        begins = node not in self._watched
        self._watched[node] = asyncio.get_running_loop().time()
        if begins:
            self._tasks.start(self._look_at(node), f"connections to node {node[1]}")

    async def _look_at(self, node: NodeKey) -> None:
        """Until the node has had one session for a while, or has lost its connections."""
        clock = asyncio.get_running_loop().time
        try:
            while writers := self._open.get(node):
                for writer in writers:
                    ask_peer(writer, ASK)
                if (left := self._watched[node] + LOST - clock()) > 0:
                    await asyncio.sleep(max(left, 0.01))
                elif node in self._sessions:
                    break
                elif await self._answers(node):
                    await asyncio.sleep(LOST)
                else:
                    self._end(node)
                    break
        finally:
            del self._watched[node]
            for writer in self._open.get(node) or ():
                ask_peer(writer, KEEPALIVE)

    async def _answers(self, node: NodeKey) -> bool:
        """A node may be without its channel and have its link."""
        try:
            async with asyncio.timeout(_ANSWER):
                _, writer = await self._connect(*node)
        except (OSError, KubeEdgeError):  # TimeoutError is an OSError
            return False
        abort_writer(writer)
        return True

    def _end(self, node: NodeKey) -> None:
        if node in self._sessions:
            return  # it has come back in this moment
        writers = list(self._open.pop(node, ()))
        log.warning("tenant=%s node=%s is lost: %d connections to it end", *node, len(writers))
        for writer in writers:
            abort_writer(writer)
