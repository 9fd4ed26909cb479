"""`make bench NAME=l4`: KubeBus connections between two hosts: goodput, connections a second, memory of one that is idle.

    python -m bench.l4 [--rounds 3] [--seconds 3] [--idle 2000]

Two data planes with one link between them, no relay's work and no TUN; both hosts share the machine. The engine in C (_fastpath/l4) stands
beside its reference implementation in Python (tests/reference/l4) on two wires: a good one, and one of 200 Mbit/s with 1 % of lost packets and 10 ms one
way, where it is the link's TCP that meets the loss, and L4 the queues and the delay that come of it. The end of a transfer is the
receiver's word that it has all bytes. Memory is what the PSS of the process that opened the connections has grown by, with their asyncio
streams.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.demo.memory import pss
from bench.report import ROOT, Report
from kubeedge.api.names import L4Port, NodeNumber, TenantNumber
from kubeedge.kubebus.l3.plane import Plane, PortClosed, PortConnected, SegmentReceived, TlsContext
from kubeedge.kubebus.l4.driver import L4Endpoint
from tests.kit.certs import Credentials, TestAuthority
from tests.kit.topology import Host, Topology, descendants
from tests.kit.wire import Conditions, LossyWire
from tests.reference.l4.endpoint import EndpointCore

SERVER, CLIENT = "203.0.113.1", "203.0.113.2"
LISTENS = 7000  # TCP, for the link
SINK = L4Port(7)  # L4: reads to the end, answers with the number of bytes
LOSSY = Conditions(rate=200e6, delay=0.010, loss=0.01, queue=1_000_000)
MANY = 16  # connections that share the link
AT_ONCE = 32  # connections that are being opened
CHUNK = 256 * 1024
QUIET = 2.0  # seconds before memory is read


# -- one end, in its host ----------------------------------------------------------------------------------------------


class End:
    """A plane with one link, and the L4 endpoint on it."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._server = config["role"] == "server"
        self._tenant = TenantNumber(1 if self._server else 0)
        self.peer = NodeNumber(1 if self._server else 0)
        self._config = config
        self._plane = Plane(NodeNumber(0 if self._server else 1))
        core: Any
        if config["engine"] == "C":
            core = self._plane.l4(self._tenant)
        else:
            core = EndpointCore(lambda: random.SystemRandom().getrandbits(32))
        self.endpoint = L4Endpoint(lambda number, s: self._plane.send_segment(self._tenant, number, s), core=core)
        self.up = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._plane.fileno(), self._on_events)

    def _on_events(self) -> None:
        for event in self._plane.events():
            match event:
                case PortConnected(port, _):
                    self._plane.admit(port, tenant=self._tenant, number=self.peer, prefixes=[])
                    self.up.set()
                case PortClosed():  # the other end is done, or the bench hears that an end stopped
                    raise SystemExit(0)
                case SegmentReceived(_, _, source, payload):
                    self.endpoint.receive(source, payload)

    async def link(self) -> None:
        c = self._config
        tls = TlsContext(c["ca"], c["cert"], c["key"], server=self._server)
        loop = asyncio.get_running_loop()
        if self._server:
            with socket.create_server((SERVER, LISTENS)) as listener:
                listener.setblocking(False)
                print("listening", flush=True)
                self._plane.add_link((await loop.sock_accept(listener))[0].detach(), tls)
        else:
            self._plane.add_link(
                socket.create_connection((SERVER, LISTENS), timeout=10).detach(), tls, server_name=SERVER
            )
        await self.up.wait()

    async def close(self) -> None:
        await self.endpoint.close()
        asyncio.get_running_loop().remove_reader(self._plane.fileno())
        self._plane.close()


