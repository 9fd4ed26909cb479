"""The attributes of one device that is connected through a controller of ours."""

from __future__ import annotations

import struct

from kubeedge.errors import PeerError
from kubeedge.mapper.ble import att, uuids
from kubeedge.mapper.ble.att import AttRefusal, BleCharacteristic, BleService
from kubeedge.mapper.ble.host import LeConnection

_MAX_SERVICES, _MAX_CHARACTERISTICS = 64, 256
_CONFIGURATION = uuids.uuid_of(att.CONFIGURATION)


class GattClient:
    """`characteristics` are those of `discover`, by UUID in the device's order."""

    def __init__(self, connection: LeConnection) -> None:
        self.connection = connection
        self.characteristics: list[BleCharacteristic] = []

    async def discover(self) -> None:
        """Looks for services and characteristics. Raises OSError and PeerError."""
        found: list[BleCharacteristic] = []
        for service in await self._services():
            mine = await self._characteristics(service)
            ends = [one.handle - 2 for one in mine[1:]] + [service.last]  # before the declaration of the next one
            for one, end in zip(mine, ends, strict=False):
                last = max(end, one.handle)
                found.append(BleCharacteristic(one.uuid, one.service, one.properties, one.handle, last))
            if len(found) > _MAX_CHARACTERISTICS:
                raise PeerError(f"the device has more than {_MAX_CHARACTERISTICS} characteristics")
        self.characteristics = found

    async def _services(self) -> list[BleService]:
        found: list[BleService] = []
        first = 1
        while first <= 0xFFFF:
            try:
                part = att.services_of(await self.connection.ask(att.by_group(first)), first)
            except AttRefusal as exc:
                if exc.is_end:
                    break
                raise PeerError(f"services: {exc}") from exc
            found += part
            first = part[-1].last + 1
            if len(found) > _MAX_SERVICES:
                raise PeerError(f"the device has more than {_MAX_SERVICES} services")
        return found

    async def _characteristics(self, service: BleService) -> list[BleCharacteristic]:
        found: list[BleCharacteristic] = []
        first = service.first
        while first < service.last:
            try:
                answer = await self.connection.ask(att.by_type(first, service.last))
            except AttRefusal as exc:
                if exc.is_end:
                    break
                raise PeerError(f"characteristics: {exc}") from exc
            part = att.characteristics_of(answer, service, first)
            found += part
            first = part[-1].handle  # the next declaration is behind it
            if len(found) > _MAX_CHARACTERISTICS:
                raise PeerError(f"the device has more than {_MAX_CHARACTERISTICS} characteristics")
        return found

    async def read(self, one: BleCharacteristic) -> bytes:
        """Its value, as many requests as that takes. Raises AttRefusal, OSError, PeerError."""
        value = await self.connection.ask(att.read(one.handle))
        part = value
        while len(part) == self.connection.mtu - 1 and len(value) < att.MAX_VALUE:
            try:
                part = await self.connection.ask(att.read(one.handle, len(value)))
            except AttRefusal as exc:
                if exc.is_of_length:
                    break
                raise
            value += part
        return value[: att.MAX_VALUE]

    async def write(self, one: BleCharacteristic, value: bytes) -> None:
        """Answered, where the characteristic can be. Raises AttRefusal, also for a value that is too long for one request, OSError, PeerError."""
        if len(value) > self.connection.mtu - 3:
            raise AttRefusal(0x0D)
        if one.properties & 0x08 or not one.properties & 0x04:
            await self.connection.ask(att.write(one.handle, value))
        else:
            await self.connection.tell(att.write(one.handle, value, is_answered=False))

    async def subscribe(self, one: BleCharacteristic) -> None:
        """From here on its values come by themselves. Raises AttRefusal when it sends none, OSError, PeerError."""
        first = one.handle + 1
        while one.sends and first <= one.last:
            try:
                part = att.descriptors_of(await self.connection.ask(att.find(first, one.last)), first)
            except AttRefusal as exc:
                if exc.is_end:
                    break
                raise
            for handle, uuid in part:
                if uuid == _CONFIGURATION:
                    await self.connection.ask(att.write(handle, struct.pack("<H", one.sends)))
                    return
            first = part[-1][0] + 1
        raise AttRefusal(0x06)
