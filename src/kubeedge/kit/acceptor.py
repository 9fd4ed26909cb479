"""The accept loop of every listener: takes connections from the kernel, asks the connection limiter, hands over those that are served.

Lives elsewhere: who may come in and who gives way (connection_limiter.py); what is done with a connection (the listener's owner).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import socket
import ssl
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from kubeedge.kit import tcp
from kubeedge.kit.client_network import client_network
from kubeedge.kit.connection_limiter import ConnectionLimiter, ConnectionLimits, Decision, Refusal
from kubeedge.kit.tasks import TaskSet

P = TypeVar("P", bound=asyncio.BaseProtocol)
log = logging.getLogger("kubeedge.acceptor")

BACKLOG = 4096  # connections that the kernel keeps until we take them (net.core.somaxconn bounds it too)
_AT_ONCE = 16  # connections taken in before others have their turn
_TICK = 0.5  # seconds between two looks at those that are silent or stalled
HANDSHAKE = 10.0  # seconds for TLS
_WRITE_BUFFER = 64 * 1024  # bytes that may wait for a client; with TLS asyncio would keep 512 KiB
_NO_DESCRIPTORS = 0.2  # seconds before the next try


class Accepted:
    """One connection. The socket belongs to its handler, and closing it, too; then ended() must be called. It counts to the share of `owner`
    until it is authenticated."""

    __slots__ = ("_acceptor", "_number", "address", "cut", "owner", "socket")

    def __init__(self, acceptor: Acceptor, number: int, connection: socket.socket, address: str, owner: str) -> None:
        self._acceptor, self._number = acceptor, number
        self.socket, self.address, self.owner = connection, address, owner
        self.cut: Callable[[], Any] = connection.close  # how the limiter ends it; set by its handler

    def authenticated(self, tenant: str, identity: str, *, most: int | None = None) -> Refusal | None:
        """Whose it is. A refusal: this one has too many, and the connection is to be closed. Again for the same connection: nothing."""
        return self._acceptor.authenticated(self._number, tenant, identity, most)

    def rests(self, resting: bool) -> None:
        """It waits for a request, or does so no longer: meanwhile it may give way to others."""
        self._acceptor.limiter.rests(self._number, resting)

    def ended(self) -> None:
        """The connection is over and counts no more. Idempotent."""
        self._acceptor.ended(self._number)


def network_of(connection: socket.socket, address: str) -> str | None:
    """By its client network (client_network.py)."""
    return client_network(address)


class Acceptor:
    """`begin` gets each connection that is served; `refused` each that is not, open still: it must close it. `owner`, asked with the
    connection and its address, says to whose share it counts before it is authenticated; None: it is closed at once."""

    def __init__(
        self,
        limits: ConnectionLimits,
        begin: Callable[[Accepted], None],
        *,
        refused: Callable[[socket.socket, Refusal], None] | None = None,
        owner: Callable[[socket.socket, str], str | None] = network_of,
    ) -> None:
        self.limiter = ConnectionLimiter(limits)
        self._begin = begin
        self._refused = refused or (lambda connection, reason: connection.close())
        self._owner = owner
        self._numbers = itertools.count()
        self._waiting: dict[int, Accepted] = {}  # silent or queued: the sockets are ours
        self._serving: dict[int, Accepted] = {}
        self._listeners: dict[
            socket.socket, asyncio.Task[None] | None
        ] = {}  # with their accept loops, while run() runs
        self._tasks: asyncio.TaskGroup | None = None
        self._loop = asyncio.get_running_loop()
        self._shed_at = -math.inf
        self._deadlines = asyncio.Event()  # some connection has one

    async def run(self, listeners: Sequence[socket.socket] = ()) -> None:
        """Until it is cancelled. Those that wait are closed then; those that are served are their owner's business. So are the listeners."""
        for listener in listeners:
            self._listeners[listener] = None
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                for listener in self._listeners:
                    self.add(listener)
                tasks.create_task(self._keep_time(), name="deadlines of connections")
        finally:
            self._tasks = None
            self._listeners.clear()
            waiting, self._waiting = self._waiting, {}
            for accepted in waiting.values():
                self._loop.remove_reader(accepted.socket)
                accepted.socket.close()

    def add(self, listener: socket.socket) -> None:
        """Takes connections from this one too: from now on, or once run() has begun."""
        tasks = self._tasks
        self._listeners[listener] = tasks.create_task(self._accept(listener), name="accept loop") if tasks else None

    def remove(self, listener: socket.socket) -> None:
        """Takes no more from it: its owner may close it at once. Idempotent."""
        if (accepting := self._listeners.pop(listener, None)) is not None:
            accepting.cancel()
            self._loop.remove_reader(listener)  # now, since the number of its descriptor may be another's in a moment

    def enter(self, connection: socket.socket) -> None:
        """Treat a connection as if it had been accepted here."""
        connection.setblocking(False)
        try:
            address = str(connection.getpeername()[0])
            # asyncio does it for its own connections only: head and body of an answer are two writes, and the second would wait 40 ms
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:  # it is gone already
            connection.close()
            return
        if (owner := self._owner(connection, address)) is None:
            connection.close()
            return
        number = next(self._numbers)
        self._waiting[number] = Accepted(self, number, connection, address, owner)
        self._do(self.limiter.arrived(number, owner, self._loop.time()))
        if self.limiter.needs_ticks:
            self._deadlines.set()
        if number in self.limiter.silent:
            self._loop.add_reader(connection, self._spoke, number)

    def authenticated(self, number: int, tenant: str, identity: str, most: int | None) -> Refusal | None:
        """Counts connection `number` for its owner from now on; a Refusal when the owner has `most` already. See Accepted.authenticated."""
        if number not in self._serving:
            return None
        decision = self.limiter.authenticated(number, tenant, identity, self._loop.time(), most=most)
        refusal = next((reason for closed, reason in decision.close if closed == number), None)
        decision.close = [entry for entry in decision.close if entry[0] != number]
        self._do(decision)
        return refusal

    def ended(self, number: int) -> None:
        """Connection `number` is over and counts no more. Idempotent."""
        if self._serving.pop(number, None) is not None:
            self._do(self.limiter.left(number, self._loop.time()))

    async def _accept(self, listener: socket.socket) -> None:
        for turn in itertools.count(1):
            try:
                connection = await _taken(listener)
            except OSError as exc:  # no descriptors left, say: the connections that are there must not pay for it
                self._make_room(exc)
                await asyncio.sleep(_NO_DESCRIPTORS)
                continue
            self.enter(connection)
            if turn % _AT_ONCE == 0:
                await asyncio.sleep(0)

    def _make_room(self, exc: OSError) -> None:
        """Once in a pause, however many listeners notice it."""
        now = self._loop.time()
        if now - self._shed_at > _NO_DESCRIPTORS / 2:
            self._shed_at = now
            log.warning("cannot accept a connection: %s", exc)
            self._do(self.limiter.shed())

    async def _keep_time(self) -> None:
        """Sleeps for as long as nobody is waited for: a timer of each listener would be what wakes an idle machine most."""
        while True:
            await self._deadlines.wait()
            await asyncio.sleep(_TICK)
            self._do(self.limiter.tick(self._loop.time(), self._owes))
            if not self.limiter.needs_ticks:
                self._deadlines.clear()

    def _spoke(self, number: int) -> None:
        accepted = self._waiting[number]
        self._loop.remove_reader(accepted.socket)
        if _is_gone(
            accepted.socket
        ):  # an end is no first byte: thousands at once would each cost a TLS handshake that fails
            del self._waiting[number]
            accepted.socket.close()
            self._do(self.limiter.left(number, self._loop.time()))
            return
        self._do(self.limiter.spoke(number, self._loop.time()))

    def _do(self, decision: Decision) -> None:
        for number, reason in decision.close:
            if (accepted := self._waiting.pop(number, None)) is not None:
                self._loop.remove_reader(accepted.socket)
                self._refused(accepted.socket, reason)
            elif (accepted := self._serving.pop(number, None)) is not None:
                log.debug("connection of %s cut: %s", accepted.address, reason.value)
                accepted.cut()
        for number in decision.start:
            if (accepted := self._waiting.pop(number, None)) is not None:  # None: after the end of the accept loop
                self._serving[number] = accepted
                self._begin(accepted)

    def _owes(self, number: int) -> float:
        """0 while bytes of the other end wait for us: then it is we who are slow."""
        accepted = self._serving.get(number)
        if accepted is None or accepted.socket.fileno() < 0:
            return 0.0
        return tcp.silence(accepted.socket)


