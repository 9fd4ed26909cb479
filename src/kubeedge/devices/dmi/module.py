"""Module "dmi": KubeEdge's Device Mapper Interface v1beta1, for mappers that are written for KubeEdge.

Lives elsewhere: gRPC (kit/grpc_server.py, kit/grpc.py); what is in a message (messages.py); which call is next (core.py); calls of mappers
(driver.py); the twins and the disk (devices/module.py).

Bounds: MAPPERS mappers, one for each protocol; messages and connections by kit/grpc_server.py; a report is answered when it is on the disk, so
that a mapper that floods waits. GetDevice is never called: Go mappers end at it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kubeedge.api import keys
from kubeedge.api.names import NamespacedName
from kubeedge.devices import topics
from kubeedge.devices.core import DesiredChange
from kubeedge.devices.dmi import messages as dmi
from kubeedge.devices.dmi.core import MapperState, restored
from kubeedge.devices.dmi.driver import MapperCaller, is_served
from kubeedge.devices.module import DeviceTwins
from kubeedge.errors import Invalid, Unavailable
from kubeedge.kit.grpc import ALREADY_EXISTS, INVALID_ARGUMENT, NOT_FOUND, RESOURCE_EXHAUSTED, GrpcError
from kubeedge.kit.grpc_server import GrpcServer, unimplemented
from kubeedge.kit.tasks import TaskSet, cancel_and_wait
from kubeedge.store.model import Store
from kubeedge.store.reflector import pages

log = logging.getLogger("kubeedge.devices.dmi")

MAPPERS = 32
_OFFERED = 64  # devices in the answer to a registration, for which Go mappers wait a second; more come by calls
_SERVICE = "/v1beta1.DeviceManagerService/"
_REACHED = ("online", "ok")  # states


class DeviceMappers:
    """`path`: of the socket. `reported` is told of values that have come: the device, and topics.twin of what they were."""

    name = "dmi"

    def __init__(
        self,
        twins: DeviceTwins,
        store: Store,
        path: Path,
        *,
        reported: Callable[[NamespacedName, Mapping[str, Any]], None] = lambda key, before: None,
    ) -> None:
        self._twins = twins
        self._store = store
        self._path = path
        self._reported = reported
        self._server = GrpcServer(self._asked)
        self._registering = asyncio.Lock()
        self._mappers: dict[str, tuple[MapperCaller, asyncio.Task[None]]] = {}
        self._tasks = TaskSet("mappers")
        twins.listeners.append(self)

    async def run(self, ready: asyncio.Event) -> None:
        """Serves mappers until it is cancelled. Raises OSError when the socket cannot be made."""
        self._mappers, self._tasks = {}, TaskSet("mappers")
        async with self._tasks:
            async with contextlib.aclosing(pages(self._store, keys.MAPPERS)) as found:
                async for page in found:
                    for kv in page.kvs:
                        if (state := restored(kv.value)) is not None and len(self._mappers) < MAPPERS:
                            self._start(state)
            await self._server.run(self._path, ready.set)

    def desired(self, key: NamespacedName, change: DesiredChange) -> None:
        """The twins have a new desired row."""
        for caller, _ in self._mappers.values():
            caller.changed(key)

    def _start(self, state: MapperState) -> None:
        caller = MapperCaller(state, self._twins, self._keep)
        self._mappers[state.info.name] = caller, self._tasks.start(caller.run(), f"mapper {state.info.name}")

    async def _keep(self, state: MapperState) -> None:
        try:
            await self._store.put(keys.MAPPERS + state.info.name, state.row())
        except Unavailable as exc:  # it is written with the next change
            state.dirty = True
            log.warning("the record of mapper %s is not saved: %s", state.info.name, exc)

    # -- what mappers ask ----------------------------------------------------------------------------------------------

    async def _asked(self, method: str, message: bytes) -> bytes:
        try:
            match method.removeprefix(_SERVICE):
                case "MapperRegister":
                    return await self._registration(dmi.mapper_info(message))
                case "ReportDeviceStatus":
                    return await self._report(dmi.report(message))
                case "ReportDeviceStates":
                    report, state = dmi.state(message)
                    key = self._find(report)
                    was = self._twins.twins.devices[key].state
                    done = self._twins.set_state(key, state, durable=True)
                    if was not in _REACHED and state in _REACHED:
                        for caller, _ in self._mappers.values():
                            caller.is_back(key)
                    await _written(done)
                    return b""
        except Invalid as exc:
            raise GrpcError(INVALID_ARGUMENT, str(exc)) from exc
        raise unimplemented(method)

    def _find(self, report: dmi.DeviceReport) -> NamespacedName:
        levels = (report.namespace, report.name) if report.namespace else (report.name,)
        key = self._twins.twins.find(levels)
        if key is None or self._twins.twins.devices[key].deleting:
            raise GrpcError(NOT_FOUND, f"this node has no device {'/'.join(levels)[:300]}")
        return key

    async def _report(self, report: dmi.DeviceReport) -> bytes:
        key = self._find(report)
        before = topics.twin(self._twins.twins.devices[key], report.values)
        refused, done = self._twins.report(
            key, report.values, durable=True, observed=report.observed, times=report.times, source="DMI"
        )
        self._reported(key, before)
        await _written(done)
        if refused:
            why = "; ".join(f"{name[:128]} {text}" for name, text in list(refused.items())[:8])
            raise GrpcError(INVALID_ARGUMENT, f"{'/'.join(key)}: {why}")
        return b""

    async def _registration(self, info: dmi.MapperInfo) -> bytes:
        """Goes on when the mapper does not wait for its end: half of it would leave a mapper that registers only once without its devices."""

        async def made() -> bytes | GrpcError:
            try:
                return await self._register(info)
            except GrpcError as exc:
                return exc

        answer = await asyncio.shield(self._tasks.start(made(), f"registration of {info.name}"))
        if isinstance(answer, GrpcError):
            raise answer
        return answer

    async def _register(self, info: dmi.MapperInfo) -> bytes:
        async with self._registering:
            for name in [name for name, (one, _) in self._mappers.items() if one.state.info.protocol == info.protocol]:
                await self._replace(name, info)
            if info.name in self._mappers:  # for another protocol, until now
                await self._end(info.name)
            if len(self._mappers) >= MAPPERS:
                raise GrpcError(RESOURCE_EXHAUSTED, f"{MAPPERS} mappers have registered already")
            state = MapperState(info)
            offered = await self._offer(state) if info.with_data else []
            await self._keep(state)
            self._start(state)
            log.info("mapper %s %s of protocol %s has registered", info.name, info.version, info.protocol)
            return dmi.registered(offered)

    async def _offer(self, state: MapperState) -> list[dmi.DeviceMessages]:
        devices, found = self._twins.twins.devices, []
        own = [key for key, one in devices.items() if one.protocol == state.info.protocol and not one.deleting]
        for key in own if len(own) <= _OFFERED else ():
            if (device := devices.get(key)) is not None and not device.deleting:  # it may have gone meanwhile
                found.append(messages := dmi.described(key, device))
                state.offered(key, messages)
                await asyncio.sleep(0)
        return found

    async def _replace(self, name: str, info: dmi.MapperInfo) -> None:
        """The mapper of a protocol makes way for one that has registered, unless it is another one and there. Raises GrpcError."""
        old = self._mappers[name][0].state.info
        if name != info.name and old.address != info.address and await is_served(old.address):
            raise GrpcError(ALREADY_EXISTS, f"protocol {info.protocol} has a mapper, {name}, which is running")
        await self._end(name)
        if name != info.name:
            with contextlib.suppress(Unavailable):  # then it is replaced once more
                await self._store.delete(keys.MAPPERS + name)

    async def _end(self, name: str) -> None:
        await cancel_and_wait(self._mappers.pop(name)[1])


async def _written(done: asyncio.Future[None] | None) -> None:
    if done is not None:
        await done
