"""`make bench NAME=sync`: what sync costs on the wire and on flash. The product's hubs and SQLite stores over TLS, in a network namespace.

change both ways   one field of a 10 KB object changes in the cloud, and one of another 10 KB object at the edge: bytes of TCP payload in
                   both directions, so with TLS, WebSocket and the acknowledgements of sync
reconnect          10 of 10,000 objects (1 KB that nothing can compress) change while the node is away. Ratio of all messages of the
                   channel, both directions, to keys and values that changed; with the handshakes of TLS and HTTP beside it. Round trips
                   of a wire of 100 ms from the moment at which the channel is attached
idle day           IP packets on the wire and commits of both stores over IDLE seconds, times the rest of a day. A commit is one fsync;
                   what the agent's own modules would write is measured by the demo, which runs them
snapshot           1 of the 10,000 objects differs, and the history is compacted: bytes against those of all objects
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from kubeedge._fastpath import libc

from bench.report import Report
from kubeedge.hub.driver import Channel
from kubeedge.hub.module import EdgeHub, EdgeHubSettings
from kubeedge.store.model import Put
from kubeedge.store.sqlite import SqliteStore, open_sqlite
from kubeedge.sync.driver import run_edge
from kubeedge.sync.progress import Progress
from kubeedge_cloud.cloudhub.module import CloudHub, CloudHubSettings
from tests.kit.certs import Credentials, TestAuthority
from tests.kit.directory import EveryNode
from tests.kit.ports import ADDRESS, ports

CLOUD, EDGE = "/t/default/edge/edge1/desired/", "/desired/"
UP_EDGE, UP_CLOUD = "/reported/", "/t/default/edge/edge1/reported/"
IDLE = 100.0  # seconds: five questions of the keep-alive
DAY = 86_400.0
OBJECTS = 10_000
ROUNDS = 5


class Relay:
    """TCP between edge and cloud: counts payload, and takes `delay` seconds each way."""

    def __init__(self, target: int) -> None:
        self._target = target
        self.bytes = 0
        self.delay = 0.0
        self.port = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        if self._server:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            there, back = await asyncio.open_connection(ADDRESS, self._target)
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        try:
            while data := await reader.read(65536):
                self.bytes += len(data)
                if self.delay:
                    at = loop.time() + self.delay
                    loop.call_at(at, writer.write, data)
                else:
                    writer.write(data)
        finally:
            writer.close()


class Site:
    """A cloud process and an edge, as far as sync goes, with their stores on disk."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        authority = TestAuthority(directory)
        server = authority.issue("cloud", hosts=["127.0.0.1", ADDRESS], uri="spiffe://kubeedge/cloud/hub")
        self._node = authority.issue("edge1", uri="spiffe://kubeedge/tenant/default/node/edge1")
        self._server = server
        (self.port,) = ports(1)
        self.relay = Relay(self.port)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self.cloud = await open_sqlite(self.directory / "cloud.db")
        self.edge = await open_sqlite(self.directory / "edge.db")
        hub = CloudHub(
            CloudHubSettings(address=ADDRESS, port=self.port),
            self.cloud,
            EveryNode(),  # type: ignore[arg-type]  # of a record the hub reads the join only
            _tls(self._server, server=True),
        )
        ready = asyncio.Event()
        self._tasks.append(asyncio.create_task(hub.run(ready)))
        await ready.wait()
        await self.relay.start()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.relay.stop()
        await self.edge.close()
        await self.cloud.close()

    @contextlib.asynccontextmanager
    async def attached(self, port: int) -> AsyncIterator[tuple[EdgeHub, Progress, Progress, list[float]]]:
        """The edge attached, and settled; the last are the moments of attaching."""
        down, up, moments = Progress(), Progress(), []

        async def use(channel: Channel) -> None:
            moments.append(time.monotonic())
            await run_edge(channel, self.edge, down, up)

        hub = EdgeHub(EdgeHubSettings(endpoints=[f"127.0.0.1:{port}"]), _tls(self._node, server=False), use)
        task = asyncio.create_task(hub.run(asyncio.Event()))
        try:
            yield hub, down, up, moments
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def quiet(self) -> None:
        """Until nothing has been sent for a moment."""
        before, same = -1, 0
        while same < 4:
            await asyncio.sleep(0.05)
            same = same + 1 if self.relay.bytes == before else 0
            before = self.relay.bytes


def _tls(credentials: Credentials, *, server: bool) -> Callable[[], ssl.SSLContext]:
    def make() -> ssl.SSLContext:
        context = ssl.create_default_context(
            ssl.Purpose.CLIENT_AUTH if server else ssl.Purpose.SERVER_AUTH, cafile=str(credentials.ca)
        )
        context.load_cert_chain(credentials.cert, credentials.key)
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    return make


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await condition():
            await asyncio.sleep(0.001)


def equal(store: SqliteStore, key: str, value: bytes) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        kv = await store.get(key)
        return kv is not None and kv.value == value

    return check


