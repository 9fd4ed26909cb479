"""Module "devicepush": sends values of devices to the servers that `pushMethod` names, over the queue on the disk.

Each destination has a task of its own while there is something for it, so one that is away holds up no other. What was sent is sent again when the
answer to it is lost: at least once, with an id by which most servers have it once (formats.py, redis.py, databases.py).

Lives elsewhere: the queue (queue.py), who speaks to a server (choice.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kubeedge.devices.sinks.core import Destination, PushedValue, ValueRefused, parsed
from kubeedge.devices.sinks.queue import PushQueue
from kubeedge.errors import KubeEdgeError
from kubeedge.kit.backoff import Backoff
from kubeedge.kit.dataclasses import dataclass, field, replace
from kubeedge.kit.tasks import TaskSet
from kubeedge.store.model import Store

if TYPE_CHECKING:
    from kubeedge.devices.sinks.sender import Sender

log = logging.getLogger("kubeedge.devices.sinks")

_BATCH = 200  # values
_BATCH_SIZE = 128 * 1024  # bytes of them
_AT_ONCE = 8  # destinations that are sent to at the same time: their batches are in memory
_DOUBTFUL = 8  # and as many that did not answer last time, with one value each: they may take their time
_MOST = 64  # destinations with a task; others have their turn when one of these has nothing more
_IDLE = 30.0  # seconds that a connection is kept without anything to send
_BACKOFF = Backoff(1.0, 60.0, jitter=0.5)
_USUAL = (OSError, EOFError, KubeEdgeError)  # TimeoutError is an OSError
_LOOK = 60.0  # seconds between two looks for destinations that no Device names any more
_KEPT = 600.0  # seconds for which their values are kept: a Device may be made anew


@dataclass(slots=True)
class _Active:
    """A destination that is sent to."""

    spec: str
    destination: Destination
    event: asyncio.Event = field(default_factory=asyncio.Event)  # something came for it
    sender: Sender | None = None
    failures: int = 0  # in a row
    singly: int = 0  # values that go one by one: one of them is refused


class DevicePush:
    """`append` may be called before and while it runs; what it takes is on the disk."""

    name = "devicepush"

    def __init__(
        self,
        queue: PushQueue,
        node: str,
        credentials: Path | None,
        *,
        wall: Callable[[], float],
        backoff: Backoff = _BACKOFF,
        store: Store | None = None,
    ) -> None:
        """`store`: where Secrets and ConfigMaps are that the file of credentials names."""
        self.queue = queue
        self._store = store
        self.sent = 0  # values, since the start
        self.refused = 0  # that a server will never take
        self.unnamed = 0  # that were given up as no Device names their server any more
        #: the destinations that Devices name; None: it is not known yet
        self.named: Callable[[], Collection[str] | None] = lambda: None
        self._unnamed: dict[str, float] = {}  # destination -> since when no Device names it, by the loop's clock
        self._node, self._credentials, self._wall, self._backoff = node, credentials, wall, backoff
        self._active: dict[str, _Active] = {}  # by destination
        self._at_once, self._doubtful = asyncio.Semaphore(_AT_ONCE), asyncio.Semaphore(_DOUBTFUL)
        self._tasks: TaskSet | None = None
        self.problems: dict[str, str] = {}  # HOST:PORT -> what is wrong with it now

    async def run(self, ready: asyncio.Event) -> None:
        """Sends until it is cancelled."""
        if self.queue.exists:  # most nodes send nothing
            await asyncio.to_thread(self.queue.open)
        self._at_once, self._doubtful = asyncio.Semaphore(_AT_ONCE), asyncio.Semaphore(_DOUBTFUL)
        self._active = {}
        try:
            async with TaskSet("device destinations") as self._tasks:
                try:
                    self._start()
                    ready.set()
                    while True:
                        await asyncio.sleep(_LOOK)
                        await self._give_up()
                finally:
                    self._tasks = None  # what ends from here on begins nothing
        finally:
            self.queue.close()

    async def append(self, values: Sequence[tuple[str, PushedValue]], now: int) -> None:
        """(destination, value): they are on the disk when it returns. Raises OSError."""
        await asyncio.to_thread(self.queue.append, values, now)
        for spec in {spec for spec, _ in values}:
            if (active := self._active.get(spec)) is not None:
                active.event.set()
        self._start()

    async def _give_up(self) -> None:
        """Values for destinations that no Device has named for a while."""
        waiting = self.queue.waiting()
        if not waiting or (named := self.named()) is None:
            return
        now = asyncio.get_running_loop().time()
        self._unnamed = {spec: self._unnamed.get(spec, now) for spec in waiting if spec not in named}
        for spec in [spec for spec, since in self._unnamed.items() if now - since >= _KEPT]:
            try:
                count = await asyncio.to_thread(self.queue.drop, spec)
            except OSError as exc:
                log.warning("what no Device wants sent any more stays for now: %s", exc)
                return
            self.unnamed += count
            log.warning("%d values for %s are given up: no Device names it any more", count, parsed(spec).endpoint)
            del self._unnamed[spec]

    def _start(self) -> None:
        """Tasks for destinations that have none."""
        if self._tasks is None:
            return
        for spec in self.queue.waiting():
            if len(self._active) >= _MOST:
                break
            if spec not in self._active:
                active = self._active[spec] = _Active(spec, parsed(spec))
                self._tasks.start(self._serve(active), f"destination {active.destination.endpoint}")

    async def _serve(self, active: _Active) -> None:
        try:
            while True:
                active.event.clear()
                try:
                    has_more = await self._round(active)
                    self._noted(active, "")
                except Exception as exc:  # whatever a driver of others makes of an answer, or of an address
                    if not isinstance(exc, _USUAL) and not active.failures:
                        log.warning("values for %s", active.destination.endpoint, exc_info=exc)
                    self._noted(active, str(exc) or type(exc).__name__)
                    await asyncio.sleep(self._backoff.delay(active.failures, random.random()))
                    continue
                if not has_more and not await self._idle(active.event):
                    return
        finally:
            self.problems.pop(active.destination.endpoint, None)
            del self._active[active.spec]
            if active.sender is not None:
                await active.sender.close()
            self._start()

    async def _round(self, active: _Active) -> bool:
        """Send the oldest values; False: there are none. Raises what `Sender.deliver` does, but ValueRefused, and what its driver lets out."""
        spec = active.spec
        doubtful = active.failures > 0
        count = 1 if active.singly or doubtful else _BATCH
        values = await asyncio.to_thread(self.queue.first, spec, count, _BATCH_SIZE)
        if not values:
            return False
        try:
            async with self._doubtful if doubtful else self._at_once:
                if active.sender is None:
                    from kubeedge.devices.sinks.choice import sender_for
                    from kubeedge.devices.sinks.sender import SenderSettings

                    settings = SenderSettings(self._node, self.queue.uid, self._credentials, self._store)
                    active.sender = sender_for(active.destination, settings)
                await self._deliver(spec, active.sender, values)
        except ValueRefused as exc:
            if len(values) > 1:
                active.singly = len(values)  # which one is it?
                return True
            self.refused += 1
            log.warning("a value of %s/%s is given up: %s", values[0].namespace, values[0].device, exc)
            await asyncio.to_thread(self.queue.done, spec, values)
        active.singly = max(0, active.singly - 1)
        return True

    async def _idle(self, event: asyncio.Event) -> bool:
        """Whether there is something again; False when the task may end."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_IDLE if len(self._active) < _MOST else 0):
                await event.wait()
        return event.is_set()

    async def _deliver(self, spec: str, sender: Sender, values: Sequence[PushedValue]) -> None:
        now = int(self._wall() * 1000)
        dated = [value if value.time else replace(value, time=now) for value in values]  # the node had no clock then
        taken: list[PushedValue] = []
        try:
            await sender.deliver(dated, taken)
        finally:
            if taken:
                self.sent += len(taken)
                await asyncio.to_thread(self.queue.done, spec, taken)

    def _noted(self, active: _Active, problem: str) -> None:
        """What is wrong is logged once, and its end."""
        endpoint = active.destination.endpoint
        if not problem:
            if active.failures:
                log.info("%s takes values again", endpoint)
            self.problems.pop(endpoint, None)
            active.failures = 0
            return
        if not active.failures:
            log.warning("values for %s wait: %s", endpoint, problem[:300])
        self.problems[endpoint] = problem[:300]
        active.failures += 1
