"""Run something for every tenant: started when a tenant appears, stopped when it goes, restarted when it fails."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from kubeedge.api.names import TenantId
from kubeedge.beehive.core import RestartPolicy, Restarts
from kubeedge_cloud.tenants.manager import TenantManager
from kubeedge_cloud.tenants.model import TenantRecord

log = logging.getLogger("kubeedge.tenants")

_PATIENCE = 4  # attempts to serve a tenant for which all others wait

#: serves one tenant until it is cancelled; sets the event once it serves
ServeTenant = Callable[[TenantRecord, asyncio.Event], Awaitable[None]]


async def for_each_tenant(tenants: TenantManager, serve: ServeTenant, ready: asyncio.Event, *, what: str) -> None:
    """One tenant's failure does not touch the others; one that changes to another cluster is begun anew. `ready` is set once the tenants of the
    beginning are served, but for those that fail again and again: what is wrong with one tenant is no reason for others to wait."""
    running: dict[tuple[TenantId, str], asyncio.Task[None]] = {}
    try:
        async with aclosing(tenants.follow_tenants()) as changes:
            async for records in changes:
                wanted = {(record.name, record.cluster): record for record in records}
                gone = [running.pop(name) for name in running.keys() - wanted.keys()]
                started: list[asyncio.Event] = []
                for task in gone:
                    task.cancel()
                await asyncio.gather(*gone, return_exceptions=True)
                for key in wanted.keys() - running.keys():
                    serving = asyncio.Event()
                    started.append(serving)
                    running[key] = asyncio.create_task(
                        _supervise(wanted[key], serve, serving, what), name=f"{what} of tenant {key[0]}"
                    )
                if not ready.is_set():
                    for serving in started:
                        await serving.wait()
                    ready.set()
    finally:
        for task in running.values():
            task.cancel()
        await asyncio.gather(*running.values(), return_exceptions=True)


async def _supervise(record: TenantRecord, serve: ServeTenant, serving: asyncio.Event, what: str) -> None:
    loop = asyncio.get_running_loop()
    restarts = Restarts(RestartPolicy())
    for attempt in itertools.count(1):
        if attempt > _PATIENCE:
            serving.set()
        restarts.started(loop.time())
        try:
            await serve(record, serving)
            delay = restarts.ended(loop.time())
            log.error("%s tenant=%s ended; it starts again in %g s", what, record.name, delay)
        except Exception:
            delay = restarts.ended(loop.time())
            log.exception("%s tenant=%s failed; it starts again in %g s", what, record.name, delay)
        await asyncio.sleep(delay)
