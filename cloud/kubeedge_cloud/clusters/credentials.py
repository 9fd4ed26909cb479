"""Who we are to one API server, now: loaded again when a file changes, before it expires, and when the server does not know us any more."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable

from kubeedge.api.status import ServerUnavailable
from kubeedge.errors import Invalid, KubeEdgeError
from kubeedge_cloud.clusters.core import Access, decode_access

log = logging.getLogger("kubeedge.clusters")

_TIMEOUT = 60.0  # seconds for a plugin, which may ask a cloud provider
_LOOK = 2.0  # seconds between two looks at the files
_BEFORE = 60.0  # seconds before its end in which a credential is renewed
_AGAIN = 10.0  # seconds between two loads that the server's 401 asks for, or that failed
_MOST = 1024 * 1024  # bytes

Load = Callable[[str], Awaitable[Access]]


async def load(source: str) -> Access:
    """By the helper process. Raises ServerUnavailable with its reason: a file can be repaired, a plugin may find its service again."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "kubeedge_cloud.clusters.loading", source,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        limit=_MOST, start_new_session=True,
    )  # fmt: skip
    try:
        async with asyncio.timeout(_TIMEOUT):
            out, why = await process.communicate()
    except TimeoutError as exc:
        raise ServerUnavailable(f"{source}: no credentials within {_TIMEOUT:g} s") from exc
    finally:
        if process.returncode is None:
            os.killpg(process.pid, 9)  # with its plugins
            await process.wait()
    if process.returncode:
        raise ServerUnavailable(f"{source}: {why.decode(errors='replace').strip()[-300:]}")
    try:
        return decode_access(out)
    except Invalid as exc:
        raise ServerUnavailable(f"{source}: {exc}") from exc


class Credentials:
    """`source` is the path of a kubeconfig or IN_CLUSTER. `wall` and `clock` give seconds, since 1970 and since whenever."""

    def __init__(
        self,
        source: str,
        *,
        load: Load = load,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.source = source
        self._load = load
        self._wall = wall
        self._clock = clock
        self._access: Access | None = None
        self._signature: object = None
        self._looked = self._loaded = float("-inf")
        self._why = ""  # the first load failed
        self._lock = asyncio.Lock()

    async def current(self) -> Access:
        """Raises ServerUnavailable without any; one that cannot be renewed stays until the server refuses it."""
        if self._access is not None and not self._is_old(self._access):
            return self._access
        async with self._lock:
            if self._access is None:
                await self._first()
            elif self._is_old(self._access):
                await self._try_to_renew()
            assert self._access is not None
            return self._access

    async def refused(self, used: Access) -> Access | None:
        """The server does not know `used` (401). Another one to try; None: there is none."""
        async with self._lock:
            if self._access is used and self._clock() - self._loaded >= _AGAIN:
                await self._try_to_renew()
            return self._access if self._access != used else None

    def _is_old(self, access: Access) -> bool:
        now = self._clock()
        if access.expires is not None and self._wall() >= access.expires - _BEFORE and now - self._loaded >= _AGAIN:
            return True
        if now - self._looked < _LOOK:
            return False
        if self._signature != _signature(access):
            return True
        self._looked = now
        return False

    async def _first(self) -> None:
        if (left := self._loaded + _AGAIN - self._clock()) > 0:
            failure = ServerUnavailable(self._why)
            failure.retry_after = left
            raise failure
        try:
            await self._renew()
        except KubeEdgeError as exc:
            self._why = str(exc)
            raise

    async def _try_to_renew(self) -> None:
        try:
            await self._renew()
        except KubeEdgeError as exc:
            log.warning("credentials of %s could not be renewed, the old ones stay: %s", self.source, exc)

    async def _renew(self) -> None:
        self._loaded = self._looked = self._clock()
        access = await self._load(self.source)
        self._signature = _signature(access)
        self._access = access


def _signature(access: Access) -> object:
    """Of the files: content that changes under the same inode, size and time is not seen."""
    found = []
    for path in access.files:
        try:
            stat = os.stat(path)
            found.append((stat.st_ino, stat.st_size, stat.st_mtime_ns))
        except OSError:
            found.append((0, 0, 0))
    return found
