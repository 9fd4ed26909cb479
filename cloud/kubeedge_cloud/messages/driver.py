"""The messages of one tenant's nodes, out of what they report into their logs.

    /t/T/edge/N/reported/messages/_/NUMBER ──> /t/T/edge/N/messages/log/POSITION, /t/T/edge/N/desired/messages/_/taken

Both are one transaction: a block that comes again, from a node that did not hear of it or through a process that died, is known. Which rows there
are is in memory, and not what is in them. Lives elsewhere: what stays (core.py); who reads (kubeedge.apiserver.message_log).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import aclosing

from kubeedge.api import keys, node_messages
from kubeedge.api.names import NodeName, TenantId
from kubeedge.api.node_messages import MessageReader
from kubeedge.errors import Conflict, Invalid
from kubeedge.kit.bucket import Bucket
from kubeedge.store.model import Compare, CompareTarget, Delete, Op, Put, Store
from kubeedge.store.reflector import PrefixView, follow_view
from kubeedge_cloud.controllers.queue import WorkQueue
from kubeedge_cloud.messages import core
from kubeedge_cloud.tenants.model import node_key

log = logging.getLogger("kubeedge.messages")

_KINDS = ("reported", "messages")
_RATE, _BURST = 128 * 1024.0, 8 * 1024 * 1024.0  # bytes of a node, a second in the long run and at once
_ROOM = 30.0  # seconds until a node whose log is full is looked at again: a reader may have become silent
_BLOCKS = 16  # of a node, in one transaction
_BYTES = 512 * 1024  # likewise, unless it is one block


class _Node:
    """What is known of the rows of one node."""

    __slots__ = ("blocks", "log", "pace", "readers")

    def __init__(self, now: float) -> None:
        self.blocks: set[str] = set()  # keys of what it reports and nobody has looked at
        self.log: dict[int, int] = {}  # position -> bytes
        self.readers: dict[str, MessageReader] = {}
        self.pace = Bucket(_RATE, _BURST, now)


class TenantMessages:
    """`fence` gives compares for its transactions: they fail once another process leads the tenant."""

    def __init__(
        self,
        tenant: TenantId,
        store: Store,
        *,
        fence: Callable[[], Sequence[Compare]] = tuple,
        wall: Callable[[], float],
    ) -> None:
        self._tenant, self._store, self._fence, self._wall = tenant, store, fence, wall
        self._nodes: dict[NodeName, _Node] = {}
        self.taken = 0  # messages, since the start
        self.gaps = 0  # messages that gave way on their nodes
        self.queue: WorkQueue[NodeName] = WorkQueue(f"messages of nodes of {tenant}", self._take)

    async def run(self, serving: asyncio.Event) -> None:
        """Serves until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            first = asyncio.Event()
            group.create_task(self._follow(first), name=f"messages of {self._tenant}")
            await first.wait()
            group.create_task(self.queue.run())
            serving.set()

    async def _follow(self, first: asyncio.Event) -> None:
        prefix = keys.edges(self._tenant)

        def wanted(key: str) -> bool:
            parts = key.removeprefix(prefix).split("/", 3)
            return len(parts) == 4 and parts[1:3] in (
                ["reported", "messages"],
                ["messages", "log"],
                ["messages", "readers"],
            )

        def keep(value: bytes) -> bytes | int:
            return value if len(value) < 128 else len(value)  # a reader, or a block

        view = PrefixView(self._store, prefix, keep=keep, wanted=wanted)
        async with aclosing(follow_view(view)) as steps:
            async for changed in steps:
                for key in changed:
                    self._changed(key, key.removeprefix(prefix), view.values.get(key))
                first.set()

    def _changed(self, key: str, rest: str, value: bytes | int | None) -> None:
        name, kind, what, last = rest.split("/", 3)
        node = self._nodes.setdefault(NodeName(name), _Node(asyncio.get_running_loop().time()))
        if kind == "reported":
            (node.blocks.discard if value is None else node.blocks.add)(key)
        elif what == "readers":
            if isinstance(value, bytes):
                node.readers[last] = node_messages.decode_reader(value)
            else:
                node.readers.pop(last, None)
        elif value is None:
            node.log.pop(int(last), None)
        else:
            node.log[int(last)] = value if isinstance(value, int) else len(value)
        if not (node.blocks or node.log or node.readers):
            self._nodes.pop(NodeName(name), None)
        elif node.blocks:
            self.queue.add(NodeName(name))

    async def _take(self, name: NodeName) -> float | None:
        """The blocks that the node has, in their order. Seconds until it is to be looked at again."""
        node = self._nodes.get(name)
        if node is None or not node.blocks:
            return None
        if (wait := node.pace.charge(0, asyncio.get_running_loop().time())) > 0:
            return max(wait, 0.1)
        answer = keys.edge_desired(self._tenant, name) + node_messages.ANSWERS.removeprefix(keys.DESIRED)
        kv = await self._store.get(answer + node_messages.TAKEN)
        taken = before = node_messages.decode_taken(kv.value if kv is not None else None)
        ops: list[Op] = []
        done: list[str] = []
        size = count = gaps = 0
        more, share = len(node.blocks) > _BLOCKS, core.share(len(self._nodes))
        for key in sorted(node.blocks)[:_BLOCKS]:
            row = await self._store.get(key)
            if row is None:
                continue
            try:
                block = node_messages.decode(row.value)
            except Invalid as exc:  # what one node says must not stop the others
                log.warning("tenant=%s node=%s reported %s: %s", self._tenant, name, key.rsplit("/", 1)[1], exc)
                node.blocks.discard(key)
                continue
            following, fresh, gap = taken.after(block)
            if not fresh.messages:  # the node will hear of it
                node.blocks.discard(key)
                continue
            value = node_messages.encode(fresh)
            if ops and size + len(value) > min(_BYTES, share):
                more = True
                break
            ops.append(Put(self._log(name, fresh.position), value))
            done.append(key)
            taken, size, count, gaps = following, size + len(value), count + len(fresh.messages), gaps + gap
        if taken == before:
            return None
        through = core.floor(node.readers.values(), self._wall())
        gone = core.gone(node.log, through, size, share, before.next)
        if gone is None:
            return _ROOM  # or when a reader has more
        ops += [Delete(self._log(name, position)) for position in gone]
        ops.append(Put(answer + node_messages.TAKEN, node_messages.encode_taken(taken)))
        compares = [
            Compare(answer + node_messages.TAKEN, CompareTarget.MOD, "=", kv.mod_revision if kv is not None else 0),
            Compare(node_key(self._tenant, name), CompareTarget.VERSION, ">", 0),
            *self._fence(),
        ]
        if not (await self._store.txn(compares, ops)).succeeded:
            raise Conflict(f"node {name} was removed, or another process leads")
        node.blocks.difference_update(done)
        node.pace.charge(size, asyncio.get_running_loop().time())
        self.taken += count
        self.gaps += gaps
        if gaps:
            log.warning(
                "tenant=%s node=%s: %d messages gave way on the node before they came", self._tenant, name, gaps
            )
        return 0.0 if more else None

    def _log(self, node: NodeName, position: int) -> str:
        return keys.message_log(self._tenant, node) + node_messages.name_of(position)
