"""`make bench NAME=devices`: what devices cost a node, and how fast their values are on its disk.

    python -m bench.devices [--rounds 5] [--updates 20000]

*Memory*: PSS of fresh processes: an event loop with a store, the same with twins and broker, and with 1,000 devices of 10 properties that
have all reported. *Updates*: twin/update messages of QoS 1 of 100 devices through one connection, 512 of them in flight, each acknowledged after
the fsync. *Round trip*: a message of 200 bytes and QoS 1 to a subscriber of the same process, one after the other.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

from bench.demo.memory import pss
from bench.report import Report
from kubeedge.api import keys
from kubeedge.store.model import Store
from kubeedge.store.sqlite import open_sqlite

if TYPE_CHECKING:
    from kubeedge.devices.eventbus.module import EventBus
    from kubeedge.devices.module import DeviceTwins

IN_FLIGHT = 512
ROUND_TRIPS = 2000


def row(name: str, properties: int) -> bytes:
    known = {f"property{n}": {"type": "FLOAT", "minimum": "-100", "maximum": "1000"} for n in range(properties)}
    metadata = {"name": name, "namespace": "default", "uid": f"uid-{name}"}
    return json.dumps({"metadata": metadata, "generation": 1, "properties": known}).encode()


@contextlib.asynccontextmanager
async def broker(store: Store) -> AsyncIterator[tuple[DeviceTwins, EventBus]]:
    """Twins and broker of a node, once both serve. Imported here: a bare process is measured, too."""
    from kubeedge.devices.eventbus.module import EventBus
    from kubeedge.devices.module import DeviceTwins

    twins = DeviceTwins(store, wall=time.time)
    bus = EventBus(twins, "edge1", "127.0.0.1", 0)
    tasks = []
    try:
        for module in (twins, bus):
            ready = asyncio.Event()
            tasks.append(asyncio.create_task(module.run(ready)))
            await ready.wait()
        yield twins, bus
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def child(what: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        store = await open_sqlite(Path(directory) / "edge.db")
        stack.push_async_callback(store.close)
        if what != "bare":
            twins, _ = await stack.enter_async_context(broker(store))
            for n in range(1000 if what == "full" else 0):
                await store.put(keys.desired("devices", "default", f"device{n}"), row(f"device{n}", 10))
                while ("default", f"device{n}") not in twins.twins.devices:
                    await asyncio.sleep(0)
                values = {f"property{p}": f"{p}.{n}" for p in range(10)}
                _, done = twins.report(("default", f"device{n}"), values, durable=True)
                if done is not None:
                    await done
        gc.collect()
        print(pss(os.getpid()) / 1e6, flush=True)


def memory(what: str) -> float:
    done = subprocess.run(
        [sys.executable, "-m", "bench.devices", "--child", what], check=True, capture_output=True, text=True
    )
    return float(done.stdout)


class Client:
    """A client that costs little: MQTT 3.1.1 by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @staticmethod
    async def connect(port: int, name: bytes) -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        client = Client(reader, writer)
        body = b"\0\4MQTT\4\2\0\0" + len(name).to_bytes(2, "big") + name
        writer.write(bytes((0x10, len(body))) + body)
        await client.packet()
        return client

    async def packet(self) -> tuple[int, bytes]:
        first = (await self.reader.readexactly(1))[0]
        size = shift = 0
        while True:
            byte = (await self.reader.readexactly(1))[0]
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return first, await self.reader.readexactly(size)

    def publish(self, topic: bytes, payload: bytes, number: int) -> None:
        body = len(topic).to_bytes(2, "big") + topic + number.to_bytes(2, "big") + payload
        size, head = len(body), bytearray((0x32,))
        while size > 0x7F:
            head.append(size & 0x7F | 0x80)
            size >>= 7
        self.writer.write(bytes(head) + bytes((size,)) + body)


async def speeds(report: Report, rounds: int, updates: int) -> None:
    async with contextlib.AsyncExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        store = await open_sqlite(Path(directory) / "edge.db")
        stack.push_async_callback(store.close)
        for n in range(100):
            await store.put(keys.desired("devices", "default", f"device{n}"), row(f"device{n}", 10))
        _, bus = await stack.enter_async_context(broker(store))
        client = await Client.connect(bus.port, b"mapper")
        for turn in range(rounds):
            began, before = time.monotonic(), time.process_time()
            window = asyncio.Semaphore(IN_FLIGHT)

            async def acknowledged(window: asyncio.Semaphore = window) -> None:
                for _ in range(updates):
                    await client.packet()
                    window.release()

            task = asyncio.create_task(acknowledged())
            for n in range(updates):
                await window.acquire()
                value = json.dumps({"twin": {f"property{n % 10}": {"actual": {"value": str(turn + n % 97)}}}})
                topic = f"$hw/events/device/default/device{n % 100}/twin/update"
                client.publish(topic.encode(), value.encode(), n % 60000 + 1)
            await task
            report.add("updates", updates / (time.monotonic() - began), unit="/s", must=3000, aim=10000, higher=True)
            report.add("update_cpu", (time.process_time() - before) / updates * 1e6, unit="us")
        echo = b"bench/echo"
        body = b"\0\1" + len(echo).to_bytes(2, "big") + echo + b"\1"
        client.writer.write(bytes((0x82, len(body))) + body)
        await client.packet()
        for _ in range(rounds):
            took = []
            for n in range(ROUND_TRIPS):
                at = time.perf_counter()
                client.publish(echo, b"x" * 200, n + 1)
                for _ in range(2):  # the message, and the acknowledgement
                    first, data = await client.packet()
                    if first >> 4 == 3:
                        took.append(time.perf_counter() - at)
                        at_id = 2 + len(echo)
                        client.writer.write(b"\x40\x02" + data[at_id : at_id + 2])
            report.add("round_trip_p50", statistics.median(took) * 1000, unit="ms")
            report.add("round_trip_p99", sorted(took)[len(took) * 99 // 100] * 1000, unit="ms")


def main() -> int:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--updates", type=int, default=20_000)
    arguments.add_argument("--child", default="")
    options = arguments.parse_args()
    if options.child:
        asyncio.run(child(options.child))
        return 0
    report = Report("devices")
    for _ in range(options.rounds):
        bare, idle, full = memory("bare"), memory("idle"), memory("full")
        report.add("idle_memory", idle - bare, unit="MB", must=4, aim=2)
        report.add("memory_of_1000_devices", full - idle, unit="MB", must=6, aim=2)
    asyncio.run(speeds(report, options.rounds, options.updates))
    return 0 if report.finish() else 1


if __name__ == "__main__":
    sys.exit(main())
