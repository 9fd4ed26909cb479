"""The cloud's log of the messages of a node's programs, and how far those who read it are.

    /t/T/edge/N/messages/log/POSITION         a block: messages in their order, the first one of which has that position
    /t/T/edge/N/messages/readers/NAME         {"through": POSITION, "at": SECONDS}

Positions count the messages of a node from 1 on. Who has a name as a reader says through which position it has them; what all readers have goes, and
while one of them has not, what comes after it waits on the node. A log that has no readers has the newest messages, and older ones give way.

Lives elsewhere: who puts blocks there (kubeedge_cloud.messages); HTTP (message_calls.py).
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from contextlib import aclosing

from kubeedge.api import keys, node_messages
from kubeedge.api.names import NodeName, TenantId
from kubeedge.api.node_messages import MessageReader, NodeMessage, decode_reader
from kubeedge.api.status import BadRequest, TooManyRequests
from kubeedge.errors import Conflict, Gone, Invalid, NotFound
from kubeedge.kit.dataclasses import dataclass
from kubeedge.store.model import Compare, CompareTarget, Delete, Put, Store

MAX_READERS = 16  # of a node
_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,126}[a-z0-9])?")
_ATTEMPTS = 8
_BLOCKS = 16  # read at once


@dataclass(frozen=True, slots=True)
class LoggedMessage:
    """A message with its place among all of its node."""

    position: int
    message: NodeMessage


def position_of(key: str) -> int:
    """Of the first message of a block, by its key."""
    return int(key.rsplit("/", 1)[1])


class MessageLog:
    """Of all nodes of one tenant. `exists` says which nodes there are: it is the prefix of their records."""

    def __init__(self, store: Store, tenant: TenantId) -> None:
        self._store, self._tenant = store, tenant

    async def read(self, node: NodeName, after: int, limit: int, size: int) -> Sequence[LoggedMessage]:
        """The messages after that position: at most so many, and of so many bytes unless it is one. Those that have gone are left out."""
        prefix = keys.message_log(self._tenant, node)
        end = keys.prefix_end(prefix)
        start = prefix + node_messages.name_of(await self._block_before(node, after))
        found: list[LoggedMessage] = []
        while True:
            page = await self._store.range(start, end, limit=_BLOCKS)
            for kv in page.kvs:
                for position, message in enumerate(_messages(kv.value), position_of(kv.key)):
                    if position <= after:
                        continue
                    size -= message.size
                    if len(found) >= limit or (found and size < 0):
                        return found
                    found.append(LoggedMessage(position, message))
            if not page.more:
                return found
            start = page.kvs[-1].key + "\0"

    async def check(self, node: NodeName) -> None:
        """Raises NotFound for a node that this tenant has not."""
        if await self._store.get(keys.nodes(self._tenant) + node) is None:
            raise NotFound(f"there is no node {node[:253]}")

    async def _block_before(self, node: NodeName, after: int) -> int:
        """The position at which the block begins that may have the next message: there are no ranges backwards, and few blocks."""
        prefix = keys.message_log(self._tenant, node)
        end = prefix + node_messages.name_of(after + 1)
        found = await self._store.range(prefix, end, keys_only=True)
        return position_of(found.kvs[-1].key) if found.kvs else 0

    async def wait(self, node: NodeName, after: int, seconds: float) -> None:
        """Returns when there is something after that position, or when the time is over."""
        prefix = keys.message_log(self._tenant, node)
        try:
            async with asyncio.timeout(seconds):
                since = self._store.revision
                if await self.read(node, after, 1, 1):
                    return
                async with aclosing(self._store.watch(prefix, after=since)) as batches:
                    async for _ in batches:
                        return
        except (TimeoutError, Gone):
            return

    async def readers(self, node: NodeName) -> dict[str, MessageReader]:
        """Name -> how far it is."""
        prefix = keys.message_readers(self._tenant, node)
        found = await self._store.range(prefix, keys.prefix_end(prefix))
        return {kv.key.removeprefix(prefix): decode_reader(kv.value) for kv in found.kvs}

    async def acknowledge(self, node: NodeName, name: str, through: int, now: float) -> None:
        """The reader has all messages up to there, and will not ask for them again; 0: it begins. Raises BadRequest, also for a position that no message
        has had yet, NotFound (the node), TooManyRequests (readers)."""
        if not _NAME.fullmatch(name):
            raise BadRequest(f"{name[:64]!r} is no name of a reader: a-z, 0-9, '-', '_' and '.', at most 128")
        key = keys.message_readers(self._tenant, node) + name
        record = keys.nodes(self._tenant) + node
        if through >= (following := await self._next(node)) and not await self.read(node, through - 1, 1, 1):
            await self.check(node)
            raise BadRequest(
                f"node {node} has messages through position {following - 1}: a reader that says it has more would miss those that come"
            )
        for _ in range(_ATTEMPTS):
            old = await self._store.get(key)
            if old is None and len(await self.readers(node)) >= MAX_READERS:
                raise TooManyRequests(f"the messages of a node have at most {MAX_READERS} readers")
            known = decode_reader(old.value).through if old is not None else 0
            row = json.dumps({"through": max(known, through), "at": int(now)}).encode()
            compares = [
                Compare(key, CompareTarget.MOD, "=", old.mod_revision if old is not None else 0),
                Compare(record, CompareTarget.VERSION, ">", 0),
            ]
            if (await self._store.txn(compares, [Put(key, row)])).succeeded:
                return
            await self.check(node)
        raise Conflict(f"reader {name} is written by others")

    async def _next(self, node: NodeName) -> int:
        """The position that the node's next message will have; 1 is larger than what a reader says that only begins."""
        answer = keys.edge_desired(self._tenant, node) + node_messages.ANSWERS.removeprefix(keys.DESIRED)
        kv = await self._store.get(answer + node_messages.TAKEN)
        return node_messages.decode_taken(kv.value if kv is not None else None).next

    async def forget(self, node: NodeName, name: str) -> bool:
        """Nothing waits for the reader any more. False: there is none of that name."""
        done = await self._store.txn((), [Delete(keys.message_readers(self._tenant, node) + name)])
        return done.responses[0] == 1


def _messages(row: bytes) -> Sequence[NodeMessage]:
    try:
        return node_messages.decode(row).messages
    except Invalid:
        return ()  # the cloud's own disk has lost it
