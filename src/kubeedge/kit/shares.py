"""What each of many owners has of something, and who has the most. Every operation takes constant time: the owners may be attackers. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator


class Shares:
    """Numbered things and their owners, the oldest first."""

    def __init__(self) -> None:
        self._owners: OrderedDict[int, str] = OrderedDict()
        self._held: dict[str, OrderedDict[int, None]] = {}
        self._levels: dict[int, OrderedDict[str, None]] = {}  # how many -> the owners that have so many
        self._most = 0

    def __len__(self) -> int:
        return len(self._owners)

    def __contains__(self, number: int) -> bool:
        return number in self._owners

    def __iter__(self) -> Iterator[int]:
        return iter(self._owners)

    def count(self, owner: str) -> int:
        """How many the owner has; 0 for one that has none."""
        return len(self._held.get(owner, ()))

    def owner(self, number: int) -> str:
        """The owner of a number. Raises KeyError for one that is not there."""
        return self._owners[number]

    def add(self, owner: str, number: int) -> None:
        """Add a number to those of an owner; it must be new."""
        held = self._held.setdefault(owner, OrderedDict())
        self._owners[number] = owner
        held[number] = None
        self._moved(owner, len(held) - 1, len(held))

    def remove(self, number: int) -> None:
        """Raises KeyError for a number that is not there."""
        owner = self._owners.pop(number)
        held = self._held[owner]
        del held[number]
        if not held:
            del self._held[owner]
        self._moved(owner, len(held) + 1, len(held))

    def heaviest(self) -> tuple[str, int]:
        """The owner that has the most, and how many; of several the one that has had them for longest."""
        return (next(iter(self._levels[self._most])), self._most) if self._most else ("", 0)

    def oldest(self, owner: str | None = None) -> int:
        """The oldest number of one owner, or of all. Raises StopIteration when there is none."""
        return next(iter(self._owners if owner is None else self._held[owner]))

    def newest(self, owner: str) -> int:
        """Raises KeyError for an owner that has none."""
        return next(reversed(self._held[owner]))

    def _moved(self, owner: str, before: int, after: int) -> None:
        if before:
            level = self._levels[before]
            del level[owner]
            if not level:
                del self._levels[before]
        if after:
            self._levels.setdefault(after, OrderedDict())[owner] = None
        if after > self._most or self._most not in self._levels:
            self._most = after  # a count changes by one: the owner that had the most has the most still
