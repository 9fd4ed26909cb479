"""The administrator's kubeconfig of each tenant: its file on this machine holds a valid one at all times."""

from __future__ import annotations

import asyncio
from typing import Any

from kubeedge.api.names import TenantId
from kubeedge_cloud.kubeconfigs.files import KubeconfigFiles


class AdminKubeconfigs:
    """Remembers which kubeconfig is in each file, so that one that ends is replaced at once."""

    def __init__(self, files: KubeconfigFiles) -> None:
        self._files = files
        self._current: dict[TenantId, str] = {}  # the id of the kubeconfig in each file
        self._writing = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def keep(self, tenant: TenantId) -> str:
        """Writes the file if what is in it is not valid, or not for much longer. The id of its kubeconfig."""
        async with self._writing:
            self._current[tenant] = await self._files.keep(tenant)
            return self._current[tenant]

    async def replace(self, tenant: TenantId) -> str:
        """Revokes what is in the file and writes another. The new id."""
        async with self._writing:
            self._current[tenant] = await self._files.replace(tenant)
            return self._current[tenant]

    def forget(self, tenant: TenantId) -> None:
        """The tenant is removed, and the file with it."""
        self._current.pop(tenant, None)
        self._files.path(tenant).unlink(missing_ok=True)

    def ended(self, tenant: TenantId, kubeconfig: str) -> None:
        """A kubeconfig was revoked or expired; if it was the one in the file, another takes its place."""
        if kubeconfig and self._current.get(tenant) == kubeconfig:
            task = asyncio.create_task(self.keep(tenant), name="kubeconfig of the administrator")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
