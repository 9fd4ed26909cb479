"""Device plugins that have registered: the connection to each, and its devices as it tells of them. One that ends, hangs or lies costs its own
resource alone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kubeedge.api.names import Object
from kubeedge.api.protobuf import ProtoReader, encode, parsed
from kubeedge.appengine.deviceplugins import core
from kubeedge.appengine.deviceplugins.core import DeviceEdits, PluginDevice, PluginRegistration
from kubeedge.appengine.deviceplugins.table import TABLE
from kubeedge.errors import Invalid
from kubeedge.kit.grpc import INTERNAL, INVALID_ARGUMENT, RESOURCE_EXHAUSTED, GrpcChannel, GrpcError

log = logging.getLogger("kubeedge.appengine")

CALL = 30.0  # seconds: the kubelet's for PreStartContainer
MAX_PLUGINS = 32
_VALUES = 100_000  # of one message: 4096 devices with their topology
_SERVICE = "/v1beta1.DevicePlugin/"
TYPES = parsed(TABLE)


def decoded(kind: str, message: bytes) -> Object:
    """A message of one of the types of table.py. Raises Invalid."""
    return ProtoReader(TYPES, values=_VALUES).message(TYPES[kind], memoryview(message))


class DevicePlugin:
    """One that offers a resource. Without its connection its devices are still known, but none of them is healthy."""

    def __init__(self, registration: PluginRegistration, socket: Path) -> None:
        self.registration = registration
        self.devices: dict[str, PluginDevice] = {}
        self.is_connected = False
        self._channel = GrpcChannel(socket)
        self.following: asyncio.Task[None] | None = None

    @property
    def healthy(self) -> set[str]:
        """Ids of the devices that containers can have."""
        return {one.id for one in self.devices.values() if one.is_healthy} if self.is_connected else set()

    async def follow(self, changed: Callable[[], Awaitable[None]]) -> None:
        """Until its connection ends; `changed` is awaited for each list of devices, and at the end."""
        try:
            async with contextlib.aclosing(self._channel.stream(_SERVICE + "ListAndWatch", b"")) as answers:
                async for answer in answers:
                    self.devices, self.is_connected = core.devices(decoded("ListAndWatchResponse", answer)), True
                    await changed()
            problem = "it has ended its list of devices"
        except (GrpcError, Invalid) as exc:
            problem = str(exc)
        self.is_connected = False
        log.warning("device plugin of %s: %s", self.registration.resource, problem)
        await self._channel.close()
        await changed()

    async def close(self) -> None:
        """Another one takes its place, or the agent ends."""
        self.is_connected = False
        if self.following is not None:
            self.following.cancel()
            await asyncio.gather(self.following, return_exceptions=True)
        await self._channel.close()

    async def prefer(self, available: Sequence[str], included: Sequence[str], size: int) -> list[str]:
        """Which of these it would give; what it says is not checked. Raises GrpcError."""
        asked = {"available_deviceIDs": available, "must_include_deviceIDs": included, "allocation_size": size}
        answer = await self._call(
            "GetPreferredAllocation", "PreferredAllocationRequest", "PreferredAllocationResponse",
            {"container_requests": [asked]},
        )  # fmt: skip
        responses: Sequence[Object] = answer.get("container_responses") or ({},)
        return [str(id) for id in responses[0].get("deviceIDs") or ()]

    async def allocate(self, ids: Sequence[str]) -> DeviceEdits:
        """What a container with these devices has to have. Raises GrpcError."""
        answer = await self._call(
            "Allocate", "AllocateRequest", "AllocateResponse", {"container_requests": [{"devices_ids": list(ids)}]}
        )
        try:
            return core.edits(answer)
        except Invalid as exc:
            raise GrpcError(INTERNAL, str(exc)) from exc

    async def prestart(self, ids: Sequence[str]) -> None:
        """A container with these devices starts next. Raises GrpcError."""
        await self._call(
            "PreStartContainer", "PreStartContainerRequest", "PreStartContainerResponse", {"devices_ids": list(ids)}
        )

    async def _call(self, method: str, request: str, response: str, fields: dict[str, Any]) -> Object:
        answer = await self._channel.call(_SERVICE + method, encode(TYPES, request, fields), CALL)
        try:
            return decoded(response, answer)
        except Invalid as exc:
            raise GrpcError(INTERNAL, f"an answer that is no {response}: {exc}") from exc


class DevicePlugins:
    """By the name of the resource. `directory` has their sockets."""

    def __init__(self, directory: Path, changed: Callable[[], Awaitable[None]]) -> None:
        self._directory, self._changed = directory, changed
        self._found: dict[str, DevicePlugin] = {}
        self._turn = asyncio.Lock()

    def get(self, resource: str) -> DevicePlugin | None:
        """None: nobody has registered it."""
        return self._found.get(resource)

    def __iter__(self) -> Iterator[DevicePlugin]:
        return iter(list(self._found.values()))

    async def register(self, message: bytes) -> bytes:
        """The call v1beta1.Registration/Register. Raises GrpcError."""
        try:
            wanted = core.registration(decoded("RegisterRequest", message))
        except Invalid as exc:
            log.warning("a device plugin was refused: %s", exc)
            raise GrpcError(INVALID_ARGUMENT, str(exc)) from exc
        async with self._turn:
            if wanted.resource not in self._found and len(self._found) >= MAX_PLUGINS:
                raise GrpcError(RESOURCE_EXHAUSTED, f"{MAX_PLUGINS} resources are offered already")
            plugin = DevicePlugin(wanted, self._directory / wanted.endpoint)
            if (before := self._found.get(wanted.resource)) is not None:
                plugin.devices = before.devices
                await before.close()
            self._found[wanted.resource] = plugin
            plugin.following = asyncio.create_task(plugin.follow(self._changed), name=f"devices {wanted.resource}")
        log.info("device plugin of %s is registered, at %s", wanted.resource, wanted.endpoint)
        return b""

    async def close(self) -> None:
        """The agent ends: plugins notice by their connections."""
        for plugin in self:
            await plugin.close()
        self._found.clear()
