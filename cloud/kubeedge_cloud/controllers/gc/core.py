"""Who belongs to whom, by uid, across all kinds. Pure.

Background deletion   an object whose owners are all gone is deleted.
Foreground deletion   an owner that carries the finalizer foregroundDeletion stays, being deleted, until its dependents are
                      gone; they are deleted for it, those that have dependents themselves in the same manner.
Orphaning             an owner that carries the finalizer orphan stays, being deleted, until its dependents have lost their reference to it.
                      The deletionTimestamp comes first: no controller adopts for an owner that has one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kubeedge.api import meta
from kubeedge.api.client import Resource
from kubeedge.api.names import Object
from kubeedge_cloud.controllers.objects import is_deleting, uid_of

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"


@dataclass(frozen=True, slots=True)
class Owned:
    """What the collector keeps of an object."""

    resource: Resource
    namespace: str
    name: str
    uid: str
    owners: Sequence[Object]
    deleting: bool
    finalizers: Sequence[str]

    @property
    def waits_for_dependents(self) -> bool:
        """Whether it is being deleted in the foreground: its dependents go first."""
        return self.deleting and FOREGROUND in self.finalizers

    @property
    def orphans_dependents(self) -> bool:
        """Whether it is being deleted and its dependents are to stay without it."""
        return self.deleting and ORPHAN in self.finalizers

    def blocks(self, owner_uid: str) -> bool:
        """Whether foreground deletion of that owner waits for it (blockOwnerDeletion)."""
        return any(ref.get("uid") == owner_uid and ref.get("blockOwnerDeletion") for ref in self.owners)


def owned(resource: Resource, obj: Object) -> Owned:
    """An object reduced to what garbage collection needs: its identity, owners and finalizers."""
    inner = meta.metadata(obj)
    references: Any = inner.get("ownerReferences") or ()
    return Owned(
        resource,
        meta.namespace_of(obj),
        meta.name_of(obj),
        uid_of(obj),
        tuple(references),
        is_deleting(obj),
        tuple(inner.get("finalizers") or ()),
    )


class Graph:
    """Owners and dependents of all kinds of one cluster, by uid."""

    def __init__(self) -> None:
        self._objects: dict[str, Owned] = {}
        self._dependents: dict[str, dict[str, None]] = {}  # uid of the owner -> uids

    def get(self, uid: str) -> Owned | None:
        """The object with that uid; None when no cache has one."""
        return self._objects.get(uid)

    def dependents(self, uid: str) -> list[Owned]:
        """Objects that name it as an owner; the owner itself need not exist."""
        return [self._objects[other] for other in self._dependents.get(uid, ())]

    def set(self, new: Owned) -> list[str]:
        """Put an object in, in place of its former state; the uids whose dependents have to be looked at."""
        before = self._objects.get(new.uid)
        if before is not None:
            self._unlink(before)
        self._objects[new.uid] = new
        for reference in new.owners:
            self._dependents.setdefault(str(reference.get("uid")), {})[new.uid] = None
        look = [new.uid] if new.waits_for_dependents or new.orphans_dependents or self._has_unknown_owner(new) else []
        return look + self._waiting_owners(new)

    def remove(self, uid: str) -> list[str]:
        """uids to look at: what belonged to it, and who waits for it to go."""
        gone = self._objects.pop(uid, None)
        if gone is None:
            return []
        self._unlink(gone)
        return [*self._dependents.get(uid, ()), *self._waiting_owners(gone)]

    def _unlink(self, obj: Owned) -> None:
        for reference in obj.owners:
            uid = str(reference.get("uid"))
            if (others := self._dependents.get(uid)) is not None:
                others.pop(obj.uid, None)
                if not others:
                    del self._dependents[uid]

    def _has_unknown_owner(self, obj: Owned) -> bool:
        return any(reference.get("uid") not in self._objects for reference in obj.owners)

    def _waiting_owners(self, obj: Owned) -> list[str]:
        uids = (str(reference.get("uid")) for reference in obj.owners)
        return [uid for uid in uids if (owner := self._objects.get(uid)) is not None and owner.waits_for_dependents]
