"""Images of this node, for operators and for its disk: list, pull, remove, save, prune; pulled beforehand, collected when the disk fills.

Lives elsewhere: which are collected (image_gc.py), images themselves (the runtime's image service), pulls for a container (pulls.py).
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kubeedge.appengine.image_gc import Disk, ImageUse, bytes_to_free
from kubeedge.appengine.runtime.image_service import ANY_REGISTRY, ImageService, ImageStatus
from kubeedge.appengine.settings import ImageSettings
from kubeedge.appengine.worker import Workers
from kubeedge.errors import Conflict, Invalid, NotFound
from kubeedge.kit.backoff import Backoff

log = logging.getLogger("kubeedge.appengine")

_REPORTED = 50  # images in a node's status, as the kubelet's nodeStatusMaxImages
_PRE_PULL = Backoff(10.0, 600.0)


def disk_of(path: Path) -> Disk:
    """The file system of a path."""
    found = os.statvfs(path)
    return Disk(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize)


class ImageManager:
    """`root` is on the disk that holds the images. `clock` is monotonic."""

    def __init__(
        self,
        images: ImageService,
        workers: Workers,
        settings: ImageSettings,
        root: Path,
        *,
        clock: Callable[[], float] = time.monotonic,
        disk: Callable[[Path], Disk] = disk_of,
    ) -> None:
        self._images = images
        self._workers = workers
        self._settings = settings
        self._root = root
        self._clock = clock
        self._disk = disk
        self._use = ImageUse()

    # -- for operators ------------------------------------------------------------------------------------------------------------

    async def table(self) -> list[dict[str, Any]]:
        """The images by name: {"names", "digests", "id", "size", "inUse", "pinned"}."""
        in_use, found = await self._look()
        rows = [
            {
                "names": list(image.names),
                "digests": list(image.digests),
                "id": image.id,
                "size": image.size,
                "inUse": image.id in in_use,
                "pinned": image.pinned,
            }
            for image in found
        ]
        return sorted(rows, key=lambda row: str(row["names"]))

    async def pull(self, name: str, user: str = "", password: str = "") -> dict[str, Any]:
        """Pull an image. Raises Invalid with the reason."""
        auth = {ANY_REGISTRY: base64.b64encode(f"{user}:{password}".encode()).decode()} if user else {}
        return {"id": await self._images.pull(name, auth)}

    async def remove(self, name: str) -> dict[str, Any]:
        """Remove an image. Raises NotFound, or Conflict while a container uses it."""
        image = await self._images.status(name)
        if image is None:
            raise NotFound(f"image {name} is not on this node")
        in_use, found = await self._look()
        names = next((i.names for i in found if i.id == image.id), ())
        if image.id in in_use and len(names) < 2:
            raise Conflict(f"a container of this node uses image {name}")
        await self._images.remove(name)
        return {}

    async def save(self, name: str, path: str) -> dict[str, Any]:
        """Writes the image to a file of this machine; the answer is {}. Raises Invalid unless `path` is absolute, NotFound."""
        if not path.startswith("/"):
            raise Invalid(f"{path!r:.80} is not an absolute path")
        await self._images.save(name, Path(path))
        return {}

    async def prune(self) -> dict[str, Any]:
        """Everything that no container uses and that is not pinned: {"removed": names, "bytes": that became free}."""
        before = self._disk(self._root).available
        removed = await self._remove_until(None, 0.0)
        await self._images.prune()
        return {"removed": removed, "bytes": max(0, self._disk(self._root).available - before)}

    # -- for the node ----------------------------------------------------------------------------------------------------------

    async def node_images(self) -> list[dict[str, Any]]:
        """The largest images, as NodeStatus.images lists them."""
        found = sorted(await self._images.list(), key=lambda image: (-image.size, image.id))
        return [{"names": [*i.digests, *i.names], "sizeBytes": i.size} for i in found[:_REPORTED]]

    async def collect(self, *, everything: bool = False) -> str:
        """By the thresholds, or all that is unused when the disk is under pressure. What could not be reached, in the kubelet's words, or ""."""
        await self._look()
        disk, settings = self._disk(self._root), self._settings
        wanted = bytes_to_free(disk, settings.high, settings.low)
        if not wanted and not everything:
            return ""
        await self._images.prune()
        goal = disk.available + wanted if not everything else None
        removed = await self._remove_until(goal, 0.0 if everything else settings.min_age)
        freed = self._disk(self._root).available - disk.available
        log.info("disk %.0f %% full: removed %d images, %d bytes", disk.percent_used, len(removed), freed)
        if freed >= wanted:
            return ""
        return (
            f"Failed to garbage collect required amount of images. Attempted to free {wanted} bytes, "
            f"but only found {max(0, freed)} bytes eligible to free."
        )

    async def _remove_until(self, available: int | None, min_age: float) -> list[str]:
        """The names. None: as much as may go."""
        removed: list[str] = []
        in_use, found = await self._look()
        for image in self._use.unused(found, in_use, self._clock(), min_age):
            if available is not None and self._disk(self._root).available >= available:
                break
            if image.id in self._in_use(found):  # a container may have started meanwhile
                continue
            for name in image.names:
                await self._images.remove(name)
                removed.append(name)
        return removed

    async def _look(self) -> tuple[set[str], list[ImageStatus]]:
        """Ids in use, and all images."""
        found = [*await self._images.list()]
        in_use = self._in_use(found)
        self._use.note(found, in_use, self._clock())
        return in_use, found

    def _in_use(self, found: list[ImageStatus]) -> set[str]:
        """Ids that a container has, or that a pod of this node is going to start from."""
        ids = {s.image_id for w in self._workers for s in w.observed.containers.values() if s.image_id}
        wanted = {c.image for w in self._workers if w.desired is not None for c in w.desired.all_containers}
        return ids | {image.id for image in found if any(_means(name, image) for name in wanted)}

    async def pre_pull(self) -> None:
        """Until it is cancelled, or every image is here. Restores what lies beside the agent; pulls the rest again and again."""
        missing, failures = list(self._settings.pre_pull), 0
        while missing:
            left = []
            for name in missing:
                try:
                    if await self._images.status(name) is None and not await self._images.restore(name):
                        await self._images.pull(name, {})
                        log.info("pulled image=%s before a pod asks for it", name)
                except Invalid as exc:
                    log.warning("cannot pull image=%s yet: %s", name, exc)
                    left.append(name)
            missing, failures = left, failures + 1
            if missing:
                await asyncio.sleep(_PRE_PULL.delay(failures))


def _means(text: str, image: ImageStatus) -> bool:
    """Whether a name as users write it may mean this image; of two that end alike, both are kept."""
    tail = text if ":" in text.rsplit("/", 1)[-1] or "@" in text else f"{text}:latest"
    if "@" in tail and ":" in tail.partition("@")[0].rsplit("/", 1)[-1]:  # NAME:TAG@DIGEST is NAME@DIGEST
        head, _, digest = tail.partition("@")
        tail = f"{head.rpartition(':')[0]}@{digest}"
    return any(name == tail or name.endswith(f"/{tail}") for name in (*image.names, *image.digests))
