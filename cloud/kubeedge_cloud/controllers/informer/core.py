"""The objects of one resource, and the own writes that the watch has not confirmed yet (expectations). Pure.

resourceVersions are opaque: they are compared for equality alone, so every API server will do. That is enough, because

* a watch delivers the changes of an object in order, each once. What comes for an object before the version of an own write is older than
  that write, and is skipped; with that version the write is confirmed.
* a write that was overtaken knows it: it is open (`begin`) while the request is on its way, and the versions that the watch delivers
  meanwhile are noted. If its answer is among them, the cache is as new already.
* there is one open write for each object at a time (driver.py), so of two answers the later one is the newer one.
* a list that began after an answer has that write. One that was being read then may or may not have it: the object is read again
  (`crossed`), as it is when a list was taken in while the write was open.

Cached objects are shared: never modify one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from kubeedge.api import meta
from kubeedge.api.names import NamespacedName, Object
from kubeedge_cloud.controllers.objects import is_deleting, key_of, shared, uid_of

#: (object before, object now): None for "there was none" and "it is gone"
ResourceEventHandler: TypeAlias = Callable[[Object | None, Object | None], None]


def version_of(obj: Object) -> str:
    """metadata.resourceVersion, which is opaque; "" where there is none."""
    return str(meta.metadata(obj).get("resourceVersion") or "")


@dataclass(eq=False, slots=True)
class OpenWrite:
    """A request on its way. `key` is None while the server has not named the object (generateName)."""

    key: NamespacedName | None
    lists: int  # that were taken in before it began
    overtaken_by: set[tuple[NamespacedName, str]] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Unconfirmed:
    version: str
    lists: int  # that had begun when it was answered


class Cache:
    """`keep` is what is kept of an object."""

    def __init__(self, keep: Callable[[Object], Object]) -> None:
        #: uids whose deletion was asked for, until the watch confirms it
        self.expected_deletions: set[str] = set()
        self._keep = keep
        self._objects: dict[NamespacedName, Object] = {}
        self._by_namespace: dict[str, dict[NamespacedName, None]] = {}
        self._handlers: list[ResourceEventHandler] = []
        self._open: dict[NamespacedName | None, list[OpenWrite]] = {}
        self._unconfirmed: dict[NamespacedName, _Unconfirmed] = {}
        self._crossed: dict[NamespacedName, Object | None] = {}  # as the list had it
        self._begun = self._done = 0  # lists

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[Object]:
        return iter(tuple(self._objects.values()))

    def get(self, namespace: str, name: str) -> Object | None:
        """The object; None when there is no such one. It is shared: callers must not change it."""
        return self._objects.get((namespace, name))

    def in_namespace(self, namespace: str) -> Iterable[Object]:
        """A copy of the list; the objects are shared."""
        return [self._objects[key] for key in self._by_namespace.get(namespace, ())]

    def on_change(self, handler: ResourceEventHandler) -> None:
        """Called for every change, and for what is known already."""
        self._handlers.append(handler)
        for obj in self:
            handler(None, obj)

    # Own writes

    def begin(self, key: NamespacedName | None) -> OpenWrite:
        """A write of our own is about to be sent; `key` of None: its name is not known yet (generateName)."""
        write = OpenWrite(key, self._done)
        if key is not None and (there := self._objects.get(key)) is not None:
            write.overtaken_by.add((key, version_of(there)))
        self._open.setdefault(key, []).append(write)
        return write

    def end(self, write: OpenWrite) -> None:
        """The write is over, whether or not it was answered."""
        still = self._open[write.key]
        still.remove(write)
        if not still:
            del self._open[write.key]

    def answered(self, write: OpenWrite, obj: Object) -> bool:
        """The answer counts from now on. False: it cannot be told whether the cache is newer; read the object again."""
        key, version = key_of(obj), version_of(obj)
        if (key, version) in write.overtaken_by:
            return True
        if write.lists != self._done:
            return False
        self._unconfirmed[key] = _Unconfirmed(version, self._begun)
        self._set(key, obj)
        return True

    def missing(self, key: NamespacedName) -> None:
        """The API has no such object any more."""
        self._unconfirmed.pop(key, None)
        self._remove(key)

    # Lists

    def list_begins(self) -> None:
        """To be called before the request of a list is sent: writes answered after it may be missing in it."""
        self._begun += 1

    def listed(self, items: Iterable[Object]) -> Iterable[NamespacedName]:
        """A whole list. Gives the objects that have to be read again (`settle`), before the watch goes on."""
        self._done = self._begun
        found = {key_of(obj): obj for obj in items}
        self._crossed = {
            key: found.get(key)
            for key, own in self._unconfirmed.items()
            if own.lists == self._begun and (key not in found or version_of(found[key]) != own.version)
        }
        self._unconfirmed = {key: self._unconfirmed[key] for key in self._crossed}
        for key in [key for key in self._objects if key not in found and key not in self._crossed]:
            self._remove(key)
        for key, obj in found.items():
            if key not in self._crossed:
                self._set(key, obj)
        self.expected_deletions &= {uid_of(obj) for obj in self}
        return tuple(self._crossed)

    def settle(self, key: NamespacedName, obj: Object | None) -> None:
        """An object as it was read after the list. It is as the list has it, or the watch will bring it."""
        listed = self._crossed.pop(key)
        if obj is None:
            self.missing(key)
        elif listed is not None and version_of(obj) == version_of(listed):
            del self._unconfirmed[key]
            self._set(key, listed)
        else:
            self._unconfirmed[key] = _Unconfirmed(version_of(obj), self._begun)
            self._set(key, obj)

    # The watch

    def put(self, obj: Object) -> None:
        """An event ADDED or MODIFIED; dropped when it is older than a write of our own."""
        key = key_of(obj)
        if self._is_news(key, version_of(obj)):
            self._set(key, obj)

    def deleted(self, obj: Object) -> None:
        """An event DELETED; dropped when it is older than a write of our own."""
        key = key_of(obj)
        if self._is_news(key, version_of(obj)):
            self._remove(key)

    def _is_news(self, key: NamespacedName, version: str) -> bool:
        for of in (key, None):
            for write in self._open.get(of, ()):
                write.overtaken_by.add((key, version))
        own = self._unconfirmed.get(key)
        if own is not None and own.version != version:
            return False
        self._unconfirmed.pop(key, None)
        return True

    # The objects

    def _set(self, key: NamespacedName, obj: Object) -> None:
        before = self._objects.get(key)
        if before is not None and uid_of(before) != uid_of(obj):
            self._remove(key)  # another object under the same name: the first one is gone
            before = None
        kept = shared(self._keep(obj), self._keep.__name__)
        if before is not None and (kept is before or kept == before):
            return
        self._objects[key] = kept
        self._by_namespace.setdefault(key[0], {})[key] = None
        if is_deleting(obj):
            self.expected_deletions.discard(uid_of(obj))
        self._tell(before, kept)

    def _remove(self, key: NamespacedName) -> None:
        before = self._objects.pop(key, None)
        if before is None:
            return
        names = self._by_namespace[key[0]]
        del names[key]
        if not names:
            del self._by_namespace[key[0]]
        self.expected_deletions.discard(uid_of(before))
        self._tell(before, None)

    def _tell(self, before: Object | None, after: Object | None) -> None:
        for handler in self._handlers:
            handler(before, after)
