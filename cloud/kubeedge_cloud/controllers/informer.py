"""A cache of one resource: listed once, watched from there, shared by everyone who needs it.

Three races are closed here, so that controllers need not think of them:

* Own writes. A controller that made a pod must see it when it counts again, though the watch has not delivered it yet:
  `note` puts the answer of a write into the cache. Versions are integers that grow, so whatever is older loses.
* Own deletions. `expected_deletions` holds the uids whose deletion was asked for, until the watch confirms.
* Compaction. When the watch's version is gone, the list is read again, and the differences become changes.

Objects in the cache belong to everyone: never change one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing
from typing import TypeAlias, cast

from kubeedge.api.client import KubeClient, Resource, WatchEvent
from kubeedge.api.names import Object
from kubeedge.errors import Gone, Unavailable
from kubeedge_cloud.controllers.objects import Key, is_deleting, key_of, shared, uid_of, version_of, without_history

log = logging.getLogger(__name__)

#: (object before, object now): None for "there was none" and "it is gone"
Handler: TypeAlias = Callable[[Object | None, Object | None], None]

_RETRY = 1.0  # seconds, when the API is away


class Informer:
    def __init__(
        self, client: KubeClient, resource: Resource, *, keep: Callable[[Object], Object] = without_history
    ) -> None:
        self.resource = resource
        self.synced = asyncio.Event()
        self.expected_deletions: set[str] = set()
        self._client = client
        self._keep = keep
        self._objects: dict[Key, Object] = {}
        self._by_namespace: dict[str, dict[Key, None]] = {}
        self._handlers: list[Handler] = []
        self._seen = 0  # the watch has delivered everything up to this version

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[Object]:
        return iter(tuple(self._objects.values()))

    def get(self, namespace: str, name: str) -> Object | None:
        return self._objects.get((namespace, name))

    def in_namespace(self, namespace: str) -> Iterable[Object]:
        return [self._objects[key] for key in self._by_namespace.get(namespace, ())]

    def on_change(self, handler: Handler) -> None:
        """Called for every change, and for what is known already."""
        self._handlers.append(handler)
        for obj in self:
            handler(None, obj)

    def note(self, obj: Object) -> None:
        """The answer of a write of ours."""
        version = version_of(obj)
        if self._seen < version:
            self._set(obj)

    def doom(self, uid: str) -> None:
        """A deletion of ours was accepted."""
        self.expected_deletions.add(uid)

    async def run(self) -> None:
        """List, then watch, for ever."""
        while True:
            try:
                found = await self._client.list(self.resource)
                self._replace(found.items, int(found.resource_version or 0))
                self.synced.set()
                await self._follow(found.resource_version)
                await asyncio.sleep(0)
            except Gone:
                await asyncio.sleep(0.01)  # whatever made the list too old must be able to go on
            except (Unavailable, OSError) as exc:
                log.warning("cannot watch %s: %s; trying again in %g s", self.resource.plural, exc, _RETRY)
                await asyncio.sleep(_RETRY)

    async def _follow(self, version: str) -> None:
        watch = cast(
            AsyncGenerator[WatchEvent, None], self._client.watch(self.resource, resource_version=version or "0")
        )
        async with aclosing(watch) as events:
            async for event in events:
                version_seen = version_of(event.object)
                if event.type == "DELETED":
                    self._delete(event.object, version_seen)
                elif event.type != "BOOKMARK":
                    self._set(event.object)
                self._seen = max(self._seen, version_seen)

    def _replace(self, items: Iterable[Object], version: int) -> None:
        """A list older than what the watch has shown is that of another history: the store was rebuilt."""
        rebuilt = version < self._seen
        self._seen = version
        listed = {key_of(obj): obj for obj in items}
        for key, obj in list(self._objects.items()):
            if rebuilt or (key not in listed and version_of(obj) <= version):
                self._remove(key)
        for obj in listed.values():
            self._set(obj)

    def _set(self, obj: Object) -> None:
        key = key_of(obj)
        before = self._objects.get(key)
        if before is not None and version_of(before) >= version_of(obj):
            return
        if before is not None and uid_of(before) != uid_of(obj):
            self._remove(key)  # another object under the same name: the first one is gone
            before = None
        kept = shared(self._keep(obj), self._keep.__name__)
        self._objects[key] = kept
        self._by_namespace.setdefault(key[0], {})[key] = None
        if is_deleting(obj):
            self.expected_deletions.discard(uid_of(obj))
        self._tell(before, kept)

    def _delete(self, obj: Object, version: int) -> None:
        key = key_of(obj)
        before = self._objects.get(key)
        if before is not None and version_of(before) <= version:
            self._remove(key)

    def _remove(self, key: Key) -> None:
        before = self._objects.pop(key)
        names = self._by_namespace[key[0]]
        del names[key]
        if not names:
            del self._by_namespace[key[0]]
        self.expected_deletions.discard(uid_of(before))
        self._tell(before, None)

    def _tell(self, before: Object | None, after: Object | None) -> None:
        for handler in self._handlers:
            handler(before, after)
