"""How fast values are on the disk of a node: by MQTT beside mosquitto, by DMI, and from the queue to other servers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from bench.demo.memory import pss
from bench.devices.node import broker, row
from bench.report import Report
from kubeedge.api import keys
from kubeedge.store.sqlite import open_sqlite
from tests.kit import data_servers
from tests.kit.ports import ADDRESS

ROUND_TRIPS = 2000
CALLERS, CALLS = 2, 1000  # processes that report by DMI, and reports of each
VALUES = 20_000  # on their way to another server


async def client(*arguments: object) -> list[float]:
    """What the client's process has measured."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.devices.client", *map(str, arguments), stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    assert process.returncode == 0
    found: list[float] = json.loads(said)
    return found


def processor_time(pid: int) -> float:
    """Seconds that a process of one thread has had."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


async def by_mqtt(report: Report, rounds: int, updates: int) -> None:
    """Ours and mosquitto by turns, which keeps nothing: its acknowledgement says that it has the message in memory."""
    async with contextlib.AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        store = await open_sqlite(directory / "edge.db")
        stack.push_async_callback(store.close)
        for n in range(100):
            await store.put(keys.desired("devices", "default", f"device{n}"), row(f"device{n}", 10))
        _, bus = await stack.enter_async_context(broker(store))
        peer = await stack.enter_async_context(
            data_servers.mosquitto(
                directory, more=("persistence true", f"persistence_location {directory}/", "max_inflight_messages 0")
            )
        )
        for turn in range(rounds):
            (theirs,) = await client("updates", ADDRESS, peer.port, updates, turn)
            before = time.process_time()
            (ours,) = await client("updates", "127.0.0.1", bus.port, updates, turn)
            report.add("update_cpu", (time.process_time() - before) / updates * 1e6, unit="us")
            report.add("updates", ours, unit="/s", must=3000, aim=10000, higher=True)
            report.add("updates_to_mosquitto", ours / theirs, unit="x", must=0.33, aim=1.0, higher=True)
            their_cpu = processor_time(peer.pid)
            p50, p99 = await client("round-trip", ADDRESS, peer.port, ROUND_TRIPS)
            their_cpu, before = processor_time(peer.pid) - their_cpu, time.process_time()
            own50, own99 = await client("round-trip", "127.0.0.1", bus.port, ROUND_TRIPS)
            own_cpu = time.process_time() - before
            # of the brokers' processes: what else the machine does costs the clock more than this
            report.add("raw_round_trip_cpu", own_cpu / ROUND_TRIPS * 1e6, unit="us")
            report.add("raw_round_trip_cpu_to_mosquitto", own_cpu / their_cpu, unit="x")
            report.add("raw_round_trip_p50", own50, unit="ms")
            report.add("raw_round_trip_p99", own99, unit="ms")
            report.add("raw_round_trip_p50_to_mosquitto", own50 / p50, unit="x", must=1.5, aim=1)
            report.add("raw_round_trip_p99_to_mosquitto", own99 / p99, unit="x", must=1.5, aim=1)
            # by the client that mappers have, which takes most of the time: what a mapper notices
            p50, p99 = await client("mapper", ADDRESS, peer.port, ROUND_TRIPS)
            own50, own99 = await client("mapper", "127.0.0.1", bus.port, ROUND_TRIPS)
            report.add("round_trip_p50", own50, unit="ms")
            report.add("round_trip_p99", own99, unit="ms")
            report.add("round_trip_p50_to_mosquitto", own50 / p50, unit="x", must=1.5, aim=1)
            report.add("round_trip_p99_to_mosquitto", own99 / p99, unit="x", must=1.5, aim=1)


async def by_dmi(report: Report, rounds: int) -> None:
    """As KubeEdge's mappers do: each report is one connection, one call and one value, and is answered when it is on the disk."""
    from kubeedge.devices.dmi.module import DeviceMappers
    from kubeedge.devices.module import DeviceTwins

    async with contextlib.AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        store = await open_sqlite(directory / "edge.db")
        stack.push_async_callback(store.close)
        for n in range(100):
            await store.put(keys.desired("devices", "default", f"device{n}"), row(f"device{n}", 10))
        twins = DeviceTwins(store, wall=time.time)
        mappers = DeviceMappers(twins, store, directory / "dmi.sock", reported=lambda key, before: None)
        tasks = []
        for module in (twins, mappers):
            ready = asyncio.Event()
            tasks.append(asyncio.create_task(module.run(ready)))
            await ready.wait()
        try:
            for _ in range(rounds):
                before = time.process_time()
                callers = [
                    await asyncio.create_subprocess_exec(
                        sys.executable, "-m", "bench.devices.dmi", str(directory / "dmi.sock"), str(CALLS),
                        stdout=asyncio.subprocess.PIPE,
                    )
                    for _ in range(CALLERS)
                ]  # fmt: skip
                said = [float((await caller.communicate())[0]) for caller in callers]
                # in seconds of the agent's processor: the callers, and whatever else the machine does, take most of the time
                cpu = (time.process_time() - before) / CALLS / CALLERS
                report.add(
                    "dmi_reports", sum(CALLS / took for took in said), unit="/s", must=1000, aim=2500, higher=True
                )
                report.add("dmi_reports_of_one_core", 1 / cpu, unit="/s")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def to_servers(report: Report, rounds: int) -> None:
    """From the queue on the disk to Redis and to VictoriaMetrics: values a second, and what sending adds to the memory of this process."""
    from kubeedge.devices.sinks.core import PushedValue, destinations
    from kubeedge.devices.sinks.module import DevicePush
    from kubeedge.devices.sinks.queue import PushQueue

    for kind in ("redis", "influxdb2"):
        with tempfile.TemporaryDirectory() as folder:
            directory = Path(folder)
            server = data_servers.redis if kind == "redis" else data_servers.victoria
            async with server(directory) as peer:
                at = f"127.0.0.1:{peer.port}" if kind == "redis" else f"http://127.0.0.1:{peer.port}"
                at = at.replace("127.0.0.1", ADDRESS)
                methods: dict[str, object] = {
                    "redis": {"redisClientConfig": {"addr": at}},
                    "influxdb2": {
                        "influxdb2ClientConfig": {"url": at, "org": "o", "bucket": "b"},
                        "influxdb2DataConfig": {"measurement": "m", "fieldKey": "f"},
                    },
                }
                (one,) = destinations({"dbMethod": {kind: methods[kind]}})
                for turn in range(rounds):
                    queue = PushQueue(directory / f"push{turn}.db", 1 << 30, 86400.0)
                    now = int(time.time() * 1000)
                    values = [
                        PushedValue(0, "default", f"device{n % 100}", f"property{n % 10}", "FLOAT", now + n, f"{n}.5")
                        for n in range(VALUES)
                    ]
                    queue.append([(one.spec, each) for each in values], now)
                    del values
                    push, ready = DevicePush(queue, "edge1", None, wall=time.time), asyncio.Event()
                    before, began = pss(os.getpid()), time.monotonic()
                    task = asyncio.create_task(push.run(ready))
                    while push.sent < VALUES:
                        await asyncio.sleep(0.01)
                    report.add(f"sink_{kind}", VALUES / (time.monotonic() - began), unit="/s")
                    report.add(f"sink_{kind}_memory", (pss(os.getpid()) - before) / 1e6, unit="MB")
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
