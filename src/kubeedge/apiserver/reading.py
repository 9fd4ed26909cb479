"""Reading the Kubernetes objects of one tenant over a store: get, list by pages, watch.

Lives elsewhere: writing (registry.py); key ranges and selectors (selection.py).

An object's resourceVersion is the store's revision of its last write; a list's is the revision at which it was read. Here, and nowhere
above, it is a number. Every object that is handed out was decoded for its caller, or for all watches that said that they share. Nothing is
cached: a watch that needs the object before a change reads it from the store's history, so a thousand watches hold no objects.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from typing import TypeVar

from kubeedge.api import meta
from kubeedge.api.client import ObjectList, Resource, WatchEvent
from kubeedge.api.names import Object, Revision, TenantId
from kubeedge.api.resources import Resources
from kubeedge.api.status import Expired, ObjectNotFound
from kubeedge.apiserver import selection
from kubeedge.apiserver.builtin import BUILT_IN
from kubeedge.apiserver.heartbeats import Heartbeats
from kubeedge.apiserver.offload import SMALL, Inline, Offload
from kubeedge.apiserver.selection import Selection
from kubeedge.errors import Gone
from kubeedge.kit.dataclasses import dataclass
from kubeedge.kit.once import Once
from kubeedge.store.model import Change, ChangeKind, KeyValue, Store

T = TypeVar("T")
_PAGE = 500  # objects read from the store at once, when they are small
_FIRST_PAGE = 20  # before their size is known
_FEW = 2  # likewise, where little may be held
_HELD = 64 * 1024  # bytes of objects that a watch holds decoded at its beginning, while its client does not read
_PAGE_BYTES = 2 * 1024 * 1024  # about as much is read and decoded at once
_PART = 128 * 1024  # bytes of a list that is gone through part by part: a tenant may have dozens of such requests


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list; all parts show one revision."""

    items: Sequence[Object]
    resource_version: str
    continue_token: str = ""
    remaining: int | None = None  # None: not known (a selector filters)
    size: int = 0  # bytes that were read for it


