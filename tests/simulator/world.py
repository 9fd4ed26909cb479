"""The world of a story: late timers, a network that breaks, disks that forget what was not synced, processes that die."""

from __future__ import annotations

import asyncio
import random
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from kubeedge.api import keys
from kubeedge.api.names import NodeName, Revision, TenantId
from kubeedge.errors import Unavailable
from kubeedge.hub.driver import Channel, WebSocket
from kubeedge.hub.edgehub import EdgeHub, EdgeHubSettings
from kubeedge.pki.identity import NodeIdentity
from kubeedge.store.memory import MemoryStore
from kubeedge.store.model import Change, Compare, Delete, KeyValue, Op, Put, RangeResult, TxnResult, WatchBatch
from kubeedge.sync.driver import Progress, run_edge
from kubeedge_cloud.cloudhub.module import CloudHub, CloudHubSettings
from tests.kit.virtual_time import VirtualLoop

TENANT = TenantId("default")
SOCKET_BUFFER = 4_000  # bytes on the way in one direction before a sender waits: small, to meet the limit often


class LateLoop(VirtualLoop):
    """Virtual time in which timers may fire late, and so in another order than they were set."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self.asks_the_kernel = False  # no socket and no thread is in this world
        self._rng = rng
        self.lateness = 0.0

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        if self.lateness and self._rng.random() < 0.1:
            when += self._rng.uniform(0, self.lateness)
        return super().call_at(when, callback, *args, context=context)


# -- disks ------------------------------------------------------------------------------------------------------------------


class Disk:
    """What survives. `on_commit(before)` hears of each commit, with the revision before it."""

    def __init__(self, store_id: str) -> None:
        self.data = MemoryStore(store_id=store_id)
        self.on_commit: Callable[[Revision], None] = lambda before: None

    def history(self, key: str) -> Sequence[Change]:
        return self.data._history.get(key, ())

    def live(self, prefix: str) -> dict[str, bytes]:
        end = keys.prefix_end(prefix)
        return {kv.key.removeprefix(prefix): kv.value for kv in self.data.newest_range(prefix, end)}

    async def commit(self, compares: Sequence[Compare], success: Sequence[Op], failure: Sequence[Op]) -> TxnResult:
        before = self.data.revision
        result = await self.data.txn(compares, success, failure)
        if result.revision > before:
            self.on_commit(before)
        return result


class SimStore:
    """A process's store: one commit after the other, each takes time; death in between loses or keeps it, nobody knows.

    As in the product, a caller that is cancelled does not take its transaction back.
    """

    def __init__(self, disk: Disk, rng: random.Random) -> None:
        self.disk = disk
        self._rng = rng
        self._turn = asyncio.Lock()
        self._syncing: tuple[Sequence[Compare], Sequence[Op], Sequence[Op]] | None = None
        self._tasks: set[asyncio.Task[TxnResult]] = set()
        self.dead = False

    @property
    def store_id(self) -> str:
        return self.disk.data.store_id

    @property
    def revision(self) -> Revision:
        return self.disk.data.revision

    @property
    def compacted(self) -> Revision:
        return self.disk.data.compacted

    async def range(
        self, key: str, end: str = "", *, revision: Revision | None = None, limit: int = 0, keys_only: bool = False
    ) -> RangeResult:
        return await self.disk.data.range(key, end, revision=revision, limit=limit, keys_only=keys_only)

    async def get(self, key: str) -> KeyValue | None:
        return await self.disk.data.get(key)

    async def txn(self, compares: Sequence[Compare], success: Sequence[Op], failure: Sequence[Op] = ()) -> TxnResult:
        if self.dead:
            raise Unavailable("the process is dead")
        task = asyncio.get_running_loop().create_task(self._commit(compares, success, failure))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def _commit(self, compares: Sequence[Compare], success: Sequence[Op], failure: Sequence[Op]) -> TxnResult:
        async with self._turn:
            self._syncing = (compares, success, failure)
            await asyncio.sleep(self._rng.choice((0.0, 0.001, 0.01, 0.2)))
            result = await self.disk.commit(compares, success, failure)
            self._syncing = None
        return result

    async def die(self) -> None:
        """What was being synced may be on the disk or not."""
        self.dead = True
        for task in list(self._tasks):
            task.cancel()
        syncing, self._syncing = self._syncing, None
        if syncing and self._rng.random() < 0.5:
            await self.disk.commit(*syncing)

    async def put(self, key: str, value: bytes, lease: int = 0) -> Revision:
        return (await self.txn((), (Put(key, value, lease),))).revision

    async def delete(self, key: str, end: str = "") -> int:
        count = (await self.txn((), (Delete(key, end),))).responses[0]
        assert isinstance(count, int)
        return count

    def watch(self, prefix: str, *, after: Revision, progress: bool = False) -> AsyncIterator[WatchBatch]:
        return self.disk.data.watch(prefix, after=after, progress=progress)

    async def compact(self, revision: Revision) -> None:
        await self.disk.data.compact(revision)

    async def lease_grant(self, ttl: float) -> int:
        raise NotImplementedError

    lease_keepalive = lease_revoke = lease_grant  # type: ignore[assignment]

    async def close(self) -> None:
        pass


# -- the network -------------------------------------------------------------------------------------------------------------


class Wire:
    """Between one edge node and the cloud."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.up = True
        self.delay = 0.01
        self.pipes: list[_Pipe] = []

    def cut(self) -> None:
        """Silently: what is sent now waits for the repair, as TCP would let it."""
        self.up = False

    def repair(self) -> None:
        self.up = True
        for pipe in list(self.pipes):
            pipe.go_on()

    def reset(self) -> None:
        """Every connection breaks, and both ends hear of it."""
        for pipe in list(self.pipes):
            pipe.break_()

    async def connect(self) -> tuple[Socket, Socket]:
        while not self.up:
            await asyncio.sleep(10)  # longer than anybody waits
        await asyncio.sleep(self.delay * 3)
        there, back = _Pipe(self), _Pipe(self)
        return Socket(there, back), Socket(back, there)


