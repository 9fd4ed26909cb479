"""Ends of containers: by GetContainerEvents, or where the runtime has none (containerd 1.6) by looking at the list.

An event says that something has happened to an id; what that was is asked with ContainerStatus. After a stream was
lost, and now and then, the list repairs what was missed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from kubeedge.api.names import Object
from kubeedge.appengine.runtime.cri.client import QUICK, CriClient
from kubeedge.appengine.runtime.cri.found import STOPPED_EVENT
from kubeedge.kit.grpc import UNIMPLEMENTED, GrpcError

log = logging.getLogger("kubeedge.appengine.runtime")

_POLL = 1.0  # seconds between two lists, as the kubelet's
_REPAIR = 60.0  # seconds between two lists beside events
_HEALTH = 10.0  # seconds between two questions for the runtime's health
_PAUSE = 0.5  # seconds before a runtime that was lost is asked again


class CriWatch:
    """Tells `ended` the id of a container that may have ended, and `relist` when ids may have been missed."""

    def __init__(
        self, client: CriClient, ended: Callable[[str], Awaitable[None]], relist: Callable[[], Awaitable[None]]
    ) -> None:
        self._client, self._ended, self._relist = client, ended, relist
        self._tasks: list[asyncio.Task[None]] = []
        self._lost = asyncio.Event()
        self.problem = "the container runtime has not answered yet"

    def start(self) -> None:
        """Start the tasks that watch the runtime. Needs a running event loop."""
        self._tasks = [
            asyncio.create_task(self._watch(), name="events of containers"),
            asyncio.create_task(self._ask(), name="health of the runtime"),
        ]

    async def close(self) -> None:
        """Stops both tasks, and waits for their end. Containers go on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def check(self) -> None:
        """Asks for the health now."""
        try:
            self.problem = unhealthy(await self._client.call("Status", within=QUICK))
        except GrpcError as exc:
            self._fail(exc)

    def _fail(self, exc: GrpcError) -> None:
        problem = f"the container runtime does not answer: {exc}"
        if problem != self.problem:
            log.warning("%s", problem)
        self.problem = problem

    async def _ask(self) -> None:
        while True:
            await self.check()
            self._lost.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PAUSE if self.problem else _HEALTH):
                    await self._lost.wait()

    async def _watch(self) -> None:
        has_events = True
        while True:
            try:
                if has_events:
                    await self._follow()
                else:
                    await self._relist()
                    await asyncio.sleep(_POLL)
            except GrpcError as exc:
                if exc.code == UNIMPLEMENTED and has_events:
                    log.info("the container runtime has no events: its list is read every second")
                    has_events = False
                    continue
                self._fail(exc)
                self._lost.set()
                await asyncio.sleep(_PAUSE)

    async def _follow(self) -> None:
        """Follow the events of the runtime until the stream ends. Raises GrpcError."""
        async with contextlib.aclosing(self._client.events()) as events:
            coming: asyncio.Task[Object] | None = None
            try:
                while True:
                    coming = coming or asyncio.ensure_future(anext(events))
                    done, _ = await asyncio.wait((coming,), timeout=0)
                    if not done:
                        await self._relist()
                        done, _ = await asyncio.wait((coming,), timeout=_REPAIR)
                    while done:
                        event, coming = coming.result(), None
                        if event.get("container_event_type", 0) == STOPPED_EVENT:
                            await self._ended(str(event.get("container_id", "")))
                        coming = asyncio.ensure_future(anext(events))
                        done, _ = await asyncio.wait((coming,), timeout=_REPAIR)
            except StopAsyncIteration:
                return
            finally:
                if coming is not None:
                    coming.cancel()
                    await asyncio.gather(coming, return_exceptions=True)


def unhealthy(status: Object) -> str:
    """What StatusResponse says that keeps containers from starting; "": nothing."""
    conditions = {c.get("type"): c for c in status.get("status", {}).get("conditions", ())}
    for kind in ("RuntimeReady", "NetworkReady"):
        found = conditions.get(kind, {})
        if not found.get("status"):
            return f"container runtime: {kind} is false: {found.get('message') or found.get('reason') or 'no reason given'}"
    return ""
