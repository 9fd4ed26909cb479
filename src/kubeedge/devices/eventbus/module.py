"""Module "eventbus": KubeEdge's topics about devices, on the embedded MQTT broker or on one of somebody else's (external.py).

Lives elsewhere: the twins and the disk (devices/module.py); what is in a message (topics.py); the broker (kubeedge.mqtt).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from kubeedge.api.names import NamespacedName
from kubeedge.devices import topics
from kubeedge.devices.core import DesiredChange, Device
from kubeedge.devices.methods import core as methods
from kubeedge.devices.module import DeviceTwins
from kubeedge.errors import Invalid, Unavailable
from kubeedge.kit.tasks import TaskSet
from kubeedge.mqtt.admission import MqttListener
from kubeedge.mqtt.codec import Publish
from kubeedge.mqtt.core import Broker
from kubeedge.mqtt.driver import MqttServer

if TYPE_CHECKING:
    from kubeedge.devices.eventbus.external import ExternalBroker
    from kubeedge.devices.eventbus.logins import MqttLogins
    from kubeedge.devices.methods.driver import DeviceMethods
    from kubeedge.devices.upstream.module import MessageUpstream

_CALLING = 16  # calls of methods by programs at once
_ASKING = 4  # history requests and findings at once; a thread reads the files for each
_GET, _HISTORY, _FOUND = (f"{topics.DEVICES}{asked}" for asked in ("get", "history/get", "found"))
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
        methods: DeviceMethods | None = None,
        upstream: MessageUpstream | None = None,
        logins: MqttLogins | None = None,
        lan: MqttListener | None = None,
        found: TakeFindings | None = None,
    ) -> None:
        """`upstream`: takes messages for the cloud; None: there is nowhere to send them. `logins`: who may do what; None: everyone everything. `lan`:
        where other machines connect. `found` takes what a scan has found, and gives its names once they are on the disk."""
        self.lan_port = 0
        self.port = port  # 0: any; the real one once it is ready
        self._twins = twins
        self._node = node
        self._membership_get = f"{topics.NODE}{node}/membership/get"
        self._address = address
        self._external = external
        self._found = found
        self._logins, self._lan = logins, lan
        self._server: MqttServer | None = None
        if external is None:
            self._server = MqttServer(Broker(), self._received, admit=logins.admit if logins is not None else None)
        self._methods = methods
        if methods is not None:
            methods.publish = self.publish_to_somebody
        self._asking = TaskSet("requests of programs")  # of one run
        twins.listeners.append(self)
        self._upstream = upstream
        if upstream is not None and self._server is not None:
            self._server.ended = upstream.ended
        if upstream is not None and external is not None:
            upstream.topics_changed = lambda: external.subscribe(upstream.topics.rules)

    async def run(self, ready: asyncio.Event) -> None:
        """Serves MQTT until it is cancelled. Raises OSError when the port is taken."""

        def listening(ports: Sequence[int]) -> None:
            self.port, self.lan_port = ports[0], ports[-1]
            ready.set()

        self._asking = TaskSet("requests of programs")
        async with self._asking:
            if self._server is not None:
                await self._serve(self._server, listening)
            elif self._external is not None:
                ready.set()  # pods and twins do not wait for a broker
                await self._external.serve(self._received, self._attached)

    async def _serve(self, server: MqttServer, listening: Callable[[Sequence[int]], None]) -> None:
        listeners = [MqttListener(self._address, self.port), *([self._lan] if self._lan is not None else [])]
        async with asyncio.TaskGroup() as group:
            if (logins := self._logins) is not None:
                await logins.look()
                group.create_task(logins.follow(lambda: server.recheck(logins.still)), name="users of the broker")
            await server.serve(listeners, listening)

    def _attached(self) -> None:
        """What was published while the broker was away is said again, as far as it is still so."""
        for key in list(self._twins.twins.devices):
            self._delta(key)
        self._publish(f"{topics.DEVICES}updated", topics.answer("", self._twins.now(), id=""))

    @property
    def refusals(self) -> int:
        """Logins and messages that were refused, since the start."""
        server, logins = self._server, self._logins
        return (server.refused if server is not None else 0) + (logins.refused if logins is not None else 0)

    # From the cloud

    def publish(self, topic: str, payload: bytes) -> None:
        """A message of a rule, for whoever has subscribed. Raises Unavailable while a broker of somebody else's is away."""
        if self._external is not None and not self._external.is_attached:
            raise Unavailable("the broker is away")
        self._publish(topic, payload)

    def publish_to_somebody(self, topic: str, payload: bytes) -> bool:
        """Like `publish`; False: nobody has subscribed, and the message is gone. What a broker of somebody else's has is not known."""
        self.publish(topic, payload)
        return self._server is None or self._server.broker.is_heard(topic)

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

    def _received(self, message: Publish, client: str) -> asyncio.Future[None] | None:
        if (at := topics.device_topic(message.topic)) is not None:
            try:
                return self._asked(at, message, client)
            except Invalid as exc:
                event = _event(message.payload)
                self._publish(
                    at.topic(f"{at.operation}/result"), topics.failure(event, self._twins.now(), 400, str(exc))
                )
            except KeyError:
                event, why = _event(message.payload), f"this node has no device {'/'.join(at.identifier)[:300]}"
                self._publish(at.topic(f"{at.operation}/result"), topics.failure(event, self._twins.now(), 404, why))
        elif message.topic == self._membership_get:
            self._start(message, client, self._members(message), _ASKING)
        elif message.topic == _GET:
            self._reply(client, message.topic, self._page(message.payload, self._visible(client)))
        elif message.topic == _HISTORY:
            self._start(message, client, self._history(message, client), _ASKING)
        elif self._methods is not None and methods.is_result(message.topic):
            self._methods.answered(message.topic, message.payload)
        elif self._methods is not None and message.topic == methods.ASK:
            self._start(message, client, self._call(message, client, self._methods), _ASKING + _CALLING)
        elif message.topic == _FOUND and self._found is not None:
            self._start(message, client, self._keep_found(message, client, self._found), _ASKING)
        elif self._upstream is not None and self._upstream.topics.has(message.topic):
            packet = message.packet_id if message.qos else 0
            return self._upstream.append(
                message.topic, message.payload, client=client, packet=packet, dup=message.dup, durable=message.qos > 0
            )
        return None

    def _start(self, message: Publish, client: str, answering: Coroutine[Any, Any, None], most: int) -> None:
        if len(self._asking) < most:
            self._asking.start(answering, "request of a program")
            return
        answering.close()
        busy = topics.failure(_event(message.payload), self._twins.now(), 503, "others are asking: try again")
        self._reply(client, message.topic, busy)

    async def _call(self, message: Publish, client: str, calls: DeviceMethods) -> None:
        event = ""
        try:
            event = _event(message.payload)
            asked = methods.request(message.payload)
            key = self._twins.twins.find(asked.identifier)
            if key is not None and key not in self._visible(client):
                raise methods.MethodFailed(404, f"this node has no device {'/'.join(asked.identifier)[:300]}")
            found = await calls.call(asked.identifier, asked.method, asked.body)
            payload = topics.answer(event, self._twins.now(), result=found)
        except Invalid as exc:
            payload = topics.failure(event, self._twins.now(), 400, str(exc))
        except methods.MethodFailed as exc:
            payload = topics.failure(event, self._twins.now(), exc.code, str(exc))
        self._reply(client, methods.ASK, payload)

    def _visible(self, client: str) -> Mapping[NamespacedName, Device]:
        """The devices that the client may know of."""
        rights = self._server.rights(client) if self._server is not None else None
        devices = self._twins.twins.devices
        if rights is None:
            return devices
        has = getattr(rights, "has", None)  # a client that has gone has none
        return {key: device for key, device in devices.items() if has is not None and has(key, device)}

    def _reply(self, client: str, topic: str, payload: bytes) -> None:
        """To who asked, where there are users; as in KubeEdge, to all who listen, where there are none."""
        if self._server is not None and self._logins is not None:
            self._server.publish(f"{topic}/result", payload, only=client)
        else:
            self._publish(f"{topic}/result", payload)

    async def _keep_found(self, message: Publish, client: str, found: TakeFindings) -> None:
        now = self._twins.now()
        try:
            value = topics.event_of(message.payload)
            payload = topics.answer(topics.event_id(value), now, names=await found(value.get("findings")))
        except Invalid as exc:
            payload = topics.failure(_event(message.payload), now, 400, str(exc))
        except Unavailable as exc:
            payload = topics.failure(_event(message.payload), now, 503, str(exc))
        self._reply(client, message.topic, payload)

    async def _history(self, message: Publish, client: str) -> None:
        now = self._twins.now()
        try:
            request = topics.history_request(message.payload)
            key = self._twins.twins.find(request.identifier)
            if key is None or key not in self._visible(client):
                payload = topics.failure(request.event, now, 404, "this node has no such device")
            else:
                values = await self._twins.history(key, request.prop, request.since, request.count)
                payload = topics.history(request, values, now)
        except Invalid as exc:
            payload = topics.failure(_event(message.payload), now, 400, str(exc))
        except OSError as exc:
            payload = topics.failure(_event(message.payload), now, 500, f"its files cannot be read: {exc.strerror}")
        self._reply(client, message.topic, payload)

    async def _members(self, message: Publish) -> None:
        """All devices in one message, as KubeEdge has it; a thousand of them take a tenth of a second, in which others have their turns."""
        found: list[str] = []
        size = 0
        for key in list(self._twins.twins.devices):
            if (device := self._twins.twins.devices.get(key)) is not None:
                found.append(topics.member(key, device))
                size += len(found[-1])
            if size > topics.MAX_MEMBERS:
                break
            await asyncio.sleep(0)
        self._publish(
            f"{message.topic}/result", topics.members(_event(message.payload), self._twins.now(), found, size)
        )

    def _page(self, payload: bytes, devices: Mapping[NamespacedName, Device]) -> bytes:
        now = self._twins.now()
        try:
            return topics.page(devices, topics.devices_request(payload), now)
        except Invalid as exc:
            return topics.failure(_event(payload), now, 400, str(exc))

    def _asked(self, at: topics.TopicAddress, message: Publish, client: str) -> asyncio.Future[None] | None:
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
                event, state, why = topics.state(message.payload)
                future = self._twins.set_state(key, state, why=why, durable=message.qos > 0)
                device = {"name": key[1], "state": state, "lastOnlineTime": self._twins.twins.devices[key].seen}
                answer = topics.answer(event, self._twins.now(), device=device)
                self._publish(at.topic("state/update/result"), answer)
                return future
        return self._updated(key, at, message, client)

    def _updated(
        self, key: NamespacedName, at: topics.TopicAddress, message: Publish, client: str
    ) -> asyncio.Future[None] | None:
        update = topics.update(message.payload)
        device = self._twins.twins.devices[key]
        result = self._hears(at.topic("twin/update/result"))
        document = self._hears(at.topic("twin/update/document"))
        before = topics.twin(device, update.values) if document else None
        refused, future = self._twins.report(
            key, update.values, durable=message.qos > 0, observed=update.observed, times=update.times, source=client
        )
        if result and refused:
            why = "; ".join(f"{name[:128]} {text}" for name, text in list(refused.items())[:8])
            payload = topics.failure(update.event, self._twins.now(), 400, why)
            self._publish(at.topic("twin/update/result"), payload)
        elif result:
            payload = topics.answer(update.event, self._twins.now(), twin=topics.twin(device, update.values))
            self._publish(at.topic("twin/update/result"), payload)
        self._document(key, at, update.event, update.values, before)
        return future

    def reported(self, key: NamespacedName, before: Mapping[str, Any]) -> None:
        """A report has come by another way than a topic. `before`: topics.twin of what it names, as it was."""
        self._document(key, topics.TopicAddress(key, ""), "", before, before)

    def _document(
        self,
        key: NamespacedName,
        at: topics.TopicAddress,
        event: str,
        names: Iterable[str],
        before: Mapping[str, Any] | None,
    ) -> None:
        """What a report has changed. `before`: these twins as they were; None: nobody has subscribed to that."""
        device = self._twins.twins.devices[key]
        if before is not None:
            after = topics.twin(device, names)
            changed = {n: {"last": before[n], "current": after[n]} for n in after if after[n] != before[n]}
            if changed:
                payload = topics.answer(event, self._twins.now(), twin=changed)
                self._publish(at.topic("twin/update/document"), payload)
        if not device.delta().keys().isdisjoint(names):
            self._delta(key)

    def _hears(self, topic: str) -> bool:
        target = self._server or self._external
        assert target is not None
        return target.hears(topic)

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
