"""Devices through BlueZ, which has the adapters of the machine and the keys of paired devices (org.bluez: Adapter1, Device1, GattCharacteristic1)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import Any

from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass
from kubeedge.mapper.ble.core import BleAddress, BlePlace
from kubeedge.mapper.dbus.bus import DbusConnection, DbusFailure
from kubeedge.mapper.dbus.codec import DbusMessage, DbusVariant

log = logging.getLogger("kubeedge.mapper.ble")

_BLUEZ, _BUS = "org.bluez", "org.freedesktop.DBus"
_PROPERTIES, _MANAGER = "org.freedesktop.DBus.Properties", "org.freedesktop.DBus.ObjectManager"
_ADAPTER, _DEVICE, _CHARACTERISTIC, _SERVICE = (
    f"{_BLUEZ}.{name}" for name in ("Adapter1", "Device1", "GattCharacteristic1", "GattService1")
)
_MAX_OBJECTS = 4096  # of BlueZ: adapters, devices that were heard, services, characteristics
_MAX_PUSHED = 64  # characteristics whose newest value waits to be taken
_MAX_FOUND = 256  # devices of a scan
_PAIRING = ("NotPermitted", "NotAuthorized", "AuthenticationFailed", "AuthenticationRejected")


@dataclass(frozen=True, slots=True)
class FoundDevice:
    """A device that was heard. `rssi` in dBm, 0 where it is not known."""

    address: str
    is_random: bool
    name: str
    rssi: int
    uuids: tuple[str, ...]


class Bluez:
    """One connection to the bus for all devices of a mapper: what BlueZ has, kept up to date by its signals."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, dict[str, Any]]] = {}
        self._bus: DbusConnection | None = None
        self._changed = asyncio.Event()
        self._peers: set[BluezPeer] = set()
        self._users = 0
        self._owner = ""  # BlueZ's own name: anybody may send us signals
        self._turn, self._looking = asyncio.Lock(), asyncio.Lock()

    async def open(self) -> DbusConnection:
        """The connection, made when there is none. Raises OSError and PeerError, also when there is no BlueZ."""
        async with self._turn:
            if self._bus is not None and not self._bus.lost:
                return self._bus
            if self._bus is not None:
                await self._bus.aclose()
            self._bus = None
            bus = await DbusConnection.open(self._hear)
            try:
                for interface in (_PROPERTIES, _MANAGER):
                    await bus.add_match(f"type='signal',sender='{_BLUEZ}',interface='{interface}'")
                await bus.add_match(f"type='signal',sender='{_BUS}',member='NameOwnerChanged',arg0='{_BLUEZ}'")
                (self._owner,) = await bus.call(_BUS, "/org/freedesktop/DBus", _BUS, "GetNameOwner", "s", (_BLUEZ,))
                (found,) = await bus.call(_BLUEZ, "/", _MANAGER, "GetManagedObjects")
            except DbusFailure as exc:
                await bus.aclose()
                raise ConnectionRefusedError(f"BlueZ does not run: {exc}") from exc
            except BaseException:
                await bus.aclose()
                raise
            self.objects = {path: {name: dict(values) for name, values in one.items()} for path, one in found.items()}
            self._bus = bus
            return bus

    async def aclose(self) -> None:
        """Ends the connection to the bus; the next user makes another one."""
        bus, self._bus = self._bus, None
        if bus is not None:
            await bus.aclose()

    async def connect(self, where: BleAddress) -> BluezPeer:
        """A device whose services are known. Raises Invalid for an adapter that there is not, OSError and PeerError; a device that is not there is
        waited for `where.timeout` seconds."""
        self._users += 1
        try:
            return await self._connect(where, await self.open())
        except BaseException:
            await self.give_back()
            raise

    async def give_back(self) -> None:
        """One user less: the last one ends the connection to the bus."""
        self._users -= 1
        if not self._users:
            await self.aclose()

    async def _connect(self, where: BleAddress, bus: DbusConnection) -> BluezPeer:
        adapter = f"/org/bluez/{where.adapter}"
        if _ADAPTER not in self.objects.get(adapter, {}):
            raise Invalid(f"this machine has no adapter {where.adapter}")
        async with asyncio.timeout(where.timeout * 2):
            path = self._path_of(where)
            if path is None:
                path = await self._look_for(bus, adapter, where)
            peer = BluezPeer(self, bus, path, where)
            self._peers.add(peer)
            try:
                await bus.call(_BLUEZ, path, _DEVICE, "Connect")
                while not self._value(path, _DEVICE, "ServicesResolved"):
                    await self._next(bus)
            except DbusFailure as exc:
                self._peers.discard(peer)
                raise ConnectionRefusedError(f"{where.address}: {exc}") from exc
            except BaseException:
                self._peers.discard(peer)
                await peer.disconnect()
                raise
        return peer

    async def scan(self, adapter: str, seconds: float) -> list[FoundDevice]:
        """Devices of Low Energy that are heard within this time, or were just before. Raises Invalid, OSError, PeerError."""
        bus = await self.open()
        path = f"/org/bluez/{adapter}"
        if _ADAPTER not in self.objects.get(path, {}):
            raise Invalid(f"this machine has no adapter {adapter}")
        async with self._looking, self._discovery(bus, path):
            await asyncio.sleep(seconds)
        found: list[FoundDevice] = []
        for name, one in self.objects.items():
            values = one.get(_DEVICE)
            if values and name.startswith(f"{path}/") and "RSSI" in values and len(found) < _MAX_FOUND:
                found.append(_found(values))
        return found

    @contextlib.asynccontextmanager
    async def _discovery(self, bus: DbusConnection, adapter: str) -> Any:
        await bus.call(
            _BLUEZ, adapter, _ADAPTER, "SetDiscoveryFilter", "a{sv}", ({"Transport": DbusVariant("s", "le")},)
        )
        await bus.call(_BLUEZ, adapter, _ADAPTER, "StartDiscovery")
        try:
            yield
        finally:
            with contextlib.suppress(Invalid, OSError):
                await bus.call(_BLUEZ, adapter, _ADAPTER, "StopDiscovery")

    async def _look_for(self, bus: DbusConnection, adapter: str, where: BleAddress) -> str:
        async with self._looking:
            try:
                async with self._discovery(bus, adapter), asyncio.timeout(where.timeout):
                    while (path := self._path_of(where)) is None:
                        await self._next(bus)
                return path
            except TimeoutError as exc:
                raise TimeoutError(f"{where.address} was not heard") from exc
            except DbusFailure as exc:
                raise ConnectionRefusedError(f"adapter {where.adapter}: {exc}") from exc

    def _path_of(self, where: BleAddress) -> str | None:
        for path, one in self.objects.items():
            values = one.get(_DEVICE)
            if values and values.get("Address") == where.address and path.startswith(f"/org/bluez/{where.adapter}/"):
                return path
        return None

    def _value(self, path: str, interface: str, name: str) -> Any:
        return self.objects.get(path, {}).get(interface, {}).get(name)

    async def _next(self, bus: DbusConnection) -> None:
        if bus.lost:
            raise ConnectionResetError(bus.lost)
        self._changed.clear()
        await self._changed.wait()

    def characteristic(self, device: str, place: BlePlace) -> str:
        """The path of a characteristic. Raises Invalid."""
        for path, one in self.objects.items():
            values = one.get(_CHARACTERISTIC)
            if values is None or not path.startswith(f"{device}/") or values.get("UUID") != place.characteristic:
                continue
            if place.service in ("", self._value(str(values.get("Service")), _SERVICE, "UUID")):
                return path
        raise Invalid(f"the device has no characteristic {place.characteristic}")

    def _hear(self, message: DbusMessage) -> None:
        """A signal; what it should not be is left alone."""
        if message.kind and message.sender != (_BUS if message.member == "NameOwnerChanged" else self._owner):
            return
        match message.member, message.body:
            case "PropertiesChanged", (str(interface), dict(values), list(gone)):
                known = self.objects.get(message.path, {}).get(interface)
                if known is not None:
                    known |= values
                    for name in gone:
                        known.pop(name, None)
                for peer in list(self._peers):
                    peer.changed(message.path, interface, values)
            case "InterfacesAdded", (str(path), dict(interfaces)):
                if path in self.objects or len(self.objects) < _MAX_OBJECTS:
                    self.objects.setdefault(path, {}).update(
                        {name: dict(values) for name, values in interfaces.items()}
                    )
            case "InterfacesRemoved", (str(path), list(interfaces)):
                for name in interfaces:
                    self.objects.get(path, {}).pop(name, None)
                if not self.objects.get(path):
                    self.objects.pop(path, None)
                    for peer in list(self._peers):
                        peer.removed(path)
            case "NameOwnerChanged", (_, _, ""):
                self.objects.clear()
                for peer in list(self._peers):
                    peer.end("BlueZ has ended")
                if self._bus is not None:
                    self._bus.lost = "BlueZ has ended"
            case "", _:
                for peer in list(self._peers):
                    peer.end("the bus of this machine has gone")
        self._changed.set()

    def forget(self, peer: BluezPeer) -> None:
        """A device that has ended hears of nothing any more."""
        self._peers.discard(peer)


