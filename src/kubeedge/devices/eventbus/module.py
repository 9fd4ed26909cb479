"""Module "eventbus": KubeEdge's topics about devices, on the embedded MQTT broker or on one of somebody else's (external.py).

Lives elsewhere: the twins and the disk (devices/module.py); what is in a message (topics.py); the broker (kubeedge.mqtt).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from kubeedge.api.names import NamespacedName
from kubeedge.devices import topics
from kubeedge.devices.core import DesiredChange
from kubeedge.devices.module import DeviceTwins
from kubeedge.errors import Invalid, Unavailable
from kubeedge.kit.tasks import TaskSet
from kubeedge.mqtt.codec import Publish
from kubeedge.mqtt.core import Broker
from kubeedge.mqtt.driver import MqttServer

if TYPE_CHECKING:
    from kubeedge.devices.eventbus.external import ExternalBroker

_ASKING = 4  # history requests and findings at once; a thread reads the files for each
TakeFindings: TypeAlias = Callable[[Any], Awaitable[list[str]]]


class EventBus:
    """Messages of programs go into the twins before they are acknowledged; changes of desired state go out as twin/update/delta. With an
    `external` broker nothing listens at `address`."""

    name = "eventbus"

    def __init__(
        self,
        twins: DeviceTwins,
        node: str,
        address: str,
        port: int,
        *,
        external: ExternalBroker | None = None,
        found: TakeFindings | None = None,
    ) -> None:
        """`found` takes what a scan has found, and gives its names once they are on the disk."""
        self.port = port  # 0: any; the real one once it is ready
        self._twins = twins
        self._node = node
        self._address = address
        self._external = external
        self._found = found
        self._server = None if external is not None else MqttServer(Broker(), self._received)
        self._asking = TaskSet("history requests")  # of one run
        twins.listeners.append(self)

    async def run(self, ready: asyncio.Event) -> None:
        """Serves MQTT until it is cancelled. Raises OSError when the port is taken."""

        def listening(port: int) -> None:
            self.port = port
            ready.set()

        self._asking = TaskSet("history requests")
        async with self._asking:
            if self._server is not None:
                await self._server.serve(self._address, self.port, listening)
            elif self._external is not None:
                ready.set()  # pods and twins do not wait for a broker
                await self._external.serve(self._received, self._attached)

    def _attached(self) -> None:
        """What was published while the broker was away is said again, as far as it is still so."""
        for key in list(self._twins.twins.devices):
            self._delta(key)
        self._publish(f"{topics.DEVICES}updated", topics.answer("", self._twins.now(), id=""))

    # From the cloud

    def publish(self, topic: str, payload: bytes) -> None:
        """A message of a rule, for whoever has subscribed. Raises Unavailable while a broker of somebody else's is away."""
        if self._external is not None and not self._external.is_attached:
            raise Unavailable("the broker is away")
        self._publish(topic, payload)

    def desired(self, key: NamespacedName, change: DesiredChange) -> None:
        """The twins have a new desired row."""
        device = self._twins.twins.devices.get(key)
        now = self._twins.now()
        if change.added and device is not None:
            self._membership(now, added_devices=[topics.described(key, device)])
        if change.removed:
            self._membership(now, removed_devices=[{"id": "/".join(key), "namespace": key[0], "name": key[1]}])
        if change.desired and device is not None:
            self._delta(key)
        if change.added or change.removed or change.spec:
            self._publish(f"{topics.DEVICES}updated", topics.answer("", now, id="/".join(key)))

    def _membership(self, now: int, **changed: Any) -> None:
        self._publish(f"{topics.NODE}{self._node}/membership/updated", topics.answer("", now, **changed))

    def _delta(self, key: NamespacedName) -> None:
        device = self._twins.twins.devices[key]
        if not (delta := device.delta()):
            return
        payload = topics.answer("", self._twins.now(), twin=topics.twin(device, delta), delta=delta)
        self._publish(f"{topics.DEVICE}{'/'.join(key)}/twin/update/delta", payload)
        if self._twins.twins.find([key[1]]) == key:  # programs of the time when an id had one level
            self._publish(f"{topics.DEVICE}{key[1]}/twin/update/delta", payload)

    # From programs

    def _received(self, message: Publish) -> asyncio.Future[None] | None:
        if (at := topics.device_topic(message.topic)) is not None:
            try:
                return self._asked(at, message)
            except Invalid as exc:
                event = _event(message.payload)
                self._publish(
                    at.topic(f"{at.operation}/result"), topics.failure(event, self._twins.now(), 400, str(exc))
                )
            except KeyError:
                event, why = _event(message.payload), f"this node has no device {'/'.join(at.identifier)[:300]}"
                self._publish(at.topic(f"{at.operation}/result"), topics.failure(event, self._twins.now(), 404, why))
        elif message.topic == f"{topics.NODE}{self._node}/membership/get":
            devices = [topics.described(key, device) for key, device in self._twins.twins.devices.items()]
            payload = topics.answer(_event(message.payload), self._twins.now(), devices=devices)
            self._publish(f"{message.topic}/result", payload)
        elif message.topic == f"{topics.DEVICES}get":
            self._publish(f"{message.topic}/result", self._page(message.payload))
        elif message.topic == f"{topics.DEVICES}history/get":
            if len(self._asking) < _ASKING:
                self._asking.start(self._history(message), "history request")
            else:
                self._busy(message)
        elif message.topic == f"{topics.DEVICES}found" and self._found is not None:
            if len(self._asking) < _ASKING:
                return self._asking.start(self._keep_found(message, self._found), "findings")
            self._busy(message)
        return None

    def _busy(self, message: Publish) -> None:
        busy = topics.failure(_event(message.payload), self._twins.now(), 503, "others are asking: try again")
        self._publish(f"{message.topic}/result", busy)

    async def _keep_found(self, message: Publish, found: TakeFindings) -> None:
        now = self._twins.now()
        try:
            value = topics.event_of(message.payload)
            payload = topics.answer(topics.event_id(value), now, names=await found(value.get("findings")))
        except Invalid as exc:
            payload = topics.failure(_event(message.payload), now, 400, str(exc))
        except Unavailable as exc:
            payload = topics.failure(_event(message.payload), now, 503, str(exc))
        self._publish(f"{message.topic}/result", payload)

    async def _history(self, message: Publish) -> None:
        now = self._twins.now()
        try:
            request = topics.history_request(message.payload)
            key = self._twins.twins.find(request.identifier)
            if key is None:
                payload = topics.failure(request.event, now, 404, "this node has no such device")
            else:
                values = await self._twins.history(key, request.prop, request.since, request.count)
                payload = topics.history(request, values, now)
        except Invalid as exc:
            payload = topics.failure(_event(message.payload), now, 400, str(exc))
        except OSError as exc:
            payload = topics.failure(_event(message.payload), now, 500, f"its files cannot be read: {exc.strerror}")
        self._publish(f"{message.topic}/result", payload)

    def _page(self, payload: bytes) -> bytes:
        now = self._twins.now()
        try:
            return topics.page(self._twins.twins.devices, topics.devices_request(payload), now)
        except Invalid as exc:
            return topics.failure(_event(payload), now, 400, str(exc))

    def _asked(self, at: topics.TopicAddress, message: Publish) -> asyncio.Future[None] | None:
        """Perform what a mapper asks for; a future for what the store must confirm first. Raises Invalid, and KeyError for an unknown
        device."""
        key = self._twins.twins.find(at.identifier)
        if key is None:
            raise KeyError(at.identifier)
        match at.operation:
            case "twin/get":
                event = topics.event_id(topics.event_of(message.payload))
                twin = topics.twin(self._twins.twins.devices[key])
                self._publish(at.topic("twin/get/result"), topics.answer(event, self._twins.now(), twin=twin))
                return None
            case "state/update":
                event, state = topics.state(message.payload)
                future = self._twins.set_state(key, state, durable=message.qos > 0)
                device = {"name": key[1], "state": state, "lastOnlineTime": self._twins.twins.devices[key].seen}
                answer = topics.answer(event, self._twins.now(), device=device)
                self._publish(at.topic("state/update/result"), answer)
                return future
        return self._updated(key, at, message)

    def _updated(self, key: NamespacedName, at: topics.TopicAddress, message: Publish) -> asyncio.Future[None] | None:
        update = topics.update(message.payload)
        device = self._twins.twins.devices[key]
        before = topics.twin(device, update.values)
        refused, future = self._twins.report(
            key, update.values, durable=message.qos > 0, observed=update.observed, times=update.times
        )
        now, after = self._twins.now(), topics.twin(device, update.values)
        if refused:
            why = "; ".join(f"{name[:128]} {text}" for name, text in list(refused.items())[:8])
            self._publish(at.topic("twin/update/result"), topics.failure(update.event, now, 400, why))
        else:
            self._publish(at.topic("twin/update/result"), topics.answer(update.event, now, twin=after))
        self._document(key, at, update.event, before, after)
        return future

    def reported(self, key: NamespacedName, before: Mapping[str, Any]) -> None:
        """A report has come by another way than a topic. `before`: topics.twin of what it names, as it was."""
        after = topics.twin(self._twins.twins.devices[key], before)
        self._document(key, topics.TopicAddress(key, ""), "", before, after)

    def _document(
        self,
        key: NamespacedName,
        at: topics.TopicAddress,
        event: str,
        before: Mapping[str, Any],
        after: Mapping[str, Any],
    ) -> None:
        changed = {
            name: {"last": before[name], "current": after[name]} for name in after if after[name] != before[name]
        }
        if changed:
            payload = topics.answer(event, self._twins.now(), twin=changed)
            self._publish(at.topic("twin/update/document"), payload)
        if any(name in before for name in self._twins.twins.devices[key].delta()):
            self._delta(key)

    def _publish(self, topic: str, payload: bytes) -> None:
        target = self._server or self._external
        assert target is not None
        target.publish(topic, payload)


def _event(payload: bytes) -> str:
    """The id of a message that may be wrong in all else."""
    try:
        return topics.event_id(topics.event_of(payload))
    except Invalid:
        return ""
