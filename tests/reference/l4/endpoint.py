"""All L4 connections of one node, still pure: which connection a segment is for, who listens, what is bounded.

A connection is named by (peer's number, local port, remote port). A SYN for a port where nobody listens, or that finds too many
connections, is answered with RST.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from kubeedge._fastpath.l4_state import ConnectionState

from kubeedge.api.names import L4Port, NodeNumber, TenantNumber
from kubeedge.errors import Misuse, PeerError, Unavailable
from tests.reference.l4 import budget as budgets
from tests.reference.l4.budget import Budget, Node
from tests.reference.l4.core import L4Connection
from tests.reference.l4.segment import ACK, RST, SYN, Segment, decode, encode

MAX_ENDED = 256  # that are remembered, the newest; an ended connection is a few hundred bytes
_FIRST_EPHEMERAL, _LAST_EPHEMERAL = L4Port(32_768), L4Port(65_535)

Key = tuple[NodeNumber, L4Port, L4Port]  # peer, local port, remote port


@dataclass(slots=True)
class EndpointCore:
    """`random_sequence()` gives 32 random bits. Driver: send segments_to_send(); handle_timer at next_timer()."""

    random_sequence: Callable[[], int]
    tenant: TenantNumber = TenantNumber(0)
    budget: int = budgets.BYTES
    beside: EndpointCore | None = None  # an endpoint of the same process: they have one budget
    connections: dict[Key, L4Connection] = field(default_factory=dict)
    accepted: list[Key] = field(default_factory=list)  # established since the driver looked
    changed: set[Key] = field(default_factory=set)  # something to read, to write or to end
    _listening: set[L4Port] = field(default_factory=set)
    _opening: set[Key] = field(default_factory=set)
    _port: L4Port = _FIRST_EPHEMERAL
    _out: list[tuple[NodeNumber, bytes]] = field(default_factory=list)
    _timers: list[tuple[float, Key]] = field(default_factory=list)
    _armed: dict[Key, float] = field(default_factory=dict)
    _ended: dict[Key, L4Connection] = field(default_factory=dict)  # TIME_WAIT: only to answer what is sent again
    refused: int = 0
    _budget: Budget = field(init=False)

    def __post_init__(self) -> None:
        self._budget = self.beside._budget if self.beside else Budget(self.budget)

    def fileno(self) -> int:
        """None: what changed is seen by asking."""
        return -1

    def counters(self) -> dict[str, int]:
        """Of the process."""
        return {"connections": self._budget.held.connections, "bytes": self._budget.held.bytes}

    @property
    def count(self) -> int:
        """Of all connections, half-open ones too."""
        return len(self.connections)

    def listen(self, port: L4Port) -> None:
        if port in self._listening:
            raise Misuse(f"port {port} is listened on already")
        self._listening.add(port)

    def unlisten(self, port: L4Port) -> None:
        self._listening.discard(port)

    def connect(self, peer: NodeNumber, port: L4Port, now: float) -> Key:
        """Raises Unavailable when there are too many."""
        node = self._node(peer)
        if not node.may_connect():
            self._forget(peer)
            raise Unavailable(
                f"too many connections, or too many bytes wait in them, for another to node {peer}", retry_after=1.0
            )
        for _ in range(_LAST_EPHEMERAL - _FIRST_EPHEMERAL + 1):
            local, self._port = self._port, self._port_after(self._port)
            if (peer, local, port) not in self.connections:
                key = (peer, local, port)
                self.connections[key] = L4Connection.connect(local, port, self.random_sequence(), now, node)
                node.add(connections=1)
                self.touch(key)
                return key
        raise Unavailable(f"no free port towards node {peer}", retry_after=1.0)

    @staticmethod
    def _port_after(port: L4Port) -> L4Port:
        return L4Port(port + 1) if port < _LAST_EPHEMERAL else _FIRST_EPHEMERAL

    def receive(self, peer: NodeNumber, data: bytes, now: float) -> None:
        """A segment from a peer; garbage is dropped."""
        try:
            segment = decode(data)
        except PeerError:
            self.refused += 1
            return
        key = (peer, segment.destination_port, segment.source_port)
        connection = self.connections.get(key)
        if connection is None:
            ended = self._ended.get(key)
            if ended is not None and not segment.flags & SYN:
                ended.receive(segment, now)
                self._out += [(peer, encode(s)) for s in ended.segments_to_send()]
                return
            connection = self._maybe_accept(key, segment, now)
            if connection is None:
                return
        else:
            before = connection.state
            connection.receive(segment, now)
            if before is ConnectionState.SYN_RECEIVED and connection.state is ConnectionState.ESTABLISHED:
                self._not_opening(key)
                self.accepted.append(key)
        self.touch(key)

    def _maybe_accept(self, key: Key, segment: Segment, now: float) -> L4Connection | None:
        if segment.flags & RST:
            return None
        node = self._node(key[0])
        listened = segment.flags & (SYN | ACK) == SYN and segment.destination_port in self._listening
        if not listened or not node.may_open():
            self._forget(key[0])
            self.refused += 1
            self._out.append((key[0], encode(_refusal(segment))))
            return None
        connection = L4Connection.accept(segment, self.random_sequence(), now, node)
        self.connections[key] = connection
        self._opening.add(key)
        node.add(connections=1, opening=1)
        return connection

    def _node(self, peer: NodeNumber) -> Node:
        return self._budget.node(self.tenant, peer)

    def _forget(self, peer: NodeNumber) -> None:
        self._budget.forget(self.tenant, peer)

    def _not_opening(self, key: Key) -> None:
        if key in self._opening:
            self._opening.discard(key)
            self._node(key[0]).add(opening=-1)

    def _charge(self, connection: L4Connection) -> None:
        held = connection.held
        connection.node.add(bytes=held - connection.charged)
        connection.charged = held

    def touch(self, key: Key) -> None:
        """After any call on a connection: collect its segments, its timer, and that it changed."""
        connection = self.connections.get(key)
        if connection is None:
            return
        self._out += [(key[0], encode(s)) for s in connection.segments_to_send()]
        self._charge(connection)
        self.changed.add(key)
        at = connection.next_timer()
        if at is None:
            self._armed.pop(key, None)
        elif self._armed.get(key) != at:
            self._armed[key] = at
            heapq.heappush(self._timers, (at, key))

    def drop(self, key: Key) -> None:
        """The driver is done with a connection that has ended."""
        connection = self.connections.pop(key, None)
        if connection is not None and connection.state is ConnectionState.CLOSED:
            self._ended.pop(key, None)
            self._ended[key] = connection
            while len(self._ended) > MAX_ENDED:
                del self._ended[next(iter(self._ended))]
        self._not_opening(key)
        if connection is not None:
            connection.node.add(bytes=-connection.charged, connections=-1)
            connection.charged = 0
            self._forget(key[0])
        self._armed.pop(key, None)
        self.changed.discard(key)

    def reset_peer(self, peer: NodeNumber, reason: str) -> None:
        for key in [k for k in self.connections if k[0] == peer]:
            self.connections[key].abort(reason)
            self.touch(key)

    def next_timer(self) -> float | None:
        while self._timers and self._armed.get(self._timers[0][1]) != self._timers[0][0]:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def handle_timer(self, now: float) -> None:
        while (at := self.next_timer()) is not None and at <= now:
            _, key = heapq.heappop(self._timers)
            self._armed.pop(key, None)
            connection = self.connections[key]
            connection.handle_timer(now)
            if key in self._opening and connection.state is ConnectionState.RESET:
                self.drop(key)
            self.touch(key)

    def segments_to_send(self) -> Iterable[tuple[NodeNumber, bytes]]:
        out, self._out = self._out, []
        return out


def _refusal(s: Segment) -> Segment:
    """RFC 9293, section 3.5.2."""
    end = (s.sequence + len(s.payload) + (1 if s.flags & SYN else 0)) & 0xFFFFFFFF
    sequence = s.acknowledgement if s.flags & ACK else 0
    return Segment(s.destination_port, s.source_port, sequence, end, 0, RST | ACK)
