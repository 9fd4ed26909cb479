"""Which images are removed when the disk fills: those that no container uses, the one that was not used for longest first. Pure.

As the kubelet does it: above `high` percent of the disk images are removed until it is below `low`, none that is younger than `min_age`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from kubeedge.appengine.runtime.image_service import ImageStatus
from kubeedge.kit.dataclasses import dataclass, field


class Disk(NamedTuple):
    """Bytes of the file system that holds the images."""

    capacity: int
    available: int

    @property
    def percent_used(self) -> float:
        """0 for an empty file system, or one without a size."""
        return 100.0 * (self.capacity - self.available) / self.capacity if self.capacity else 0.0


@dataclass(slots=True)
class _Life:
    detected: float
    used: float  # last; 0.0: not seen in use


@dataclass(slots=True)
class ImageUse:
    """When images came and were used last, since the agent started. Times are of one monotonic clock, in seconds."""

    _lives: dict[str, _Life] = field(default_factory=dict)

    def note(self, images: Sequence[ImageStatus], in_use: Collection[str], now: float) -> None:
        """Note which images there are, and the ids of those in use. `now` is in seconds of the caller's clock."""
        self._lives = {image.id: self._lives.get(image.id) or _Life(now, 0.0) for image in images}
        for id in in_use:
            if life := self._lives.get(id):
                life.used = now

    def unused(
        self, images: Sequence[ImageStatus], in_use: Collection[str], now: float, min_age: float = 0.0
    ) -> list[ImageStatus]:
        """The images that may be removed, in the order in which they go."""
        free = [image for image in images if image.id not in in_use and not image.pinned]
        old = [image for image in free if now - self._lives[image.id].detected >= min_age]
        return sorted(old, key=lambda i: (self._lives[i.id].used, self._lives[i.id].detected, i.id))


def bytes_to_free(disk: Disk, high: int, low: int) -> int:
    """How many bytes of images have to go, 0 while the disk is below its threshold `high`, in percent."""
    if high >= 100 or disk.percent_used < high:
        return 0
    return max(0, disk.capacity * (100 - low) // 100 - disk.available)
