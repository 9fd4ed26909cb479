"""Brings what a mapper has of the node's devices up to date, by calls on the mapper's own socket."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from kubeedge.api import devices
from kubeedge.api.names import NamespacedName
from kubeedge.devices.core import Device
from kubeedge.devices.dmi import messages as dmi
from kubeedge.devices.dmi.core import DmiCall, MapperState
from kubeedge.devices.module import DeviceTwins
from kubeedge.kit.backoff import Backoff
from kubeedge.kit.grpc import DEADLINE_EXCEEDED, UNAVAILABLE, GrpcChannel, GrpcError

log = logging.getLogger("kubeedge.devices.dmi")

_SERVICE = "/v1beta1.DeviceMapperService/"
_CALL = 10.0  # seconds: a device may be connected to within the call
_AWAY = Backoff(0.5, 30.0)  # of a mapper that does not answer
_LOOK = 30.0  # seconds between two looks whether the mapper lives, and after which its devices are unknown
_CONNECT = 0.5  # seconds
_PATIENCE = 10.0  # seconds, and two of its cycles, in which a property may get its desired value


class MapperCaller:
    """One mapper, from when it registers. `keep` writes its record down."""

    def __init__(self, state: MapperState, twins: DeviceTwins, keep: Callable[[MapperState], Awaitable[None]]) -> None:
        self.state = state
        self._twins = twins
        self._keep = keep
        self._channel = GrpcChannel(Path(state.info.address))
        self._changed: dict[NamespacedName, None] = {}  # devices to look at; in their order
        self._looks: dict[NamespacedName, float] = {}  # when to look whether a device has got what is desired
        self._wake = asyncio.Event()
        self._called = False  # in this pass
        self._failures = 0  # of the mapper, in a row
        self._answered = asyncio.get_running_loop().time()

    def changed(self, key: NamespacedName) -> None:
        """A device of the node came, went or is another."""
        device = self._twins.twins.devices.get(key)
        if key in self.state.devices or (device is not None and device.protocol == self.state.info.protocol):
            self._changed[key] = None
            self._wake.set()

    def is_back(self, key: NamespacedName) -> None:
        """The mapper says that it reaches a device again: what it could not write is written."""
        if self.state.is_back(key):
            self._changed[key] = None
            self._wake.set()

    def own(self) -> list[NamespacedName]:
        """The node's devices of its protocol."""
        protocol = self.state.info.protocol
        return [key for key, one in self._twins.twins.devices.items() if one.protocol == protocol and not one.deleting]

    async def run(self) -> None:
        """Until it is cancelled."""
        await self._twins.settled.wait()
        if self.state.is_restored:
            self.state.may_have(self.own())
        self._changed = dict.fromkeys(sorted({*self.own(), *self.state.devices}))
        try:
            while True:
                wait = await self._pass()
                if self.state.dirty:
                    self.state.dirty = False
                    await self._keep(self.state)
                try:
                    async with asyncio.timeout(wait):
                        await self._wake.wait()
                except TimeoutError:
                    pass
                self._wake.clear()
        finally:
            await self._channel.close()

    async def _pass(self) -> float:
        """Look at all devices that have changed, or that failed; seconds until the next look."""
        loop = asyncio.get_running_loop()
        if not self._twins.settled.is_set():  # it knows of no devices: none is to be removed
            await self._twins.settled.wait()
            self._changed = dict.fromkeys(sorted({*self.own(), *self.state.devices}))
        due, self._changed = self._changed, {}
        due |= dict.fromkeys(key for key, at in self._looks.items() if at <= loop.time())
        self._called = False
        retry = loop.time() + _LOOK
        try:
            if len(due) > 1 and await self._doubted(due):
                await self._keep(self.state)  # once for all of them
            for key in list(due):
                await asyncio.sleep(0)
                again = await self._update(key)
                del due[key]
                if again is not None:
                    retry = min(retry, again)
                    self._changed[key] = None
            for model in self.state.unused_models():
                await self._call(DmiCall.REMOVE_MODEL, dmi.removal("model", model))
                self.state.model_removed(model)
            if not self._called:
                await self._alive()
        except GrpcError as exc:
            self._changed = {**due, **self._changed}
            self._lost(exc)
            return _AWAY.delay(self._failures)
        if self._failures:
            log.info("mapper %s answers", self.state.info.name)
        self._failures, self._answered = 0, loop.time()
        retry = min([retry, *self._looks.values()])
        return max(0.0, retry - loop.time())

    async def _doubted(self, due: Iterable[NamespacedName]) -> bool:
        """Of devices that are to be looked at; to describe one takes milliseconds, and there may be a thousand."""
        doubted = False
        for key in list(due):
            doubted |= self.state.doubt(key, self._described(key))
            await asyncio.sleep(0)
        return doubted

    def _described(self, key: NamespacedName) -> dmi.DeviceMessages | None:
        """None: the mapper is not to have it."""
        device = self._twins.twins.devices.get(key)
        if device is None or device.deleting or device.protocol != self.state.info.protocol:
            return None
        return dmi.described(key, device)

    async def _update(self, key: NamespacedName) -> float | None:
        """All calls that a device needs; the time at which to try again, or None. Raises GrpcError when the mapper does not answer."""
        while True:
            messages = self._described(key)
            if self.state.doubt(key, messages):
                await self._keep(self.state)
            now = asyncio.get_running_loop().time()
            call = self.state.next_call(key, messages, now)
            if call is None and (again := self.state.retry_at(key)) is not None:
                return again
            if call is None:
                if not self._lacks(key, messages, now):
                    return None
                continue
            try:
                await self._call(call, _message(call, key, messages))
            except GrpcError as exc:
                if exc.code == UNAVAILABLE:
                    raise
                if call is not DmiCall.REMOVE or exc.code == DEADLINE_EXCEEDED:
                    again = self.state.failed(key, call, messages, now)
                    if exc.code == DEADLINE_EXCEEDED:  # the others have their turn first, when it answers again
                        raise
                    log.warning("mapper %s: %s of %s: %s", self.state.info.name, call.value, "/".join(key), exc)
                    return again
            self.state.done(key, call, messages)  # a refused removal is of a device that it has not

    def _lacks(self, key: NamespacedName, messages: dmi.DeviceMessages | None, now: float) -> bool:
        """The device has not got what is desired for so long that it is to be started anew."""
        device = self._twins.twins.devices.get(key)
        look = None
        if messages is not None and device is not None:
            look = self.state.lacks(key, messages.fingerprint, patience(device), now)
        if look is None:
            self._looks.pop(key, None)
            return False
        self._looks[key] = look
        return self.state.next_call(key, messages, now) is not None

    async def _call(self, call: DmiCall, message: bytes) -> None:
        self._called = True
        await self._channel.call(_SERVICE + call.value, message, _CALL)

    async def _alive(self) -> None:
        if not await is_served(self.state.info.address):
            raise GrpcError(UNAVAILABLE, f"nobody listens at {self.state.info.address}")

    def _lost(self, exc: GrpcError) -> None:
        self._failures += 1
        if self._failures == 1:
            log.warning("mapper %s: %s", self.state.info.name, exc)
        if asyncio.get_running_loop().time() - self._answered < _LOOK:
            return
        for key in self.own():  # it may have ended without a word about them
            device = self._twins.twins.devices[key]
            if device.state != "unknown" and self._twins.now() - device.seen > _LOOK * 1000:
                self._twins.set_state(key, "unknown", durable=False, heard=False)


def _message(call: DmiCall, key: NamespacedName, messages: dmi.DeviceMessages | None) -> bytes:
    if messages is None:
        return dmi.removal("device", key)
    return dmi.request(messages.model if call in (DmiCall.CREATE_MODEL, DmiCall.UPDATE_MODEL) else messages.device)


def patience(device: Device) -> float:
    """Seconds until a device should have said that it has all desired values; 0.0: it has. Of properties that are not reported nobody knows."""
    found = 0.0
    for name, wanted in device.delta().items():
        twin, fields = device.twins.get(name), device.properties.get(name, {})
        taken = twin is not None and twin.observed is not None and devices.same_value(twin.observed, wanted)
        if not taken and fields.get("reportToCloud") is not False:
            cycles = [one for key in ("collectCycle", "reportCycle") if isinstance(one := fields.get(key), int)]
            found = max(found, _PATIENCE, *(2 * one / 1000 for one in cycles))
    return found


async def is_served(address: str) -> bool:
    """Somebody accepts connections on this Unix socket."""
    try:
        async with asyncio.timeout(_CONNECT):
            _, writer = await asyncio.open_unix_connection(address)
    except OSError:  # TimeoutError is one
        return False
    writer.close()
    return True
