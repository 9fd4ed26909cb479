"""How much a source may have below a sink's prefix: a node that reports more and more must not fill the cloud. Pure.

What is beyond the bounds is refused key by key: the sink stays attached, takes what fits, and informs the source (codec.KeysRefused). What is
there already, and the state of a node and its pods (VITAL), may use a reserve of a quarter more, so a flood of other keys does not
hide them. When the refused keys would fit, because others were deleted, the sink has everything compared again.

How often they may change is bounded, too: the sink counts which share of all that there may be was written (Usage.spent), and takes
the next message when that is paid for (paces); a message costs a commit, however small it is. A source that follows its window sends the newest value then, so nothing is lost by it.

Lives elsewhere: counting what is there at the beginning, waiting, and telling (driver.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from kubeedge.kit.bucket import Buckets, Name
from kubeedge.kit.dataclasses import dataclass, field
from kubeedge.sync.codec import Item

VITAL = ("nodes/", "pods/", "leases/")
REMEMBERED = 4096  # refused keys; of more than so many the others are found when these fit


class Pace(Protocol):
    """What is asked after each message, such as a Bucket with shares as tokens (Bounds.share)."""

    def charge(self, tokens: float, now: float) -> float:
        """So much was written; the seconds until the next message may be taken."""
        ...


@dataclass(frozen=True, slots=True)
class Bounds:
    """A node with its 110 pods, 100 events and 256 writes that wait has 500 keys of together less than 6 MiB."""

    keys: int = 5_000
    size: int = 16 * 1024 * 1024  # bytes of keys and values
    seconds: float = 30.0  # in which all of that may be written once
    commits: int = 600  # in as many seconds: one for each message, however small it is

    def share(self, size: int) -> float:
        """Of all that there may be: one key, and so many bytes."""
        return max(1 / max(1, self.keys), size / max(1, self.size))

    def paces(self, most: int) -> Buckets[Name]:
        """For each source, with shares as tokens: all of it at once, and then as often as it may be. They outlive the sessions."""
        return Buckets(1 / self.seconds, 1.0, most)


@dataclass(slots=True)
class Usage:
    """How much there is, and what was refused since the session began."""

    bounds: Bounds
    keys: int = 0
    size: int = 0  # bytes
    refused: dict[str, int] = field(default_factory=dict)  # bytes that it would take
    longest: int = 1 << 30  # bytes of a key that the sink can hold: its prefix may be longer than the source's
    is_key: Callable[[str], bool] = lambda key: True  # whether a key is one that the sink's readers know how to read
    unfit: set[str] = field(default_factory=set)  # keys that are longer, or none
    #: the source compares nothing at the next attach: until nothing is refused it is to send everything again
    forgets: bool = False
    written: float = 0.0  # since the last call of spent(): shares of what there may be
    stale: bool = False  # keys were deleted whose sizes are not known: what is there is less than it says

    def count(self, key: str, value: bytes) -> None:
        """Take a key that is there into account."""
        self.keys += 1
        self.size += len(key.encode()) + len(value)

    def admits(self, item: Item, there: bytes | None) -> bool:
        """Counts the item; False: it is refused. `there`: the value that the key has."""
        if item.value is None:
            self.forget(item.key)
            self.written += self.bounds.share(0)
            if there is not None:
                self.keys -= 1
                self.size -= len(item.key.encode()) + len(there)
            return True
        if len(item.key.encode()) > self.longest or not self.is_key(item.key):
            if len(self.unfit) < REMEMBERED:
                self.unfit.add(item.key)
            return False
        keys = int(there is None)
        size = len(item.value) - len(there) if there is not None else len(item.key.encode()) + len(item.value)
        reserve = there is not None or item.key.startswith(VITAL)
        if (keys or size > 0) and not self._has_room(keys, size, reserve=reserve):
            self.refuse(item.key, size)
            return False
        self.refused.pop(item.key, None)
        self.keys += keys
        self.size += size
        self.written += self.bounds.share(len(item.key.encode()) + len(item.value))
        return True

    def spent(self) -> float:
        """What was written since the last call; see Bounds.share."""
        spent, self.written = self.written, 0.0
        return spent

    @property
    def refusals(self) -> int:
        """The number of keys that are refused now."""
        return len(self.refused) + len(self.unfit)

    def forget(self, key: str) -> None:
        """It is gone at the source, or as it is here."""
        self.refused.pop(key, None)
        self.unfit.discard(key)

    def refuse(self, key: str, size: int) -> None:
        """Remember that the key was refused."""
        if key in self.refused or len(self.refused) < REMEMBERED:
            self.refused[key] = size

    def refuses_on(self, key: str) -> bool:
        """A patch of that key fits nothing here: is it of a value that was refused? That has about its size still."""
        return key in self.refused or key in self.unfit or self.refusals >= REMEMBERED

    def near(self, keys: int, size: int) -> bool:
        """So much more may not fit: exact figures of what is there are needed."""
        return not self._has_room(keys, size, reserve=False)

    def fits(self) -> bool:
        """Whether what was refused would be accepted now."""
        return bool(self.refused) and self._has_room(len(self.refused), sum(self.refused.values()), reserve=False)

    def _has_room(self, keys: int, size: int, *, reserve: bool) -> bool:
        more = 4 if not reserve else 5
        return self.keys + keys <= self.bounds.keys * more // 4 and self.size + size <= self.bounds.size * more // 4
