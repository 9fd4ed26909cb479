"""Which pods ask for certificates. Where none does, nothing that makes any is loaded.

Lives elsewhere: their certificates (podcertificates/).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from kubeedge.api import keys, pod_certificates
from kubeedge.api.names import Object
from kubeedge.appengine.reports import Reports
from kubeedge.appengine.worker import Workers
from kubeedge.store.model import Delete, Store

if TYPE_CHECKING:
    from kubeedge.appengine.podcertificates.manager import PodCertificates

log = logging.getLogger("kubeedge.appengine")


class CertifiedPods:
    """`changed` hears of (namespace, name, row) when a pod has other certificates, of None when it went. `wall`: time of day."""

    def __init__(
        self,
        store: Store,
        changed: Callable[[str, str, Object | None], None],
        workers: Workers,
        reports: Reports,
        wall: Callable[[], float],
    ) -> None:
        self._store = store
        self._changed, self._wall = changed, wall
        self._workers, self._reports = workers, reports
        self._certificates: PodCertificates | None = None
        self._task: asyncio.Task[None] | None = None
        self._asking: set[tuple[str, str]] = set()

    async def pod(self, namespace: str, name: str, obj: Object | None) -> None:
        """It is desired, or not any more (None)."""
        if obj is None or next(pod_certificates.wanted_by(obj), None) is None:  # or it is another of that name
            self._asking.discard((namespace, name))
            if self._certificates is not None:
                await self._certificates.forget(namespace, name)
            return
        self._asking.add((namespace, name))
        await self._started().pod(namespace, name, obj)

    def answer(self, namespace: str, name: str, row: Object | None) -> None:
        """What the cloud says about requests of the pod; None: nothing any more."""
        if self._certificates is not None and row is not None:
            self._certificates.answer(namespace, name, row)

    async def sweep(self) -> None:
        """Every desired pod is known: keys of others go."""
        for prefix in (keys.LOCAL_CERTIFICATES, f"{keys.REPORTED}{pod_certificates.RESOURCE}/"):
            for kv in (await self._store.range(prefix, keys.prefix_end(prefix), keys_only=True)).kvs:
                if keys.split(kv.key)[1:] not in self._asking:
                    await self._store.txn((), [Delete(kv.key)])

    async def close(self) -> None:
        """It starts over with the store."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._certificates = self._task = None
        self._asking.clear()

    async def _warn(self, uid: str, reason: str, message: str) -> None:
        if (worker := self._workers.get(uid)) is not None:
            await self._reports.event(worker, "Warning", reason, message)

    def _started(self) -> PodCertificates:
        if self._certificates is None:
            from kubeedge.appengine.podcertificates.manager import PodCertificates

            self._certificates = PodCertificates(self._store, self._changed, self._warn, wall=self._wall)
            self._task = asyncio.create_task(self._certificates.run(), name="certificates of pods")
            self._task.add_done_callback(_ended)
        return self._certificates


def _ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.error("certificates of pods are not renewed any more", exc_info=error)
