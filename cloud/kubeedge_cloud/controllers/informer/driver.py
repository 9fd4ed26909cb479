"""A cache of one resource: listed once, watched from there, shared by everyone who needs it.

Three races are closed here, so that controllers need not think of them:

* Own writes. A controller that made a pod must see it when it counts again, though the watch has not delivered it yet: writes go through
  `written` (or the client of client.py, which does that), and count from their answer on.
* Own deletions. `expected_deletions` holds the uids whose deletion was asked for, until the watch confirms.
* Compaction. When the watch's version is gone, the list is read again, and the differences become changes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from contextlib import aclosing

from kubeedge.api import meta
from kubeedge.api.client import KubeClient, Resource
from kubeedge.api.names import NamespacedName, Object
from kubeedge.api.status import TooManyRequests
from kubeedge.errors import KubeEdgeError, NotFound, Refused, Unavailable
from kubeedge.kit.backoff import Backoff
from kubeedge.kit.reflector.core import Reflector
from kubeedge.kit.reflector.driver import reflect
from kubeedge_cloud.controllers.informer.core import Cache, ResourceEventHandler, version_of
from kubeedge_cloud.controllers.objects import without_history

log = logging.getLogger("kubeedge.controllers")

_RETRY = 1.0  # seconds
_BACKOFF = Backoff(1.0, 30.0)


def _was_away(exc: Exception) -> bool:
    """The server may have been restored from a backup meanwhile (ADR 65). One that is busy or refuses is there."""
    return not isinstance(exc, Refused | TooManyRequests)


class _Turn:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0


class Informer:
    """`keep` reduces an object to what is cached of it; `synced` is set after the first list."""

    def __init__(
        self,
        client: KubeClient,
        resource: Resource,
        *,
        namespace: str = "",
        field_selector: str = "",
        keep: Callable[[Object], Object] = without_history,
        backoff: Backoff = _BACKOFF,
    ) -> None:
        self.resource = resource
        self._namespace = namespace
        self._field_selector = field_selector
        self._backoff = backoff
        self.synced = asyncio.Event()
        self._client = client
        self._cache = Cache(keep)
        self._turns: dict[NamespacedName, _Turn] = {}  # of own writes: one at a time for each object

    def __len__(self) -> int:
        return len(self._cache)

    def __iter__(self) -> Iterator[Object]:
        return iter(self._cache)

    def get(self, namespace: str, name: str) -> Object | None:
        """From the cache: None before `synced`, too. The object is shared: callers must not change it."""
        return self._cache.get(namespace, name)

    def adopt(self, obj: Object) -> None:
        """Begin with an object that another cache knew; the first list says what has become of it."""
        self._cache.put(obj)

    def knows(self, namespace: str, name: str) -> bool:
        """Whether `get` says what there is; before, it says that there is nothing."""
        return self.synced.is_set()

    def in_namespace(self, namespace: str) -> Iterable[Object]:
        """The objects of a namespace in the cache; "" is that of cluster-scoped objects."""
        return self._cache.in_namespace(namespace)

    def on_change(self, handler: ResourceEventHandler) -> None:
        """Called for every change, and for what is known already."""
        self._cache.on_change(handler)

    @property
    def expected_deletions(self) -> set[str]:
        """uids whose deletion was asked for and is not confirmed by the watch."""
        return self._cache.expected_deletions

    async def deleted(self, uid: str, request: Awaitable[None]) -> None:
        """Await a deletion of ours. It is expected from now on, unless the request fails."""
        self.expected_deletions.add(uid)
        try:
            await request
        except BaseException:
            self.expected_deletions.discard(uid)
            raise

    async def written(self, namespace: str, name: str, request: Callable[[], Awaitable[Object]]) -> Object:
        """The answer of a write of ours (or of a read); the cache is at least as new when this returns. `name` "": the server names it."""
        if not name:
            return await self._tracked(None, request)
        key = (namespace, name)
        turn = self._turns.setdefault(key, _Turn())
        turn.users += 1
        try:
            async with turn.lock:
                return await self._tracked(key, request)
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[key]

    async def refresh(self, namespace: str, name: str) -> None:
        """The cache is at least as new as the API was when this was called."""
        try:
            await self.written(namespace, name, lambda: self._client.get(self.resource, namespace, name))
        except NotFound:
            return  # the watch delivers it, or has done so

    async def _tracked(self, key: NamespacedName | None, request: Callable[[], Awaitable[Object]]) -> Object:
        write = self._cache.begin(key)
        try:
            answer = await request()
            known = self._cache.answered(write, answer)
        finally:
            self._cache.end(write)
        while not known:
            namespace, name = meta.namespace_of(answer), meta.name_of(answer)
            again = self._cache.begin((namespace, name))
            try:
                known = self._cache.answered(again, await self._client.get(self.resource, namespace, name))
            except NotFound:
                break
            except (Unavailable, OSError):  # the write was made: who has made it must not make it again because of this
                await asyncio.sleep(_RETRY)
            finally:
                self._cache.end(again)
        return answer

    async def run(self) -> None:
        """List the objects, then watch them, until cancelled."""
        steps = reflect(
            self,
            core=Reflector[str](self._backoff),
            resumes=True,
            # it may be authorized again, or served; and a name that the API refuses to look for, which a user has written into a pod, is that pod's
            # affair: the same group of tasks has all nodes of a tenant
            transient=(KubeEdgeError, OSError),
            relists=_was_away,
            on_error=self._say,
        )
        async with aclosing(steps):
            async for _ in steps:
                self.synced.set()

    def _say(self, exc: Exception, delay: float) -> None:
        which = f" with {self._field_selector:.100} in {self._namespace}" if self._namespace else ""
        log.warning("cannot watch %s%s: %s; trying again in %g s", self.resource.plural, which, exc, delay)

    async def list(self) -> str:
        self._cache.list_begins()
        found = await self._client.list(self.resource, self._namespace, field_selector=self._field_selector)
        for namespace, name in self._cache.listed(found.items):
            try:
                self._cache.settle((namespace, name), await self._client.get(self.resource, namespace, name))
            except NotFound:
                self._cache.settle((namespace, name), None)
        return found.resource_version

    async def watch(self, position: str) -> AsyncGenerator[str, None]:
        events = self._client.watch(
            self.resource,
            self._namespace,
            resource_version=position or "0",
            field_selector=self._field_selector,
            bookmarks=True,
        )
        async with aclosing(events):
            async for event in events:
                if event.type == "DELETED":
                    self._cache.deleted(event.object)
                elif event.type != "BOOKMARK":
                    self._cache.put(event.object)
                yield version_of(event.object) or position
