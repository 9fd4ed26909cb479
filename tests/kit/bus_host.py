"""KubeBus on one host, for tests: a relay, or an edge node, without stores and hubs.

    python -m tests.kit.bus_host '{"role": "relay", ...}'      # nodes edge1, edge2 of tenant default are known
    python -m tests.kit.bus_host '{"role": "edge", "number": 1, "relay": "203.0.113.1:7010", ...}'

stdin: {"get": [node, port]} connects, reads to the end, says {"got": bytes, "sha256": ..., "seconds": ...} or {"error": ...}
Every edge serves port 7 with 50 MB of known bytes, and port 8 with an echo.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubeedge.api.names import NodeName, TenantId
from kubeedge.kit import logs
from kubeedge.kubebus.stack import KubeBus, KubeBusSettings
from kubeedge_cloud.bushub.hub import BusHub, BusHubSettings, CloudTun

SIZE = 50 * 1024 * 1024
TENANT = TenantId("default")


def blob() -> bytes:
    return random.Random(11).randbytes(1 << 20) * (SIZE >> 20)


@dataclass(frozen=True)
class Record:
    number: int
    address: str
    pod_cidr: str
    tenant_number: int = 1


class Directory:
    async def lookup(self, tenant: TenantId, node: NodeName) -> Record | None:
        if tenant != TENANT or node not in ("edge1", "edge2"):
            return None
        n = int(node[-1])
        return Record(n, f"100.64.0.{n}/16", f"10.244.{n}.0/24")

    async def tenant_number(self, tenant: TenantId) -> int | None:
        return 1 if tenant == TENANT else None


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


async def serve_blob(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    data = blob()
    for start in range(0, len(data), 65536):
        writer.write(data[start : start + 65536])
        await writer.drain()
    writer.write_eof()
    await reader.read()
    writer.close()


async def serve_echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def main(config: dict[str, Any]) -> None:
    logs.setup("info")
    ready = asyncio.Event()
    if config["role"] == "relay":
        tun = CloudTun(tenant=TENANT)
        hub = BusHub(
            BusHubSettings(
                port=7010,
                ca=Path(config["ca"]),
                cert=Path(config["cert"]),
                key=Path(config["key"]),
                tun=tun,
                congestion=config.get("congestion", ""),
            ),
            Directory(),
        )
        running = asyncio.create_task(hub.run(ready))

        async def connect(node: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            return await hub.connect(TENANT, NodeName(node), port)

    else:
        n = config["number"]
        bus = KubeBus(
            KubeBusSettings(
                relays=[config["relay"]], ca=Path(config["ca"]), cert=Path(config["cert"]), key=Path(config["key"]),
                number=n, address=f"100.64.0.{n}/16", pod_cidr=f"10.244.{n}.0/24", congestion=config.get("congestion", ""),
            )
        )  # fmt: skip
        bus.serve(7, serve_blob)
        bus.serve(8, serve_echo)
        running = asyncio.create_task(bus.run(ready))

        async def connect(node: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            return await bus.connect(node, port)

    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        running.result()
    say(ready=True)
    commands = asyncio.StreamReader(1 << 20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        command = json.loads(line)
        try:
            begun = time.monotonic()
            reader, writer = await connect(*command["get"])
            if command.get("send"):
                writer.write(command["send"].encode())
            writer.write_eof()
            digest, total = hashlib.sha256(), 0
            while data := await reader.read(1 << 18):
                digest.update(data)
                total += len(data)
            writer.close()
            say(got=total, sha256=digest.hexdigest(), seconds=time.monotonic() - begun)
        except Exception as exc:
            say(error=f"{type(exc).__name__}: {exc}")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
