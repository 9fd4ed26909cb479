"""The world of a scenario: a network that breaks, and processes that die.

Lives elsewhere: disks and stores (disks.py), time (loop.py).
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from typing import Any

from kubeedge.api.names import NodeName, TenantId
from kubeedge.errors import KubeEdgeError
from kubeedge.hub.driver import Channel, ChannelSocket
from kubeedge.hub.module import EdgeHub, EdgeHubSettings
from kubeedge.kit.signal import Signal
from kubeedge.pki.identity import NodeIdentity
from kubeedge.sync.driver import run_edge
from kubeedge.sync.progress import Progress
from kubeedge_cloud.cloudhub.module import CloudHub, CloudHubSettings
from tests.kit.directory import EveryNode
from tests.simulator.disks import Disk, SimStore
from tests.simulator.sqlite_disks import SimSqlite

TENANT = TenantId("default")
SOCKET_BUFFER = 4_000  # bytes on the way in one direction before a sender waits: small, to meet the limit often


# -- the network -------------------------------------------------------------------------------------------------------------


class Wire:
    """Between one edge node and the cloud. A connection delivers in order, once and whole, as TCP and TLS do, or breaks; beyond that
    messages may be delivered twice, or overtake those of another kind: what must end in agreement all the same."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.up = True
        self.delay = 0.01
        self.duplicates = 0.0  # probability for a message
        self.reorders = 0.0  # likewise, with the next message of another kind
        self.pipes: list[_Pipe] = []
        self.on_message: Callable[[bytes], None] = lambda message: None

    def cut(self) -> None:
        """Silently: what is sent now waits for the repair, as TCP would let it."""
        self.up = False

    def repair(self) -> None:
        self.up = True
        for pipe in list(self.pipes):
            pipe.go_on()

    def stall(self, seconds: float) -> None:
        """The connections that there are stand still for so long, and then go on; new ones work. So two of one node overlap."""
        now = asyncio.get_running_loop().time()
        for pipe in self.pipes:
            pipe.stalled_until = max(pipe.stalled_until, now + seconds)
            pipe.stand()
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
    """One direction of a connection: one message at a time, bounded."""

    __slots__ = ("_timer", "arrived", "ended", "room", "sent", "size", "stalled_until", "there", "wire")

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.sent: deque[bytes | None] = deque()  # on the way; None: the end
        self.arrived: deque[bytes] = deque()
        self.size = 0  # bytes sent and not yet received
        self.ended = False  # the receiver has heard the end, or the connection broke
        self.stalled_until = 0.0
        self.there = Signal()  # for the receiver
        self.room = Signal()  # for the sender
        self._timer: asyncio.TimerHandle | None = None
        wire.pipes.append(self)

    def push(self, message: bytes | None) -> None:
        self.sent.append(message)
        self.size += len(message or b"")
        self.go_on()

    def go_on(self) -> None:
        if self.sent and self._timer is None and self.wire.up:
            loop = asyncio.get_running_loop()
            delay = self.wire.delay * self.wire.rng.uniform(0.5, 1.5)
            self._timer = loop.call_at(max(loop.time(), self.stalled_until) + delay, self._arrive)

    def stand(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _arrive(self) -> None:
        self._timer = None
        wire = self.wire
        if not wire.up or not self.sent:
            return
        message = self.sent.popleft()
        if message is None:
            self.break_()
            return
        if wire.reorders and self.sent and (other := self.sent[0]) and other[:1] != message[:1]:
            if wire.rng.random() < wire.reorders:
                self.sent[0], message = message, other
        if wire.duplicates and wire.rng.random() < wire.duplicates:
            self.sent.appendleft(message)
            self.size += len(message)
        wire.on_message(message)
        self.arrived.append(message)
        self.there.set()
        self.go_on()

    def break_(self) -> None:
        self.ended = True
        self.sent.clear()
        self.stand()
        self.wake()
        if self in self.wire.pipes:
            self.wire.pipes.remove(self)

    def wake(self) -> None:
        self.there.set()
        self.room.set()


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
            self._out.room.clear()
            await self._out.room.wait()
        if self._broken():
            raise ConnectionResetError("connection reset")
        self._out.push(message)

    async def recv(self) -> bytes:
        while not self._in.arrived:
            if self.closed or self._in.ended:
                raise ConnectionResetError("connection reset")
            self._in.there.clear()
            await self._in.there.wait()
        message = self._in.arrived.popleft()
        self._in.size -= len(message)
        self._in.room.set()
        return message

    def on_unfinished(self, listener: Callable[[int], None]) -> None:
        """Messages come whole here."""

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
        self._in.wake()
        self._out.wake()

    def vanish(self) -> None:
        """Power is off: nobody says anything any more."""
        self.closed = True
        self._out.sent.clear()
        self._in.wake()
        self._out.wake()

    def _broken(self) -> bool:
        return self.closed or self._out.ended


# -- processes ---------------------------------------------------------------------------------------------------------------


OWNER: ContextVar[Process] = ContextVar("the process that runs")


class Process:
    def __init__(self, name: str, disk: Disk, rng: random.Random) -> None:
        self.name = name
        self.rng = rng
        self._context = copy_context()
        self._context.run(OWNER.set, self)
        self.store: SimStore | SimSqlite = self._context.run(disk.open, rng)
        self.tasks: set[asyncio.Task[None]] = set()
        self.sockets: list[Socket] = []

    @property
    def dead(self) -> bool:
        return self.store.dead

    def spawn(self, work: Any) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, context=self._context.copy())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def kill(self, *, power: bool) -> None:
        """power: the machine is off, its peers hear nothing. Otherwise its kernel closes the connections. Nothing that it does from
        now on reaches a disk or a wire."""
        self.store.die(power=power)
        for connection in self.sockets:
            if power:
                connection.vanish()
            else:
                connection.abort()
        for task in list(self.tasks):
            task.cancel()


class Cloud(Process):
    def __init__(self, disk: Disk, rng: random.Random) -> None:
        super().__init__("cloud", disk, rng)
        self.hub = CloudHub(CloudHubSettings(), self.store, EveryNode(), _no_tls)
        self.accepting = False
        self.spawn(self._start())

    async def _start(self) -> None:
        try:
            await self.hub.forget_the_past()
        except KubeEdgeError:  # its disk is full: somebody starts it again
            self.kill(power=False)
            return
        self.accepting = True
        await self.hub.follow_session_keys()

    def accept(self, socket: Socket, node: NodeName) -> None:
        self.sockets.append(socket)
        self.spawn(self._hold(socket, node))

    async def _hold(self, socket: Socket, node: NodeName) -> None:
        try:
            await self.hub.hold(socket, NodeIdentity(TENANT, node), "192.0.2.1")
        finally:
            if not self.dead:
                socket.abort()
                self.sockets.remove(socket)


class Edge(Process):
    """Its agent, as far as the hub goes."""

    def __init__(
        self, node: NodeName, disk: Disk, wire: Wire, cloud: Callable[[], Cloud | None], rng: random.Random
    ) -> None:
        super().__init__(node, disk, rng)
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

    async def _connect(self, endpoint: str, tcp: socket.socket) -> ChannelSocket:
        mine, theirs = self._dialled
        cloud = self._cloud()
        if cloud is None or not cloud.accepting:
            raise ConnectionRefusedError("connection refused")
        self._edge.sockets.append(mine)
        cloud.accept(theirs, self._edge.node)
        return mine


def _no_tls() -> Any:
    raise AssertionError("there is no TLS in the simulator")
