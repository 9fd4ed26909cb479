"""A device that is connected, however that is: what the mapper reads and writes."""

from __future__ import annotations

from typing import Protocol

from kubeedge.errors import Invalid
from kubeedge.mapper.ble.att import BleCharacteristic
from kubeedge.mapper.ble.core import BlePlace
from kubeedge.mapper.ble.gatt import GattClient


class BlePeer(Protocol):
    """What it raises: Invalid for what the device has not or refuses, OSError and PeerError when the connection is of no use."""

    async def is_paired(self) -> bool:
        """The device and this machine have keys for each other."""
        ...

    async def read(self, place: BlePlace) -> bytes:
        """The value of a characteristic."""
        ...

    async def write(self, place: BlePlace, value: bytes) -> None:
        """Sets the value of a characteristic."""
        ...

    async def subscribe(self, place: BlePlace) -> bytes | None:
        """From here on it comes by itself. What it is now; None: it cannot be read."""
        ...

    async def pushed(self) -> dict[BlePlace, bytes]:
        """What has come by itself since the last call, the newest of each. Waits for one."""
        ...

    async def aclose(self) -> None:
        """Ends the connection to the device."""
        ...


class HciPeer:
    """A device behind a controller of ours."""

    def __init__(self, gatt: GattClient) -> None:
        self._gatt = gatt
        self._subscribed: dict[int, list[BlePlace]] = {}

    async def is_paired(self) -> bool:
        return False  # pairing needs BlueZ

    async def read(self, place: BlePlace) -> bytes:
        return await self._gatt.read(self._one(place))

    async def write(self, place: BlePlace, value: bytes) -> None:
        await self._gatt.write(self._one(place), value)

    async def subscribe(self, place: BlePlace) -> bytes | None:
        one = self._one(place)
        self._subscribed.setdefault(one.handle, []).append(place)
        await self._gatt.subscribe(one)
        return await self._gatt.read(one) if one.is_readable else None

    async def pushed(self) -> dict[BlePlace, bytes]:
        found = await self._gatt.connection.pushed()
        return {place: value for handle, value in found.items() for place in self._subscribed.get(handle, ())}

    async def aclose(self) -> None:
        await self._gatt.connection.aclose()

    def _one(self, place: BlePlace) -> BleCharacteristic:
        for one in self._gatt.characteristics:
            if one.uuid == place.characteristic and place.service in ("", one.service):
                return one
        raise Invalid(f"the device has no characteristic {place.characteristic}")