async def sink(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    count = 0
    while data := await reader.read(CHUNK):
        count += len(data)
    writer.write(count.to_bytes(8, "big"))
    writer.write_eof()
    await writer.drain()
    writer.close()


async def pour(end: End, seconds: float) -> int:
    """Bytes that one connection has carried, as its receiver says."""
    reader, writer = await end.endpoint.connect(end.peer, SINK)
    data, until = bytes(CHUNK), time.monotonic() + seconds
    while time.monotonic() < until:
        writer.write(data)
        await writer.drain()
    writer.write_eof()
    count = int.from_bytes(await reader.readexactly(8), "big")
    writer.close()
    return count


async def connects(end: End, seconds: float) -> int:
    """Connections that were opened, used for an answer, and closed."""
    done, until = 0, time.monotonic() + seconds

    async def again_and_again() -> None:
        nonlocal done
        while time.monotonic() < until:
            reader, writer = await end.endpoint.connect(end.peer, SINK)
            writer.write_eof()
            await reader.readexactly(8)
            writer.close()
            done += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(again_and_again())
    return done


async def obey(end: End, held: list[Any], command: dict[str, Any]) -> float:
    """Bytes a second, connections a second, or connections that are held."""
    begun = time.monotonic()
    match command:
        case {"pour": connections, "seconds": seconds}:
            async with asyncio.TaskGroup() as group:
                pouring = [group.create_task(pour(end, seconds)) for _ in range(connections)]
            return sum(task.result() for task in pouring) / (time.monotonic() - begun)
        case {"connects": seconds}:
            return await connects(end, seconds) / (time.monotonic() - begun)
        case {"hold": count}:
            while len(held) < count:
                held += await asyncio.gather(
                    *(end.endpoint.connect(end.peer, SINK) for _ in range(min(AT_ONCE, count - len(held))))
                )
            return len(held)
    raise ValueError(f"unknown command {command}")


async def run(config: dict[str, Any]) -> None:
    end = End(config)
    held: list[Any] = []
    await end.endpoint.listen(SINK, sink)
    await end.link()
    print("up", flush=True)
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        print(json.dumps(await obey(end, held, json.loads(line))), flush=True)
    await end.close()


# -- the bench ---------------------------------------------------------------------------------------------------------


class Remote:
    """An end in another process."""

    def __init__(self, host: Host, engine: str, role: str, who: Credentials) -> None:
        config = {"engine": engine, "role": role, "ca": str(who.ca), "cert": str(who.cert), "key": str(who.key)}
        self.process = subprocess.Popen(
            host.command(sys.executable, "-m", "bench.l4", "--end", json.dumps(config)),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    def said(self, word: str) -> None:
        assert self.process.stdout
        if (line := self.process.stdout.readline().strip()) != word:
            raise RuntimeError(f"{line!r} instead of {word!r}")

    def ask(self, **command: Any) -> float:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"an end stopped while it did {command}")
        return float(json.loads(line))

    def memory(self) -> float:
        return pss(descendants(self.process.pid)[0])

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


@contextmanager
def ends(engine: str, lossy: bool) -> Iterator[tuple[Remote, Remote]]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kbl4")))
        authority = TestAuthority(directory)
        net = stack.enter_context(Topology())
        cloud, edge = net.host("cloud"), net.host("edge")
        if lossy:
            LossyWire(net, cloud, f"{SERVER}/24", edge, f"{CLIENT}/24", LOSSY, fast=True)
        else:
            net.wire(cloud, f"{SERVER}/24", edge, f"{CLIENT}/24")
        who = authority.issue("relay", uri="spiffe://kubeedge/cloud/relay", hosts=[SERVER])
        server = Remote(cloud, engine, "server", who)
        stack.callback(server.close)
        server.said("listening")
        node = authority.issue("node", uri="spiffe://kubeedge/tenant/t1/node/n1")
        client = Remote(edge, engine, "client", node)
        stack.callback(client.close)
        client.said("up")
        server.said("up")
        yield server, client


def measure(out: Report, engine: str, lossy: bool, seconds: float, idle: int) -> None:
    name = f"{engine}, {'lossy' if lossy else 'good'} wire"
    with ends(engine, lossy) as (_, client):
        for connections in (1, MANY):
            goodput = client.ask(pour=connections, seconds=seconds) * 8 / 1e6
            out.add(f"{name}: goodput, connections: {connections}", goodput, unit="Mbit/s", higher=True)
        out.add(f"{name}: connections a second", client.ask(connects=seconds), unit="1/s", higher=True)
    if not lossy:
        with ends(engine, lossy) as (server, client):
            client.ask(hold=AT_ONCE)  # what only the first ones cost
            time.sleep(QUIET)
            before = client.memory(), server.memory()
            client.ask(hold=idle + AT_ONCE)
            time.sleep(QUIET)
            for end, was, now in zip(("opened", "accepted"), before, (client.memory(), server.memory()), strict=True):
                out.add(f"{engine}: memory of an idle connection, {end}", (now - was) / idle / 1024, unit="KiB")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench NAME=l4", description=__doc__)
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("ROUNDS", "3")))
    parser.add_argument("--seconds", type=float, default=3.0, help="of each transfer")
    parser.add_argument("--idle", type=int, default=2000, help="connections whose memory is measured")
    parser.add_argument("--end", help="used by the bench itself: one end in its host")
    options = parser.parse_args()
    if options.end:
        asyncio.run(run(json.loads(options.end)))
        return 0
    if os.geteuid() != 0:
        print("make bench NAME=l4 needs root: it makes network namespaces")
        return 1
    out = Report("l4")
    for _ in range(options.rounds):
        for engine in ("C", "Python"):
            for lossy in (False, True):
                measure(out, engine, lossy, options.seconds, options.idle)
    return 0 if out.finish() else 1


if __name__ == "__main__":
    sys.exit(main())
