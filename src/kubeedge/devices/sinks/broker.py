"""Values to an MQTT broker elsewhere: JSON, acknowledged."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence

from kubeedge.devices.sinks import formats
from kubeedge.devices.sinks.core import Destination, PushedValue
from kubeedge.devices.sinks.sender import SenderSettings, connected
from kubeedge.mqtt.client import MqttClient

_AT_ONCE = 32  # messages that are on their way


class BrokerSender:
    """One session; QoS 2 is sent as QoS 1, with the id of each message in it."""

    def __init__(self, destination: Destination, settings: SenderSettings) -> None:
        self._destination, self._settings = destination, settings
        self._client: MqttClient | None = None
        self._serving: asyncio.Task[None] | None = None

    async def deliver(self, values: Sequence[PushedValue], taken: list[PushedValue]) -> None:
        """With QoS 0 a value counts as taken when it is written."""
        try:
            async with asyncio.timeout(self._destination.timeout):
                client = await self._connected()
                for start in range(0, len(values), _AT_ONCE):
                    some = values[start : start + _AT_ONCE]
                    await asyncio.gather(*(self._publish(client, value) for value in some))
                    taken.extend(some)
        except BaseException:
            await self.close()
            raise

    async def _publish(self, client: MqttClient, value: PushedValue) -> None:
        settings = self._destination.settings
        payload = json.dumps(formats.model(self._settings.queue, value), ensure_ascii=False).encode("utf-8", "replace")
        qos = min(int(settings["qos"]), 1)
        await client.publish(str(settings["topic"]), payload, qos=qos, retain=bool(settings["retained"]))

    async def _connected(self) -> MqttClient:
        if self._client is None or self._client.has_ended:
            await self.close()
            own = await self._settings.credentials(self._destination)
            streams = await connected(self._destination, own)
            login = (own.user, own.password or own.token) if own.user else None
            self._client = await MqttClient.welcomed(
                *streams, f"kubeedge-{self._settings.queue}", lambda message: None, login
            )
            self._serving = asyncio.create_task(self._serve(self._client), name="mqtt destination")
        return self._client

    async def _serve(self, client: MqttClient) -> None:
        with contextlib.suppress(Exception):  # whoever publishes hears of it
            await client.serve()

    async def close(self) -> None:
        """Cuts the connection, if there is one."""
        client, self._client = self._client, None
        serving, self._serving = self._serving, None
        if serving is not None:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
        if client is not None:
            await client.close()
