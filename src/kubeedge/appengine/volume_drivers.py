"""Drivers of volumes that others have written. What speaks with them is loaded when the first is there, or when something of one is left."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

from kubeedge.appengine.reports import Reports
from kubeedge.appengine.runtime.base import NOT_MOUNTED
from kubeedge.appengine.volumes.manager import VolumeManager
from kubeedge.appengine.worker import Workers
from kubeedge.kit.ticks import tick

if TYPE_CHECKING:
    from kubeedge.appengine.csi.node import CsiNode

_PERIOD = 2.0  # seconds


class VolumeDrivers:
    """`kubelet` is the directory that drivers know, `state` the agent's own."""

    def __init__(self, kubelet: Path, state: Path, volumes: VolumeManager, workers: Workers, reports: Reports) -> None:
        self._registry, self._records = kubelet / "plugins_registry", state / "csi"
        self._kubelet = kubelet
        self._csi: CsiNode | None = None
        self._volumes, self._workers, self._reports = volumes, workers, reports

    async def prepare(self) -> None:
        """Before any pod ends: what was published for it, before the agent was restarted, must be taken back."""
        self._csi = self._volumes.csi = None
        if await asyncio.to_thread(self._are_needed):
            self._load()

    async def run(self) -> None:
        """Wait for the first driver, then follow all of them, until cancelled."""
        while self._csi is None:
            await tick(_PERIOD)
            if _has_entries(
                self._registry
            ):  # without a thread, which a machine that sleeps would be woken for; what there is to take back is known
                await self.prepare()
        csi = self._csi
        async with asyncio.TaskGroup() as group:
            group.create_task(csi.plugins.follow(), name="drivers of volumes")
            group.create_task(csi.reclaim(self._workers.__contains__), name="volumes that no pod has")

    def _are_needed(self) -> bool:
        return _has_entries(self._registry) or _has_entries(self._records)

    def _load(self) -> None:
        from kubeedge.appengine.csi.node import CsiNode
        from kubeedge.appengine.csi.plugins import Plugins, topology

        async def changed() -> None:
            """A driver has come or gone."""
            await self._reports.report_drivers([driver.report() for driver in plugins], topology(plugins))
            for worker in self._workers:
                worker.retry(NOT_MOUNTED)

        plugins = Plugins(self._registry, changed)
        self._csi = self._volumes.csi = CsiNode(self._kubelet, self._records, plugins)


def _has_entries(directory: Path) -> bool:
    try:
        with os.scandir(directory) as entries:
            return any(entries)
    except OSError:
        return False
