"""What is looked at from time to time: the sizes of logs and of volumes."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from kubeedge.api.pod import Pod
from kubeedge.appengine import logs
from kubeedge.appengine.reports import Reports
from kubeedge.appengine.runtime.base import Runtime
from kubeedge.appengine.settings import AppEngineSettings
from kubeedge.appengine.volumes.manager import VolumeManager
from kubeedge.appengine.worker import Workers
from kubeedge.kit.ticks import tick

_LOOK_AT_VOLUMES = 10.0  # seconds


class Upkeep:
    """Two endless tasks of the engine; both look less often when it takes long or little has changed."""

    def __init__(
        self, settings: AppEngineSettings, runtime: Runtime, workers: Workers, volumes: VolumeManager, reports: Reports
    ) -> None:
        self._settings = settings
        self._runtime = runtime
        self._workers = workers
        self._volumes = volumes
        self._reports = reports

    async def rotate_logs(self) -> None:
        """Until it is cancelled. A log is rotated above log_max_bytes; how soon it is looked at again depends on how fast logs grow."""
        delay, sizes = logs.FIRST_CHECK, dict[Path, int]()
        while True:
            await asyncio.sleep(delay)
            running = [
                (logs.path(self._settings.logs, w.namespace, w.name, w.uid, name, state.attempt), state.id)
                for w in self._workers
                for name, state in w.observed.containers.items()
                if state.running
            ]
            now = await self._rotated(running)
            growth = max((size - sizes.get(path, 0) for path, size in now.items()), default=0)
            delay, sizes = logs.next_check(delay, growth, self._settings.log_max_bytes), now

    async def _rotated(self, running: Sequence[tuple[Path, str]]) -> dict[Path, int]:
        """Rotate the logs that have grown too large; returns the size of each log, in bytes. Those of which none has are not worth a turn of a
        thread, which wakes the machine."""
        sizes = _sizes(path for path, _ in running)
        if large := [(path, id) for path, id in running if sizes.get(path, 0) >= self._settings.log_max_bytes]:
            await asyncio.to_thread(self._rotate, large)
            sizes |= _sizes(path for path, _ in large)
        return sizes

    def _rotate(self, large: Sequence[tuple[Path, str]]) -> None:
        for path, id in large:
            with contextlib.suppress(OSError):
                logs.rotate(path, self._settings.log_max_bytes, functools.partial(self._runtime.reopen_log, id))

    async def watch_volumes(self) -> None:
        """Watch until cancelled. A pod whose emptyDir is above its sizeLimit is evicted."""
        while True:
            begun = time.monotonic()
            for worker in self._workers:
                pod, observed = worker.desired, worker.observed
                if pod is None or not observed.sandbox or observed.evicted or observed.final or not _has_limits(pod):
                    continue
                if message := await asyncio.to_thread(self._volumes.over_limit, pod):
                    observed.evicted = message
                    worker.wake.set()
                    await self._reports.event(worker, "Warning", "Evicted", message)
            await tick(_LOOK_AT_VOLUMES, at_least=20 * (time.monotonic() - begun))


def _sizes(paths: Iterable[Path]) -> dict[Path, int]:
    """Bytes; those that are not there are left out."""
    sizes = {}
    for path in paths:
        with contextlib.suppress(OSError):
            sizes[path] = path.stat().st_size
    return sizes


def _has_limits(pod: Pod) -> bool:
    """Whether a look at its volumes can find anything: for each pod it would be a turn of a thread, which wakes the machine."""
    return any("sizeLimit" in volume.source for volume in pod.volumes.values())