class ObjectReader:
    """`served` are the resources of this tenant's API; custom ones are registered there at any time."""

    def __init__(
        self,
        store: Store,
        tenant: TenantId,
        *,
        served: Resources | None = None,
        offload: Offload | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.tenant = tenant
        self.served = served or Resources(BUILT_IN)
        self._store = store
        self._offload = offload or Inline()
        self._heartbeats = Heartbeats(store, tenant, wall=wall)
        self._decoding: Once[tuple[str, Revision, str]] = Once()  # of changes, for watches that share

    async def bootstrap(self) -> None:
        """What has to be there before anything else is; every other method calls it first."""

    async def apart(self, size: int, work: Callable[[], T]) -> T:
        """The result of pure work on `size` bytes, this tenant's turn kept (offload.py)."""
        return await self._offload.run(self.tenant, size, work)

    async def resources(self) -> Sequence[Resource]:
        """The resources that are served now, custom resources included."""
        return [row.resource for row in self.served.stored]

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        """An object as it is stored. Raises ObjectNotFound or NoSuchPath."""
        await self.bootstrap()
        self.served.row_of(resource)
        kv = await self._read(resource, namespace, name)
        found = await self.apart(len(kv.value), partial(decode, kv))
        await self._heartbeats.renew(resource, [found])
        return found

    async def list(
        self, resource: Resource, namespace: str = "", *, label_selector: str = "", field_selector: str = ""
    ) -> ObjectList:
        page = await self.list_page(resource, namespace, label_selector=label_selector, field_selector=field_selector)
        return ObjectList(page.items, page.resource_version)

    async def reduced_list(
        self, resource: Resource, namespace: str, keep: Callable[[Object], Object]
    ) -> Sequence[Object]:
        """What `keep` makes of each object; of the objects themselves a part is there at a time."""
        async with contextlib.aclosing(self.pages(resource, namespace)) as pages:
            return [keep(obj) async for page in pages for obj in page.items]

    async def list_page(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 0,
        continue_token: str = "",
        room: int = 0,
    ) -> Page:
        """`room`: bytes after which a page ends, wherever the list does; 0: any. All pages of one list show the same revision. Raises Expired when that revision has been compacted."""
        await self.bootstrap()
        chosen = selection.select(self.tenant, self.served.row_of(resource), namespace, label_selector, field_selector)
        revision: Revision | None = None
        start = chosen.key
        if continue_token:
            number, rest = selection.decode_continue(continue_token)
            revision, start = Revision(number), chosen.key + rest
        items: list[Object] = []
        most, size = (_FIRST_PAGE if not room else _FEW), 0
        while True:
            count = most if not limit or chosen.matches is not None else min(most, limit - len(items))
            try:
                found = await self._store.range(start, chosen.end, revision=revision, limit=count)
            except Gone as exc:
                raise Expired(
                    "The provided continue parameter is too old to display a consistent list result. You can start a "
                    "new list without the continue parameter."
                ) from exc
            revision = found.revision if revision is None else revision
            bytes_read = sum(len(kv.value) for kv in found.kvs)
            size += bytes_read
            most = max(1, min(_PAGE, (room or _PAGE_BYTES) * len(found.kvs) // max(bytes_read, 1)))
            read, wanted = await self.apart(
                bytes_read, partial(_wanted, chosen, found.kvs, limit - len(items) if limit else 0)
            )
            await self._heartbeats.renew(resource, wanted)
            items += wanted
            if read:
                start = found.kvs[read - 1].key + "\0"
            if read == len(found.kvs) and not found.more:
                return Page(items, str(revision), size=size)
            if (limit and len(items) >= limit) or (room and size >= room):
                token = selection.encode_continue(revision, start[len(chosen.key) :])
                remaining = found.count - read if chosen.matches is None else None
                return Page(items, str(revision), token, remaining, size)
            await asyncio.sleep(0)  # a list of 100,000 objects must not stall other requests

    async def pages(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        room: int = _PART,
    ) -> AsyncGenerator[Page, None]:
        """A whole list, of which about `room` bytes are there at a time: for who looks at each object once. All pages show one revision, unless that
        is compacted meanwhile: then those that are left are of the newest."""
        token, more = "", True
        while more:
            try:
                page = await self.list_page(
                    resource,
                    namespace,
                    label_selector=label_selector,
                    field_selector=field_selector,
                    continue_token=token,
                    room=room,
                )
            except Expired:
                if not token:
                    raise
                token = selection.encode_continue(self._store.revision, selection.decode_continue(token)[1])
                continue
            token, more = page.continue_token, bool(page.continue_token)
            yield page

    async def watch(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
        bookmarks: bool = False,
        initial_events: bool = False,
        shared: bool = False,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Events after resource_version; "" and "0" begin with the objects there are. Raises Expired.

        `shared`: the caller changes no object, so all who watch get the same one.

        With `bookmarks`, BOOKMARK events say up to which version the watch has seen everything; with
        `initial_events` the existing objects come first, followed by a bookmark annotated as their end.
        """
        await self.bootstrap()
        chosen = selection.select(self.tenant, self.served.row_of(resource), namespace, label_selector, field_selector)
        after = selection.version_of(resource_version)
        if after > self._store.revision:
            # The store was rebuilt or restored: that version may never come.
            raise Expired(f"too large resource version: {after}, current: {self._store.revision}; list again")
        if not after or initial_events:
            token, more = "", True
            while more:
                page = await self.list_page(
                    resource,
                    namespace,
                    label_selector=label_selector,
                    field_selector=field_selector,
                    continue_token=token,
                    room=_HELD,
                )
                after, token = int(page.resource_version), page.continue_token
                more = bool(token)
                objects = list(reversed(page.items))
                size = page.size // max(1, len(objects))
                del page
                while objects:
                    yield WatchEvent("ADDED", objects.pop(), size)
            if initial_events:
                yield _bookmark(resource, after, initial=True)
        changes = self._store.watch(chosen.key, after=Revision(after), progress=bookmarks)
        try:
            async with contextlib.aclosing(changes):
                async for batch in changes:
                    pending = list(reversed(batch.changes))
                    if bookmarks and not pending:
                        yield _bookmark(resource, batch.revision)
                    del batch  # what was handed out is not held here, while a slow client reads
                    while pending:
                        if chosen.covers(pending[-1].key) and (event := await self._seen(chosen, pending[-1], shared)):
                            pending[-1:] = []
                            handing = [event]
                            del event
                            yield handing.pop()
                        else:
                            pending.pop()
        except Gone as exc:
            raise Expired(f"too old resource version: {after} ({self._store.compacted})") from exc

    async def _seen(self, chosen: Selection, change: Change, shared: bool) -> WatchEvent | None:
        after = None
        if change.kind is ChangeKind.PUT:
            after = await self._after(change, shared)
            if change.version == 1:
                return selection.seen(chosen, None, after, len(change.value))
            if chosen.matches is None:
                return WatchEvent("MODIFIED", after, len(change.value))
        before, size = await self._before(change, shared)
        return selection.seen(chosen, before, after, max(size, len(change.value)))

    async def _after(self, change: Change, shared: bool) -> Object:
        make = partial(self.apart, len(change.value), partial(_versioned, change.value, change.revision))
        if not shared or len(change.value) <= SMALL:
            return await make()
        return await self._decoding.of((change.key, change.revision, "after"), make)

    async def _before(self, change: Change, shared: bool) -> tuple[Object | None, int]:
        """The object before the change, with the revision of that, and its bytes; None when it was not there."""

        async def make() -> tuple[Object | None, int]:
            found = await self._store.range(change.key, revision=Revision(change.revision - 1))
            if not found.kvs:
                return None, 0
            value = found.kvs[0].value
            return await self.apart(len(value), partial(_versioned, value, change.revision)), len(value)

        if not shared:
            return await make()
        key = (change.key, change.revision, "before")
        return await self._decoding.of(key, make)

    def _key(self, resource: Resource, namespace: str, name: str) -> str:
        return selection.key(self.tenant, resource, namespace, name)

    async def _read(self, resource: Resource, namespace: str, name: str) -> KeyValue:
        kv = await self._store.get(self._key(resource, namespace, name))
        if kv is None:
            raise ObjectNotFound.of(resource, name)
        return kv


def decode(kv: KeyValue) -> Object:
    """A stored object with its resourceVersion."""
    return _versioned(kv.value, kv.mod_revision)


def _versioned(value: bytes, revision: Revision) -> Object:
    return selection.with_version(meta.decode(value), revision)


def _wanted(chosen: Selection, kvs: Sequence[KeyValue], limit: int) -> tuple[int, Sequence[Object]]:
    """How many were looked at for so many (0: all), and those."""
    found: list[Object] = []
    for read, kv in enumerate(kvs):
        if limit and len(found) >= limit:
            return read, found
        obj = decode(kv)
        if chosen.wants(obj):
            found.append(obj)
    return len(kvs), found


def _bookmark(resource: Resource, revision: int, *, initial: bool = False) -> WatchEvent:
    inner: Object = {"resourceVersion": str(revision), "creationTimestamp": None}
    if initial:
        inner["annotations"] = {"k8s.io/initial-events-end": "true"}
    return WatchEvent("BOOKMARK", {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": inner})
