"""The handlers of the mapper of Bluetooth Low Energy devices."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from kubeedge.errors import Invalid, NotFound
from kubeedge.mapper.ble import core
from kubeedge.mapper.ble.bluez import Bluez
from kubeedge.mapper.ble.controllers import Controllers
from kubeedge.mapper.ble.core import BleAddress, BlePlace
from kubeedge.mapper.ble.gatt import GattClient
from kubeedge.mapper.ble.peers import BlePeer, HciPeer
from kubeedge.mapper.dbus.bus import has_system_bus
from kubeedge.mapper.mapper import Mapper
from kubeedge.mapper.values import MappedDevice, MappedProperty, TypedValue

_Give: TypeAlias = Callable[[], Awaitable[None]]


class BleClient:
    """A device that is connected. `give`: is called at its end."""

    def __init__(self, device: MappedDevice, peer: BlePeer, give: _Give) -> None:
        self.device = device
        self._peer = peer
        self._give = give
        self._pushed: dict[BlePlace, list[MappedProperty]] = {}

    async def read(self, props: Sequence[MappedProperty]) -> dict[str, Any]:
        """Property -> value, or the exception that came instead: a characteristic is read once for all that it has. Raises OSError and PeerError."""
        found: dict[str, Any] = {}
        values: dict[BlePlace, bytes | Invalid] = {}
        for prop in props:
            try:
                if (place := core.place_of(prop)) is None:
                    found[prop.name] = await self._peer.is_paired()
                    continue
                if place not in values:
                    values[place] = await self._value(place)
                found[prop.name] = _value(prop, values[place])
            except Invalid as exc:
                found[prop.name] = exc
        return found

    async def _value(self, place: BlePlace) -> bytes | Invalid:
        try:
            return await self._peer.read(place)
        except Invalid as exc:
            return exc

    async def write(self, prop: MappedProperty, value: TypedValue) -> None:
        """Raises Invalid for what cannot be written or is refused, OSError and PeerError."""
        if (place := core.place_of(prop)) is None:
            raise prop.invalid("is what the machine knows, and cannot be set")
        try:
            await self._peer.write(place, core.bytes_of(prop, value))
        except Invalid as exc:
            raise prop.invalid(str(exc)) from exc

    async def listen(self, mapper: Mapper) -> None:
        """Reports what the device sends by itself, beginning with what it is now. Raises OSError and PeerError."""
        for prop in self.device.properties.values():
            if prop.is_pushed:
                await self._subscribe(mapper, prop)
        while True:
            for place, data in (await self._peer.pushed()).items():
                for prop in self._pushed.get(place, ()):
                    self._report(mapper, prop, data)

    async def _subscribe(self, mapper: Mapper, prop: MappedProperty) -> None:
        now: bytes | Invalid | None
        try:
            place = core.place_of(prop)
            assert place is not None
            now = await self._peer.subscribe(place)
            self._pushed.setdefault(place, []).append(prop)
        except Invalid as exc:
            now = exc
        if now is not None:
            self._report(mapper, prop, now)

    def _report(self, mapper: Mapper, prop: MappedProperty, data: bytes | Invalid) -> None:
        try:
            value: Any = _value(prop, data)
        except Invalid as exc:
            value = exc
        with contextlib.suppress(Invalid, NotFound):  # the Device says what is wrong with it
            mapper.report(self.device, {prop.name: value})

    async def aclose(self) -> None:
        """Ends the connection, and gives back what it was made through."""
        try:
            await self._peer.aclose()
        finally:
            await self._give()


def _value(prop: MappedProperty, data: bytes | Invalid) -> TypedValue:
    if isinstance(data, Invalid):
        raise prop.invalid(str(data))
    return core.value_of(prop, data)


async def _no() -> None:
    """Nothing is given back."""


async def _through_controller(controllers: Controllers, where: BleAddress) -> tuple[BlePeer, _Give]:
    host = await controllers.take(where.adapter)
    connection = None
    try:
        connection = await host.connect(where.address, where.is_random, where.timeout)
        gatt = GattClient(connection)
        await gatt.discover()
    except BaseException:
        if connection is not None:
            await connection.aclose()
        await controllers.give_back(where.adapter, host)
        raise
    return HciPeer(gatt), lambda: controllers.give_back(where.adapter, host)


def ble_mapper() -> Mapper:
    """The mapper of Bluetooth Low Energy; what a Device says is in core.py."""
    mapper = Mapper("ble", timeout=120.0)
    controllers = Controllers()
    bluez = Bluez()

    @mapper.connect
    async def connect(device: MappedDevice) -> BleClient:
        where = core.address_of(device)
        if where.adapter.startswith("hci") and has_system_bus():
            return BleClient(device, await bluez.connect(where), _no)
        return BleClient(device, *await _through_controller(controllers, where))

    @mapper.read_many
    async def read_many(client: BleClient, props: Sequence[MappedProperty]) -> dict[str, Any]:
        return await client.read(props)

    @mapper.write
    async def write(client: BleClient, prop: MappedProperty, value: TypedValue) -> None:
        await client.write(prop, value)

    @mapper.listen
    async def listen(client: BleClient) -> None:
        await client.listen(mapper)

    return mapper
