"""How full the volumes behind claims are, as kubelet_volume_stats_* tells it. What answers is a disk, or a server that may hang."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from concurrent.futures import Executor, Future
from pathlib import Path

from kubeedge.appengine.dashboards import ClaimUse

_PATIENCE = 1.0  # seconds for all of them; who does not answer is left out


class ClaimStats:
    """Asks in threads of `executor`, and never asks one again that has not answered yet."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._asked: dict[Path, Future[os.statvfs_result]] = {}

    async def read(self, claims: Iterable[tuple[str, str, Path]]) -> list[ClaimUse]:
        """Of each (namespace, name, directory), once, those that answer in time."""
        wanted = {path: (namespace, name) for namespace, name, path in claims}
        self._asked = {path: asked for path, asked in self._asked.items() if not asked.done()}
        for path in wanted:
            if path not in self._asked:
                self._asked[path] = self._executor.submit(os.statvfs, path)
        asked = [asyncio.wrap_future(self._asked[path]) for path in wanted]
        if asked:
            await asyncio.wait(asked, timeout=_PATIENCE)
        return [
            _use(*of, self._asked[path].result())
            for path, of in wanted.items()
            if self._asked[path].done() and self._asked[path].exception() is None
        ]


def _use(namespace: str, name: str, found: os.statvfs_result) -> ClaimUse:
    return ClaimUse(
        namespace,
        name,
        capacity=found.f_blocks * found.f_frsize,
        available=found.f_bavail * found.f_frsize,
        used=(found.f_blocks - found.f_bfree) * found.f_frsize,
        inodes=found.f_files,
        inodes_free=found.f_ffree,
    )
