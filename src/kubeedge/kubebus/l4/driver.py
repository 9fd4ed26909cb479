"""L4 connections as asyncio streams: `connect` and `listen` give real StreamReader and StreamWriter, with back pressure.

All decisions live in the core: the one in C (_fastpath/l4), whose connections live in the data plane's thread, so only bytes and
notifications pass here. A core without a thread (tests) gets its segments and its one timer here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

from kubeedge._fastpath.l4_state import ConnectionState
from kubeedge._fastpath.plane import L4, L4Connection
from kubeedge.api.names import L4Port, NodeNumber
from kubeedge.errors import Unavailable
from kubeedge.kit.streams import ConnectionHandler

log = logging.getLogger("kubeedge.kubebus.l4")

ConnectionKey = tuple[NodeNumber, L4Port, L4Port]  # peer, local port, remote port

KEEPALIVE = 120.0  # seconds of silence after which the peer of an idle connection is asked
_READ_LIMIT = 256 * 1024  # bytes in a StreamReader before reading pauses
PER_NODE = 512  # connections of one node to one port: the core has room for 16,384, but each costs a task and the buffers of asyncio
#: connections in a second that reach us, of a node and of a tenant's nodes together: each takes 0.2 ms of the loop, on a small machine several times that
PACE = (200, 1000)
#: bytes that a connection has not taken because memory is short: a head of 64 KiB, or a piece of a body, of a writer that waits then
_WAITING_LIMIT = 256 * 1024


class L4Endpoint:
    """`core`: a tenant's connections, as Plane.l4 makes them. `send(number, segment)` hands a segment of a core without a plane to the wire,
    where it may be lost."""

    def __init__(self, send: Callable[[NodeNumber, bytes], Any] | None = None, *, core: L4) -> None:
        self._send = send
        self._core = core
        self._fast = core if core.fileno() >= 0 else None
        self._loop = asyncio.get_running_loop()
        if self._fast is not None:
            self._loop.add_reader(core.fileno(), self._on_news)
        self._transports: dict[ConnectionKey, _Transport] = {}
        self._handlers: dict[L4Port, ConnectionHandler] = {}
        self._per_node: dict[L4Port, int] = {}
        self._accepted: Counter[tuple[NodeNumber, L4Port]] = Counter()  # that are open, by peer and our port
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._settling = False

    async def connect(
        self, number: NodeNumber, port: L4Port, *, timeout: float = 10.0
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Raises Unavailable: refused, or no answer in time."""
        key = self._core.connect(number, port, self._loop.time())
        transport = self._open(key)
        self._settle()
        try:
            async with asyncio.timeout(timeout):
                await transport.established
        except TimeoutError:
            transport.abort()
            raise Unavailable(f"node {number} does not answer on port {port} within {timeout:g} s") from None
        except BaseException:
            transport.abort()
            raise
        return transport.reader, transport.writer

    async def listen(self, port: L4Port, handler: ConnectionHandler, *, per_node: int = PER_NODE) -> None:
        """`handler(reader, writer)` runs in a task of its own for each connection. What a node opens beyond `per_node` is reset."""
        self._core.listen(port)
        self._handlers[port] = handler
        self._per_node[port] = per_node

    def unlisten(self, port: L4Port) -> None:
        """New connections to the port are refused; those that exist go on."""
        self._core.unlisten(port)
        self._handlers.pop(port, None)

    def receive(self, source: NodeNumber, segment: bytes) -> None:
        """A segment that came from a node: without its frame header, and with the source already checked."""
        self._core.receive(source, segment, self._loop.time())
        self._settle_soon()

    def reset_peer(self, number: NodeNumber, reason: str) -> None:
        """Every connection with that node is reset: it is known to have restarted."""
        self._core.reset_peer(number, reason)
        self._settle()

    @property
    def fast(self) -> L4 | None:
        """The core in the data plane; None: there is none."""
        return self._fast

    @property
    def connections(self) -> int:
        """The number of connections, half-open and closing ones included."""
        return len(self._core.connections)

    async def close(self) -> None:
        """Resets every connection, cancels the handlers and waits for them."""
        for transport in list(self._transports.values()):
            transport.abort()
        self._settle()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._timer:
            self._timer.cancel()
        if self._fast is not None and self._fast.fileno() >= 0:
            self._loop.remove_reader(self._fast.fileno())
            self._fast.close()

    # -- inside --------------------------------------------------------------------------------------------------------

    def _open(self, key: ConnectionKey) -> _Transport:
        connection = self._core.connections[key]
        connection.keepalive(KEEPALIVE)
        transport = _Transport(self, key, connection, self._loop)
        self._transports[key] = transport
        return transport

    def _on_news(self) -> None:
        self._core.collect()
        self._settle()

    def _settle_soon(self) -> None:
        """Segments come in bursts: one round of work for all of them."""
        if not self._settling:
            self._settling = True
            self._loop.call_soon(self._settle)

    def _settle(self) -> None:
        """Send what waits, tell the streams what changed, arm the timer."""
        self._settling = False
        core = self._core
        for key in core.accepted:
            self._accept(key)
        core.accepted.clear()
        while core.changed:
            key = core.changed.pop()
            transport = self._transports.get(key)
            if transport is not None:
                transport.update()
        for number, segment in core.segments_to_send():
            if self._send is not None:
                self._send(number, segment)
        self._arm()

    def _accept(self, key: ConnectionKey) -> None:
        handler = self._handlers.get(key[1])
        connection = self._core.connections.get(key)
        if connection is None:
            return
        whose = key[0], key[1]
        if self._accepted[whose] >= self._per_node.get(key[1], PER_NODE):
            self._core.drop(key)  # which resets it
            return
        self._accepted[whose] += 1
        transport = self._open(key)
        transport.accepted = True
        transport.update()
        if handler is None:
            transport.abort()
            return
        task = self._loop.create_task(self._handle(handler, transport), name=f"l4 connection on port {key[1]}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handle(self, handler: ConnectionHandler, transport: _Transport) -> None:
        try:
            await handler(transport.reader, transport.writer)
        except (OSError, Unavailable, EOFError) as exc:
            log.debug("connection ended: %s", exc)
        except Exception:
            log.exception("handler of an l4 connection failed")
        finally:
            with contextlib.suppress(OSError):
                transport.writer.close()

    def _arm(self) -> None:
        at = self._core.next_timer()
        if self._timer is not None:
            if at is not None and self._timer.when() == at:
                return
            self._timer.cancel()
            self._timer = None
        if at is not None:
            self._timer = self._loop.call_at(at, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._core.handle_timer(self._loop.time())
        self._settle()

    def _forget(self, key: ConnectionKey) -> None:
        transport = self._transports.pop(key, None)
        if transport is not None and transport.accepted:
            whose = key[0], key[1]
            self._accepted[whose] -= 1
            if not self._accepted[whose]:
                del self._accepted[whose]
        self._core.drop(key)


def ask_peer(writer: asyncio.StreamWriter, idle: float) -> None:
    """After so many seconds of silence the peer of an L4 connection is asked whether it is there, in place of KEEPALIVE; other streams are left
    alone."""
    if isinstance(writer.transport, _Transport):
        writer.transport.keepalive(idle)


class _Transport(asyncio.Transport):
    """asyncio's face of one connection."""

    def __init__(
        self, endpoint: L4Endpoint, key: ConnectionKey, connection: L4Connection, loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__({"peername": (key[0], key[2]), "sockname": (0, key[1])})
        self._endpoint = endpoint
        self._key = key
        self._connection = connection
        self._loop = loop
        self.reader = asyncio.StreamReader(_READ_LIMIT, loop=loop)
        self._protocol = asyncio.StreamReaderProtocol(self.reader, loop=loop)
        self.writer = asyncio.StreamWriter(self, self._protocol, self.reader, loop)
        self.established: asyncio.Future[None] = loop.create_future()
        self._reading = True
        self._write_paused = False
        self._eof_told = False
        self._closing = False
        self._lost = False
        self.accepted = False  # it was opened by the peer, and counts with the peer's
        self._waiting = bytearray()  # what the connection has not taken yet
        self._ends = False  # after that
        self._protocol.connection_made(self)

    def keepalive(self, idle: float) -> None:
        """Seconds of silence after which the peer is asked."""
        if not self._lost:
            self._connection.keepalive(idle)
            self._changed()

    # -- what changed below --------------------------------------------------------------------------------------------

    def update(self) -> None:
        c = self._connection
        if c.state in (ConnectionState.ESTABLISHED, ConnectionState.CLOSED) and not self.established.done():
            self.established.set_result(None)
        if self._reading and not self._lost:
            data = c.read(self._loop.time(), _READ_LIMIT)
            if data and not self._closing:
                self._protocol.data_received(data)
            if data:
                self._endpoint._core.touch(self._key)
        if c.at_eof() and not self._eof_told and self._reading:
            self._eof_told = True
            self._protocol.eof_received()
        if self._waiting and c.may_write():
            del self._waiting[: c.send(bytes(self._waiting), self._loop.time())]
            if not self._waiting and self._ends:
                c.finish(self._loop.time())
            self._endpoint._core.touch(self._key)
        if self._write_paused and c.may_write() and not self._waiting:
            self._write_paused = False
            self._protocol.resume_writing()
        match c.state:
            case ConnectionState.RESET:
                self._lose(ConnectionResetError(c.error or "reset"))
            case ConnectionState.CLOSED if self._closing or (self._eof_told and not self.get_write_buffer_size()):
                self._lose(None)

    def _lose(self, error: Exception | None) -> None:
        if self._lost:
            return
        self._lost = True
        if not self.established.done():
            self.established.set_exception(Unavailable(str(error) if error else "closed"))
        if not self.established.cancelled():
            self.established.exception()  # the caller that waited has its exception; it is not to be logged as never retrieved
        self._endpoint._forget(self._key)
        self._loop.call_soon(self._protocol.connection_lost, error)

    # -- asyncio's side ------------------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._lost or self._closing or self._ends:
            return
        taken = 0 if self._waiting else self._connection.send(bytes(data), self._loop.time())
        self._waiting += memoryview(data)[taken:]
        if len(self._waiting) > _WAITING_LIMIT:
            self._connection.abort("no memory")
        self._changed()
        if not self._write_paused and (self._waiting or not self._connection.may_write()):
            self._write_paused = True
            self._protocol.pause_writing()

    def write_eof(self) -> None:
        if not self._lost:
            self._finish()

    def _finish(self) -> None:
        self._ends = True
        if not self._waiting:
            self._connection.finish(self._loop.time())
        self._changed()

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        """Send what was written, and discard what still arrives."""
        if self._closing or self._lost:
            return
        self._closing = True
        self._reading = True
        self._finish()
        self._loop.call_later(30.0, self.abort)  # a peer that never ends its side does not keep us

    def abort(self) -> None:
        if not self._lost:
            self._connection.abort("aborted")
            self._changed()

    def is_closing(self) -> bool:
        return self._closing or self._lost

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        self._endpoint._core.changed.add(self._key)
        self._endpoint._settle_soon()

    def is_reading(self) -> bool:
        return self._reading

    def get_write_buffer_size(self) -> int:
        return self._connection.buffered + len(self._waiting)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """The connection's own limit holds."""

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.StreamReaderProtocol)
        self._protocol = protocol

    def _changed(self) -> None:
        self._endpoint._core.touch(self._key)
        self._endpoint._settle_soon()
