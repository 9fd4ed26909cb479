"""For the tests of a mapper: one device of its, without a node or a broker.

    async with SimulatedDevice(mapper, {"target": {"type": "INT", "maximum": "30"}}, config={"host": "127.0.0.1"}) as device:
        assert await device.read("target") == "20"
        await device.write("target", "21")
        await device.sends("target", "21")     # by itself: what `listen` reports

Properties are as in a DeviceModel, with `visitors` as in a Device. Values are texts, as Kubernetes shows them; what the node would refuse
raises Invalid.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from kubeedge.errors import Invalid, Misuse
from kubeedge.mapper.mapper import Mapper
from kubeedge.mapper.methods import AskedMethod, given
from kubeedge.mapper.values import NOTHING, MappedDevice, MappedProperty, mapped


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
        self.reported: dict[str, str] = {}  # property -> what the device has sent by itself, the newest text
        self.errors: dict[str, str] = {}  # property -> what was wrong with what it has sent
        self._mapper = mapper
        self._handlers = mapper.handlers
        self._listening: asyncio.Task[None] | None = None
        self._waiting: list[asyncio.Future[None]] = []
        protocol = {"protocolName": mapper.protocol, "configData": config or {}}
        self.device: MappedDevice = mapped({"id": id, "protocol": protocol, "properties": properties})[0]
        self._client: Any = None

    async def __aenter__(self) -> SimulatedDevice:
        if self._handlers.connect is not None:
            self._client = await self._handlers.call(self._handlers.connect, self.device)
        if self._handlers.listen is not None:
            self._mapper.simulate(self.device.id, self._take)
            self._listening = asyncio.create_task(self._handlers.listen(self._client), name="simulated device")
            self._listening.add_done_callback(lambda _: self._tell())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._mapper.simulate(self.device.id, None)
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        await self._handlers.end(self._client)

    def _take(self, values: Mapping[str, Any]) -> None:
        wrong = []
        for name, value in values.items():
            try:
                if isinstance(value, Exception):
                    raise Invalid(str(value)) from value
                self.reported[name] = self._property(name).text(value)
                self.errors.pop(name, None)
            except (Invalid, Misuse) as exc:
                self.errors[name] = str(exc)
                wrong.append(str(exc))
        self._tell()
        if wrong:
            raise Invalid("; ".join(wrong))

    def _tell(self) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting.clear()

    async def sends(self, name: str, text: str, *, within: float = 60.0) -> None:
        """Returns when the device has sent that value by itself. Raises TimeoutError, and what `listen` raised."""
        async with asyncio.timeout(within):
            while self.reported.get(name) != text:
                if self._listening is None:
                    raise Misuse("this mapper does not listen")
                if self._listening.done():
                    self._listening.result()
                    raise EOFError("the mapper listens no more")
                future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._waiting.append(future)
                await future

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
        if value is NOTHING:
            raise prop.invalid("has no value to be read")
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
