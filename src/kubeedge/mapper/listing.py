"""The devices of a node, asked for page by page over its broker (`$ke/events/devices/get`)."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

from kubeedge.errors import PeerError
from kubeedge.mqtt.client import MqttClient

DEVICES = "$ke/events/devices/"
RESULT = f"{DEVICES}get/result"
_ANSWER = 15.0  # seconds that the node has for a page
_MAX_PAGES = 1000


class DeviceListing:
    """Whoever uses it is subscribed to RESULT, and hands what comes there to `answered`. `protocol` "": of any."""

    def __init__(self, protocol: str = "") -> None:
        self._protocol = protocol
        self._asked: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._number = 0

    @property
    def is_under_way(self) -> bool:
        """What comes now may be newer than what is listed."""
        return bool(self._asked)

    def answered(self, value: dict[str, Any]) -> None:
        """A message of RESULT; it may be the answer to somebody else."""
        future = self._asked.get(str(value.get("event_id")))
        if future is None or future.done():
            return
        if "reason" in value:
            future.set_exception(PeerError(f"the node does not tell its devices: {value['reason']}"))
        else:
            future.set_result(value)

    async def all(self, client: MqttClient) -> list[dict[str, Any]]:
        """The devices as kubeedge.devices.topics describes them, in the order of their ids. Raises OSError, TimeoutError included, and
        PeerError."""
        found: list[dict[str, Any]] = []
        after = ""
        for _ in range(_MAX_PAGES):
            page = await self._page(client, after)
            items, before = page.get("devices"), after
            after = page.get("continue") or ""
            if not isinstance(items, list) or not isinstance(after, str) or (after and after <= before):
                raise PeerError("the node's answer is no page of devices")
            found += items
            if not after:
                return found
        raise PeerError(f"the node has more than {_MAX_PAGES} pages of devices")

    async def _page(self, client: MqttClient, after: str) -> dict[str, Any]:
        self._number += 1
        event = f"{os.getpid()}-{id(self)}-{self._number}"
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._asked[event] = future
        try:
            request = {"event_id": event, "protocol": self._protocol, "continue": after}
            async with asyncio.timeout(_ANSWER):
                await client.publish(f"{DEVICES}get", json.dumps(request).encode())
                return await future
        finally:
            del self._asked[event]
