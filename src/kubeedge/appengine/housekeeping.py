"""What the node does for itself: looks at memory, disk and process ids, evicts pods when they run short, collects images, reports what it has.

Lives elsewhere: thresholds, order and words (eviction.py), images (image_manager.py), log rotation and emptyDir limits (upkeep.py). Of dead
containers the newest run of each is kept and no other, so there are none to collect.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from kubeedge.api.pod import Pod
from kubeedge.appengine import eviction
from kubeedge.appengine.eviction import Candidate, Readings, Threshold
from kubeedge.appengine.image_manager import ImageManager
from kubeedge.appengine.reports import Reports
from kubeedge.appengine.runtime.base import Runtime
from kubeedge.appengine.volumes.manager import VolumeManager
from kubeedge.appengine.worker import Worker, Workers
from kubeedge.errors import KubeEdgeError
from kubeedge.kit.disk_use import DiskUse
from kubeedge.kit.ticks import tick

log = logging.getLogger("kubeedge.appengine")

LOOK = 10.0  # seconds, as the kubelet's housekeeping
_REPORT = 3  # looks between two reports of what the node has
_COLLECT = 30  # looks between two collections of images: five minutes, as the kubelet's
_LONGEST = 60.0  # seconds that an evicted pod may take before the next one goes
_MIRROR = "kubernetes.io/config.mirror"  # annotation of a static pod


class Housekeeping:
    """An endless task of the engine. `readings` blocks for a moment; `clock` is monotonic."""

    def __init__(
        self,
        runtime: Runtime,
        workers: Workers,
        volumes: VolumeManager,
        reports: Reports,
        images: ImageManager,
        limits: tuple[Threshold, ...],
        readings: Callable[[], Readings],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runtime = runtime
        self._workers = workers
        self._volumes = volumes
        self._reports = reports
        self._images = images
        self._limits = limits
        self._readings = readings
        self._clock = clock
        self._going: tuple[Worker, float] | None = None  # the pod that was evicted last, and when
        self._freed: set[str] = set()  # evicted pods of which nothing is on the disk any more, by uid
        self.pressure = eviction.Pressure()

    async def run(self) -> None:
        """Run until cancelled; the interval grows when a look takes long."""
        number = 0
        while True:
            begun = self._clock()
            try:
                await self.look()
                if number % _COLLECT == 0:
                    await self._collect()
                if number % _REPORT == 0:
                    await self._reports.report_node(await self._images.node_images())
            except (KubeEdgeError, OSError) as exc:
                log.warning("housekeeping: %s", exc)
            number += 1
            await tick(LOOK, at_least=20 * (self._clock() - begun))

    async def look(self) -> None:
        """Once: conditions, and at most one eviction for want of something; pods above their own limits go beside it."""
        await self._free_evicted()
        readings = await asyncio.to_thread(self._readings)
        found = eviction.met(self._limits, readings)
        if any(eviction.condition_of(t.signal) == "DiskPressure" for t in found):
            await self._collect(everything=True)
            readings = await asyncio.to_thread(self._readings)
            found = eviction.met(self._limits, readings)
        self.pressure.update(found, self._clock())
        await self._hold_to_limits()
        if found and not self._is_ending():
            await self._evict(found, readings)

    async def _collect(self, *, everything: bool = False) -> None:
        """What fails is said, and no more: pods are evicted all the same."""
        try:
            if failed := await self._images.collect(everything=everything):
                log.warning("%s", failed)
        except (KubeEdgeError, OSError) as exc:
            log.warning("cannot collect images: %s", exc)

    def _is_ending(self) -> bool:
        """What an evicted pod had is not free before its containers have ended."""
        if self._going is None:
            return False
        worker, since = self._going
        running = any(state.running for state in worker.observed.containers.values())
        return running and self._clock() - since < _LONGEST

    async def _evict(self, found: list[Threshold], readings: Readings) -> None:
        for threshold in found:
            ranked = eviction.rank(threshold.signal, await self._candidates(threshold.signal))
            for candidate in ranked[:1]:
                worker = self._workers.get(candidate.uid)
                if worker is not None and worker.desired is not None:
                    await self._end(worker, eviction.message(threshold, readings[threshold.signal], candidate))
                    self._going = (worker, self._clock())
                    return
        log.warning("%s, and no pod can be evicted", ", ".join(f"{t.signal}<{t.text}" for t in found))

    async def _candidates(self, signal: str) -> list[Candidate]:
        stats = {pod.uid: pod for pod in await self._runtime.stats()}
        found = []
        for worker, pod in self._running():
            if signal in (eviction.MEMORY, eviction.PIDS):
                of = stats.get(worker.uid)
                memory = signal == eviction.MEMORY
                each = (
                    {c.name: c.usage.working_set if memory else c.usage.processes for c in of.containers} if of else {}
                )
                asked = {c.name: c.resources.memory_request for c in pod.containers} if memory else {}
            else:
                inodes = signal in (eviction.INODES, eviction.IMAGE_INODES)
                each = await self._disk(worker, pod, inodes=inodes)
                asked = {} if inodes else dict(pod.storage.requests)
            found.append(Candidate(worker.uid, pod.priority, _is_critical(pod), each, asked))
        return found

    async def _disk(self, worker: Worker, pod: Pod, *, inodes: bool = False) -> dict[str, int]:
        """By container; what is in volumes and logs counts for the first, for it is the pod's."""
        layers = await self._runtime.disk_usage(worker.uid)
        each = {name: used.inodes if inodes else used.bytes for name, used in layers.items()}
        others = await self._others(pod)
        first = pod.containers[0].name
        each[first] = each.get(first, 0) + (others.inodes if inodes else others.bytes)
        return each

    async def _others(self, pod: Pod) -> DiskUse:
        """Volumes on disk, and logs."""
        volumes = await asyncio.to_thread(self._volumes.used, pod)
        written = await asyncio.to_thread(self._reports.log_usage, pod)
        return DiskUse(volumes.bytes + written.bytes, volumes.inodes + written.inodes)

    async def _hold_to_limits(self) -> None:
        """Evict pods that exceed a limit of ephemeral-storage."""
        for worker, pod in self._running():
            if not pod.storage.limits:
                continue
            layers = await self._runtime.disk_usage(worker.uid)
            used: Mapping[str, int] = {name: of.bytes for name, of in layers.items()}
            if message := eviction.over_storage_limit(pod.storage.limits, used, (await self._others(pod)).bytes):
                await self._end(worker, message)

    async def _free_evicted(self) -> None:
        """What an evicted pod wrote goes when its containers have ended; its status and its logs stay until it is deleted."""
        for worker in self._workers:
            pod, seen = worker.desired, worker.observed
            if (
                pod is None
                or not seen.evicted
                or worker.uid in self._freed
                or any(s.running for s in seen.containers.values())
            ):
                continue
            self._freed.add(worker.uid)
            await self._runtime.remove_pod(worker.uid)
            await asyncio.to_thread(self._volumes.remove, worker.uid, pod)
        self._freed &= {worker.uid for worker in self._workers}

    async def _end(self, worker: Worker, message: str) -> None:
        worker.observed.evicted = message
        worker.wake.set()
        await self._reports.event(worker, "Warning", "Evicted", message)

    def _running(self) -> list[tuple[Worker, Pod]]:
        return [
            (w, w.desired)
            for w in self._workers
            if w.desired is not None and w.observed.sandbox and not w.observed.evicted and not w.observed.final
        ]


def _is_critical(pod: Pod) -> bool:
    return pod.priority >= eviction.CRITICAL or _MIRROR in pod.annotations