class BluezPeer:
    """A device that BlueZ is connected to; see BlePeer."""

    def __init__(self, bluez: Bluez, bus: DbusConnection, path: str, where: BleAddress) -> None:
        self._bluez, self._bus = bluez, bus
        self._path, self._where = path, where
        self._subscribed: dict[str, list[BlePlace]] = {}
        self._pushed: dict[str, bytes] = {}
        self._wake = asyncio.Event()
        self._lost = ""

    async def is_paired(self) -> bool:
        return self._bluez.objects.get(self._path, {}).get(_DEVICE, {}).get("Paired") is True

    async def read(self, place: BlePlace) -> bytes:
        found = await self._call(self._bluez.characteristic(self._path, place), "ReadValue", "a{sv}", ({},))
        if len(found) != 1 or not isinstance(found[0], bytes):
            raise Invalid("BlueZ answers with something else than a value")
        return found[0]

    async def write(self, place: BlePlace, value: bytes) -> None:
        await self._call(self._bluez.characteristic(self._path, place), "WriteValue", "aya{sv}", (value, {}))

    async def subscribe(self, place: BlePlace) -> bytes | None:
        path = self._bluez.characteristic(self._path, place)
        if path not in self._subscribed:
            self._subscribed[path] = []  # from here on what comes is kept
            try:
                await self._call(path, "StartNotify")
            except BaseException:
                del self._subscribed[path]  # the next property with this characteristic has to hear of it, too
                raise
        self._subscribed[path].append(place)
        flags = self._bluez.objects[path][_CHARACTERISTIC].get("Flags")
        return await self.read(place) if isinstance(flags, list) and "read" in flags else None

    async def pushed(self) -> dict[BlePlace, bytes]:
        while not self._pushed:
            if self._lost:
                raise ConnectionResetError(self._lost)
            self._wake.clear()
            await self._wake.wait()
        found, self._pushed = self._pushed, {}
        return {place: value for path, value in found.items() for place in self._subscribed.get(path, ())}

    async def aclose(self) -> None:
        self._bluez.forget(self)
        try:
            if not self._lost:
                self.end("ended here")
                await self.disconnect()
        finally:
            await self._bluez.give_back()

    async def disconnect(self) -> None:
        """Has BlueZ end the connection, as well as it can."""
        with contextlib.suppress(Invalid, OSError):
            async with asyncio.timeout(self._where.timeout):
                await self._bus.call(_BLUEZ, self._path, _DEVICE, "Disconnect")

    def changed(self, path: str, interface: str, values: Mapping[str, Any]) -> None:
        """BlueZ says that something has another value."""
        if path == self._path and interface == _DEVICE and values.get("Connected") is False:
            self.end("the device has ended the connection, or does not answer any more")
        elif path in self._subscribed and isinstance(value := values.get("Value"), bytes):
            if path in self._pushed or len(self._pushed) < _MAX_PUSHED:
                self._pushed[path] = value
                self._wake.set()

    def removed(self, path: str) -> None:
        """BlueZ has an object no more."""
        if path == self._path:
            self.end("BlueZ knows the device no more")

    def end(self, why: str) -> None:
        """The connection has ended."""
        self._lost = self._lost or why
        self._wake.set()

    async def _call(self, path: str, member: str, signature: str = "", body: tuple[Any, ...] = ()) -> Any:
        if self._lost:
            raise ConnectionResetError(self._lost)
        try:
            async with asyncio.timeout(self._where.timeout):
                return await self._bus.call(_BLUEZ, path, _CHARACTERISTIC, member, signature, body)
        except DbusFailure as exc:
            if exc.name.rpartition(".")[2] == "NotConnected":
                raise ConnectionResetError("the device is not connected any more") from exc
            if exc.name.rpartition(".")[2] in _PAIRING and not await self.is_paired():
                raise Invalid(f"the device answers: {exc}; it is not paired") from exc
            raise Invalid(f"the device answers: {exc}") from exc


def _found(values: Mapping[str, Any]) -> FoundDevice:
    uuids, rssi = values.get("UUIDs"), values.get("RSSI")
    return FoundDevice(
        str(values.get("Address", ""))[:17],
        values.get("AddressType") == "random",
        str(values.get("Name", ""))[:248],
        rssi if isinstance(rssi, int) else 0,
        tuple(one for one in uuids[:32] if isinstance(one, str)) if isinstance(uuids, list) else (),
    )