def large(seed: int, field: int) -> bytes:
    """10 KB of JSON whose text repeats nowhere; `field` stands in the middle."""
    rng = random.Random(seed)
    data = {f"key-{n:03}": f"{rng.getrandbits(400):x}" for n in range(88)}
    data["key-044"] = f"field {field}"
    return json.dumps({"metadata": {"name": "large", "namespace": "default"}, "data": data}).encode()


async def one_change(site: Site, report: Report) -> None:
    down, up = "configmaps/default/large", "pods/default/large"
    await site.cloud.put(CLOUD + down, large(1, 0))
    await site.edge.put(UP_EDGE + up, large(2, 0))
    async with site.attached(site.relay.port):
        await until(equal(site.edge, EDGE + down, large(1, 0)))
        await until(equal(site.cloud, UP_CLOUD + up, large(2, 0)))
        for n in range(1, ROUNDS + 1):
            await site.quiet()
            before = site.relay.bytes
            await site.cloud.put(CLOUD + down, large(1, n))
            await until(equal(site.edge, EDGE + down, large(1, n)))
            await site.edge.put(UP_EDGE + up, large(2, n))
            await until(equal(site.cloud, UP_CLOUD + up, large(2, n)))
            await site.quiet()
            report.add("one field of 10 KB, both ways", site.relay.bytes - before, unit="B", must=600, aim=250)


async def reconnect(site: Site, report: Report) -> None:
    rng = random.Random(4)
    names = [f"configmaps/default/object-{n:05}" for n in range(OBJECTS)]
    for start in range(0, OBJECTS, 1000):
        await site.cloud.txn((), [Put(CLOUD + name, rng.randbytes(1000)) for name in names[start : start + 1000]])
    async with site.attached(site.relay.port):
        await until(lambda: _has(site, names[-1], None))
        await site.quiet()
    for _ in range(ROUNDS):
        changed = 0
        for name in rng.sample(names, 10):
            value = rng.randbytes(1000)
            await site.cloud.put(CLOUD + name, value)
            changed += len(name) + len(value)
            last, newest = name, value
        before, site.relay.delay = site.relay.bytes, 0.05
        async with site.attached(site.relay.port) as (hub, down, _, moments):
            await until(equal(site.edge, EDGE + last, newest))
            took = time.monotonic() - moments[0]
            site.relay.delay = 0.0
            await site.quiet()
            await asyncio.sleep(0.2)
            counters = hub.status.counters
            ratio = (counters.bytes_in + counters.bytes_out) / changed
            assert down.snapshots == 0
        report.add("reconnect: messages / changed bytes", ratio, unit="x", must=1.3, aim=1.15)
        report.add("reconnect: with TLS and HTTP handshakes", (site.relay.bytes - before) / changed, unit="x")
        report.add("reconnect: round trips of 100 ms", took / 0.1, unit="RTT")


async def _has(site: Site, name: str, value: bytes | None) -> bool:
    kv = await site.edge.get(EDGE + name)
    return kv is not None and value in (None, kv.value)


async def snapshot(site: Site, report: Report) -> None:
    value = b"changed" * 10
    await site.cloud.put(CLOUD + "configmaps/default/object-05000", value)
    await site.cloud.compact(site.cloud.revision)
    async with site.attached(site.relay.port) as (hub, down, _, _moments):
        await until(equal(site.edge, EDGE + "configmaps/default/object-05000", value))
        await site.quiet()
        await asyncio.sleep(0.5)
        counters = hub.status.counters
        report.add("snapshot of 10 MB, 1 difference", (counters.bytes_in + counters.bytes_out) / 1000, unit="kB")
        assert down.snapshots == 1


async def idle(site: Site, report: Report) -> None:
    async with site.attached(site.port):
        await asyncio.sleep(2)  # what attaching itself writes
        traffic, commits = _traffic(), site.cloud.revision + site.edge.revision
        start = time.monotonic()
        await asyncio.sleep(IDLE)
        share = DAY / (time.monotonic() - start)
        report.add("idle node, a day on the wire", (_traffic() - traffic) * share / 1e6, unit="MB", must=10, aim=2)
        written = site.cloud.revision + site.edge.revision - commits
        report.add("idle node, fsyncs a day", written * share, unit="", must=1000, aim=200)


def _traffic() -> int:
    """Bytes of IP packets on this namespace's loopback: each crosses it once."""
    for line in Path("/proc/self/net/dev").read_text().splitlines():
        name, _, numbers = line.strip().partition(":")
        if name == "lo":
            return int(numbers.split()[0])
    raise RuntimeError("there is no loopback interface")


async def measure(report: Report) -> None:
    for part in (one_change, _with_many, idle):
        with tempfile.TemporaryDirectory(prefix="kubeedge-bench-") as directory:
            site = Site(Path(directory))
            await site.start()
            try:
                await part(site, report)
            finally:
                await site.stop()


async def _with_many(site: Site, report: Report) -> None:
    await reconnect(site, report)
    await snapshot(site, report)


def main() -> int:
    try:
        libc.unshare(libc.CLONE_NEWNET)
    except OSError as exc:
        print(f"bench/sync needs root for a network namespace of its own: {exc.strerror}")
        return 1
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    report = Report("sync")
    asyncio.run(measure(report))
    return 0 if report.finish() else 1


if __name__ == "__main__":
    sys.exit(main())
