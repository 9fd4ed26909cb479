"""Hints between modules of one process: "the network changed", "the channel is attached".

A hint says that it may be worth looking again; nothing may depend on its arrival, what matters is in the store. So a mailbox that is full drops
its oldest hint and counts it, and a publisher never waits.

Lives elsewhere: state that must not be lost (kubeedge.store).
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Any

NETWORK_CHANGED = "network changed"  # addresses or routes of this machine: links reconnect now
CHANNEL_ATTACHED = "channel attached"  # payload: None
CHANNEL_DETACHED = "channel detached"  # payload: the reason, text
CERTIFICATE_RENEWED = "certificate renewed"  # node.crt was replaced: the next handshake uses it


@dataclass(frozen=True, slots=True)
class Hint:
    topic: str
    payload: Any = None


class Bus:
    """Of one event loop; not for threads."""

    def __init__(self) -> None:
        self._mailboxes: dict[str, set[Mailbox]] = {}

    def publish(self, topic: str, payload: Any = None) -> int:
        """To everyone who listens now; how many that were."""
        listeners = self._mailboxes.get(topic, ())
        for mailbox in tuple(listeners):
            mailbox.put(Hint(topic, payload))
        return len(listeners)

    def subscribe(self, *topics: str, limit: int = 16) -> Mailbox:
        """Use it as a context manager: the mailbox takes hints until it is closed."""
        return Mailbox(self, topics, limit)

    def _open(self, mailbox: Mailbox) -> None:
        for topic in mailbox.topics:
            self._mailboxes.setdefault(topic, set()).add(mailbox)

    def _close(self, mailbox: Mailbox) -> None:
        for topic in mailbox.topics:
            if listeners := self._mailboxes.get(topic):
                listeners.discard(mailbox)
                if not listeners:
                    del self._mailboxes[topic]


class Mailbox:
    """with bus.subscribe(NETWORK_CHANGED) as hints: async for hint in hints: ..."""

    def __init__(self, bus: Bus, topics: tuple[str, ...], limit: int) -> None:
        self.topics = topics
        self.dropped = 0  # hints that were lost because the reader was slow
        self._bus = bus
        self._hints: deque[Hint] = deque(maxlen=limit)
        self._arrived = asyncio.Event()

    def put(self, hint: Hint) -> None:
        self.dropped += len(self._hints) == self._hints.maxlen
        self._hints.append(hint)
        self._arrived.set()

    async def get(self) -> Hint:
        while not self._hints:
            self._arrived.clear()
            await self._arrived.wait()
        return self._hints.popleft()

    def __aiter__(self) -> Mailbox:
        return self

    async def __anext__(self) -> Hint:
        return await self.get()

    def __enter__(self) -> Mailbox:
        self._bus._open(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bus._close(self)
