"""One connection of the broker: one task reads, one acknowledges in the order of arrival, one sends what the session has.

Lives elsewhere: which connections there are (driver.py), sessions and subscriptions (core.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Sequence
from typing import Protocol

from kubeedge.kit.acceptor import Accepted
from kubeedge.kit.dataclasses import replace
from kubeedge.kit.held_bytes import HeldBytes
from kubeedge.kit.streams import StreamPair
from kubeedge.mqtt import answers, codec
from kubeedge.mqtt.admission import Admit, MqttPeer
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
from kubeedge.mqtt.core import Broker, ClientRights, MqttSession

log = logging.getLogger("kubeedge.mqtt")

_CONNECT = 5.0  # seconds from its first byte on until a client has said who it is
READ = 32 * 1024  # bytes at once, and of the buffers between the kernel and us: there are hundreds of clients
_TOGETHER = 8 * 1024  # bytes of messages to a client in one system call, unless one is larger
_STALLED = 60.0  # seconds after which a client that reads nothing is cut off
_AT_ONCE = 8  # filters of a SUBSCRIBE that are compared with what is retained before others have their turn
_TURN = 0.002  # seconds that a client's packets may take before others have theirs: thousands come at once, and each may cost milliseconds


class ConnectionServer(Protocol):
    """What a connection needs of the server that has it (driver.py)."""

    broker: Broker
    held: HeldBytes
    admit: Admit | None
    refused: int

    async def turn(self) -> None:
        """Returns when it is the caller's."""
        ...

    def wake(self) -> None:
        """Send what the broker has for connected clients."""
        ...

    def enter(
        self, connection: MqttConnection, packet: Connect, rights: ClientRights | None
    ) -> tuple[MqttSession, bool] | None:
        """The client's session, and whether it was there; None: there are too many. Raises MqttError."""
        ...

    def leave(
        self,
        connection: MqttConnection,
        session: MqttSession,
        *,
        with_will: bool,
        expiry: int | None,
        said_goodbye: bool,
    ) -> None:
        """The connection has ended."""
        ...

    def received(self, message: Publish, sender: str) -> asyncio.Future[None] | None:
        """A message of the client."""
        ...


class MqttConnection:
    """One client, from its CONNECT to its end."""

    def __init__(self, server: ConnectionServer, accepted: Accepted, streams: StreamPair, peer: MqttPeer) -> None:
        self._server, self._accepted, self._peer = server, accepted, peer
        self._reader, self._writer = streams
        self._task = asyncio.current_task()
        self._decoder = PacketDecoder()
        self._session: MqttSession | None = None
        self.wake = asyncio.Event()
        #: packet identifier, code, what has to be done first
        self._acks: asyncio.Queue[tuple[int, int, asyncio.Future[None] | None]] = asyncio.Queue(answers.RECEIVE_MAX)
        self._is_acknowledging = False  # one that was taken out of these is not written yet
        self._bye: Disconnect | None = None
        self._helpers: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Until the client, or something that it does wrong, ends it."""
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
        data = await self._reader.read(READ)
        if not data:
            raise ConnectionResetError
        self._decoder.push(data)

    @property
    def rights(self) -> ClientRights | None:
        """Of its session; None: all, or there is none yet."""
        return self._session.rights if self._session is not None else None

    def abort(self) -> None:
        """Close the connection at once, without waiting for what was written."""
        self._writer.transport.abort()

    async def _connected(self, packet: Connect) -> bool:
        assigned = "" if packet.client_id else f"auto-{secrets.token_hex(8)}"
        if assigned:
            packet = replace(packet, client_id=assigned)
        rights = await self._server.admit(packet, self._peer) if self._server.admit is not None else None
        if rights is not None and packet.will is not None and not rights.may_publish(packet.will.topic):
            raise MqttError("the will is on a topic that the user may not publish to", codec.NOT_AUTHORIZED)
        found = self._server.enter(self, replace(packet, password=None), rights)
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
                may = session.rights is None or session.rights.may_publish(packet.topic)
                future = self._server.received(packet, session.client_id) if may else None
                if not may:
                    self._refused(packet)
                if packet.qos:
                    await self._to_acknowledge(packet.packet_id, 0 if may else codec.NOT_AUTHORIZED, future)
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

    async def _to_acknowledge(self, packet_id: int, code: int, future: asyncio.Future[None] | None) -> None:
        """At once where nothing has to be waited for; waits when the client has too many in flight."""
        if future is None and self._acks.empty() and not self._is_acknowledging:
            self._writer.write(answers.puback(self._decoder.version, packet_id, code))
        else:
            await self._acks.put((packet_id, code, future))

    def _refused(self, packet: Publish) -> None:
        """MQTT 3.1.1 has no answer for it but the one to what was taken."""
        if not self._server.refused:
            log.warning(
                "%s may not publish to %.200s; others are counted", self.rights and self.rights.name, packet.topic
            )
        self._server.refused += 1

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
        """In the order of arrival. Those that one commit has made durable go out together: a system call for each costs more than the rest."""
        while True:
            packet_id, code, future = await self._acks.get()
            self._is_acknowledging = True
            ready = bytearray()
            while True:
                if future is not None and not future.done():
                    self._writer.write(ready)
                    ready = bytearray()
                    await asyncio.wait((future,))
                if future is not None and future.cancelled():  # it is not durable: the client has to send it again
                    self._writer.write(ready)
                    self._cut()
                    return
                ready += answers.puback(self._decoder.version, packet_id, code)
                if self._acks.empty():
                    break
                packet_id, code, future = self._acks.get_nowait()
            self._writer.write(ready)
            self._is_acknowledging = False

    def push(self) -> None:
        """Send what the session has: at once, if the client has taken all that was sent before."""
        session, transport = self._session, self._writer.transport
        if session is None or not self._helpers or transport.get_write_buffer_size() or transport.is_closing():
            self.wake.set()
            return
        if some := self._next_messages(session):
            self._writer.write(some)
        if size := transport.get_write_buffer_size():
            self._server.held.hold(self, "out", size)
        if size or session.queue:
            self.wake.set()

    async def _send(self) -> None:
        assert self._session is not None
        while True:
            await self.wake.wait()
            self.wake.clear()
            try:
                await self._drain()
            except TimeoutError:
                self._cut()
                return
            self._server.held.hold(self, "out", self._writer.transport.get_write_buffer_size())
            while some := self._next_messages(self._session):
                self._writer.write(some)
                self._server.held.hold(self, "out", self._writer.transport.get_write_buffer_size())
                try:
                    await self._drain()
                except TimeoutError:
                    self._cut()
                    return
                self._server.held.hold(self, "out", self._writer.transport.get_write_buffer_size())

    def _next_messages(self, session: MqttSession) -> bytearray:
        """Some messages of the session, or a large one; empty: there is none that may be sent now."""
        found = bytearray()
        while len(found) < _TOGETHER and (message := self._server.broker.take(session)) is not None:
            found += answers.publish(self._decoder.version, message)
        return found

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
            goodbye = self._bye is not None
            self._server.leave(self, self._session, with_will=with_will, expiry=expiry, said_goodbye=goodbye)

    def _cut(self) -> None:
        """Its task may wait for something else than for its client."""
        self._writer.transport.abort()
        if self._task is not None:
            self._task.cancel()
