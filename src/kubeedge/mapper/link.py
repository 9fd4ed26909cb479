"""A mapper's connection to the broker of its node: which devices there are, what they should have, and reports. It connects again by itself."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
from collections.abc import Mapping
from typing import Any, Protocol

from kubeedge.errors import Invalid, KubeEdgeError
from kubeedge.kit.backoff import Backoff
from kubeedge.mapper import methods, values
from kubeedge.mapper.broker import NodeBroker
from kubeedge.mapper.core import ReportBatch
from kubeedge.mapper.listing import DEVICES, RESULT, DeviceListing
from kubeedge.mapper.methods import AskedMethod
from kubeedge.mapper.values import MappedDevice
from kubeedge.mqtt.client import MqttClient
from kubeedge.mqtt.codec import Publish

log = logging.getLogger("kubeedge.mapper")

_DEVICE = "$hw/events/device/"
_DELTA = "/twin/update/delta"
_AGAIN = Backoff(0.25, 5.0, jitter=0.5)
_QUIET = 0.05  # seconds: many devices come at once, and are asked for once
_REFRESH = 60.0  # seconds after which the devices are asked for in any case: a broker drops what a slow client leaves in its queue


class LinkOwner(Protocol):
    """Whoever has the devices."""

    def listed(self, devices: Mapping[str, tuple[MappedDevice, dict[str, str]]]) -> None:
        """All devices of the protocol, by their ids, with their desired values."""
        ...

    def wanted(self, device: str, delta: Mapping[str, str]) -> None:
        """New desired values; the device may be one of others."""
        ...

    def called(self, call: AskedMethod) -> None:
        """A method of a device is to be performed; the device may be one of others."""
        ...

    def attached(self) -> None:
        """Reports can be sent, and states have to be sent again."""
        ...


class BrokerLink:
    """`protocol` is that of the mapper. Raises nothing for a broker that is away: it is tried for ever."""

    def __init__(self, owner: LinkOwner, protocol: str, broker: NodeBroker) -> None:
        self._owner = owner
        self._protocol = protocol
        self._broker = broker
        self._client: MqttClient | None = None
        self._listing = DeviceListing(protocol)
        self._stale = asyncio.Event()

    @property
    def is_attached(self) -> bool:
        """The broker is there."""
        return self._client is not None

    async def run(self) -> None:
        """Until it is cancelled."""
        failures = 0
        while True:
            try:
                name = f"mapper-{self._protocol}-{os.getpid()}-{random.getrandbits(32):08x}"[:200]
                client = await self._broker.connect(name, self._received)
                failures = 0
                async with asyncio.TaskGroup() as group:
                    group.create_task(client.serve(), name="mapper: messages")
                    group.create_task(self._follow(client), name="mapper: devices")
            except* (OSError, KubeEdgeError) as found:
                if not failures:
                    log.warning("broker %s: %s", self._broker, _first(found))
                failures += 1
            finally:
                self._client = None
            await asyncio.sleep(_AGAIN.delay(failures, random.random()))

    async def _follow(self, client: MqttClient) -> None:
        calls = f"{methods.DEVICE}+/+{methods.CALL}"
        await client.subscribe(f"{_DEVICE}+/+{_DELTA}", f"{DEVICES}updated", RESULT, calls)
        log.info("broker %s: attached", self._broker)
        self._client = client
        self._owner.attached()
        while True:
            self._stale.clear()
            found = _devices(await self._listing.all(client))
            if not self._stale.is_set():
                self._owner.listed(found)
            try:
                async with asyncio.timeout(_REFRESH):
                    await self._stale.wait()
            except TimeoutError:
                pass
            await asyncio.sleep(_QUIET)

    def _received(self, message: Publish) -> None:
        if message.topic == f"{DEVICES}updated":
            self._stale.set()
            return
        try:
            value = json.loads(message.payload)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):  # anybody may publish anything
            return
        if message.topic == RESULT:
            self._listing.answered(value)
        elif message.topic.startswith(methods.DEVICE):
            try:
                self._owner.called(methods.asked(message.topic, value))
            except Invalid as exc:
                log.warning("left out: %s", exc)
        elif message.topic.startswith(_DEVICE) and message.topic.endswith(_DELTA):
            delta = value.get("delta")
            if isinstance(delta, dict):
                texts = {str(name): text for name, text in delta.items() if isinstance(text, str)}
                if self._listing.is_under_way:
                    self._stale.set()  # a page that is on its way may be older than this
                self._owner.wanted(message.topic[len(_DEVICE) : -len(_DELTA)], texts)

    async def answer(self, device: str, payload: bytes) -> None:
        """The answer to a call (methods.py). Raises ConnectionError when there is no broker."""
        if (client := self._client) is None:
            raise ConnectionResetError("there is no broker")
        await client.publish(f"{methods.DEVICE}{device}{methods.RESULT}", payload)

    async def report(self, device: str, batch: ReportBatch) -> None:
        """Returns when it is on the node's disk. Raises ConnectionError when there is no broker."""
        if (client := self._client) is None:
            raise ConnectionResetError("there is no broker")
        if batch.values or batch.applied:
            await client.publish(f"{_DEVICE}{device}/twin/update", values.update("", batch.values, batch.applied))
        if batch.state:
            state = {"event_id": "", "state": batch.state} | ({"reason": batch.why} if batch.why else {})
            await client.publish(f"{_DEVICE}{device}/state/update", json.dumps(state).encode())


def _devices(items: list[Any]) -> dict[str, tuple[MappedDevice, dict[str, str]]]:
    found = {}
    for item in items:
        try:
            device, wanted = values.mapped(item)
            found[device.id] = (device, wanted)
        except Invalid as exc:
            log.warning("left out: %s", exc)
    return found


def _first(group: BaseExceptionGroup[Exception]) -> BaseException:
    """The exception that a group is about."""
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
