"""Devices for containers: chosen, asked of their plugin, written down, and given back with the pod."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path

from kubeedge.api.pod import Container, Pod
from kubeedge.appengine.deviceplugins import core
from kubeedge.appengine.deviceplugins.base import DevicesNotReady, ResourceCount
from kubeedge.appengine.deviceplugins.core import DeviceEdits
from kubeedge.appengine.deviceplugins.plugins import DevicePlugin, DevicePlugins
from kubeedge.appengine.deviceplugins.records import AllocationRecords, DeviceAllocation
from kubeedge.kit.dataclasses import replace
from kubeedge.kit.grpc import GrpcError

log = logging.getLogger("kubeedge.appengine")

_LOST_AFTER = 300.0  # seconds without its plugin after which a resource is not even capacity any more: the kubelet's


class DeviceManager:
    """`records` is a file of the agent's state, `boot` the kernel's boot id. `changed` is awaited when the node has other devices."""

    def __init__(self, directory: Path, records: Path, boot: str, changed: Callable[[], Awaitable[None]]) -> None:
        self.plugins = DevicePlugins(directory, self._devices_changed)
        self.records = AllocationRecords(records)
        self._boot, self._changed = boot, changed
        self._turns: dict[str, asyncio.Lock] = {}  # by resource
        self._lost: dict[str, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def counts(self) -> Mapping[str, ResourceCount]:
        """What the node has of each resource that was ever offered here: 0 of one whose plugin has gone, for nothing else takes it back."""
        found = {name: ResourceCount(0, 0) for name in self.records.resources}
        for plugin in self.plugins:
            found[plugin.registration.resource] = ResourceCount(len(plugin.devices), len(plugin.healthy))
        return found

    async def allocate(self, pod: Pod, container: Container) -> DeviceEdits:
        """The devices that a container asks for; the same as before for one that starts again. Resources that no plugin has ever offered are not
        ours. Raises DevicesNotReady."""
        made = DeviceEdits()
        for resource, wanted in container.resources.extended.items():
            if wanted and resource in self.records.resources:
                async with self._turns.setdefault(resource, asyncio.Lock()):
                    made |= await self._allocate(pod, container, resource, wanted)
        return made

    async def release(self, uid: str) -> bool:
        """Nothing of the pod runs any more. Whether it had devices. Raises OSError."""
        return await asyncio.to_thread(self.records.discard, uid)

    async def sweep(self, uids: Collection[str]) -> None:
        """Devices of pods that are not among these are free. Raises OSError."""
        for uid in {one.uid for one in self.records} - set(uids):
            await self.release(uid)

    async def close(self) -> None:
        """Containers keep what they have."""
        for timer in self._lost.values():
            timer.cancel()
        self._lost.clear()
        await self.plugins.close()

    async def _allocate(self, pod: Pod, container: Container, resource: str, wanted: int) -> DeviceEdits:
        plugin = self.plugins.get(resource)
        kept = self.records.get(pod.uid, container.name, resource)
        try:
            if kept is None or len(kept.ids) != wanted:
                kept = await self._new(pod, container, resource, wanted)
            elif kept.boot != self._boot:
                kept = await self._again(kept)
            if plugin is not None and plugin.registration.prestarts:
                await plugin.prestart(kept.ids)
        except GrpcError as exc:
            raise DevicesNotReady(f"device plugin of {resource}: {exc}") from exc
        return kept.edits

    def _connected(self, resource: str) -> DevicePlugin:
        plugin = self.plugins.get(resource)
        if plugin is None or not plugin.is_connected:
            raise DevicesNotReady(f"the device plugin of {resource} is not registered on this node")
        return plugin

    async def _new(self, pod: Pod, container: Container, resource: str, wanted: int) -> DeviceAllocation:
        plugin = self._connected(resource)
        used = {id for one in self.records if one.resource == resource for id in one.ids}
        reusable = self._reusable(pod, container, resource) & plugin.healthy
        ids = await self._chosen(plugin, plugin.healthy - used, reusable, wanted)
        if ids is None:
            have = len((plugin.healthy - used) | reusable)
            raise DevicesNotReady(f"{wanted} {resource} wanted, {have} of {len(plugin.devices)} are free and healthy")
        made = DeviceAllocation(
            pod.uid, container.name, resource, tuple(ids), self._boot, await plugin.allocate(ids)
        )  # fmt: skip
        await self._keep(made)
        return made

    async def _again(self, kept: DeviceAllocation) -> DeviceAllocation:
        """The machine was started again: the same devices may have other paths."""
        plugin = self._connected(kept.resource)
        missing = set(kept.ids) - plugin.healthy
        if missing:
            raise DevicesNotReady(f"{kept.resource}: {', '.join(sorted(missing))[:200]} not there, or not healthy")
        made = replace(kept, boot=self._boot, edits=await plugin.allocate(kept.ids))
        await self._keep(made)
        return made

    async def _keep(self, made: DeviceAllocation) -> None:
        try:
            await asyncio.to_thread(self.records.keep, made)
        except OSError as exc:
            raise DevicesNotReady(f"{made.resource}: {exc}") from exc

    def _reusable(self, pod: Pod, container: Container, resource: str) -> set[str]:
        """Devices of init containers that have ended, as all of them have when this one starts."""
        over = {c.name for c in pod.init_containers if not c.sidecar} - {container.name}
        own = [one for one in self.records if one.uid == pod.uid and one.resource == resource]
        return {id for one in own if one.container in over for id in one.ids} - {
            id for one in own if one.container not in over for id in one.ids
        }

    @staticmethod
    async def _chosen(plugin: DevicePlugin, free: set[str], reusable: set[str], wanted: int) -> Sequence[str] | None:
        ids = core.choose(free, reusable, wanted)
        if ids is None or not plugin.registration.prefers:
            return ids
        available = sorted(free | reusable)
        with contextlib.suppress(GrpcError):  # a preference is no more than that
            preferred = await plugin.prefer(available, sorted(reusable)[:wanted], wanted)
            if len(set(preferred)) == len(preferred) == wanted and set(preferred) <= set(available):
                return preferred
        return ids

    async def _devices_changed(self) -> None:
        for plugin in self.plugins:
            resource = plugin.registration.resource
            try:
                await asyncio.to_thread(self.records.know, resource)
            except OSError as exc:
                log.warning("device plugin of %s: %s", resource, exc)
            if plugin.is_connected:
                if timer := self._lost.pop(resource, None):
                    timer.cancel()
            elif plugin.devices and resource not in self._lost:
                loop = asyncio.get_running_loop()
                self._lost[resource] = loop.call_later(_LOST_AFTER, self._lose, plugin)
        await self._changed()

    def _lose(self, plugin: DevicePlugin) -> None:
        self._lost.pop(plugin.registration.resource, None)
        if not plugin.is_connected:
            plugin.devices = {}
            task = asyncio.create_task(self._changed_once(), name="devices that are lost")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _changed_once(self) -> None:
        await self._changed()
