"""`make bench NAME=devices`: what devices cost a node, and how fast their values are on its disk and elsewhere.

    python -m bench.devices [--rounds 5] [--updates 20000] [--seconds 60] [--only mqtt,dmi,memory,offline,sinks,cloud,many]

*Memory*: PSS of fresh processes: an event loop with a store, the same with twins and broker, and with 1,000 devices of 10 properties that
have all reported. *mqtt* (speeds.py): twin/update messages of QoS 1 of 100 devices through one connection, 512 of them in flight, each acknowledged after
the fsync; and round trips of 200 bytes; both beside mosquitto, by turns with it. *dmi*: reports with a connection for each. *offline* (offline.py): history,
and bytes on the line. *sinks*: from the queue to real servers. *cloud* (cloud.py): from the tenant's API to a mapper and back. *many* (many.py): 10,000 Devices
by one apply.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.demo.memory import pss
from bench.devices.node import broker, row
from bench.report import Report
from kubeedge.api import keys
from kubeedge.store.sqlite import open_sqlite

ALL = "memory,mqtt,dmi,offline,sinks,cloud,many"


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


def main() -> int:
    arguments = argparse.ArgumentParser(
        prog="make bench NAME=devices", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument(
        "--rounds", type=int, default=5, help="of mqtt, dmi, memory and sinks (default: %(default)s)"
    )
    arguments.add_argument("--updates", type=int, default=20_000, help="a round of mqtt (default: %(default)s)")
    arguments.add_argument("--seconds", type=int, default=60, help="of reports, in offline (default: %(default)s)")
    arguments.add_argument(
        "--only", default=ALL, help="parts, with commas between them; results keep the figures of the others"
    )
    arguments.add_argument("--child", default="", help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if unknown := set(options.only.split(",")) - set(ALL.split(",")):
        arguments.error(f"--only: {', '.join(sorted(unknown))}: there are {ALL}")
    if options.child:
        asyncio.run(child(options.child))
        return 0
    report, parts = Report("devices"), options.only.split(",")
    if "memory" in parts:
        for _ in range(options.rounds):
            bare, idle, full = memory("bare"), memory("idle"), memory("full")
            report.add("idle_memory", idle - bare, unit="MB", must=4, aim=2)
            report.add("memory_of_1000_devices", full - idle, unit="MB", must=6, aim=2)
    from bench.devices import cloud, many, offline, speeds

    if "mqtt" in parts:
        asyncio.run(speeds.by_mqtt(report, options.rounds, options.updates))
    if "dmi" in parts:
        asyncio.run(speeds.by_dmi(report, options.rounds))
    if "offline" in parts:
        asyncio.run(offline.offline(report, options.seconds))
    if "sinks" in parts:
        asyncio.run(speeds.to_servers(report, options.rounds))
    if "cloud" in parts:
        cloud.measure(report)
    if "many" in parts:
        many.measure(report)
    return 0 if report.finish(keep=options.only != ALL) else 1


if __name__ == "__main__":
    sys.exit(main())
