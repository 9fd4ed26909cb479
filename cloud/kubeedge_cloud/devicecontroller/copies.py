"""How many bytes the rows may have that a tenant's nodes get of its Devices. Pure.

Each row has the properties of its model in it, so a model of 1 MB is stored once in the tenant's quota, and once more for each of its devices. All
rows together may have as much as the tenant's objects. What a node has already, and what becomes smaller, stays; what does not fit is written when
there is room.

Lives elsewhere: copies of other objects, which have a bound of their own (kubeedge_cloud.edgecontroller.copies).
"""

from __future__ import annotations

from collections.abc import Callable


class DeviceCopies:
    """The size of each row, by its key. `limit` in bytes, asked each time: the administrator may change it."""

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit = limit
        self._sizes: dict[str, int] = {}
        self._total = 0

    @property
    def total(self) -> int:
        """Bytes of all keys and values."""
        return self._total

    def admits(self, key: str, value: bytes) -> bool:
        """The row may have that value."""
        growth = len(key) + len(value) - self._sizes.get(key, 0)
        return growth <= 0 or self._total + growth <= self._limit()

    def count(self, key: str, value: bytes | None) -> None:
        """The row has that value now; None: it is gone."""
        size = 0 if value is None else len(key) + len(value)
        self._total += size - self._sizes.pop(key, 0)
        if size:
            self._sizes[key] = size
