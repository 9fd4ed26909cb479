"""Volumes of CSI drivers on this node: staged once, published for each pod, and taken back by what was recorded (CSI, "Volume Lifecycle")."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from kubeedge.appengine.csi import core
from kubeedge.appengine.csi.core import CsiError, CsiVolumeSpec
from kubeedge.appengine.csi.plugins import Driver, Plugins
from kubeedge.appengine.csi.records import VolumeRecord, VolumeRecords
from kubeedge.appengine.runtime import mounts
from kubeedge.kit.grpc import NOT_FOUND, GrpcError

log = logging.getLogger("kubeedge.appengine")

_RECLAIM = 10.0  # seconds between tries to give back what no pod has any more


class CsiNode:
    """`kubelet` is the directory that drivers know, `state` where records are kept."""

    def __init__(self, kubelet: Path, state: Path, plugins: Plugins) -> None:
        self._kubelet = kubelet
        self.plugins = plugins
        self._records = VolumeRecords(state)
        self._locks: dict[tuple[str, str], asyncio.Lock] = {}  # of a volume of a driver
        self._waiting: Counter[tuple[str, str]] = Counter()

    def target(self, volume: CsiVolumeSpec) -> Path:
        """Where it is published, or will be."""
        return core.target(self._kubelet, volume.pod_uid, volume.name)

    def capabilities(self, driver: str) -> frozenset[int]:
        """What a driver can do on this node; nothing for one that is not registered."""
        found = self.plugins.get(driver)
        return found.info.capabilities if found is not None else frozenset()

    async def publish(self, volume: CsiVolumeSpec) -> None:
        """It is at its target when this returns. What is mounted already, before the agent was restarted, is left alone, but for one that has
        to grow. Raises CsiError."""
        driver = self._driver(volume.driver)
        async with self._turn(volume.driver, volume.handle):
            target = self.target(volume)
            stages = not volume.ephemeral and core.STAGE_UNSTAGE in driver.info.capabilities
            staging = core.staging(self._kubelet, volume.driver, volume.handle) if stages else None
            record = VolumeRecord(
                volume.pod_uid, volume.name, volume.driver, volume.handle, str(target), str(staging or "")
            )
            await asyncio.to_thread(self._records.keep, record)
            is_mounted = await asyncio.to_thread(mounts.is_mounted, target)
            try:
                if not is_mounted:
                    await self._stage_and_publish(driver, volume, staging, target)
                if volume.grow_to and core.EXPAND in driver.info.capabilities:
                    await self._expand(driver, volume, staging, target)
            except GrpcError as exc:
                raise CsiError(f"CSI driver {volume.driver}: {exc}") from exc

    async def _stage_and_publish(
        self, driver: Driver, volume: CsiVolumeSpec, staging: Path | None, target: Path
    ) -> None:
        capability = volume.capability(driver.info.capabilities)
        common: dict[str, Any] = {
            "volume_id": volume.handle,
            "volume_capability": capability,
            "publish_context": dict(volume.publish_context),
            "volume_context": dict(volume.attributes),
            **({"staging_target_path": str(staging)} if staging is not None else {}),
        }
        if staging is not None:
            await asyncio.to_thread(_made, staging)
            await driver.client.node("NodeStageVolume", secrets=dict(volume.stage_secrets), **common)
        await asyncio.to_thread(_made, target.parent)
        await driver.client.node(
            "NodePublishVolume",
            target_path=str(target),
            readonly=volume.read_only,
            secrets=dict(volume.publish_secrets),
            **common,
        )

    async def _expand(self, driver: Driver, volume: CsiVolumeSpec, staging: Path | None, target: Path) -> None:
        await driver.client.node(
            "NodeExpandVolume",
            volume_id=volume.handle,
            volume_path=str(target),
            capacity_range={"required_bytes": volume.grow_to},
            staging_target_path=str(staging or ""),
            volume_capability=volume.capability(driver.info.capabilities),
        )

    async def release(self, uid: str) -> None:
        """No process of that pod is left: everything of it is taken back. Goes on past what fails, and raises CsiError at the end."""
        problems: list[CsiError] = []
        for record in await asyncio.to_thread(lambda: [r for r in self._records if r.uid == uid]):
            try:
                await self._release(record)
            except CsiError as exc:
                problems.append(exc)
        if problems:
            raise problems[0]

    async def reclaim(self, known: Callable[[str], bool]) -> None:
        """Until cancelled: what is recorded of pods that are not `known` any more, since the machine or the agent ended in the middle."""
        while True:
            for uid in {r.uid for r in await asyncio.to_thread(lambda: list(self._records)) if not known(r.uid)}:
                try:
                    await self.release(uid)
                except CsiError as exc:
                    log.warning("volumes of pod %s, which is gone: %s", uid, exc)
            await asyncio.sleep(_RECLAIM)

    async def _release(self, record: VolumeRecord) -> None:
        driver = self._driver(record.driver)
        async with self._turn(record.driver, record.handle):
            target = Path(record.target)
            await self._undo(driver, "NodeUnpublishVolume", target, volume_id=record.handle, target_path=record.target)
            others = await asyncio.to_thread(lambda: [r for r in self._records if r != record])
            if record.staging and not any(other.staging == record.staging for other in others):
                staging = Path(record.staging)
                await self._undo(
                    driver, "NodeUnstageVolume", staging,
                    volume_id=record.handle, staging_target_path=record.staging,
                )  # fmt: skip
            await asyncio.to_thread(self._records.discard, record)

    async def _undo(self, driver: Driver, call: str, directory: Path, **fields: Any) -> None:
        """A driver that does not know the volume has nothing of it; unless it is mounted all the same."""
        try:
            await driver.client.node(call, **fields)
        except GrpcError as exc:
            if exc.code != NOT_FOUND:
                raise CsiError(f"CSI driver {driver.info.name}: {exc}") from exc
        if await asyncio.to_thread(mounts.is_mounted, directory):
            raise CsiError(f"CSI driver {driver.info.name} has left {directory} mounted")
        await asyncio.to_thread(_removed, directory)

    def _driver(self, name: str) -> Driver:
        driver = self.plugins.get(name)
        if driver is None:
            raise CsiError(f"CSI driver {name} is not registered on this node")
        return driver

    @contextlib.asynccontextmanager
    async def _turn(self, driver: str, handle: str) -> AsyncIterator[None]:
        """One call at a time for a volume."""
        key = (driver, handle)
        self._waiting[key] += 1
        try:
            async with self._locks.setdefault(key, asyncio.Lock()):
                yield
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key], self._locks[key]


def _made(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True, mode=0o750)


def _removed(directory: Path) -> None:
    """The directory and its own parents, as far as they are empty: never what is in it."""
    for path in (directory, directory.parent):
        with contextlib.suppress(OSError):
            os.rmdir(path)
