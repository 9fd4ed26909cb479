"""The broker's listeners and connections.

A message is acknowledged when `handle` says so: for what goes into the store, when it is durable. Lives elsewhere: one connection (connection.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from kubeedge.kit.acceptor import Accepted, Acceptor, in_tasks, open_transport
from kubeedge.kit.client_network import client_network
from kubeedge.kit.connection_limiter import ConnectionLimits
from kubeedge.kit.dataclasses import replace
from kubeedge.kit.held_bytes import HeldBytes
from kubeedge.kit.peer_user import peer_user
from kubeedge.kit.streams import listening_socket
from kubeedge.kit.tasks import TaskSet
from kubeedge.mqtt import codec
from kubeedge.mqtt.admission import Admit, Handle, MqttListener, MqttPeer, certificate_names
from kubeedge.mqtt.codec import Connect, Publish
from kubeedge.mqtt.core import Broker, ClientRights, MqttSession
from kubeedge.mqtt.turns import LoopTurns

if TYPE_CHECKING:
    from kubeedge.mqtt.connection import MqttConnection

log = logging.getLogger("kubeedge.mqtt")

_READ = 32 * 1024  # bytes at once, and of the buffers between the kernel and us: there are hundreds of clients
_FIRST_BYTE = 5.0  # seconds until a client says something
#: bytes of packets that have not come to their ends, of messages on their way and of wills, of all clients
_HELD = 8 * 1024 * 1024
#: of clients that have not sent CONNECT; those that have are bounded by the sessions. A silent one costs a descriptor and no more
_CONNECTIONS = ConnectionLimits(silent=256, first_byte=_FIRST_BYTE, queued=128, unauthenticated=64)


class _NoRights:
    """Of a client whose session has ended."""

    name = "nobody"

    def may_publish(self, topic: str) -> bool:
        return False

    def may_receive(self, topic: str) -> bool:
        return False


class MqttServer:
    """`handle` gets every message of every client. `limits`: of connections, but for the sessions, which the broker bounds.

    Clients are programs of this machine: connections and sessions count by the user whose programs they are, and when there are too many, the
    user that has the most gives way to one that has fewer."""

    def __init__(
        self, broker: Broker, handle: Handle, *, limits: ConnectionLimits = _CONNECTIONS, admit: Admit | None = None
    ) -> None:
        """`admit`: who may do what; None: everyone everything."""
        self.broker = broker
        self.admit = admit
        #: a client has said goodbye, and has no session that it could go on with: it sends nothing again
        self.ended: Callable[[str], None] = lambda client: None
        self.refused = 0  # clients and messages that had no right, since the start
        self._tls: dict[tuple[str, int], Callable[[], ssl.SSLContext]] = {}  # by address and port of the listener
        self._handle = handle
        self._limits = replace(limits, authenticated=broker.limits.sessions)
        self._connections: dict[str, MqttConnection] = {}
        self.held = HeldBytes(_HELD)
        self.space = memoryview(bytearray(_READ))
        self.turns: LoopTurns  # these two once it runs
        self.acceptor: Acceptor

    async def serve(self, listeners: Sequence[MqttListener], ready: Callable[[Sequence[int]], None]) -> None:
        """Until it is cancelled; `ready` gets the ports. Raises OSError when one is taken."""
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(listening_socket(one.address, one.port)) for one in listeners]
            for one, listening in zip(listeners, sockets, strict=True):
                if one.tls is not None:
                    self._tls[_at(listening)] = one.tls
            self.turns = LoopTurns()
            async with TaskSet("MQTT clients") as tasks:
                self.acceptor = Acceptor(self._limits, in_tasks(tasks, self._serve, "MQTT client"), owner=_user)
                ready([listening.getsockname()[1] for listening in sockets])
                await self.acceptor.run(sockets)

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False, only: str = "") -> None:
        """A message of our own. `only`: for that client."""
        self.broker.publish(Publish(topic, payload, qos, retain), only=only)
        self.wake()

    def rights(self, client: str) -> ClientRights | None:
        """Of a client that has a session; None: all."""
        session = self.broker.sessions.get(client)
        return session.rights if session is not None else None if self.admit is None else _NoRights()

    def recheck(self, still: Callable[[ClientRights], bool]) -> None:
        """Clients whose rights are not what they were are sent away: they may come again."""
        for connection in list(self._connections.values()):
            if (rights := connection.rights) is not None and not still(rights):
                connection.end(codec.NOT_AUTHORIZED)

    def hears(self, topic: str) -> bool:
        """Somebody has subscribed to the topic."""
        return self.broker.hears(topic)

    def wake(self) -> None:
        """Send what the broker has for connected clients."""
        if self.broker.woken:
            woken, self.broker.woken = self.broker.woken, set()
            for client in woken:
                if (connection := self._connections.get(client)) is not None:
                    connection.push()

    async def _serve(self, accepted: Accepted) -> None:
        from kubeedge.mqtt.connection import MqttConnection  # with the first client

        try:
            accepted.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _READ)
            make = self._tls_of(accepted.socket)
            uid = peer_user(accepted.socket) if make is None else None
            tls = await asyncio.to_thread(make) if make is not None else None
            peer = MqttPeer(accepted.address, uid, make is not None)
            transport, connection = await open_transport(
                accepted.socket, lambda: MqttConnection(self, accepted, peer), tls=tls
            )
            if tls is not None:
                connection.certified(certificate_names(transport.get_extra_info("peercert")))
        except (OSError, ValueError) as exc:
            log.info("client %s: %s", accepted.address, str(exc) or "it has closed the connection")
            accepted.socket.close()
            return
        try:
            with contextlib.suppress(ConnectionError, TimeoutError):
                await connection.run()
        finally:
            self.held.release(connection)
            connection.abort()

    def _tls_of(self, connection: socket.socket) -> Callable[[], ssl.SSLContext] | None:
        if not self._tls:
            return None
        address, port = _at(connection)
        return next(
            (make for (at, of), make in self._tls.items() if of == port and at in (address, "0.0.0.0", "::")), None
        )

    def enter(
        self, connection: MqttConnection, packet: Connect, rights: ClientRights | None
    ) -> tuple[MqttSession, bool] | None:
        """As Broker.connect. Another connection of this client is cut off, and its will is done. Raises MqttError."""
        if (known := self.broker.sessions.get(packet.client_id)) is not None:
            known.check(rights)
        if (old := self._connections.get(packet.client_id)) is not None:
            old.end(codec.TAKEN_OVER)  # and its share is this one's
        if not connection.counts():
            return None
        found = self.broker.connect(packet, asyncio.get_running_loop().time(), rights)
        if found is not None:
            self._connections[packet.client_id] = connection
            wills, self.broker.wills = self.broker.wills, []
            for will in wills:
                self._will(will, session=found[0])
        return found

    def leave(
        self,
        connection: MqttConnection,
        session: MqttSession,
        *,
        with_will: bool,
        expiry: int | None,
        said_goodbye: bool,
    ) -> None:
        """Its connection has ended. One that was taken over has no session any more."""
        if self._connections.get(session.client_id) is not connection:
            return
        del self._connections[session.client_id]
        now = asyncio.get_running_loop().time()
        if (will := self.broker.closed(session, now, with_will=with_will, expiry=expiry)) is not None:
            self._will(will, session)
        if said_goodbye and session.client_id not in self.broker.sessions:
            self.ended(session.client_id)

    def _will(self, will: Publish, session: MqttSession) -> None:
        """Unless the client has lost the right to say it since it came."""
        if session.rights is None or session.rights.may_publish(will.topic):
            self.received(will, session.client_id)
        else:
            self.refused += 1

    def received(self, message: Publish, sender: str) -> asyncio.Future[None] | None:
        """A message of a client; as Handle."""
        self.broker.publish(message, sender)
        future = self._handle(message, sender)  # whose answers come after it
        self.wake()
        return future


def _at(connection: socket.socket) -> tuple[str, int]:
    address, port = connection.getsockname()[:2]
    return str(address).removeprefix("::ffff:"), int(port)


def _user(connection: socket.socket, address: str) -> str:
    user = peer_user(connection)
    return client_network(address) if user is None else f"user {user}"
