"""Events for `kubectl describe`: best effort, in the background, never in the way of the work that they report.

The same message again about the same object raises the count of its Event. What does not fit the queue is dropped
and counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections import OrderedDict, deque
from collections.abc import Callable

from kubeedge.api import meta
from kubeedge.api.client import KubeClient, Resource
from kubeedge.api.names import Object
from kubeedge.api.resources import EVENTS
from kubeedge.errors import KubeEdgeError, NotFound
from kubeedge_cloud.controllers.objects import uid_of

log = logging.getLogger("kubeedge.controllers")

_QUEUED = 256  # events that may wait
_REMEMBERED = 512  # events whose count can be raised
_MAX_MESSAGE = 1024  # characters, as in Kubernetes


class Recorder:
    """`dropped` counts the Events that did not fit the queue."""

    def __init__(self, client: KubeClient, *, wall: Callable[[], float] = time.time) -> None:
        self.dropped = 0
        self._client = client
        self._wall = wall
        self._queue: deque[Object] = deque(maxlen=_QUEUED)
        self._arrived = asyncio.Event()
        self._known: OrderedDict[tuple[str, str, str, str], tuple[str, int]] = OrderedDict()

    def event(
        self, resource: Resource, obj: Object, reason: str, message: str, *, component: str, warning: bool = False
    ) -> None:
        """Never blocks and never fails. `obj` may be cluster-scoped: its Event is in the namespace "default"."""
        stamp = meta.timestamp(self._wall())
        namespace = meta.namespace_of(obj) or "default"
        involved = {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "name": meta.name_of(obj),
            "uid": uid_of(obj),
        }
        if meta.namespace_of(obj):
            involved["namespace"] = namespace
        self.dropped += len(self._queue) == _QUEUED
        self._queue.append(
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"namespace": namespace},
                "involvedObject": involved,
                "type": "Warning" if warning else "Normal",
                "reason": reason,
                "message": message[:_MAX_MESSAGE],
                "source": {"component": component},
                "firstTimestamp": stamp,
                "lastTimestamp": stamp,
                "count": 1,
            }
        )
        self._arrived.set()

    async def run(self) -> None:
        """Writes what is queued until it is cancelled; Events that the API refuses are logged and forgotten."""
        while True:
            while not self._queue:
                self._arrived.clear()
                await self._arrived.wait()
            event = self._queue.popleft()
            try:
                await self._write(event)
            except KubeEdgeError as exc:  # a namespace that goes, a full disk: the work itself went well
                log.debug("event %s not kept: %s", event["reason"], exc)

    async def _write(self, event: Object) -> None:
        involved, namespace = event["involvedObject"], event["metadata"]["namespace"]
        key = (involved["uid"], event["reason"], event["message"], event["source"]["component"])
        if (known := self._known.pop(key, None)) is not None:
            name, count = known
            with contextlib.suppress(NotFound):  # it has expired: a new one follows
                patch: Object = {"count": count + 1, "lastTimestamp": event["lastTimestamp"]}
                await self._client.merge_patch(EVENTS, namespace, name, patch)
                self._known[key] = (name, count + 1)
                return
        event["metadata"]["name"] = f"{involved['name'][:236]}.{os.urandom(8).hex()}"
        made = await self._client.create(EVENTS, namespace, event)
        self._known[key] = (meta.name_of(made), 1)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
