"""One connection of the broker. What comes is decoded, routed and answered in the callback that brings it: a message costs one wake-up.

One task has the connection from CONNECT to its end, and sleeps in between. Halts say why no packets are taken in; while there is one, nothing is read
from the socket, either. Lives elsewhere: which connections there are (driver.py), whose turn it is (turns.py), sessions and subscriptions (core.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Iterator
from typing import Protocol, cast

from kubeedge.kit.acceptor import Accepted
from kubeedge.kit.dataclasses import replace
from kubeedge.kit.held_bytes import HeldBytes
from kubeedge.mqtt import answers, codec
from kubeedge.mqtt.acknowledgements import Acknowledgements
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
    Unsubscribe,
)
from kubeedge.mqtt.core import Broker, ClientRights, MqttSession
from kubeedge.mqtt.keepalive import KeepAlive
from kubeedge.mqtt.outgoing import Outgoing
from kubeedge.mqtt.turns import LoopTurns

log = logging.getLogger("kubeedge.mqtt")

_CONNECT = 5.0  # seconds from its first byte on until a client has said who it is
_STALLED = 60.0  # seconds after which a client that reads nothing is cut off
_AT_ONCE = 8  # filters of a SUBSCRIBE that are compared with what is retained before others have their turn

#: why no packets are taken in: it is not admitted yet; too many of its messages are not on the disk; it does not read; it waits for its turn; it has ended
_ADMISSION, _DISK, _FULL, _TURN, _ENDED = 1, 2, 4, 8, 16


class ConnectionServer(Protocol):
    """What a connection needs of the server that has it (driver.py)."""

    broker: Broker
    held: HeldBytes
    admit: Admit | None
    refused: int
    turns: LoopTurns
    space: memoryview  # for what any socket gives: it is taken out at once

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


class MqttConnection(asyncio.BufferedProtocol):
    """One client, from its CONNECT to its end."""

    __slots__ = (
        *("_accepted", "_acks", "_awaited", "_bye", "_decoder", "_halts", "_holds", "_is_lost", "_keepalive", "_loop", "_out"),
        *("_peer", "_reads", "_rest", "_server", "_session", "_stall", "_task", "transport"),
    )  # fmt: skip

    def __init__(self, server: ConnectionServer, accepted: Accepted, peer: MqttPeer) -> None:
        self._server, self._accepted, self._peer = server, accepted, peer
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._decoder = PacketDecoder()
        self._session: MqttSession | None = None
        self._halts = 0
        #: what the task waits for: CONNECT, then the end, which may be an error, then that the socket is closed
        self._awaited: asyncio.Future[Connect | None] = self._loop.create_future()
        self._out = Outgoing(server.turns, self._hold)
        self._keepalive = KeepAlive(lambda: bool(self._halts), self._silent)
        self._acks = Acknowledgements(self._out.write, self._cut, self._has_room)
        self._reads = True
        self._holds = False  # something of it is counted in the server's held bytes
        self._rest: Iterator[None] | None = None  # of the last packet, whose work takes several turns
        self._stall: asyncio.TimerHandle | None = None
        self._bye: Disconnect | None = None
        self._is_lost = False
        self.transport: asyncio.Transport

    # Its life

    def certified(self, names: tuple[str, ...]) -> None:
        """TLS has verified a certificate with these names, before the client has been admitted."""
        self._peer = replace(self._peer, names=names)

    async def run(self) -> None:
        """Until the client, or something that it does wrong, ends it."""
        try:
            async with asyncio.timeout(_CONNECT):
                connect = await self._awaited
                if connect is None or self._halts & _ENDED:
                    return
                self._awaited = self._loop.create_future()
                if not await self._connected(connect):
                    return
            self._keepalive.begin(connect.keepalive * 1.5)
            self._go_on(_ADMISSION)
            await self._awaited
        except MqttError as exc:
            log.info("client %s: %s", self._session.client_id if self._session else "?", exc)
            if self._session is not None:
                self._out.write(answers.disconnect(self._decoder.version, exc.code))
            else:
                self._out.write(answers.refusal(self._decoder.version, exc.code))
        finally:
            self._stop()
            self._leave()
            await self._close()

    async def _connected(self, packet: Connect) -> bool:
        assigned = "" if packet.client_id else f"auto-{secrets.token_hex(8)}"
        if assigned:
            packet = replace(packet, client_id=assigned)
        rights = await self._server.admit(packet, self._peer) if self._server.admit is not None else None
        if rights is not None and packet.will is not None and not rights.may_publish(packet.will.topic):
            raise MqttError("the will is on a topic that the user may not publish to", codec.NOT_AUTHORIZED)
        found = self._server.enter(self, replace(packet, password=None), rights)
        if found is None:
            self._out.write(answers.refusal(packet.version, codec.QUOTA))
            return False
        session, present = found
        self._session = session
        if packet.will is not None:
            self._server.held.hold(self, "will", len(packet.will.payload) + len(packet.will.topic))
        self._accepted.cut = self._displaced
        self._out.write(answers.connack(packet.version, present, assigned=assigned))
        self.push()
        return True

    @property
    def rights(self) -> ClientRights | None:
        """Of its session; None: all, or there is none yet."""
        return self._session.rights if self._session is not None else None

    def end(self, code: int) -> None:
        """Say why, and close, for another connection. From here on this one takes nothing out of the session, and counts no more: what its
        client does not take at once is lost."""
        self._out.write(answers.disconnect(self._decoder.version, code))
        self._out.flush()
        self._halts |= _ENDED
        self._accepted.ended()
        self._cut()

    def counts(self) -> bool:
        """As a session of its user from now on. False: there are too many, and nobody gives way."""
        return self._accepted.authenticated(self._accepted.owner, self._accepted.owner) is None

    def abort(self) -> None:
        """Close the connection at once, without waiting for what was written."""
        with contextlib.suppress(AttributeError):  # Python 3.11's TLS transport fails when the connection was lost
            self.transport.abort()

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
        self.abort()
        if self._task is not None:
            self._task.cancel()

    def _end(self, exc: Exception | None = None) -> None:
        """No packet is taken in any more; the task does the rest."""
        self._halts |= _ENDED
        if not self._awaited.done():
            self._awaited.set_result(None) if exc is None else self._awaited.set_exception(exc)

    def _stop(self) -> None:
        self._end()
        self._keepalive.stop()
        self._awaited.cancelled() or self._awaited.exception()  # of an end that came while the task did something else
        self._acks.clear()
        self._rest = None
        if self._stall is not None:
            self._stall.cancel()

    async def _close(self) -> None:
        self.transport.close()
        if not self._is_lost:
            self._awaited = self._loop.create_future()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._awaited

    # What the transport says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """After the TLS handshake, where there is one."""
        self.transport = self._out.transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        """All connections have the same one: what it gets is copied before another one asks."""
        return self._server.space

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes of the client are there: works on them at once, if it may."""
        now = self._keepalive.heard_at = self._loop.time()
        self._decoder.push(self._server.space, nbytes)
        if not self._halts and self._server.turns.is_taken:
            self._wait_for_turn()
        if self._halts:
            self._read_or_rest()
            self._hold()
        else:
            self._work(now)

    def eof_received(self) -> None:
        """The client has closed its side, and the transport closes ours."""
        self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing can be sent any more."""
        self._is_lost, self._out.transport = True, None
        self._end()

    def pause_writing(self) -> None:
        """The client reads too little: nothing more for it, or from it, until it has."""
        self._halts |= _FULL
        self._stall = self._loop.call_later(_STALLED, self._cut)

    def resume_writing(self) -> None:
        """It has read most of it."""
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        self._hold()
        self._go_on(_FULL)
        self.push()

    # Packets that come

    def _wait_for_turn(self) -> None:
        self._halts |= _TURN
        self._server.turns.wait(self._on_turn)

    def _on_turn(self) -> None:
        self._halts &= ~_TURN
        if not self._halts:
            self._work(self._loop.time())

    def _go_on(self, halt: int) -> None:
        """That halt is over."""
        self._halts &= ~halt
        if not self._halts:
            self._wait_for_turn()

    def _silent(self) -> None:
        self._out.write(answers.disconnect(self._decoder.version, codec.KEEPALIVE))
        self._end()

    def _has_room(self) -> None:
        self._go_on(_DISK)

    def _work(self, now: float) -> None:
        """Take in the packets that have come, for as long as its turn lasts. What is to be sent goes out at the end, to each client at once."""
        server, decoder = self._server, self._decoder
        until = server.turns.begin(now)
        try:
            while not self._halts:
                if self._rest is not None:
                    if next(self._rest, self) is self:  # that was the last of it
                        self._rest = None
                    self._wait_for_turn()
                elif (packet := decoder.next()) is None:
                    break
                else:
                    self._take(packet)
                    if not decoder.waiting and self._rest is None:
                        break
                    if self._loop.time() >= until:
                        self._wait_for_turn()
        except Exception as exc:  # the task says what it means
            self._end(exc)
        finally:
            server.turns.end(until)
        if self._halts or not self._reads:
            self._read_or_rest()
        if self._holds or decoder.waiting:
            self._hold()

    def _read_or_rest(self) -> None:
        """Nothing is read while nothing is taken in: the kernel holds it, and then the client."""
        self._reads = not self._halts
        if self._reads:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    def _take(self, packet: codec.Packet) -> None:
        session, server, version = self._session, self._server, self._decoder.version
        if session is None:
            self._halts |= _ADMISSION
            if isinstance(packet, Connect) and not self._awaited.done():
                self._awaited.set_result(packet)
            return
        match packet:
            case Publish():
                may = session.rights is None or session.rights.may_publish(packet.topic)
                future = server.received(packet, session.client_id) if may else None
                if not may:
                    self._refused(packet)
                if packet.qos:
                    code = 0 if may else codec.NOT_AUTHORIZED
                    self._acks.add(answers.puback(version, packet.packet_id, code), future)
                    if self._acks.is_full:
                        self._halts |= _DISK
            case Puback():
                server.broker.acknowledged(session, packet.packet_id)
                self.push()
            case Subscribe():
                self._rest = self._subscribe(session, packet)
            case Unsubscribe():
                there = [server.broker.unsubscribe(session, filter_) for filter_ in packet.filters]
                codes = [0 if found else codec.NO_SUBSCRIPTION for found in there]
                self._out.write(answers.unsuback(version, packet.packet_id, codes))
            case Pingreq():
                self._out.write(answers.pingresp())
            case Disconnect():
                self._bye = packet
                self._end()

    def _refused(self, packet: Publish) -> None:
        """MQTT 3.1.1 has no answer for it but the one to what was taken."""
        if not self._server.refused:
            log.warning(
                "%s may not publish to %.200s; others are counted", self.rights and self.rights.name, packet.topic
            )
        self._server.refused += 1

    def _subscribe(self, session: MqttSession, packet: Subscribe) -> Iterator[None]:
        """In several turns: each filter is compared with all that is retained."""
        codes: list[int] = []
        for start in range(0, len(packet.filters), _AT_ONCE):
            codes += self._server.broker.subscribe(session, packet.filters[start : start + _AT_ONCE])
            yield
        self._out.write(answers.suback(self._decoder.version, packet.packet_id, codes))
        self._server.wake()

    # What goes out

    def push(self) -> None:
        """Send what the session has, as long as the client takes it."""
        if self._session is not None:
            session, version = self._session, self._decoder.version
            while session.queue and not self._halts & (_FULL | _ENDED):
                if (message := self._server.broker.take(session)) is None:
                    break  # the client has to acknowledge others first
                self._out.write(answers.publish(version, message))

    def _hold(self) -> None:
        """Count what there is of the client here: its bytes of which no packet was made yet, and ours that it has not read."""
        if not self._is_lost:
            coming, going = self._decoder.waiting, self._out.waiting
            self._holds = bool(coming or going)
            self._server.held.hold(self, "packet", coming)
            self._server.held.hold(self, "out", going)
