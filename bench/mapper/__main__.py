"""`make bench NAME=mapper`: what the Modbus mapper costs with 20 devices of 10 properties, each read once a second.

    python -m bench.mapper [--rounds 3] [--seconds 10]

*Memory*: PSS of the mapper's process once all values are reported, and of a bare event loop. *CPU*: of the mapper, in the seconds after that.
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

from bench.demo.memory import pss
from bench.devices.node import broker
from bench.report import Report
from kubeedge.api import keys
from kubeedge.store.sqlite import open_sqlite

DEVICES, PROPERTIES = 20, 10
BARE = "import asyncio\nasyncio.run(asyncio.sleep(600))"


def row(name: str, port: int) -> bytes:
    """A device of that port, as the cloud writes it."""
    properties = {
        f"property{n}": {
            "type": "INT",
            "accessMode": "ReadOnly",
            "visitors": {"protocolName": "modbus", "configData": {"register": "HoldingRegister", "offset": n}},
        }
        for n in range(PROPERTIES)
    }
    metadata = {"name": name, "namespace": "default", "uid": f"uid-{name}"}
    protocol = {"protocolName": "modbus", "configData": {"host": "127.0.0.1", "port": port}}
    return json.dumps({"metadata": metadata, "generation": 1, "protocol": protocol, "properties": properties}).encode()


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


def main() -> int:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--seconds", type=float, default=10.0)
    options = arguments.parse_args()
    report = Report("mapper")
    for _ in range(options.rounds):
        asyncio.run(one_round(report, options.seconds))
    return 0 if report.finish() else 1


if __name__ == "__main__":
    sys.exit(main())
