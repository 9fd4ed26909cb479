"""What the mappers of cameras and of Bluetooth devices cost: with a camera (IPyCam) that nobody looks at and that somebody does, with a thermometer
behind a controller (Bumble), and with one behind BlueZ's API (BlueZoo)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from bench.demo.memory import pss
from bench.devices.node import broker
from bench.report import Report
from kubeedge.api import keys
from kubeedge.store.sqlite import open_sqlite
from tests.kit.foreign import environment, ffmpeg
from tests.kit.ports import ADDRESS, ports

PERIPHERALS = Path(__file__).parents[2] / "tests/kit/peripherals"
_CAMERA: Mapping[str, str] = {
    "model": "STRING",
    "resolution": "STRING",
    "pan": "FLOAT",
    "tilt": "FLOAT",
    "zoom": "FLOAT",
}
_SECONDS = 10  # that somebody looks


def row(name: str, protocol: str, config: Mapping[str, Any], properties: Mapping[str, Any]) -> bytes:
    """A device, as the cloud writes it."""
    metadata = {"name": name, "namespace": "default", "uid": f"uid-{name}"}
    made = {"protocolName": protocol, "configData": config}
    return json.dumps({"metadata": metadata, "generation": 1, "protocol": made, "properties": properties}).encode()


@contextlib.asynccontextmanager
async def process(
    *argv: str, env: Mapping[str, str] | None = None, says: str = ""
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Ends with the block; returns when it has said a line."""
    made = await asyncio.create_subprocess_exec(
        *argv,
        env=env,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE if says else asyncio.subprocess.DEVNULL,
    )
    try:
        while says and made.stdout is not None and says not in (await made.stdout.readline()).decode():
            if made.stdout.at_eof():
                raise RuntimeError(f"{argv[-1]} has ended")
        yield made
    finally:
        if made.returncode is None:
            made.kill()
        await made.wait()


@contextlib.asynccontextmanager
async def mapper(name: str, device: bytes, count: int, *more: str) -> AsyncIterator[int]:
    """The pid of a mapper that has reported as many values of its one device."""
    async with contextlib.AsyncExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        store = await open_sqlite(Path(directory) / "edge.db")
        stack.push_async_callback(store.close)
        twins, bus = await stack.enter_async_context(broker(store))
        await store.put(keys.desired("devices", "default", "one"), device)
        argv = (sys.executable, "-m", "kubeedge", "mapper", name, "--broker", f"127.0.0.1:{bus.port}", *more)
        made = await stack.enter_async_context(process(*argv))
        async with asyncio.timeout(120):
            while sum(len(one.twins) for one in twins.twins.devices.values()) < count:
                await asyncio.sleep(0.1)
        await asyncio.sleep(2)
        yield made.pid


async def cameras(report: Report) -> None:
    """One camera."""
    http, rtsp, shown = ports(3)
    camera = (sys.executable, str(PERIPHERALS / "camera.py"), ADDRESS, str(http), str(rtsp))
    properties = {name: {"type": kind, "accessMode": "ReadOnly"} for name, kind in _CAMERA.items()}
    device = row("one", "onvif", {"url": f"{ADDRESS}:{http}", "video": True}, properties)
    async with process(*camera, env=environment("camera"), says="ready"):
        async with mapper("onvif", device, len(properties), "--listen", f"{ADDRESS}:{shown}") as pid:
            report.add("onvif_memory", pss(pid) / 1e6, unit="MB", must=18, aim=13)
            url = f"http://{ADDRESS}:{shown}/default/one/stream"
            async with process(ffmpeg(), "-v", "error", "-nostdin", "-i", url, "-f", "null", "-"):
                await asyncio.sleep(_SECONDS)
                report.add("onvif_viewed_memory", pss(pid) / 1e6, unit="MB", must=18, aim=13)


async def bluetooth(report: Report) -> None:
    """One thermometer that sends its temperature, ten times a second, and a target that is read once a second."""
    (port,) = ports(1)
    properties = {
        "temperature": _characteristic("FLOAT", "2a6e", format="int16", scale=0.01, push=True),
        "target": _characteristic("INT", "12345678-1234-5678-1234-56789abcdef0", format="uint8"),
    }
    thermometer = (sys.executable, str(PERIPHERALS / "hci_thermometer.py"), ADDRESS, str(port))
    config: dict[str, Any] = {
        "macAddress": "F0:F1:F2:F3:F4:F5",
        "addressType": "random",
        "adapter": f"tcp:{ADDRESS}:{port}",
    }
    env = environment("bluetooth")
    async with process(*thermometer, env=env, says="ready"):
        async with mapper("ble", row("one", "ble", config, properties), len(properties)) as pid:
            report.add("ble_hci_memory", pss(pid) / 1e6, unit="MB", must=18, aim=13)
    with tempfile.TemporaryDirectory() as directory:
        address = f"unix:path={directory}/bus"
        Path(directory, "bus.conf").write_text(BUS.format(address=address))
        os.environ["DBUS_SYSTEM_BUS_ADDRESS"] = env["DBUS_SYSTEM_BUS_ADDRESS"] = address
        zoo = ("-c", "from bluezoo.bluezoo import main; main()", "--auto-enable", "--scan-interval", "1")
        adapters = ("-a", "00:11:11:11:11:11", "-a", "00:22:22:22:22:22", "-q")
        async with process(
            "dbus-daemon", f"--config-file={directory}/bus.conf", "--nofork", "--print-address", says="unix"
        ):
            async with process(sys.executable, *zoo, *adapters, env=env):
                async with process(sys.executable, str(PERIPHERALS / "bluez_thermometer.py"), env=env, says="ready"):
                    there = row("one", "ble", {"macAddress": "00:22:22:22:22:22"}, properties)
                    async with mapper("ble", there, len(properties)) as pid:
                        report.add("ble_bluez_memory", pss(pid) / 1e6, unit="MB", must=18, aim=13)


def _characteristic(type_: str, uuid: str, **more: Any) -> dict[str, Any]:
    return {"type": type_, "visitors": {"protocolName": "ble", "configData": {"characteristicUUID": uuid, **more}}}


BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>{address}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>
"""
