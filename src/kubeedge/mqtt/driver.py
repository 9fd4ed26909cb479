"""The broker's connections: one task reads, one acknowledges in the order of arrival, one sends what the session has.

A message is acknowledged when `handle` says so: for what goes into the store, when it is durable.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
from collections.abc import Callable, Sequence
from typing import TypeAlias

from kubeedge.kit.acceptor import Accepted, Acceptor, in_tasks, open_streams
from kubeedge.kit.client_network import client_network
from kubeedge.kit.connection_limiter import ConnectionLimits
from kubeedge.kit.dataclasses import replace
from kubeedge.kit.held_bytes import HeldBytes
from kubeedge.kit.peer_user import peer_user
from kubeedge.kit.streams import listening_socket
from kubeedge.kit.tasks import TaskSet
from kubeedge.mqtt import answers, codec
from kubeedge.mqtt.codec import (
    Connect,
    Disconnect,
    MqttError,
    PacketDecoder,
    Pingreq,
    Puback,
    Publish,
    Subscribe,
    Subscription,
    Unsubscribe,
)
from kubeedge.mqtt.core import Broker, MqttSession

log = logging.getLogger("kubeedge.mqtt")

_FIRST_BYTE, _CONNECT = 5.0, 5.0  # seconds until a client says something, and from then on until it has said who it is
_READ = 32 * 1024  # bytes at once, and of the buffers between the kernel and us: there are hundreds of clients
_STALLED = 60.0  # seconds after which a client that reads nothing is cut off
_HELD = (
    8 * 1024 * 1024
)  # bytes of packets that have not come to their ends, of messages on their way and of wills, of all clients
_AT_ONCE = 8  # filters of a SUBSCRIBE that are compared with what is retained before others have their turn
_TURN = 0.002  # seconds that a client's packets may take before others have theirs: thousands come at once, and each may cost milliseconds
#: of clients that have not sent CONNECT; those that have are bounded by the sessions. A silent one costs a descriptor and no more
_CONNECTIONS = ConnectionLimits(silent=256, first_byte=_FIRST_BYTE, queued=128, unauthenticated=64)

#: takes a message of a client, by its identifier, in; the future is done when it may be acknowledged, None: at once
Handle: TypeAlias = Callable[[Publish, str], "asyncio.Future[None] | None"]


class MqttServer:
    """`handle` gets every message of every client. `limits`: of connections, but for the sessions, which the broker bounds.

    Clients are programs of this machine: connections and sessions count by the user whose programs they are, and when there are too many, the
    user that has the most gives way to one that has fewer."""

    def __init__(self, broker: Broker, handle: Handle, *, limits: ConnectionLimits = _CONNECTIONS) -> None:
        self.broker = broker
        self._handle = handle
        self._limits = replace(limits, authenticated=broker.limits.sessions)
        self._connections: dict[str, _Connection] = {}
        self.held = HeldBytes(_HELD)
        self._turns = asyncio.Lock()
        self.acceptor: Acceptor  # once it runs

    async def serve(self, address: str, port: int, ready: Callable[[int], None]) -> None:
        """Until it is cancelled; `ready` gets the port. Raises OSError when the port is taken."""
        with listening_socket(address, port) as listener:
            async with TaskSet("MQTT clients") as tasks:
                self.acceptor = Acceptor(self._limits, in_tasks(tasks, self._serve, "MQTT client"), owner=_user)
                ready(listener.getsockname()[1])
                await self.acceptor.run([listener])

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        """A message of our own."""
        self.broker.publish(Publish(topic, payload, qos, retain))
        self.wake()

    def wake(self) -> None:
        """Send what the broker has for connected clients."""
        woken, self.broker.woken = self.broker.woken, set()
        for client in woken:
            if (connection := self._connections.get(client)) is not None:
                connection.wake.set()

    async def turn(self) -> None:
        """Returns when it is the caller's: in each turn of the loop one client has its packets worked on, in the order of asking."""
        await self._turns.acquire()
        asyncio.get_running_loop().call_soon(self._turns.release)

    async def _serve(self, accepted: Accepted) -> None:
        try:
            accepted.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _READ)
            reader, writer = await open_streams(accepted.socket, limit=_READ)
        except OSError:
            return
        connection = _Connection(self, accepted, reader, writer)
        try:
            with contextlib.suppress(ConnectionError, TimeoutError):
                await connection.run()
        finally:
            self.held.release(connection)
            writer.transport.abort()

    def enter(self, connection: _Connection, packet: Connect) -> tuple[MqttSession, bool] | None:
        """As Broker.connect. Another connection of this client is cut off, and its will is done."""
        if (old := self._connections.get(packet.client_id)) is not None:
            old.end(codec.TAKEN_OVER)  # and its share is this one's
        if not connection.counts():
            return None
        found = self.broker.connect(packet, asyncio.get_running_loop().time())
        if found is not None:
            self._connections[packet.client_id] = connection
            wills, self.broker.wills = self.broker.wills, []
            for will in wills:
                self.received(will, "")
        return found

    def leave(self, connection: _Connection, session: MqttSession, *, with_will: bool, expiry: int | None) -> None:
        """Its connection has ended. One that was taken over has no session any more."""
        if self._connections.get(session.client_id) is not connection:
            return
        del self._connections[session.client_id]
        now = asyncio.get_running_loop().time()
        if (will := self.broker.closed(session, now, with_will=with_will, expiry=expiry)) is not None:
            self.received(will, "")

    def received(self, message: Publish, sender: str) -> asyncio.Future[None] | None:
        """A message of a client; as Handle."""
        self.broker.publish(message, sender)
        future = self._handle(message, sender)  # whose answers come after it
        self.wake()
        return future


