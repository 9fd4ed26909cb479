"""One object that a node may get and not watch: the Node authorizer has it so for PersistentVolumeClaims and PersistentVolumes.

It is asked for again after seconds while it is not what a pod can start with, and after minutes once it is, as a kubelet does it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from kubeedge.api import meta
from kubeedge.api.client import KubeClient, Resource
from kubeedge.api.names import Object
from kubeedge.errors import KubeEdgeError, NotFound
from kubeedge.kit.backoff import Backoff
from kubeedge_cloud.controllers.informer.core import ResourceEventHandler

log = logging.getLogger("kubeedge.edgecontroller")

_UNSETTLED = Backoff(0.25, 30.0, jitter=0.5)
SETTLED = 300.0  # seconds; a claim that grows is the one thing that is found this way
_SPREAD = 0.5  # of it is left to chance: nodes come back at once


class Polled:
    """`settled` says of the object whether a pod can start with it."""

    def __init__(
        self, client: KubeClient, resource: Resource, namespace: str, name: str, settled: Callable[[Object], bool]
    ) -> None:
        self._client, self._resource = client, resource
        self._namespace, self._name = namespace, name
        self._settled = settled
        self._known: Object | None = None
        self._handlers: list[ResourceEventHandler] = []
        self.synced = asyncio.Event()

    def get(self, namespace: str, name: str) -> Object | None:
        """As it was last seen."""
        return self._known

    def adopt(self, obj: Object) -> None:
        """Begin with what another cache knew."""
        self._known = obj

    def on_change(self, handler: ResourceEventHandler) -> None:
        """Called for every change that is seen."""
        self._handlers.append(handler)

    async def refresh(self, namespace: str, name: str) -> None:
        """Ask now. Raises what the client raises, but for an object that is not there."""
        try:
            found = await self._client.get(self._resource, self._namespace, self._name)
        except NotFound:
            found = None
        self._take(found)

    async def run(self) -> None:
        """Until cancelled. A refusal may be that of an authorizer that has not heard of the pod yet."""
        unsettled = 0
        while True:
            try:
                await self.refresh(self._namespace, self._name)
                is_settled = self._known is not None and self._settled(self._known)
            except (KubeEdgeError, OSError) as exc:  # Invalid, too: users write what they like for the name of a claim
                log.info("%s %s/%s: %s", self._resource.plural, self._namespace, self._name, exc)
                is_settled = False
            unsettled = 0 if is_settled else unsettled + 1
            chance = random.random()
            delay = SETTLED * (1 - _SPREAD * chance) if is_settled else _UNSETTLED.delay(unsettled, chance)
            await asyncio.sleep(delay)

    def _take(self, found: Object | None) -> None:
        before, self._known = self._known, found
        self.synced.set()
        if (before is None) != (found is None) or (before and found and _version(before) != _version(found)):
            for handler in self._handlers:
                handler(before, found)


def _version(obj: Object) -> str:
    return str(meta.metadata(obj).get("resourceVersion") or "")
