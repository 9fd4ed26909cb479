"""`make bench NAME=mapper`: what the Modbus mapper costs with 20 devices of 10 properties, each read once a second, and the memory of others; those of
cameras and of Bluetooth with one device (peripherals.py).

    python -m bench.mapper [--rounds 3] [--seconds 10]

*Memory*: PSS of the mapper's process once all values are reported, and of a bare event loop. *CPU*: of the mapper, in the seconds after that.
OPC-UA: 20 devices of 6 properties on one server, over channels that are signed and encrypted. Serial, GPIO and CAN:
one device each whose line, chip or bus is not there, as on most machines; their values cost nothing that stays.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import struct
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.demo.memory import pss
from bench.devices.node import broker
from bench.mapper import peripherals
from bench.report import Report
from kubeedge.api import keys
from kubeedge.devices.core import Device
from kubeedge.store.sqlite import open_sqlite
from tests.kit.opcua_server import certificate, fingerprint, server_process

DEVICES, PROPERTIES = 20, 10
BARE = "import asyncio\nasyncio.run(asyncio.sleep(600))"


def row(name: str, port: int) -> bytes:
    """A Modbus device of that port."""
    properties = {f"property{n}": {"register": "HoldingRegister", "offset": n} for n in range(PROPERTIES)}
    return device_row(name, "modbus", {"host": "127.0.0.1", "port": port}, properties)


def device_row(name: str, protocol: str, config: dict[str, Any], visitors: dict[str, dict[str, Any]]) -> bytes:
    """A device, as the cloud writes it."""
    properties = {
        prop: {
            "type": visitor.get("is", "INT"),
            "accessMode": "ReadOnly",
            "visitors": {"protocolName": protocol, "configData": visitor},
        }
        for prop, visitor in visitors.items()
    }
    metadata = {"name": name, "namespace": "default", "uid": f"uid-{name}"}
    spec = {"protocol": {"protocolName": protocol, "configData": config}, "properties": properties}
    return json.dumps({"metadata": metadata, "generation": 1, **spec}).encode()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A Modbus device whose registers have their own numbers as values."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            transaction, _, _, unit, function, first, count = struct.unpack(">HHHBBHH", await reader.readexactly(12))
            values = range(first, first + count)
            head = struct.pack(">HHHBBB", transaction, 0, 3 + 2 * count, unit, function, 2 * count)
            writer.write(head + struct.pack(f">{count}H", *values))
    writer.close()


def cpu(pid: int) -> float:
    """Seconds that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def one_round(report: Report, seconds: float) -> None:
    async with contextlib.AsyncExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        store = await open_sqlite(Path(directory) / "edge.db")
        stack.push_async_callback(store.close)
        server = await stack.enter_async_context(await asyncio.start_server(answer, "127.0.0.1", 0))
        twins, bus = await stack.enter_async_context(broker(store))
        port = server.sockets[0].getsockname()[1]
        for n in range(DEVICES):
            await store.put(keys.desired("devices", "default", f"device{n}"), row(f"device{n}", port))
        arguments = ("-m", "kubeedge", "mapper", "modbus", "--broker", f"127.0.0.1:{bus.port}")
        mapper = await asyncio.create_subprocess_exec(sys.executable, *arguments)
        bare = await asyncio.create_subprocess_exec(sys.executable, "-c", BARE)
        try:
            while sum(len(device.twins) for device in twins.twins.devices.values()) < DEVICES * PROPERTIES:
                await asyncio.sleep(0.1)
            before = cpu(mapper.pid)
            await asyncio.sleep(seconds)
            report.add("mapper_cpu", (cpu(mapper.pid) - before) / seconds * 100, unit="%")
            report.add("mapper_memory", pss(mapper.pid) / 1e6, unit="MB", must=18, aim=13)
            report.add("bare_memory", pss(bare.pid) / 1e6, unit="MB")
        finally:
            for process in (mapper, bare):
                process.terminate()
                await process.wait()


async def memory_of(report: Report, protocol: str, rows: dict[str, bytes]) -> None:
    """The mapper's, once every device has said something: all values, or that it is not there."""
    async with contextlib.AsyncExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        store = await open_sqlite(Path(directory) / "edge.db")
        stack.push_async_callback(store.close)
        twins, bus = await stack.enter_async_context(broker(store))
        for name, value in rows.items():
            await store.put(keys.desired("devices", "default", name), value)
        arguments = ("-m", "kubeedge", "mapper", protocol, "--broker", f"127.0.0.1:{bus.port}")
        mapper = await asyncio.create_subprocess_exec(sys.executable, *arguments)
        try:

            def is_done(device: Device) -> bool:
                return len(device.twins) == len(device.properties) or device.state == "offline"

            devices = twins.twins.devices
            while len(devices) < len(rows) or not all(map(is_done, devices.values())):
                await asyncio.sleep(0.1)
            await asyncio.sleep(2.0)
            report.add(f"{protocol}_memory", pss(mapper.pid) / 1e6, unit="MB", must=18, aim=13)
        finally:
            mapper.terminate()
            await mapper.wait()


def opcua_rows(directory: Path, url: str, files: tuple[str, str]) -> dict[str, bytes]:
    """20 devices of one server."""
    cert, key = certificate(directory, "client")
    config = {"url": url, "certificate": cert, "privateKey": key, "serverFingerprint": fingerprint(files[0])}
    kinds = {
        "temperature": "FLOAT",
        "target": "INT",
        "running": "BOOLEAN",
        "label": "STRING",
        "raw": "BYTES",
        "zones": "STRING",
    }
    visitors = {name: {"nodeID": f"ns=2;s=Boiler.{name}", "is": kind} for name, kind in kinds.items()}
    return {f"boiler{n}": device_row(f"boiler{n}", "opcua", config, visitors) for n in range(DEVICES)}


def others(report: Report) -> None:
    """Every other mapper that needs no broker or server of its own but a small one."""
    with tempfile.TemporaryDirectory() as name:
        files = certificate(Path(name), "server")
        with server_process(files) as (_, url):
            asyncio.run(memory_of(report, "opcua", opcua_rows(Path(name), url, files)))
    missing = device_row("missing", "gpio", {"chip": "gpiochip999"}, {"button": {"line": 1, "is": "BOOLEAN"}})
    asyncio.run(memory_of(report, "gpio", {"missing": missing}))
    signal = {"speed": {"id": 0x181, "start": 0, "length": 16}}
    asyncio.run(memory_of(report, "can", {"missing": device_row("missing", "can", {"interface": "can999"}, signal)}))
    scale = {"weight": {"request": "W?"}}
    asyncio.run(
        memory_of(report, "serial", {"scale": device_row("scale", "serial", {"serialPort": "/dev/ttyUSB999"}, scale)})
    )
    wave = {f"property{n}": {"wave": "sine", "low": 0, "high": 100, "period": 60} for n in range(PROPERTIES)}
    virtual = {f"hall{n}": device_row(f"hall{n}", "virtual", {}, wave) for n in range(DEVICES)}
    asyncio.run(memory_of(report, "virtual", virtual))


def main() -> int:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--seconds", type=float, default=10.0)
    options = arguments.parse_args()
    report = Report("mapper")
    for _ in range(options.rounds):
        asyncio.run(one_round(report, options.seconds))
        others(report)
        asyncio.run(peripherals.cameras(report))
        asyncio.run(peripherals.bluetooth(report))
    return 0 if report.finish() else 1


if __name__ == "__main__":
    sys.exit(main())
