"""Bytes that clients hold here by messages that are not whole, or that are not read, of all clients together."""

from __future__ import annotations

import logging
from typing import Protocol

log = logging.getLogger("kubeedge.heldbytes")


class Holder(Protocol):
    """A client's connection, which can be cut off."""

    def abort(self) -> None:
        """Cut it off at once."""
        ...


class HeldBytes:
    """Each client is bounded, and there may be hundreds: together they may hold `limit`. When it is more, the one with the most is cut off."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: dict[Holder, dict[str, int]] = {}
        self._size = 0

    def hold(self, holder: Holder, part: str, size: int) -> None:
        """Bytes that this part of a connection holds now."""
        parts = self._parts.setdefault(holder, {})
        self._size += size - parts.get(part, 0)
        parts[part] = size
        while self._size > self._limit:
            most = max(self._parts, key=lambda one: sum(self._parts[one].values()))
            log.warning("clients hold %d bytes: the one with the most is cut off", self._size)
            self.release(most)
            most.abort()

    def release(self, holder: Holder) -> None:
        """The connection is over. Idempotent."""
        self._size -= sum(self._parts.pop(holder, {}).values())

    @property
    def size(self) -> int:
        """Bytes that all connections hold together."""
        return self._size
