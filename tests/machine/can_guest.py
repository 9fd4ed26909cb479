"""Within a machine whose kernel has a CAN bus: our mapper and can-utils on vcan0. Prints what has held; an assertion ends it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

from kubeedge.mapper.can.driver import can_mapper
from kubeedge.mapper.simulated import SimulatedDevice

TOOLS = Path(__file__).parents[2] / "build/debian/usr/bin"
WITHIN = 120.0  # seconds
PROPERTIES: dict[str, Any] = {
    "speed": {"type": "FLOAT", "visitors": {"configData": {"id": "0x181", "start": 0, "length": 16, "scale": 0.5}}},
    "mode": {"type": "INT", "visitors": {"configData": {"id": "0x181", "start": 16, "length": 8}}},
    "torque": {
        "type": "INT",
        "visitors": {
            "configData": {
                "id": "0x18FEF100",
                "start": 7,
                "length": 16,
                "byteOrder": "big",
                "isSigned": True,
                "size": 2,
            }
        },
    },
}


def send(frame: str) -> None:
    subprocess.run([str(TOOLS / "cansend"), "vcan0", frame], check=True)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


async def scenario() -> None:
    async with SimulatedDevice(can_mapper(), PROPERTIES, config={"interface": "vcan0"}) as device:
        send("181#C80007")
        await device.sends("speed", "100.0", within=WITHIN)
        await device.sends("mode", "7", within=WITHIN)
        send("18FEF100#FFFE")
        await device.sends("torque", "-2", within=WITHIN)
        send("182#FFFFFF")  # another frame
        send("181#R")  # nobody's value
        send("181#01")  # too short: an error of its properties, by name
        while "speed" not in device.errors:
            await asyncio.sleep(0.02)
        assert device.reported["speed"] == "100.0" and "1 bytes" in device.errors["speed"]
        send("181#640009")
        await device.sends("mode", "9", within=WITHIN)
        argv = [str(TOOLS / "candump"), "-n", "2", "-L", "vcan0"]
        dump = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE)
        assert dump.stdout is not None
        while "vcan0" not in Path("/proc/net/can/rcvlist_all").read_text():
            await asyncio.sleep(0.02)  # candump has no word for when it listens
        await device.write("speed", "12.5")
        await device.write("torque", "-300")
        found = (await dump.stdout.read()).decode()
        assert [line.split()[-1] for line in found.splitlines()] == ["181#190009", "18FEF100#FED4"], found
        ip("link", "set", "vcan0", "down")
        try:
            await device.sends("speed", "nothing", within=WITHIN)
        except OSError as exc:
            print(f"the bus is down: {exc}")
    print("can: all of it holds", flush=True)


if __name__ == "__main__":
    ip("link", "add", "vcan0", "type", "vcan")
    ip("link", "set", "vcan0", "up")
    asyncio.run(scenario())
    sys.exit(0)
