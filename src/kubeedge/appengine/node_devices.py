"""Device plugins of this node (deviceplugins/). The code that speaks with them is loaded when the first one connects, or when a container still has
a device of one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import stat
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kubeedge.api.pod import Container, Pod
from kubeedge.appengine.deviceplugins.base import ResourceCount
from kubeedge.kit.streams import unix_listener

if TYPE_CHECKING:
    from kubeedge.appengine.deviceplugins.core import DeviceEdits
    from kubeedge.appengine.deviceplugins.manager import DeviceManager
    from kubeedge.kit.grpc_server import GrpcServer

log = logging.getLogger("kubeedge.appengine")

_BACKLOG = 100  # as asyncio's servers


def sockets(kubelet: Path) -> tuple[Path, Path]:
    """Where device plugins register, and where monitors ask which pod has which device."""
    return kubelet / "device-plugins/kubelet.sock", kubelet / "pod-resources/kubelet.sock"


class NodeDevices:
    """`kubelet` is the directory that plugins and monitors know, `state` the agent's own. `pods`: those of this node. `changed` is awaited when the node
    has other devices, or a pod has given some back."""

    def __init__(
        self, kubelet: Path, state: Path, pods: Callable[[], Iterable[Pod]], changed: Callable[[], Awaitable[None]]
    ) -> None:
        self._sockets, self._records = sockets(kubelet), state / "devices/allocations.json"
        self._directory = self._sockets[0].parent  # where plugins have theirs, too
        self._pods, self._changed = pods, changed
        self._manager: DeviceManager | None = None
        self._server: GrpcServer | None = None

    def counts(self) -> Mapping[str, ResourceCount]:
        """What the node has of each resource."""
        return self._manager.counts() if self._manager is not None else {}

    async def prepare(self) -> None:
        """Before any container starts: those that run have devices, which no other one may get."""
        self._manager = self._server = None
        if await asyncio.to_thread(self._records.exists):
            self._load()

    async def run(self) -> None:
        """Listen for plugins and monitors until cancelled. A machine where that cannot be has no devices, and all else works."""
        try:
            listeners = await asyncio.to_thread(self._listen)
        except OSError as exc:
            log.warning("no device plugins on this node: %s", exc)
            return
        try:
            if self._server is None:
                await _somebody_waits(listeners)
                self._load()
            assert self._server is not None
            await self._server.serve(listeners)
        finally:
            for path, listener in zip(self._sockets, listeners, strict=True):
                listener.close()
                path.unlink(missing_ok=True)
            if self._manager is not None:
                await self._manager.close()

    async def allocate(self, pod: Pod, container: Container) -> DeviceEdits | None:
        """None: it asks for nothing that a plugin has ever offered here. Raises DevicesNotReady."""
        if self._manager is None or not container.resources.extended:
            return None
        return await self._manager.allocate(pod, container)

    async def release(self, uid: str) -> None:
        """Nothing of the pod runs any more. Raises OSError."""
        if self._manager is not None and await self._manager.release(uid):
            await self._changed()

    async def sweep(self, uids: Collection[str]) -> None:
        """Devices of pods that are not among these are free. Raises OSError."""
        if self._manager is not None:
            await self._manager.sweep(uids)

    def _load(self) -> DeviceManager:
        from kubeedge.appengine.deviceplugins.manager import DeviceManager
        from kubeedge.appengine.deviceplugins.pod_resources import PodResources
        from kubeedge.kit.grpc_server import GrpcServer, by_method

        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        manager = self._manager = DeviceManager(self._directory, self._records, boot, self._changed)
        calls = PodResources(manager, self._pods).methods()
        self._server = GrpcServer(by_method({"/v1beta1.Registration/Register": manager.plugins.register, **calls}))
        return manager

    def _listen(self) -> list[socket.socket]:
        """Sockets of plugins go, which tells those that have been here before that they have to register again, as with the kubelet."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o750)
        for name in os.listdir(self._directory):
            path = self._directory / name
            with contextlib.suppress(OSError):
                if stat.S_ISSOCK(path.lstat().st_mode):
                    path.unlink()
        return [unix_listener(path, 0o600) for path in self._sockets]


async def _somebody_waits(listeners: Collection[socket.socket]) -> None:
    """Until a connection can be accepted at one of them; it is left to whoever accepts."""
    loop, came = asyncio.get_running_loop(), asyncio.Event()
    try:
        for listener in listeners:
            listener.setblocking(False)
            listener.listen(_BACKLOG)
            loop.add_reader(listener, came.set)
        await came.wait()
    finally:
        for listener in listeners:
            loop.remove_reader(listener)
