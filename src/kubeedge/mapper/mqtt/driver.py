"""A device's connection to its broker, through aiomqtt, and the handlers of its mapper."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

import aiomqtt

from kubeedge.errors import Invalid, PeerError
from kubeedge.mapper.mapper import Mapper
from kubeedge.mapper.mqtt import core
from kubeedge.mapper.values import MappedDevice, MappedProperty, TypedValue

if TYPE_CHECKING:
    import ssl

log = logging.getLogger("kubeedge.mapper")

_MAX_MESSAGE = 256 * 1024  # bytes of a message that are looked at
_WAITING = 256  # messages that have not been looked at; newer ones are left out
_ANSWER = 10.0  # seconds that the broker has


class MqttDeviceClient:
    """The topics of one device, at its broker. `wrong`: what is wrong with properties that have none."""

    def __init__(
        self,
        device: MappedDevice,
        client: aiomqtt.Client,
        topics: dict[str, list[MappedProperty]],
        wrong: dict[str, Invalid],
    ) -> None:
        self.device = device
        self._client = client
        self._topics = topics
        self._wrong = wrong

    @staticmethod
    async def open(device: MappedDevice) -> MqttDeviceClient:
        """Connected and subscribed. Raises Invalid for a device that names no broker, OSError and PeerError for a broker that is away or
        refuses."""
        address, topics, wrong = core.address_of(device), dict[str, list[MappedProperty]](), dict[str, Invalid]()
        for prop in device.properties.values():
            try:
                if topic := core.topic_of(prop):
                    topics.setdefault(topic, []).append(prop)
            except Invalid as exc:
                wrong[prop.name] = exc
        client = aiomqtt.Client(
            address.host,
            address.port,
            username=address.user or None,
            password=address.password or None,
            tls_context=await asyncio.to_thread(_context, address.ca_file) if address.is_tls else None,
            timeout=_ANSWER,
            max_queued_incoming_messages=_WAITING,
        )
        try:
            await client.__aenter__()
        except aiomqtt.MqttError as exc:
            raise ConnectionRefusedError(f"broker {address.host}:{address.port}: {exc}") from exc
        found = MqttDeviceClient(device, client, topics, wrong)
        try:
            codes = await client.subscribe([(topic, 1) for topic in topics]) if topics else ()
        except aiomqtt.MqttError as exc:
            await found.aclose()
            raise ConnectionResetError(str(exc)) from exc
        if any((code if isinstance(code, int) else code.value) >= 0x80 for code in codes):
            await found.aclose()
            raise PeerError("the broker refuses the device's topics to this user")
        return found

    async def listen(self, mapper: Mapper) -> None:
        """Reports what is published. Raises ConnectionError when the connection ends."""
        report = mapper.reporter(self.device)  # the Device says what is wrong with a value
        if self._wrong:
            report(dict(self._wrong))
        try:
            async for message in self._client.messages:
                if not isinstance(message.payload, bytes) or len(message.payload) > _MAX_MESSAGE:
                    continue
                for topic, props in self._topics.items():
                    if message.topic.matches(topic):
                        report(core.values_of(message.payload, props))
        except aiomqtt.MqttError as exc:
            raise ConnectionResetError(str(exc)) from exc

    async def write(self, prop: MappedProperty, value: TypedValue) -> None:
        """Returns when the broker has it. Raises Invalid, ConnectionError."""
        message = core.writing(prop, value)
        try:
            await self._client.publish(message.topic, message.payload, qos=1, retain=message.retain)
        except aiomqtt.MqttError as exc:
            raise ConnectionResetError(str(exc)) from exc

    async def aclose(self) -> None:
        """Leaves the broker, which may be away."""
        with contextlib.suppress(aiomqtt.MqttError):
            await self._client.__aexit__(None, None, None)


def _context(ca_file: str) -> ssl.SSLContext:
    import ssl

    return ssl.create_default_context(cafile=ca_file or None)


def mqtt_mapper() -> Mapper:
    """The mapper of MQTT devices; what a Device says is in core.py."""
    mapper = Mapper("mqtt", timeout=30.0)

    @mapper.connect
    async def connect(device: MappedDevice) -> MqttDeviceClient:
        return await MqttDeviceClient.open(device)

    @mapper.listen
    async def listen(client: MqttDeviceClient) -> None:
        await client.listen(mapper)

    @mapper.write
    async def write(client: MqttDeviceClient, prop: MappedProperty, value: TypedValue) -> None:
        await client.write(prop, value)

    return mapper
