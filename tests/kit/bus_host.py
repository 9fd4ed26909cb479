"""KubeBus on one host, for tests: a relay, or an edge node, without stores and hubs.

    python -m tests.kit.bus_host '{"role": "relay", ...}'      # nodes edge1, edge2 of tenant default are known
    python -m tests.kit.bus_host '{"role": "edge", "number": 1, "relay": "203.0.113.1:7010", ...}'

A relay with "store": PATH shares it with others (store_server.py). "allowed": {node: [subnets]}. "listen": another address than 0.0.0.0.

stdin: {"do": "links" | "routes" | "ping", ...} says what the product's commands show;
{"do": "flood", "node": ..., "count": ...} opens so many connections to its echo, 100 at a time, and says {"accepted": ..., "seconds": ...}.
{"get": [node, port]} connects, reads to the end, says {"got": bytes, "sha256": ..., "seconds": ...} or {"error": ...}
Every edge serves port 7 with 50 MB of known bytes, and port 8 with an echo.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import random
import resource
import sys
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from kubeedge.api.names import NodeName, TenantId
from kubeedge.api.node_ipv6 import NONE, NodeIpv6
from kubeedge.kit import logs
from kubeedge.kit.metrics import exposition
from kubeedge.kubebus.core import KubeBusSettings, RouterSettings
from kubeedge.kubebus.module import KubeBus
from kubeedge.kubebus.observe import edge_links, edge_metrics
from kubeedge.networkwatch.module import NetworkWatch
from kubeedge.store.model import Store
from kubeedge_cloud.bushub.module import BusHub
from kubeedge_cloud.bushub.observe import relay_metrics, relay_state
from kubeedge_cloud.bushub.peers import PeersSettings
from kubeedge_cloud.bushub.settings import BusHubSettings
from kubeedge_cloud.bushub.tun import CloudTun
from tests.kit.store_server import SharedStore

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
    join: str = ""  # as in certificates that name no join
    ipv6: NodeIpv6 = NONE


class Directory:
    """What the store of the cloud would say; change it with {"do": "remove" | "number" | "allow" | "store", ...}."""

    def __init__(self, allowed: dict[str, list[str]] | None = None) -> None:
        self.numbers = {NodeName(node): n for n, node in enumerate(("edge1", "edge2", "edge3", "vm1"), 1)}
        self.allowed = {NodeName(node): subnets for node, subnets in (allowed or {}).items()}
        self._changed = asyncio.Condition()
        self.answers = asyncio.Event()
        self.answers.set()

    async def lookup(self, tenant: TenantId, node: NodeName) -> Record | None:
        await self.answers.wait()
        return self._records().get(node) if tenant == TENANT else None

    def _records(self) -> dict[NodeName, Record]:
        return {node: Record(n, f"100.64.0.{n}/16", f"10.244.{n}.0/24") for node, n in self.numbers.items()}

    async def subnets(self, tenant: TenantId, node: NodeName) -> Sequence[str]:
        return self.allowed.get(node, ())

    async def follow_nodes(self, tenant: TenantId) -> AsyncGenerator[Mapping[NodeName, Record], None]:
        while True:
            yield self._records()
            async with self._changed:
                await self._changed.wait()

    async def follow_subnets(self, tenant: TenantId) -> AsyncGenerator[Mapping[NodeName, Sequence[str]], None]:
        while True:
            yield dict(self.allowed)
            async with self._changed:
                await self._changed.wait()

    async def change(self, command: dict[str, Any]) -> dict[str, Any]:
        node = NodeName(command.get("node", ""))
        match command["do"]:
            case "remove":
                del self.numbers[node]
            case "number":  # as if its record had been created again
                self.numbers[node] = command["number"]
            case "allow":
                self.allowed[node] = command["subnets"]
            case "store":  # does it answer?
                (self.answers.set if command["answers"] else self.answers.clear)()
        async with self._changed:
            self._changed.notify_all()
        return {}

    async def tenant_number(self, tenant: TenantId) -> int | None:
        return 1 if tenant == TENANT else None


held: list[int] = []


def hold(count: int) -> dict[str, Any]:
    while held:
        os.close(held.pop())
    with contextlib.suppress(OSError):
        while len(held) < count:
            held.append(os.open("/dev/null", os.O_RDONLY))
    return {"held": len(held)}


async def flood(bus: KubeBus, node: str, count: int) -> dict[str, Any]:
    """How many of the connections were answered by the echo; the rest is reset."""
    room, begun = asyncio.Semaphore(100), time.monotonic()

    async def is_answered() -> bool:
        async with room:
            reader, writer = await bus.connect(node, 8, timeout=30)
            try:
                writer.write(b"x")
                return await reader.read(1) == b"x"
            except OSError:
                return False
            finally:
                writer.close()

    answered = await asyncio.gather(*(is_answered() for _ in range(count)), return_exceptions=True)
    return {"accepted": sum(one is True for one in answered), "seconds": time.monotonic() - begun}


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
    if "files" in config:  # descriptors that the process may have
        resource.setrlimit(resource.RLIMIT_NOFILE, (config["files"], config["files"]))
    ready = asyncio.Event()
    if config["role"] == "relay":
        tun = CloudTun(tenant=TENANT, **config.get("tun", {})) if config.get("tun", {}) is not None else None
        directory = Directory(config.get("allowed"))
        hub = BusHub(
            BusHubSettings(
                address=config.get("listen", "0.0.0.0"),
                port=7010,
                ca=Path(config["ca"]),
                cert=Path(config["cert"]),
                key=Path(config["key"]),
                tun=tun,
                congestion=config.get("congestion", ""),
            ),
            directory,
            store=cast(Store, SharedStore(Path(config["store"]))) if "store" in config else None,
            peers=PeersSettings(addresses=config["addresses"]) if "store" in config else None,
        )
        running = asyncio.create_task(hub.run(ready))

        async def do(command: dict[str, Any]) -> dict[str, Any]:
            match command["do"]:
                case "links":
                    return relay_state(hub)
                case "metrics":
                    return {"metrics": exposition(relay_metrics(hub))}
                case "remove" | "number" | "allow" | "store":
                    return await directory.change(command)
                case "routes":
                    return {"routes": await hub.routes(TENANT)}
            return await hub.ping(TENANT, NodeName(command["node"]), count=command["count"], interval=0.02)

        async def connect(node: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            return await hub.connect(TENANT, NodeName(node), port)

    else:
        n = config["number"]
        bus = KubeBus(
            KubeBusSettings(
                relays=config["relays"], ca=Path(config["ca"]), cert=Path(config["cert"]), key=Path(config["key"]),
                number=n, address=f"100.64.0.{n}/16", pod_cidr=f"10.244.{n}.0/24", congestion=config.get("congestion", ""),
                connections=config.get("connections", 2), node=config.get("node", f"edge{n}"),
                router=RouterSettings(**config["router"]) if "router" in config else None,
            )
        )  # fmt: skip
        bus.serve(7, serve_blob)
        bus.serve(8, serve_echo)
        running = asyncio.create_task(bus.run(ready))
        watching = asyncio.create_task(NetworkWatch(bus.network_changed).run(asyncio.Event()))
        watching.add_done_callback(lambda _: None)

        async def do(command: dict[str, Any]) -> dict[str, Any]:
            match command["do"]:
                case "links":
                    links = edge_links(bus, asyncio.get_running_loop().time())
                    return {"up": bus.status.up, "lastError": bus.status.last_error, "links": links,
                            "conflicts": list(bus.status.conflicts)}  # fmt: skip
                case "routes":
                    return {"routes": bus.routes()}
                case "metrics":
                    return {"metrics": exposition(edge_metrics(bus))}
                case "flood":
                    return await flood(bus, command["node"], command["count"])
                case "hold":  # so many descriptors, or as many as there are
                    return hold(command["count"])
            return await bus.ping(command["node"], count=command["count"], interval=0.02)

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
            if "do" in command:
                say(**await do(command))
                continue
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
