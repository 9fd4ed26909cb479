"""A Bluetooth thermometer on the adapter hci1 of BlueZ's D-Bus API (BlueZoo, over a radio in software): the address of the bus is in the environment.

Says "ready", and "written HEX" when its target is set.
"""

import asyncio
from typing import Any

import sdbus
from sdbus import DbusInterfaceCommonAsync as Interface
from sdbus import dbus_method_async as method
from sdbus import dbus_property_async as prop

SERVICE = "/app/service0"


class Service(Interface, interface_name="org.bluez.GattService1"):
    @prop("s")
    def UUID(self) -> str:
        return "0000181a-0000-1000-8000-00805f9b34fb"

    @prop("b")
    def Primary(self) -> bool:
        return True


class Characteristic(Interface, interface_name="org.bluez.GattCharacteristic1"):
    def __init__(self, uuid: str, flags: list[str], value: bytes) -> None:
        super().__init__()
        self._uuid, self._flags, self._value = uuid, flags, value

    @prop("s")
    def UUID(self) -> str:
        return self._uuid

    @prop("o")
    def Service(self) -> str:
        return SERVICE

    @prop("as")
    def Flags(self) -> list[str]:
        return self._flags

    @prop("ay")
    def Value(self) -> bytes:
        return self._value

    @Value.setter
    def set_value(self, value: bytes) -> None:
        self._value = value

    @method("a{sv}", "ay")
    async def ReadValue(self, options: dict[str, Any]) -> bytes:
        return self._value

    @method("aya{sv}", "")
    async def WriteValue(self, value: bytes, options: dict[str, Any]) -> None:
        self._value = bytes(value)
        print("written", self._value.hex(), flush=True)

    @method("", "")
    async def StartNotify(self) -> None: ...

    @method("", "")
    async def StopNotify(self) -> None: ...

    @method("", "")
    async def Confirm(self) -> None: ...


class Advertisement(Interface, interface_name="org.bluez.LEAdvertisement1"):
    @prop("s")
    def Type(self) -> str:
        return "peripheral"

    @prop("s")
    def LocalName(self) -> str:
        return "thermo"

    @prop("as")
    def ServiceUUIDs(self) -> list[str]:
        return ["181a"]

    @prop("b")
    def Discoverable(self) -> bool:
        return True

    @method("", "")
    async def Release(self) -> None: ...


class GattManager(Interface, interface_name="org.bluez.GattManager1"):
    @method("oa{sv}", "")
    async def RegisterApplication(self, application: str, options: dict[str, Any]) -> None: ...


class AdvertisingManager(Interface, interface_name="org.bluez.LEAdvertisingManager1"):
    @method("oa{sv}", "")
    async def RegisterAdvertisement(self, advertisement: str, options: dict[str, Any]) -> None: ...


async def main() -> None:
    sdbus.set_default_bus(sdbus.sd_bus_open_system())
    objects = sdbus.DbusObjectManagerInterfaceAsync()
    objects.export_to_dbus("/app")
    temperature = Characteristic(
        "00002a6e-0000-1000-8000-00805f9b34fb", ["read", "notify"], (2150).to_bytes(2, "little")
    )
    target = Characteristic("12345678-1234-5678-1234-56789abcdef0", ["read", "write"], b"\x14")
    advertisement = Advertisement()
    for path, one in ((SERVICE, Service()), (f"{SERVICE}/char0", temperature), (f"{SERVICE}/char1", target)):
        objects.export_with_manager(path, one)
    advertisement.export_to_dbus("/adv")
    while True:
        try:
            await GattManager.new_proxy("org.bluez", "/org/bluez/hci1").RegisterApplication("/app", {})
            break
        except sdbus.SdBusBaseError:  # BlueZoo is not there yet
            await asyncio.sleep(0.1)
    await AdvertisingManager.new_proxy("org.bluez", "/org/bluez/hci1").RegisterAdvertisement("/adv", {})
    print("ready", flush=True)
    number = 0
    while True:
        await asyncio.sleep(0.2)
        number += 1
        await temperature.Value.set_async((2150 + number).to_bytes(2, "little"))


asyncio.run(main())
