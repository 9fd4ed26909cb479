"""Drivers that register at this node: sockets in KUBELET/plugins_registry, as programs that are written for the kubelet put them there.

Each is asked who it is, its driver what it can do, and then it is told that it is registered. A socket that goes takes its driver with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import stat
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from pathlib import Path

from kubeedge.appengine.csi import core
from kubeedge.appengine.csi.client import QUICK, CsiClient
from kubeedge.appengine.csi.core import DriverInfo
from kubeedge.errors import Invalid
from kubeedge.kit.backoff import Backoff
from kubeedge.kit.grpc import GrpcError

log = logging.getLogger("kubeedge.appengine")

_PERIOD = 2.0  # seconds between looks at the directory
_BACKOFF = Backoff(1.0, 60.0)
_MAX_SOCKETS = 64


class Driver:
    """A driver that is registered, and the connection to it."""

    def __init__(self, info: DriverInfo, client: CsiClient) -> None:
        self.info, self.client = info, client


class Plugins:
    """The drivers of this node, by name. `changed` is awaited after one has come or gone."""

    def __init__(self, directory: Path, changed: Callable[[], Awaitable[None]]) -> None:
        self._directory, self._changed = directory, changed
        self._sockets: dict[tuple[Path, int], asyncio.Task[None]] = {}  # by path and inode
        self._drivers: dict[str, tuple[Path, Driver]] = {}  # with the registration socket

    def get(self, name: str) -> Driver | None:
        """None for a driver that is not registered here."""
        found = self._drivers.get(name)
        return found[1] if found is not None else None

    def __iter__(self) -> Iterator[DriverInfo]:
        return iter([driver.info for _, driver in self._drivers.values()])

    async def follow(self) -> None:
        """Look at the directory until cancelled."""
        try:
            while True:
                await self._look()
                await asyncio.sleep(_PERIOD)
        finally:
            for task in self._sockets.values():
                task.cancel()
            await asyncio.gather(*self._sockets.values(), return_exceptions=True)
            for _, driver in self._drivers.values():
                await driver.client.close()
            self._sockets.clear()
            self._drivers.clear()

    async def _look(self) -> None:
        found = dict(await asyncio.to_thread(lambda: list(_sockets(self._directory))))
        for key in self._sockets.keys() - set(found.items()):
            task = self._sockets.pop(key)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self._gone(key[0])
        for path, inode in found.items():
            if (path, inode) not in self._sockets:
                self._sockets[path, inode] = asyncio.create_task(self._register(path), name=f"plugin {path.name}")

    async def _register(self, path: Path) -> None:
        """Again and again until it has worked: its driver may still be starting."""
        failures = 0
        while True:
            try:
                await self._try(path)
                return
            except (GrpcError, Invalid) as exc:
                failures += 1
                log.warning("plugin at %s: %s", path, exc)
                await asyncio.sleep(_BACKOFF.delay(failures))

    async def _try(self, path: Path) -> None:
        registrar = CsiClient(path)
        try:
            info = await registrar.plugin_info()
            try:
                name, endpoint = core.check_plugin(info)
                driver = await _ask(name, endpoint)
            except (GrpcError, Invalid) as exc:
                with contextlib.suppress(GrpcError):
                    await registrar.notify(str(exc)[:1000])
                raise
            before = self._drivers.get(name)
            self._drivers[name] = (path, driver)
            if before is not None:
                await before[1].client.close()
            await self._changed()
            await registrar.notify("")
            log.info("CSI driver %s is registered, at %s", name, endpoint)
        finally:
            await registrar.close()

    async def _gone(self, path: Path) -> None:
        for name, (of, driver) in list(self._drivers.items()):
            if of == path:
                del self._drivers[name]
                await driver.client.close()
                await self._changed()
                log.info("CSI driver %s is not registered any more", name)


async def _ask(name: str, endpoint: Path) -> Driver:
    client = CsiClient(endpoint)
    try:
        info = await client.node("NodeGetInfo", within=QUICK)
        capabilities = await client.node("NodeGetCapabilities", within=QUICK)
        return Driver(core.driver_info(name, endpoint, info, capabilities), client)
    except BaseException:
        await client.close()
        raise


def _sockets(directory: Path) -> Iterator[tuple[Path, int]]:
    """Sockets in the directory, and one level below it; with their inodes."""
    found = 0
    for where in (directory, *_directories(directory)):
        for name in _names(where):
            with contextlib.suppress(OSError):
                status = os.lstat(where / name)
                if stat.S_ISSOCK(status.st_mode) and found < _MAX_SOCKETS:
                    found += 1
                    yield where / name, status.st_ino


def _directories(directory: Path) -> list[Path]:
    return [directory / name for name in _names(directory) if (directory / name).is_dir()]


def _names(directory: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(directory) if not name.startswith("."))[:_MAX_SOCKETS]
    except OSError:
        return []


def topology(drivers: Iterable[DriverInfo]) -> Mapping[str, str]:
    """Labels that the node has because of its drivers."""
    return {key: value for driver in drivers for key, value in driver.topology.items()}
