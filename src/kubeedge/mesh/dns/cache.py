"""Answers that are kept: for a question of the same bytes the answer is there at once. Pure; `now` in seconds comes in.

Bounded in number and bytes; what was used least lately goes first.
"""

from __future__ import annotations

from kubeedge.kit.dataclasses import dataclass
from kubeedge.mesh.dns.message import aged


@dataclass(frozen=True, slots=True)
class CachedAnswer:
    """An answer, when it was taken, and until when it holds."""

    data: bytes
    since: float
    until: float
    lifetimes: tuple[int, ...]


class AnswerCache:
    """By question: whatever bytes say the same thing of the client (its question, EDNS, transport)."""

    def __init__(self, *, entries: int, most: int) -> None:
        """`most`: bytes of all questions and answers together."""
        self._entries = entries
        self._most = most
        self._kept: dict[bytes, CachedAnswer] = {}
        self._bytes = 0
        self.hits = 0

    def get(self, question: bytes, id: int, now: float) -> bytes | None:
        """With the client's ID, and lifetimes that have run on."""
        kept = self._kept.get(question)
        if kept is None:
            return None
        if now >= kept.until:
            self._drop(question)
            return None
        del self._kept[question]
        self._kept[question] = kept  # the one that was used last is last
        self.hits += 1
        return aged(kept.data, id, kept.lifetimes, int(now - kept.since))

    def put(self, question: bytes, data: bytes, lifetimes: tuple[int, ...], ttl: float, now: float) -> None:
        """Nothing is kept for no time."""
        self._drop(question)
        if ttl <= 0 or len(question) + len(data) > self._most // 8:
            return
        self._kept[question] = CachedAnswer(data, now, now + ttl, lifetimes)
        self._bytes += len(question) + len(data)
        while len(self._kept) > self._entries or self._bytes > self._most:
            self._drop(next(iter(self._kept)))

    def clear(self) -> None:
        """Forgets all answers, for a table of Services that has changed."""
        self._kept.clear()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def size(self) -> int:
        """Bytes of all questions and answers that are kept."""
        return self._bytes

    def _drop(self, question: bytes) -> None:
        if (kept := self._kept.pop(question, None)) is not None:
            self._bytes -= len(question) + len(kept.data)