async def _taken(listener: socket.socket) -> socket.socket:
    """The next connection. Unlike loop.sock_accept it loses none when it is cancelled at that very moment."""
    while True:
        try:
            return listener.accept()[0]
        except BlockingIOError:
            await tcp.readable(listener)


def _is_gone(connection: socket.socket) -> bool:
    """Of one that can be read: the other end closed it without sending anything."""
    try:
        return not connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


def in_tasks(
    tasks: TaskSet, serve: Callable[[Accepted], Coroutine[Any, Any, None]], name: str
) -> Callable[[Accepted], None]:
    """A `begin` for connections that are served by one task each, which closes the socket."""

    def begin(accepted: Accepted) -> None:
        begun = False
        serving = serve(accepted)

        async def run() -> None:
            nonlocal begun
            begun = True
            await serving

        def ended(_: object) -> None:
            if not begun:  # cut before the first step of the task
                serving.close()
                accepted.socket.close()
            accepted.ended()

        task = tasks.start(run(), name)
        accepted.cut = task.cancel
        task.add_done_callback(ended)

    return begin


async def open_streams(
    connection: socket.socket, *, tls: ssl.SSLContext | None = None, first: bytes = b"", limit: int = 256 * 1024
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Streams of an accepted connection, after TLS if there is to be TLS. `first` was read from it already. Raises OSError; the socket is
    closed then."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit, loop=loop)
    if first:
        reader.feed_data(first)
    transport, protocol = await open_transport(
        connection, lambda: asyncio.StreamReaderProtocol(reader, loop=loop), tls=tls
    )
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def open_transport(
    connection: socket.socket, make: Callable[[], P], *, tls: ssl.SSLContext | None = None
) -> tuple[asyncio.Transport, P]:
    """An accepted connection and the protocol that gets what it brings. As open_streams in all else."""
    extra: dict[str, Any] = {}
    if tls is not None:
        extra = {"ssl": tls, "ssl_handshake_timeout": HANDSHAKE, "ssl_shutdown_timeout": 1.0}
    try:
        transport, protocol = await asyncio.get_running_loop().connect_accepted_socket(make, connection, **extra)
    except BaseException:  # TLS that went wrong is an OSError, too
        connection.close()
        raise
    transport.set_write_buffer_limits(high=_WRITE_BUFFER)
    return transport, protocol
