"""The image service of the embedded runtime: the store, and helpers that bring images to it.

Lives elsewhere: what is on the node (store.py), the helper process with everything heavy in it (fetch.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from kubeedge.appengine.images.fetch import NoSpace, run_helper
from kubeedge.appengine.images.names import parse
from kubeedge.appengine.images.store import Image, ImageStore
from kubeedge.appengine.runtime.image_service import ANY_REGISTRY, ImageStatus
from kubeedge.errors import Invalid, NotFound

log = logging.getLogger("kubeedge.appengine")

Helper = Callable[[dict[str, Any]], Awaitable[list[str]]]


_PULLS = 3  # at a time; further ones wait their turn


class EmbeddedImages:
    """The ImageService of the embedded runtime. Pulls and imports run in a helper process, one for all callers that want the same."""

    def __init__(
        self,
        store: ImageStore,
        reach: Mapping[str, Any] | None = None,
        helper: Helper = run_helper,
        pinned: Collection[str] = (),
    ) -> None:
        """`reach`: how registries are reached, as part of each request to the helper (fetch.py). `pinned`: names that are never collected."""
        self._store = store
        self._reach = dict(reach or {})
        self._helper = helper
        self._pinned = frozenset(str(parse(name)) for name in pinned)
        self._running: dict[tuple[str, str], asyncio.Task[Sequence[str]]] = {}
        self._turns = asyncio.Semaphore(_PULLS)
        #: layers that containers are mounted from, set by the runtime; None when that is not known of all of them
        self.in_use: Callable[[], Collection[str] | None] = frozenset

    def find(self, name: str) -> Image | None:
        """An image with its layers, for the runtime. Raises Invalid."""
        return self._store.find(name)

    async def list(self) -> Sequence[ImageStatus]:
        """One entry for each image id, with all its names. An image that lacks a layer is left out."""
        found: dict[str, ImageStatus] = {}
        for name in self._store.names():
            if image := self._store.find(name):
                before = found.get(image.id)
                found[image.id] = self._status(image, before)
        return [*found.values()]

    async def status(self, name: str) -> ImageStatus | None:
        image = self._store.find(name)
        return None if image is None else self._status(image)

    def _status(self, image: Image, before: ImageStatus | None = None) -> ImageStatus:
        """`before`: the same image under other names."""
        names = (*(before.names if before else ()), image.name)
        digests = dict.fromkeys((*(before.digests if before else ()), *([image.pulled_as] if image.pulled_as else ())))
        size = before.size if before else sum(self._store.layer_bytes(f"sha256:{p.name}") for p in image.layers)
        pinned = not self._pinned.isdisjoint(names)
        return ImageStatus(image.id, names, digests=tuple(digests), size=size, pinned=pinned)

    async def pull(self, name: str, auth: Mapping[str, str]) -> str:
        """Pull an image; returns its id. With other credentials it is another pull. Raises Invalid with the reason."""
        full = parse(name)
        name, auth = str(full), {full.registry if key == ANY_REGISTRY else key: auth[key] for key in auth}
        request = {**self._reach, "pull": name, "auth": auth}
        await self._once((name, json.dumps(dict(auth), sort_keys=True)), request)
        image = self._store.find(name)
        return "" if image is None else image.id

    async def restore(self, name: str) -> bool:
        """From the archive that it came from: its layers may be gone while the archive is still here."""
        name = str(parse(name))
        archive = await asyncio.to_thread(self._store.preloaded, name)
        if archive is None:
            return False
        try:
            await self._once((str(archive), ""), {"archive": str(archive)})
        except Invalid as exc:
            log.warning("cannot import %s again: %s", archive, exc)
        return self._store.find(name) is not None

    async def load(self, archive: Path, names: Sequence[str] = ()) -> Sequence[str]:
        return await self._run({"archive": str(archive), "names": list(names)})

    async def remove(self, name: str) -> None:
        in_use = self.in_use()
        await asyncio.to_thread(self._store.remove, name, in_use)

    async def save(self, name: str, archive: Path) -> None:
        """Write an image as an OCI archive. Raises Invalid, or NotFound when it is not on this node."""
        image = self._store.find(name)
        if image is None:
            raise NotFound(f"image {name} is not on this node")
        await self._run({"save": image.name, "archive": str(archive)})

    async def prune(self) -> int:
        """Layers that no image is made of and no container is mounted from, and parts of blobs that are not being fetched; bytes on disk."""
        if self._running:  # one of them may need what nothing refers to yet
            return 0
        in_use = self.in_use()
        return await asyncio.to_thread(self._store.prune, in_use)

    async def preload(self) -> None:
        """Archives that were put beside the agent."""
        await asyncio.to_thread(self._store.sweep)
        for archive in sorted(self._store.preload.glob("*.tar")):
            if self._store.imported(archive):
                continue
            try:
                names = await self.load(archive)
                self._store.mark_imported(archive, names)
                log.info("imported archive=%s images=%s", archive.name, ",".join(names))
            except (Invalid, OSError) as exc:
                log.error("cannot import %s: %s", archive, exc)

    async def close(self) -> None:
        tasks = [*self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _once(self, key: tuple[str, str], request: dict[str, Any]) -> None:
        """Who waits may give up; it goes on for the next one."""
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.create_task(self._run(request), name=f"image {key[0]}")
            task.add_done_callback(lambda done: self._ended(key, done))
        try:
            await asyncio.shield(task)
        except NoSpace:
            self._running.pop(key, None)
            await self._make_room()
            raise

    async def _run(self, request: dict[str, Any]) -> Sequence[str]:
        async with self._turns:
            return await self._helper({"root": str(self._store.root), **request})

    def _ended(self, key: tuple[str, str], task: asyncio.Task[Sequence[str]]) -> None:
        self._running.pop(key, None)
        if not task.cancelled():
            task.exception()  # all that waited for it may be gone

    async def _make_room(self) -> None:
        """A pull that found the disk full leaves nothing, neither layers that were whole before it was."""
        with contextlib.suppress(OSError):
            await self.prune()
