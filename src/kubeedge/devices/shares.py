"""Room in memory for what waits for the disk. Pure.

What there is no room for is lost though its report is acknowledged, so a device that floods must cost no other its values: when the room is full, those
that have little in it may add to it still.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class SharedRoom(Generic[K]):
    """`most`: characters of all together, and twice as many in any case; `share`: those of one for which there is room when it is full."""

    def __init__(self, most: int, share: int) -> None:
        self._most, self._share = most, share
        self._own: dict[K, int] = {}
        self._size = 0

    def admits(self, whose: K, size: int) -> bool:
        """So many characters more, which count from now on; False: there is no room for them."""
        own = self._own.get(whose, 0)
        if self._size > self._most and (own > self._share or self._size > 2 * self._most):
            return False
        self._own[whose] = own + size
        self._size += size
        return True

    def clear(self) -> None:
        """Nothing waits any more."""
        self._own.clear()
        self._size = 0
