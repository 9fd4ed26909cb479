"""The image service of the embedded runtime: the store, and helpers that bring images to it.

Lives elsewhere: what is on the node (store.py), the helper process with everything heavy in it (fetch.py).
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from kubeedge.appengine.images.fetch import run_helper
from kubeedge.appengine.images.names import parse
from kubeedge.appengine.images.store import Image, ImageStore
from kubeedge.appengine.runtime.base import ImageStatus
from kubeedge.errors import Invalid

log = logging.getLogger("kubeedge.appengine")

Helper = Callable[[dict[str, Any]], Awaitable[list[str]]]


class EmbeddedImages:
    """The ImageService of the embedded runtime. Pulls and imports run in a helper process, one for all callers that want the same."""

    def __init__(self, store: ImageStore, insecure: Sequence[str] = (), helper: Helper = run_helper) -> None:
        """`insecure`: registries that are spoken to without TLS."""
        self._store = store
        self._insecure = list(insecure)
        self._helper = helper
        self._running: dict[tuple[str, str], asyncio.Task[Sequence[str]]] = {}
        #: layers that containers are mounted from, set by the runtime; None when that is not known of all of them
        self.in_use: Callable[[], Collection[str] | None] = frozenset

    def find(self, name: str) -> Image | None:
        """With its layers, for the runtime. Raises Invalid."""
        return self._store.find(name)

    async def list(self) -> Sequence[ImageStatus]:
        """One entry for each image id, with all its names. An image that lacks a layer is left out."""
        names: dict[str, list[str]] = {}
        for name in self._store.names():
            if image := self._store.find(name):
                names.setdefault(image.id, []).append(name)
        return [ImageStatus(id, tuple(of)) for id, of in names.items()]

    async def status(self, name: str) -> ImageStatus | None:
        image = self._store.find(name)
        return None if image is None else ImageStatus(image.id, (image.name,))

    async def pull(self, name: str, auth: Mapping[str, str]) -> str:
        """With other credentials it is another pull."""
        name = str(parse(name))
        request = {"pull": name, "insecure": self._insecure, "auth": dict(auth)}
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
        await asyncio.shield(task)

    async def _run(self, request: dict[str, Any]) -> Sequence[str]:
        return await self._helper({"root": str(self._store.root), **request})

    def _ended(self, key: tuple[str, str], task: asyncio.Task[Sequence[str]]) -> None:
        self._running.pop(key, None)
        if not task.cancelled():
            task.exception()  # everybody who waited may have gone
