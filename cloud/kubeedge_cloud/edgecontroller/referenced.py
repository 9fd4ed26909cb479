"""ConfigMaps, Secrets and volumes of a cluster that is a user's own, as a kubelet has them: each by its name, because a pod of the node refers to it.

Each object is watched (or, where nodes may not watch, asked for: polled.py) once, whoever refers to it, by the identity of one node that does: the cluster's Node authorizer decides. What nobody
refers to any more is forgotten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from kubeedge.api.client import KubeClient, Resource
from kubeedge.api.names import NamespacedName, NodeName, Object
from kubeedge.kit.backoff import Backoff
from kubeedge_cloud.controllers.informer.core import ResourceEventHandler
from kubeedge_cloud.controllers.informer.driver import Informer

#: the authorizer hears of a pod when we do, and may be a moment behind
_BACKOFF = Backoff(0.05, 30.0, jitter=0.5)

CLOUD = NodeName("")  # the user for what the cloud itself needs: it asks with its own identity


class SingleObject(Protocol):
    """The cache of one object: an Informer, or what stands for one (polled.py)."""

    @property
    def synced(self) -> asyncio.Event:
        """Set once it is known what there is."""
        ...

    def get(self, namespace: str, name: str) -> Object | None:
        """The object as it was last seen; None: there is none, or it is not known yet."""
        ...

    def adopt(self, obj: Object) -> None:
        """Begin with what another cache knew."""
        ...

    def on_change(self, handler: ResourceEventHandler) -> None:
        """Called for every change."""
        ...

    async def refresh(self, namespace: str, name: str) -> None:
        """What is known is at least as new as the API was when this was called."""
        ...

    async def run(self) -> None:
        """Keep up with the object until cancelled."""
        ...


Follow = Callable[[KubeClient, Resource, str, str], SingleObject]  # the last two: namespace and name


def watched(client: KubeClient, resource: Resource, namespace: str, name: str) -> Informer:
    """What most objects are followed by."""
    selector = f"metadata.name={name}"
    return Informer(client, resource, namespace=namespace, field_selector=selector, backoff=_BACKOFF)


@dataclass(eq=False, slots=True)
class _Followed:
    users: dict[NodeName, None] = field(default_factory=dict)  # a dict for its order
    by: NodeName = CLOUD
    informer: SingleObject | None = None
    task: asyncio.Task[None] | None = None


class Referenced:
    """The objects of one resource; looks like an Informer to those who read. `client_of` gives the client with a node's identity, `follow`
    makes the cache of one object."""

    def __init__(
        self, resource: Resource, client_of: Callable[[NodeName], KubeClient], follow: Follow = watched
    ) -> None:
        self.resource = resource
        self._follow_one = follow
        self._client_of = client_of
        self._followed: dict[NamespacedName, _Followed] = {}
        self._of: dict[NodeName, frozenset[NamespacedName]] = {}
        self._handlers: list[ResourceEventHandler] = []
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Watch until cancelled. `refer` counts from here on."""
        async with asyncio.TaskGroup() as self._group:
            await asyncio.Event().wait()

    def get(self, namespace: str, name: str) -> Object | None:
        """None: there is no such object, no node refers to it, or it is not known yet (`knows`)."""
        followed = self._followed.get((namespace, name))
        return followed.informer.get(namespace, name) if followed and followed.informer else None

    def knows(self, namespace: str, name: str) -> bool:
        """Whether `get` says what there is."""
        followed = self._followed.get((namespace, name))
        return followed is not None and followed.informer is not None and followed.informer.synced.is_set()

    def on_change(self, handler: ResourceEventHandler) -> None:
        """Called for every change from now on."""
        self._handlers.append(handler)

    async def refresh(self, namespace: str, name: str) -> None:
        """What is known of it is at least as new as the API was when this was called."""
        followed = self._followed.get((namespace, name))
        if followed is not None and followed.informer is not None:
            await followed.informer.refresh(namespace, name)

    def refer(self, node: NodeName, keys: Iterable[NamespacedName]) -> None:
        """Everything that pods of the node refer to now."""
        new, old = frozenset(keys), self._of.get(node, frozenset())
        if new:
            self._of[node] = new
        else:
            self._of.pop(node, None)
        for key in new - old:
            followed = self._followed.setdefault(key, _Followed())
            followed.users[node] = None
            if followed.task is None:
                self._follow(key, followed)
        for key in old - new:
            followed = self._followed[key]
            del followed.users[node]
            if not followed.users:
                self._end(followed)
                del self._followed[key]
            elif followed.by == node:  # it may not ask any more
                self._end(followed)
                self._follow(key, followed)

    def __len__(self) -> int:
        return len(self._followed)

    def _follow(self, key: NamespacedName, followed: _Followed) -> None:
        assert self._group is not None, "run() comes first"
        namespace, name = key
        followed.by = next(iter(followed.users))
        before = followed.informer
        informer = self._follow_one(self._client_of(followed.by), self.resource, namespace, name)
        if before is not None and (known := before.get(namespace, name)) is not None:
            informer.adopt(known)
        followed.informer = informer
        informer.on_change(self._changed)
        followed.task = self._group.create_task(
            self._run(informer, key), name=f"{self.resource.plural} {namespace}/{name}"
        )

    async def _run(self, informer: SingleObject, key: NamespacedName) -> None:
        steps, waiting = asyncio.create_task(informer.run()), asyncio.create_task(informer.synced.wait())
        try:
            await asyncio.wait((steps, waiting), return_when=asyncio.FIRST_COMPLETED)
            if informer.get(*key) is None:  # no event says that it is not there: whoever waited for that knows it now
                self._changed({"metadata": {"namespace": key[0], "name": key[1]}}, None)
            await steps
        finally:
            steps.cancel()
            waiting.cancel()

    def _end(self, followed: _Followed) -> None:
        if followed.task is not None:
            followed.task.cancel()
            followed.task = None

    def _changed(self, before: Object | None, after: Object | None) -> None:
        for handler in self._handlers:
            handler(before, after)
