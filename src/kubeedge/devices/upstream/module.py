"""Module "upstream": takes messages for the cloud into the queue, and a window of them into the store, until the cloud says that it has them.

    program ── QoS 1 ──> queue on the disk ──> acknowledged
                         queue ── window of blocks ──> /reported/messages/ ── sync ──> the cloud's log
                         queue <── forgets ── /desired/messages/_/taken <── sync ── the cloud

So each arrives once and in order, however long the line was down, as long as the queue has room (queue.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing

from kubeedge.api import node_messages
from kubeedge.api.node_messages import Taken
from kubeedge.devices.ages import EPOCH
from kubeedge.devices.upstream.core import WINDOW, CloudTopics, SentBlocks
from kubeedge.devices.upstream.queue import IncomingMessage, UpstreamQueue
from kubeedge.errors import Unavailable
from kubeedge.store.model import Delete, Op, Put, Store
from kubeedge.store.reflector import read_all, reflect

log = logging.getLogger("kubeedge.devices.upstream")

_PAUSE = 0.25  # seconds that a message waits whose client does not ask for durability (QoS 0)
_RETRY = 1.0  # seconds, on a full disk
_MOST_CLIENTS = 1024
_MAX_WAITING = 4 * 1024 * 1024  # bytes on their way to the disk


class MessageUpstream:
    """`append` may be called before and while it runs."""

    name = "upstream"

    def __init__(self, store: Store, queue: UpstreamQueue, *, wall: Callable[[], float]) -> None:
        self.queue = queue
        self.topics = CloudTopics()
        self.taken = Taken()
        self._store, self._wall = store, wall
        self._sent = SentBlocks()
        self._incoming: list[IncomingMessage] = []
        self._done = 0  # up to there the queue has forgotten its messages
        self._bytes = 0
        self._clients: set[str] = set()  # whose duplicates would be known
        self._waiters: list[asyncio.Future[None]] = []
        self._wake, self._look = asyncio.Event(), asyncio.Event()
        self._later: asyncio.TimerHandle | None = None
        self.dropped = 0  # messages that found no room in memory, since the start
        self.refused = 0  # those that are larger than any may be
        self.topics_changed: Callable[[], None] = lambda: None

    def append(
        self, topic: str, payload: bytes, *, client: str = "", packet: int = 0, dup: bool = False, durable: bool = True
    ) -> asyncio.Future[None] | None:
        """A message for the cloud; the future is done when it is on the disk, and cancelled when it is not kept. None: nobody asked, or
        there is no use in sending it again."""
        loop = asyncio.get_running_loop()
        if len(payload) > node_messages.MAX_PAYLOAD or len(topic) > node_messages.MAX_TOPIC:
            if not self.refused:
                log.warning("%.200s: a message is too large for the cloud; others are counted", topic)
            self.refused += 1
            return None
        size = len(topic) + len(payload) + 64
        future: asyncio.Future[None] | None = loop.create_future() if durable else None
        # who does not wait for acknowledgements can fill any room: those who do have the other half of it
        if self._bytes + size > (_MAX_WAITING if durable else _MAX_WAITING // 2):
            self.dropped += 1
            if future is not None:
                future.cancel()
            return future
        now = int(self._wall() * 1000)
        self._incoming.append(IncomingMessage(topic, payload, now if now >= EPOCH else 0, client, packet, dup))
        self._bytes += size
        if packet:
            if len(self._clients) >= _MOST_CLIENTS:
                self._clients.clear()
            self._clients.add(client)
        if future is not None:
            self._waiters.append(future)
            self._wake.set()
        elif self._later is None:
            self._later = loop.call_later(_PAUSE, self._wake.set)
        return future

    def ended(self, client: str) -> None:
        """It has said goodbye: the next program of that name numbers its messages anew, and a duplicate of its is none of this one's."""
        if client in self._clients:
            self._clients.remove(client)
            self._incoming.append(IncomingMessage("", b"", 0, client))  # goes to the disk with the next message

    async def run(self, ready: asyncio.Event) -> None:
        """Ready when what waits is known."""
        if self.queue.exists:  # most nodes have no messages
            await asyncio.to_thread(self.queue.open)
        self._sent = SentBlocks()
        for key, row in (await read_all(self._store, node_messages.BLOCKS)).items():
            self._sent.restore(key.removeprefix(node_messages.BLOCKS), row)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow(ready), name="answers to messages")
                group.create_task(self._keep(), name="messages to the disk")
                group.create_task(self._send(), name="messages to the cloud")
        finally:
            for future in self._waiters:
                future.cancel()
            self.queue.close()

    async def _follow(self, ready: asyncio.Event) -> None:
        async with aclosing(reflect(self._store, node_messages.ANSWERS)) as changes:
            async for values, _ in changes:
                self.taken = node_messages.decode_taken(values.get(node_messages.ANSWERS + node_messages.TAKEN))
                filters = node_messages.decode_topics(values.get(node_messages.ANSWERS + node_messages.TOPICS))
                before = self.topics.rules
                self.topics.set_rules(filters)
                if self.topics.rules != before:
                    self.topics_changed()
                ready.set()
                self._look.set()

    async def _keep(self) -> None:
        """What came while a group was on its way to the disk is the next group."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._later is not None:
                self._later.cancel()
                self._later = None
            messages, self._incoming = self._incoming, []
            waiters, self._waiters = self._waiters, []
            self._bytes = 0
            try:
                await asyncio.to_thread(self.queue.append, messages, int(self._wall() * 1000))
            except OSError as exc:
                log.warning("%d messages for the cloud are not kept: %s", len(messages), exc)
                for future in waiters:
                    future.cancel()
                await asyncio.sleep(_RETRY)
                continue
            except BaseException:
                for future in waiters:
                    future.cancel()
                raise
            for future in waiters:
                if not future.done():
                    future.set_result(None)
            self._look.set()

    async def _send(self) -> None:
        while True:
            await self._look.wait()
            self._look.clear()
            try:
                await self._step()
            except (OSError, Unavailable) as exc:
                log.warning("messages for the cloud wait: %s", exc)
                await asyncio.sleep(_RETRY)
                self._look.set()

    async def _step(self) -> None:
        """The rows of the store as they are to be now."""
        queue, taken = self.queue, self.taken
        if queue.exists and (through := taken.queues.get(queue.uid, 0)) != self._done:
            await asyncio.to_thread(queue.done, through)
            self._done = taken.queues.get(queue.uid, 0)  # which may be another queue now
        rows: dict[str, bytes | None] = dict.fromkeys(self._sent.arrived(taken))
        for name in rows:
            del self._sent.rows[name]
        before = {**self._sent.rows, **dict.fromkeys(rows, ("", 0))}  # damaged rows go with the next step
        if queue.exists and (room := self._sent.room(queue.uid)):
            count, size = WINDOW * node_messages.BLOCK_MESSAGES, WINDOW * node_messages.BLOCK_BYTES
            messages = await asyncio.to_thread(queue.after, self._sent.last(queue.uid, taken), count, size)
            rows |= self._sent.add(node_messages.blocks(queue.uid, messages)[:room])
        ops: list[Op] = []
        for name, row in rows.items():
            key = node_messages.BLOCKS + name
            ops.append(Delete(key) if row is None else Put(key, row))
        if not ops:
            return
        try:
            await self._store.txn((), ops)
        except Unavailable:
            self._sent.rows = before
            raise
