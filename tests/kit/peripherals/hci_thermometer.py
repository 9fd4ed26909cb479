"""A Bluetooth thermometer and, on the same radio, a controller that speaks HCI over TCP (Bumble): python hci_thermometer.py ADDRESS PORT.

Says "ready", and "written HEX" when its target is set. "drop" on standard input ends its connections.
"""

import asyncio
import os
import stat
import sys

from bumble import hci
from bumble.controller import Controller
from bumble.device import Device
from bumble.gatt import Characteristic, CharacteristicValue, Service
from bumble.hci import Address
from bumble.host import Host
from bumble.link import LocalLink
from bumble.transport import open_transport
from bumble.transport.common import AsyncPipeSink

OWN = "F0:F1:F2:F3:F4:F5"
UUID = "12345678-1234-5678-1234-56789abcdef{}"
READ, WRITE, NOTIFY = (Characteristic.Properties[name] for name in ("READ", "WRITE", "NOTIFY"))
READABLE, WRITEABLE = Characteristic.READABLE, Characteristic.WRITEABLE


async def main(address: str, port: str) -> None:
    link = LocalLink()
    transport = await open_transport(f"tcp-server:{address}:{port}")
    controller = Controller("ours", host_source=transport.source, host_sink=transport.sink, link=link)
    controller.le_features &= (
        ~hci.LeFeatureMask.LE_EXTENDED_ADVERTISING
    )  # else it answers a plain scan with reports of the extended one
    radio = Controller("thermometer", link=link)
    device = Device(name="thermo", address=Address(OWN), host=Host(radio, AsyncPipeSink(radio)))
    state = {"target": b"\x14"}

    def written(_: object, value: bytes) -> None:
        state["target"] = bytes(value)
        print("written", value.hex(), flush=True)

    temperature = Characteristic("2A6E", READ | NOTIFY, READABLE, (2150).to_bytes(2, "little"))
    target = Characteristic(
        UUID.format(0),
        READ | WRITE,
        READABLE | WRITEABLE,
        CharacteristicValue(read=lambda _: state["target"], write=written),
    )
    long = Characteristic(UUID.format(1), READ, READABLE, bytes(range(256)) * 2)
    secret = Characteristic(UUID.format(2), READ, READABLE | Characteristic.READ_REQUIRES_ENCRYPTION, b"x")
    device.add_service(Service("181A", [temperature, target, long, secret]))
    await device.power_on()
    await device.start_advertising(auto_restart=True)
    print("ready", flush=True)
    loop, number = asyncio.get_running_loop(), 0
    lines = asyncio.StreamReader()
    if stat.S_ISFIFO(os.fstat(0).st_mode):  # whoever has started it may want something of it
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    drops = asyncio.create_task(drop(lines, device))
    while not drops.done():
        await asyncio.sleep(0.1)
        number += 1
        temperature.value = (2150 + number).to_bytes(2, "little")
        await device.notify_subscribers(temperature, temperature.value)


async def drop(lines: asyncio.StreamReader, device: Device) -> None:
    while await lines.readline():
        for connection in list(device.connections.values()):
            await connection.disconnect()


asyncio.run(main(*sys.argv[1:]))