class _Connection:
    def __init__(
        self, server: MqttServer, accepted: Accepted, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._server, self._accepted, self._reader, self._writer = server, accepted, reader, writer
        self._task = asyncio.current_task()
        self._decoder = PacketDecoder()
        self._session: MqttSession | None = None
        self.wake = asyncio.Event()
        self._acks: asyncio.Queue[tuple[int, asyncio.Future[None] | None]] = asyncio.Queue(answers.RECEIVE_MAX)
        self._bye: Disconnect | None = None
        self._helpers: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        try:
            async with asyncio.timeout(_CONNECT):
                while (connect := self._decoder.next()) is None:
                    await self._read()
                if not isinstance(connect, Connect) or not await self._connected(connect):
                    return
            await self._converse(connect)
        except MqttError as exc:
            log.info("client %s: %s", self._session.client_id if self._session else "?", exc)
            if self._session is not None:
                self._writer.write(answers.disconnect(self._decoder.version, exc.code))
            else:
                self._writer.write(answers.refusal(self._decoder.version, exc.code))
        finally:
            self._leave()
            with contextlib.suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(1):
                    await self._writer.drain()
                    self._writer.close()
                    await self._writer.wait_closed()

    async def _read(self) -> None:
        """Some more, when no packet is complete."""
        self._server.held.hold(self, "packet", self._decoder.waiting)
        data = await self._reader.read(_READ)
        if not data:
            raise ConnectionResetError
        self._decoder.push(data)

    def abort(self) -> None:
        """Close the connection at once, without waiting for what was written."""
        self._writer.transport.abort()

    async def _connected(self, packet: Connect) -> bool:
        assigned = "" if packet.client_id else f"auto-{secrets.token_hex(8)}"
        if assigned:
            packet = replace(packet, client_id=assigned)
        found = self._server.enter(self, packet)
        if found is None:
            self._writer.write(answers.refusal(packet.version, codec.QUOTA))
            return False
        session, present = found
        self._session = session
        if packet.will is not None:
            self._server.held.hold(self, "will", len(packet.will.payload) + len(packet.will.topic))
        self._accepted.cut = self._displaced
        self._writer.write(answers.connack(packet.version, present, assigned=assigned))
        self.wake.set()
        return True

    async def _converse(self, connect: Connect) -> None:
        limit = connect.keepalive * 1.5 or None
        self._helpers = [asyncio.create_task(self._acknowledge()), asyncio.create_task(self._send())]
        try:
            while True:
                await self._take_all()
                if self._bye is not None:
                    return
                try:
                    async with asyncio.timeout(limit):
                        await self._read()
                except TimeoutError:
                    self._writer.write(answers.disconnect(self._decoder.version, codec.KEEPALIVE))
                    return
                await self._drain()
        finally:
            for task in self._helpers:
                task.cancel()
            await asyncio.gather(*self._helpers, return_exceptions=True)

    async def _take_all(self) -> None:
        """All packets that have come, up to DISCONNECT."""
        now = asyncio.get_running_loop().time
        await self._server.turn()
        since = now()
        while self._bye is None and (packet := self._decoder.next()) is not None:
            await self._take(packet)
            if now() - since > _TURN:
                await self._server.turn()
                since = now()

    async def _take(self, packet: codec.Packet) -> None:
        assert self._session is not None
        session, broker, version = self._session, self._server.broker, self._decoder.version
        match packet:
            case Publish():
                future = self._server.received(packet, session.client_id)
                if packet.qos:
                    await self._acks.put((packet.packet_id, future))  # waits when the client has too many in flight
            case Puback():
                broker.acknowledged(session, packet.packet_id)
                self.wake.set()
            case Subscribe():
                codes = await self._subscribe(session, packet.filters)
                self._writer.write(answers.suback(version, packet.packet_id, codes))
                self._server.wake()
            case Unsubscribe():
                there = [broker.unsubscribe(session, filter_) for filter_ in packet.filters]
                codes = [0 if found else codec.NO_SUBSCRIPTION for found in there]
                self._writer.write(answers.unsuback(version, packet.packet_id, codes))
            case Pingreq():
                self._writer.write(answers.pingresp())
            case Disconnect():
                self._bye = packet

    async def _subscribe(self, session: MqttSession, filters: Sequence[Subscription]) -> list[int]:
        """Each is compared with all that is retained. Raises ConnectionResetError when another connection has taken the session meanwhile."""
        codes: list[int] = []
        for start in range(0, len(filters), _AT_ONCE):
            if self._server.broker.sessions.get(session.client_id) is not session:
                raise ConnectionResetError
            codes += self._server.broker.subscribe(session, filters[start : start + _AT_ONCE])
            await self._server.turn()
        return codes

    async def _acknowledge(self) -> None:
        while True:
            packet_id, future = await self._acks.get()
            if future is not None:
                await asyncio.wait((future,))
                if future.cancelled():  # it is not durable: the client has to send it again
                    self._cut()
                    return
            self._writer.write(answers.puback(self._decoder.version, packet_id))

    async def _send(self) -> None:
        assert self._session is not None
        while True:
            await self.wake.wait()
            self.wake.clear()
            while (message := self._server.broker.take(self._session)) is not None:
                self._writer.write(answers.publish(self._decoder.version, message))
                self._server.held.hold(self, "out", self._writer.transport.get_write_buffer_size())
                try:
                    await self._drain()
                except TimeoutError:
                    self._cut()
                    return
                self._server.held.hold(self, "out", self._writer.transport.get_write_buffer_size())

    async def _drain(self) -> None:
        async with asyncio.timeout(_STALLED):
            await self._writer.drain()

    def end(self, code: int) -> None:
        """Say why, and close, for another connection. From here on this one takes nothing out of the session, and counts no more: what its
        client does not take at once is lost."""
        for task in self._helpers:
            task.cancel()
        with contextlib.suppress(ConnectionError, RuntimeError):
            self._writer.write(answers.disconnect(self._decoder.version, code))
        self._accepted.ended()
        self._cut()

    def counts(self) -> bool:
        """As a session of its user from now on. False: there are too many, and nobody gives way."""
        return self._accepted.authenticated(self._accepted.owner, self._accepted.owner) is None

    def _displaced(self) -> None:
        """For a session of another user, which is to find room now."""
        self.end(codec.QUOTA)
        self._leave()

    def _leave(self) -> None:
        if self._session is not None:
            with_will = self._bye is None or self._bye.with_will
            expiry = self._bye.expiry if self._bye is not None else None
            self._server.leave(self, self._session, with_will=with_will, expiry=expiry)

    def _cut(self) -> None:
        """Its task may wait for something else than for its client."""
        self._writer.transport.abort()
        if self._task is not None:
            self._task.cancel()


def _user(connection: socket.socket, address: str) -> str:
    user = peer_user(connection)
    return client_network(address) if user is None else f"user {user}"
