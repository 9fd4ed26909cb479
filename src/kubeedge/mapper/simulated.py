"""For the tests of a mapper: one device of its, without a node or a broker.

    async with SimulatedDevice(mapper, {"target": {"type": "INT", "maximum": "30"}}, config={"host": "127.0.0.1"}) as device:
        assert await device.read("target") == "20"
        await device.write("target", "21")

Properties are as in a DeviceModel, with `visitors` as in a Device. Values are texts, as Kubernetes shows them; what the node would refuse
raises Invalid.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from kubeedge.errors import Misuse
from kubeedge.mapper.mapper import Mapper
from kubeedge.mapper.methods import AskedMethod, given
from kubeedge.mapper.values import MappedDevice, MappedProperty, mapped


class SimulatedDevice:
    """Calls the handlers of a mapper as a node would have them called."""

    def __init__(
        self,
        mapper: Mapper,
        properties: Mapping[str, Mapping[str, Any]],
        *,
        config: Mapping[str, Any] | None = None,
        id: str = "default/simulated",
    ) -> None:
        self._handlers = mapper.handlers
        protocol = {"protocolName": mapper.protocol, "configData": config or {}}
        self.device: MappedDevice = mapped({"id": id, "protocol": protocol, "properties": properties})[0]
        self._client: Any = None

    async def __aenter__(self) -> SimulatedDevice:
        if self._handlers.connect is not None:
            self._client = await self._handlers.call(self._handlers.connect, self.device)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._handlers.end(self._client)

    async def read(self, name: str) -> str:
        """The text that the node would get. Raises what the handler raises, and Invalid for a value of another type or out of range."""
        prop = self._property(name)
        if self._handlers.read_many is not None:
            value = (await self._handlers.call(self._handlers.read_many, self._client, [prop])).get(name)
            if isinstance(value, Exception):
                raise value
        elif self._handlers.read is not None:
            value = await self._handlers.call(self._handlers.read, self._client, prop)
        else:
            raise Misuse("this mapper reads nothing: its devices send their values")
        text = prop.text(value)
        if why := prop.refusal(text):
            raise prop.invalid(f"{text[:40]!r} {why}")
        return text

    async def write(self, name: str, text: str) -> None:
        """Raises what the handler raises, and Invalid for a text that is no value of the property, or may not be written."""
        prop = self._property(name)
        if not prop.writable or self._handlers.write is None:
            raise prop.invalid("is read-only")
        await self._handlers.call(self._handlers.write, self._client, prop, prop.typed(text))

    async def call(self, method: str, **arguments: str) -> Any:
        """What a method gives. Raises what its handler raises, and Invalid for texts that are no values of their properties."""
        call = AskedMethod(self.device.id, "simulated", method, arguments, 0)
        return json.loads(given(call, await self._handlers.perform(self._client, self.device, call)))["result"]

    def _property(self, name: str) -> MappedProperty:
        if name not in self.device.properties:
            raise self.device.invalid(f"property {name} is not in its DeviceModel")
        return self.device.properties[name]