class _Pipe:
    """One direction of a connection: in order, one message at a time, bounded."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.sent: deque[bytes | None] = deque()  # on the way; None: the end
        self.arrived: deque[bytes] = deque()
        self.size = 0  # bytes sent and not yet received
        self.ended = False  # the receiver has heard the end, or the connection broke
        self.changed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        wire.pipes.append(self)

    def push(self, message: bytes | None) -> None:
        self.sent.append(message)
        self.size += len(message or b"")
        self.go_on()

    def go_on(self) -> None:
        if self.sent and self._timer is None and self.wire.up:
            delay = self.wire.delay * self.wire.rng.uniform(0.5, 1.5)
            self._timer = asyncio.get_running_loop().call_later(delay, self._arrive)

    def _arrive(self) -> None:
        self._timer = None
        if not self.wire.up or not self.sent:
            return
        message = self.sent.popleft()
        if message is None:
            self.break_()
            return
        self.arrived.append(message)
        self.changed.set()
        self.go_on()

    def break_(self) -> None:
        self.ended = True
        self.sent.clear()
        if self._timer:
            self._timer.cancel()
            self._timer = None
        self.changed.set()
        if self in self.wire.pipes:
            self.wire.pipes.remove(self)


class Socket:
    """What the driver needs of a WebSocket."""

    def __init__(self, out: _Pipe, into: _Pipe) -> None:
        self._out = out
        self._in = into
        self.closed = False

    @property
    def transport(self) -> Any:
        return self

    async def send(self, message: bytes) -> None:
        while self._out.size + len(message) > SOCKET_BUFFER and self._out.size and not self._broken():
            self._out.changed.clear()
            await self._out.changed.wait()
        if self._broken():
            raise ConnectionResetError("connection reset")
        self._out.push(message)

    async def recv(self) -> bytes:
        while not self._in.arrived:
            if self.closed or self._in.ended:
                raise ConnectionResetError("connection reset")
            self._in.changed.clear()
            await self._in.changed.wait()
        message = self._in.arrived.popleft()
        self._in.size -= len(message)
        self._in.changed.set()  # there is room again
        return message

    async def close(self, code: int = 1000, reason: str = "") -> None:
        if not self.closed:
            self.closed = True
            self._out.push(None)

    def abort(self) -> None:
        """The process is done with it; the peer hears of it if the network lets it."""
        if not self.closed:
            self.closed = True
            self._out.sent.clear()
            self._out.push(None)
        self._in.changed.set()
        self._out.changed.set()

    def vanish(self) -> None:
        """Power is off: nobody says anything any more."""
        self.closed = True
        self._out.sent.clear()
        self._in.changed.set()
        self._out.changed.set()

    def _broken(self) -> bool:
        return self.closed or self._out.ended


# -- processes ---------------------------------------------------------------------------------------------------------------


class _Process:
    def __init__(self, disk: Disk, rng: random.Random) -> None:
        self.rng = rng
        self.store = SimStore(disk, rng)
        self.tasks: set[asyncio.Task[None]] = set()
        self.sockets: list[Socket] = []

    def spawn(self, work: Any) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def kill(self, *, power: bool) -> None:
        """power: the machine is off, its peers hear nothing. Otherwise its kernel closes the connections."""
        await self.store.die()
        for connection in self.sockets:
            if power:
                connection.vanish()
            else:
                connection.abort()
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Cloud(_Process):
    def __init__(self, disk: Disk, rng: random.Random) -> None:
        super().__init__(disk, rng)
        self.hub = CloudHub(CloudHubSettings(), self.store, _nobody(), _no_tls)
        self.accepting = False
        self.spawn(self._start())

    async def _start(self) -> None:
        await self.hub.forget_the_past()
        self.accepting = True

    def accept(self, socket: Socket, node: NodeName) -> None:
        self.sockets.append(socket)
        self.spawn(self._hold(socket, node))

    async def _hold(self, socket: Socket, node: NodeName) -> None:
        try:
            await self.hub.hold(socket, NodeIdentity(TENANT, node), "192.0.2.1")
        finally:
            if not self.store.dead:
                socket.abort()
                self.sockets.remove(socket)


class Edge(_Process):
    """Its agent, as far as the hub goes."""

    def __init__(
        self, node: NodeName, disk: Disk, wire: Wire, cloud: Callable[[], Cloud | None], rng: random.Random
    ) -> None:
        super().__init__(disk, rng)
        self.node = node
        self.down, self.up = Progress(), Progress()
        self.hub = _SimEdgeHub(self, wire, cloud)
        self.running = self.spawn(self.hub.run(asyncio.Event()))

    async def use(self, channel: Channel) -> None:
        await run_edge(channel, self.store, self.down, self.up)


class _SimEdgeHub(EdgeHub):
    """The product's hub on a simulated network."""

    def __init__(self, edge: Edge, wire: Wire, cloud: Callable[[], Cloud | None]) -> None:
        super().__init__(EdgeHubSettings(endpoints=["cloud:10000"]), _no_tls, edge.use, rng=edge.rng)
        self._edge = edge
        self._wire = wire
        self._cloud = cloud

    async def _dial(self, endpoint: str) -> socket.socket:
        self._dialled = await self._wire.connect()
        return None  # type: ignore[return-value]

    async def _connect(self, endpoint: str, tcp: socket.socket) -> WebSocket:
        mine, theirs = self._dialled
        cloud = self._cloud()
        if cloud is None or not cloud.accepting:
            raise ConnectionRefusedError("connection refused")
        self._edge.sockets.append(mine)
        cloud.accept(theirs, self._edge.node)
        return mine


class _nobody:
    async def lookup(self, tenant: TenantId, node: NodeName) -> object | None:
        raise AssertionError("identity is settled before a channel is held")


def _no_tls() -> Any:
    raise AssertionError("there is no TLS in the simulator")
