"""Module "devicetwins": keeps the twins of this node's devices in the store, and tells those who listen what changed.

Reports are committed in groups: while one transaction is on its way to the disk the next group gathers. Whoever wants to know that a report
is durable awaits `report`'s future; the rest waits a moment for others, so that a flood of them costs the card four writes a second.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Protocol

from kubeedge.api import keys
from kubeedge.api.names import NamespacedName
from kubeedge.devices.core import DesiredChange, Twins
from kubeedge.errors import Unavailable
from kubeedge.kit.ticks import tick
from kubeedge.store.model import Delete, Op, Put, Store
from kubeedge.store.reflector import pages, reflect

if TYPE_CHECKING:
    from kubeedge.devices.history.driver import HistoryFiles
    from kubeedge.devices.sinks.module import DevicePush

log = logging.getLogger("kubeedge.devices")

_DESIRED = f"{keys.DESIRED}devices/"
_REPORTED = f"{keys.REPORTED}devices/"
_PAUSE = 0.25  # seconds that a report waits whose client does not ask for durability (QoS 0)
_GATHER = 0.01  # seconds that a commit waits while more comes
_RETRY = 1.0  # seconds, on a full disk
_LOOK = 14.0  # seconds between two looks for mappers that are silent
_SILENT, _CYCLES = 60.0, 5  # seconds, and cycles of the device, without a word: the longer of both
_AT_ONCE = 256  # devices in one transaction


class DeviceListener(Protocol):
    """Is told of changes of desired state, after the twins have them."""

    def desired(self, key: NamespacedName, change: DesiredChange) -> None:
        """The cloud has written the device's row."""
        ...


