"""Other vendors' programs that extend this node: volume drivers and device plugins."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from pathlib import Path

from kubeedge.api.pod import Pod
from kubeedge.appengine.deviceplugins.base import DEVICES_NOT_READY
from kubeedge.appengine.node_devices import NodeDevices
from kubeedge.appengine.prepare import Preparer
from kubeedge.appengine.reports import Reports
from kubeedge.appengine.volume_drivers import VolumeDrivers
from kubeedge.appengine.worker import Workers


class NodePlugins:
    """`kubelet` is the directory that they know, `state` the agent's own."""

    def __init__(self, kubelet: Path, state: Path, prepare: Preparer, workers: Workers, reports: Reports) -> None:
        self._workers, self._reports = workers, reports
        self._drivers = VolumeDrivers(kubelet, state, prepare.volumes, workers, reports)
        self._devices = prepare.devices = NodeDevices(kubelet, state, self._pods, self._devices_changed)
        reports.devices = self._devices.counts

    async def prepare(self) -> None:
        """Before any pod starts or ends: what is mounted and taken already."""
        await self._drivers.prepare()
        await self._devices.prepare()

    async def sweep(self, uids: Collection[str]) -> None:
        """Pods that are not among these are gone. Raises OSError."""
        await self._devices.sweep(uids)

    async def run(self) -> None:
        """Follow all of them, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._drivers.run(), name="drivers of volumes")
            group.create_task(self._devices.run(), name="device plugins")

    def _pods(self) -> Iterable[Pod]:
        return [pod for worker in self._workers if (pod := worker.desired or worker.last) is not None]

    async def _devices_changed(self) -> None:
        await self._reports.report_node()
        for worker in self._workers:
            worker.retry(DEVICES_NOT_READY)