class DeviceTwins:
    """`wall` gives seconds since 1970. `twins` is to be changed through the methods of this class alone."""

    name = "devicetwins"

    def __init__(
        self,
        store: Store,
        *,
        wall: Callable[[], float],
        history: HistoryFiles | None = None,
        push: DevicePush | None = None,
    ) -> None:
        """`push`: where values go that have a `pushMethod`; None: mappers send them."""
        self.twins = Twins(pushing=push is not None)
        self.listeners: list[DeviceListener] = []
        self.settled = asyncio.Event()  # the devices are as the store has them
        self.commits = 0  # since the start
        self._store = store
        self._wall = wall
        self._history = history
        self._push = push
        self._remembering: Collection[str] = ()  # uids of those whose history is on its way to the disk
        self._queueing: Collection[NamespacedName] = ()  # whose values for other servers are
        self._writing: set[NamespacedName] = set()
        self._waiters: list[asyncio.Future[None]] = []
        self._wake = asyncio.Event()
        self._later: asyncio.TimerHandle | None = None
        self._heard: dict[NamespacedName, float] = {}  # when a mapper spoke of the device, by the loop's clock

    def now(self) -> int:
        """Milliseconds since 1970, by this machine's clock."""
        return int(self._wall() * 1000)

    async def run(self, ready: asyncio.Event) -> None:
        """Ready when the devices are as the store has them."""
        self.settled.clear()
        self.twins = Twins(pushing=self._push is not None)
        for prefix in (keys.LOCAL_DEVICES, _REPORTED):
            async with aclosing(pages(self._store, prefix)) as found:
                async for page in found:
                    for kv in page.kvs:
                        self.twins.restore(keys.split(kv.key)[1:], kv.value, local=prefix == keys.LOCAL_DEVICES)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow(ready), name="desired devices")
                group.create_task(self._commit(), name="twins to the store")
                group.create_task(self._look(), name="mappers that are silent")
        finally:
            if self._history is not None:
                self._history.close()

    def report(
        self,
        key: NamespacedName,
        values: Mapping[str, str | None],
        *,
        durable: bool,
        observed: Mapping[str, str] | None = None,
        times: Mapping[str, int] | None = None,
        source: str = "",
    ) -> tuple[dict[str, str], asyncio.Future[None] | None]:
        """(what was refused, done once the rest is on the disk; None: it is there already). `source`: which mapper. Raises KeyError: no such device here."""
        refused = self.twins.report(key, values, self.now(), observed=observed, times=times, source=source)
        self._heard[key] = asyncio.get_running_loop().time()
        return refused, self._written(key, durable)

    def set_state(
        self, key: NamespacedName, state: str, *, why: str = "", durable: bool, heard: bool = True
    ) -> asyncio.Future[None] | None:
        """Set the state of a device; see `report`. `why`: what is wrong with it, for people; `heard`: a mapper says so."""
        self.twins.set_state(key, state, self.now(), why=why, heard=heard)
        if heard:
            self._heard[key] = asyncio.get_running_loop().time()
        return self._written(key, durable)

    def _written(self, key: NamespacedName, durable: bool) -> asyncio.Future[None] | None:
        uid = self.twins.devices[key].uid
        has_history = self._history is not None and (uid in self.twins.history or uid in self._remembering)
        pushes = self.twins.pushes
        has_pushes = pushes is not None and (key in pushes.devices or key in self._queueing)
        if key not in self.twins.dirty and key not in self._writing and not has_history and not has_pushes:
            return None
        loop = asyncio.get_running_loop()
        if not durable:
            if self._later is None:
                self._later = loop.call_later(_PAUSE, self._wake.set)
            return None
        future: asyncio.Future[None] = loop.create_future()
        self._waiters.append(future)
        self._wake.set()
        return future

    async def _follow(self, ready: asyncio.Event) -> None:
        async with aclosing(reflect(self._store, _DESIRED)) as changes:
            async for values, changed in changes:
                for row in sorted(changed):
                    key: NamespacedName = keys.split(row)[1:]
                    change = self.twins.desire(key, values.get(row))
                    for listener in self.listeners:
                        listener.desired(key, change)
                if not ready.is_set():
                    self.twins.restored()
                    await self._adopt_history()
                    self.settled.set()
                    ready.set()
                if self.twins.dirty:
                    self._wake.set()

    async def _look(self) -> None:
        """Devices that are to report in a cycle and of which nobody has said anything for long are unknown: their mapper is gone, or hangs."""
        self._heard = {}
        while True:
            await tick(_LOOK)
            now, twins = asyncio.get_running_loop().time(), self.twins
            twins.settle(self.now())
            self._heard = {key: self._heard.get(key, now) for key in twins.devices}
            for key, heard in self._heard.items():
                device = twins.devices[key]
                patience = max(_SILENT, _CYCLES * device.cycle / 1000)
                if device.cycle and device.state in ("online", "ok") and not device.deleting and now - heard > patience:
                    log.warning("device %s/%s: its mapper has been silent for %.0f s", *key, now - heard)
                    twins.set_state(key, "unknown", self.now(), heard=False)
            if twins.dirty:
                self._wake.set()

    async def _adopt_history(self) -> None:
        if self._history is not None:
            uids = {key: device.uid for key, device in self.twins.devices.items()}
            try:
                await asyncio.to_thread(self._history.adopt, uids)
            except OSError as exc:
                log.warning("history of former versions is not found: %s", exc)

    async def _commit(self) -> None:
        while True:
            await self._wake.wait()
            await self._gathered()
            self._wake.clear()
            if self._later is not None:
                self._later.cancel()
                self._later = None
            waiters, self._waiters = self._waiters, []
            due = list(self.twins.dirty)  # what is reported from here on has its turn after that
            try:
                await self._keep_history()
                await self._queue_pushes()
                for start in range(0, len(due), _AT_ONCE):
                    await self._write(due[start : start + _AT_ONCE])
            except BaseException:
                for future in waiters:  # no client may take it for durable, nor wait for ever
                    future.cancel()
                raise
            for future in waiters:
                if not future.done():
                    future.set_result(None)

    async def _gathered(self) -> None:
        """While reports keep coming they join this commit: a device's row is written once for all of them."""
        loop = asyncio.get_running_loop()
        end, before = loop.time() + _GATHER, -1
        while len(self._waiters) > before and loop.time() < end:
            before = len(self._waiters)
            await asyncio.sleep(0)  # what has come is read
            await asyncio.sleep(0)  # and taken in

    async def _keep_history(self) -> None:
        """Before the rows: whoever waits for these then has both."""
        if not self.twins.history or self._history is None:
            self.twins.take_history()
            return
        values = self._remembering = self.twins.take_history()
        if self.twins.history_lost:
            log.warning("the history lacks %d values: more came than the disk takes", self.twins.history_lost)
            self.twins.history_lost = 0
        try:
            await asyncio.to_thread(self._history.append, values, self.now())
        except OSError as exc:  # a full disk, say: the newest values count more, and go on
            log.warning("the history of %d devices is not kept: %s", len(values), exc)
        finally:
            self._remembering = ()

    async def _queue_pushes(self) -> None:
        """Likewise before the rows."""
        if (pushes := self.twins.pushes) is None or self._push is None or not pushes.devices:
            return
        self._queueing = pushes.devices
        if pushes.lost:
            log.warning("%d values are not sent on: more came than the disk takes", pushes.lost)
            pushes.lost = 0
        values = pushes.take()
        try:
            await self._push.append(values, self.now())
        except OSError as exc:
            log.warning("%d values are not sent on: %s", len(values), exc)
        finally:
            self._queueing = ()

    async def history(self, key: NamespacedName, prop: str, since: int, count: int) -> list[tuple[int, str]]:
        """The newest `count` values of a property since then (milliseconds since 1970), the oldest first. Raises OSError."""
        device = self.twins.devices.get(key)
        if self._history is None or device is None:
            return []
        return await asyncio.to_thread(self._history.read, key, device.uid, prop, since, count)

    async def _write(self, batch: list[NamespacedName]) -> None:
        ops: list[Op] = []
        for key in batch:
            for row, value in self.twins.rows(key).items():
                ops.append(Delete(row) if value is None else Put(row, value))
            self.twins.dirty.pop(key, None)
        self._writing = set(batch)
        try:
            while True:
                try:
                    await self._store.txn((), ops)
                    self.commits += 1
                    return
                except Unavailable as exc:
                    log.warning("reports of devices are not kept yet: %s", exc)
                    await asyncio.sleep(_RETRY)
        finally:
            self._writing = set()
