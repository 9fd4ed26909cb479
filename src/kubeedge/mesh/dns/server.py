"""The DNS server: UDP and TCP on one address of this node, for the pods of this node and for the node itself.

    kept answer -> sent by a thread in C          cluster name -> zone.py          anything else -> upstream.py

The thread (_fastpath/dns/responder.h) answers over UDP what either table of answers has, and queues the rest for the event loop. Answers of the
zone are forgotten when the table of Services changes, so they are right for as long as they are kept.

Bounds: who may ask at all; queries in the queue, for each client; questions to upstream, waiting ones and per second, for each client; connections,
for each client; bytes of what is kept. What comes as a flood is read in portions, between which the agent does its other work.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import struct
from collections import Counter
from collections.abc import Coroutine, Iterable
from typing import TypeAlias

from kubeedge._fastpath.dns import Answers, Responder
from kubeedge.errors import Unavailable
from kubeedge.kit.acceptor import Accepted, Acceptor, in_tasks, open_streams
from kubeedge.kit.bucket import Buckets
from kubeedge.kit.connection_limiter import ConnectionLimits, Refusal
from kubeedge.kit.dataclasses import dataclass, field
from kubeedge.kit.ip import IpNetwork
from kubeedge.kit.streams import abort_writer, close_writer, listening_socket
from kubeedge.kit.tasks import TaskSet
from kubeedge.mesh.dns.message import (
    IN,
    MAX_QUERY,
    MAX_UDP,
    Code,
    Malformed,
    Query,
    Record,
    Type,
    encode_name,
    parse_query,
    records,
    refusal,
    reply,
)
from kubeedge.mesh.dns.upstream import Upstream
from kubeedge.mesh.dns.zone import TTL, Zone, ZoneAnswer, is_reverse

PORT = 53
_Peer: TypeAlias = tuple[str, int] | tuple[str, int, int, int]
_PORTION = 64  # queries that are looked at before other work of the agent is done
_WAITING = 32  # questions of one client that may wait for upstream
_RATE, _BURST = 200.0, 1000.0  # questions of one client to upstream, a second
_CLIENTS = 512
_IDLE = 10.0  # seconds that a connection may be quiet
#: what is answered just now is not cut off for another client; what waits for a question, or for its client to read, is
_CONNECTIONS = ConnectionLimits(
    silent=32, first_byte=_IDLE, queued=0, unauthenticated=64, per_address=8, displace=False
)
_NOTHING = (0, 0, 0, 0)
_CHAIN = 8  # names that may lead to one another
_LONGEST = 300.0  # seconds that an answer is kept


@dataclass(slots=True)
class DnsCounters:
    """Since the start. `refused`: of those who may not ask, of clients beyond their bounds, and what is no query. `kept`: answered by the
    thread, with what is kept."""

    udp: int = 0
    kept: int = 0
    tcp: int = 0
    cluster: int = 0
    forwarded: int = 0
    refused: int = 0
    failed: int = 0
    codes: Counter[int] = field(default_factory=Counter)


class DnsServer:
    """`clients`: networks that may ask. `upstream` None: no name but the zone's is answered. `rate`: queries of one client a second over UDP, 0 for any
    number."""

    def __init__(
        self,
        zone: Zone,
        upstream: Upstream | None,
        address: str,
        clients: Iterable[IpNetwork],
        *,
        port: int = PORT,
        rate: int = 0,
    ) -> None:
        self._zone = zone
        self._upstream = upstream
        self._address, self._port, self._rate = address, port, rate
        self._clients = (*clients, ipaddress.ip_network(address), ipaddress.ip_network("127.0.0.0/8"))
        self._known: dict[str, bool] = {}
        self._cluster = Answers(entries=1024, most=256 * 1024)  # what holds until the table of Services changes
        self._foreign = Answers(entries=1024, most=512 * 1024)
        self._generation = 0  # of the table of Services
        self._buckets: Buckets[str] = Buckets(_RATE, _BURST, _CLIENTS)
        self._waiting: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._responder: Responder | None = None
        self._counters = DnsCounters()
        self._counted = _NOTHING  # of what the responder has counted
        self.acceptor: Acceptor  # once it runs

    def changed(self) -> None:
        """The table of Services is another one."""
        self._generation += 1
        self._cluster.clear()

    @property
    def counters(self) -> DnsCounters:
        """As they are now."""
        if self._responder is not None:
            seen, self._counted = self._counted, self._responder.counts
            queries, kept, refused, dropped = (now - then for now, then in zip(self._counted, seen, strict=True))
            self._counters.udp += queries
            self._counters.kept += kept
            self._counters.refused += refused + dropped
        return self._counters

    @property
    def kept(self) -> dict[str, int]:
        """What the caches hold: their answers, the bytes of those, and how often they were hit."""
        return {
            "answers": len(self._cluster) + len(self._foreign),
            "bytes": self._cluster.size + self._foreign.size,
            "hits": self._cluster.hits + self._foreign.hits,
        }

    async def run(self, ready: asyncio.Event) -> None:
        """Until it is cancelled. Raises OSError when the address or its port cannot be bound."""
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in self._address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as udp:
            udp.setblocking(True)  # the responder's thread sleeps in it
            udp.bind((self._address, self._port))
            with (
                listening_socket(self._address, udp.getsockname()[1]) as listener,
                contextlib.closing(
                    Responder(udp.fileno(), self._cluster, self._foreign, self._clients, self._rate)
                ) as responder,
            ):
                self._responder, self._counted = responder, _NOTHING
                loop.add_reader(responder, self._read, udp, responder)
                try:
                    async with TaskSet("DNS connections") as connections:
                        begin = in_tasks(connections, self._serve, "DNS connection")
                        self.acceptor = Acceptor(_CONNECTIONS, begin, refused=self._refused, owner=self._owner)
                        ready.set()
                        await self.acceptor.run([listener])
                finally:
                    loop.remove_reader(responder)
                    for task in list(self._tasks):
                        task.cancel()
                    await asyncio.gather(*self._tasks, return_exceptions=True)
                    if self._upstream is not None:
                        await self._upstream.close()

    def _may_ask(self, client: str) -> bool:
        known = self._known.get(client)
        if known is None:
            if len(self._known) >= _CLIENTS:
                self._known.clear()
            address = ipaddress.ip_address(client.partition("%")[0])
            known = self._known[client] = any(address in network for network in self._clients)
        return known

    # -- UDP -----------------------------------------------------------------------------------------------------------

    def _read(self, udp: socket.socket, responder: Responder) -> None:
        now = asyncio.get_running_loop().time()
        for data, peer in responder.take(_PORTION):
            answer = self._at_once(data, peer[0], now, tcp=False)
            if isinstance(answer, Query):
                self._later(self._send_later(udp, peer, answer, data), peer[0])
            elif answer:
                _send(udp, answer, peer)

    async def _send_later(self, udp: socket.socket, peer: _Peer, query: Query, data: bytes) -> None:
        answer = await self._forward(query, data, tcp=False)
        if udp.fileno() >= 0:
            _send(udp, answer, peer)

    def _later(self, coroutine: Coroutine[None, None, None], client: str) -> None:
        self._waiting[client] += 1
        task = asyncio.create_task(coroutine, name="forwarded question")
        self._tasks.add(task)

        def over(done: asyncio.Task[None]) -> None:
            self._tasks.discard(done)
            self._answered(client)

        task.add_done_callback(over)

    def _answered(self, client: str) -> None:
        self._waiting[client] -= 1
        if self._waiting[client] <= 0:
            del self._waiting[client]

    # -- TCP -----------------------------------------------------------------------------------------------------------

    def _owner(self, connection: socket.socket, client: str) -> str | None:
        """Pods of this node are in one /64: each counts by its whole address, as over UDP."""
        if self._may_ask(client):
            return client
        self._counters.refused += 1
        return None

    def _refused(self, connection: socket.socket, reason: Refusal) -> None:
        self._counters.refused += reason is not Refusal.SILENT
        connection.close()

    async def _serve(self, accepted: Accepted) -> None:
        accepted.rests(True)
        try:
            reader, writer = await open_streams(accepted.socket, limit=MAX_QUERY + 2)
        except OSError:
            return
        try:
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                await self._converse(accepted, reader, writer)
            await close_writer(writer)  # counted until it is closed: a client that reads no answers keeps its share
        finally:
            abort_writer(writer)

    async def _converse(self, accepted: Accepted, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One question after the other. Raises OSError, TimeoutError, IncompleteReadError."""
        while True:
            async with asyncio.timeout(_IDLE):
                (length,) = struct.unpack("!H", await reader.readexactly(2))
                if length > MAX_QUERY:
                    return
                data = await reader.readexactly(length)
            self._counters.tcp += 1
            accepted.rests(False)
            answer = await self._answer(data, accepted.address)
            accepted.rests(True)
            if not answer:
                return
            writer.write(struct.pack("!H", len(answer)) + answer)
            async with asyncio.timeout(_IDLE):
                await writer.drain()

    async def _answer(self, data: bytes, client: str) -> bytes:
        answer = self._at_once(data, client, asyncio.get_running_loop().time(), tcp=True)
        if not isinstance(answer, Query):
            return answer
        self._waiting[client] += 1
        try:
            return await self._forward(answer, data, tcp=True)
        finally:
            self._answered(client)

    # -- answers -------------------------------------------------------------------------------------------------------

    def _at_once(self, data: bytes, client: str, now: float, *, tcp: bool) -> bytes | Query:
        """The answer; b"" for none; the query, when upstream has to be asked."""
        for answers in (self._cluster, self._foreign):
            if (kept := answers.find(data, now, whole=tcp)) is not None:
                return kept
        try:
            query = parse_query(data)
        except Malformed:
            self._counters.refused += 1
            return refusal(data, Code.FORMERR)
        if query.opcode or query.edns_version or query.klass != IN or query.type in (251, 252):  # transfers of zones
            code = Code.NOTIMP if query.opcode else Code.BADVERS if query.edns_version else Code.REFUSED
            return reply(query, code, authoritative=False)
        found = self._zone.find(query.name, query.type)
        if found is None and self._upstream is None:
            self._counters.refused += 1
            return reply(query, Code.REFUSED, authoritative=False)
        if found is None or (self._upstream is not None and self._leads_out(found, query.type)):
            if self._waiting[client] >= _WAITING or self._buckets.of(client, now).take(now):
                self._trim(client)
                self._counters.refused += 1
                return reply(query, Code.SERVFAIL, authoritative=False)
            return query
        self._counters.cluster += 1
        self._counters.codes[found.code] += 1
        answer = reply(query, found.code, self._followed(found, query.type), found.authority)
        self._cluster.put(data, answer, (), now, now + _LONGEST)
        return answer if tcp or len(answer) <= _limit(query) else _cut(query, found.code, authoritative=True)

    def _trim(self, client: str) -> None:
        if not self._waiting[client]:
            del self._waiting[client]

    def _leads_out(self, found: ZoneAnswer, type: int) -> bool:
        """An ExternalName whose last name is none of the cluster's."""
        for _ in range(_CHAIN):
            if found.target is None or type == Type.CNAME:
                return False
            following = self._zone.find(found.target, type)
            if following is None:
                return True
            found = following
        return False

    def _followed(self, found: ZoneAnswer, type: int) -> list[Record]:
        """The answers, with those of the names that it leads to within the cluster."""
        answers = list(found.answers)
        for _ in range(_CHAIN):
            if found.target is None or type == Type.CNAME or (following := self._zone.find(found.target, type)) is None:
                break
            found = following
            answers += found.answers
        return answers

    async def _forward(self, query: Query, data: bytes, *, tcp: bool) -> bytes:
        loop = asyncio.get_running_loop()
        self._counters.forwarded += 1
        generation = self._generation
        found = self._zone.find(query.name, query.type)
        assert self._upstream is not None
        try:
            if found is not None:
                return await self._outside(query, found, tcp=tcp)
            said = await self._upstream.ask(query.question.lower(), tcp=tcp, edns=query.edns)
        except Unavailable:
            self._counters.failed += 1
            return reply(query, Code.SERVFAIL, authoritative=False)
        self._counters.codes[said.answer.code] += 1
        # the client's spelling, and no more than it can take
        whole = data[:2] + said.data[2:12] + query.question + said.data[12 + len(query.question) :]
        if not said.answer.truncated:
            now, lifetimes = loop.time(), said.answer.lifetimes
            until = now + min(said.answer.ttl, _LONGEST)
            if not is_reverse(query.name):
                self._foreign.put(data, whole, lifetimes, now, until)
            elif generation == self._generation:  # a Service that comes may have that address
                self._cluster.put(data, whole, lifetimes, now, until)
        return whole if tcp or len(whole) <= _limit(query) else _cut(query, Code.NOERROR)

    async def _outside(self, query: Query, found: ZoneAnswer, *, tcp: bool) -> bytes:
        """An ExternalName: what upstream knows of the name that it stands for."""
        answers = self._followed(found, query.type)
        target = found.target
        for _ in range(_CHAIN):
            following = self._zone.find(target, query.type) if target is not None else None
            if following is None or following.target is None:
                break
            target = following.target
        assert target is not None and self._upstream is not None
        question = encode_name(target) + struct.pack("!HH", query.type, IN)
        said = await self._upstream.ask(question, tcp=tcp, edns=query.edns)
        with contextlib.suppress(Malformed):
            plain = (Type.A, Type.AAAA, Type.TXT)  # what has no names in its data
            answers += [Record(target, kind, TTL, text) for kind, text in records(said.data) if kind in plain]
        return reply(query, said.answer.code, answers, authoritative=False, limit=0 if tcp else _limit(query))


def _send(udp: socket.socket, answer: bytes, peer: _Peer) -> None:
    with contextlib.suppress(OSError):  # its buffer is full, or the client is gone: it asks again
        udp.sendto(answer, socket.MSG_DONTWAIT, peer)


def _limit(query: Query) -> int:
    """Bytes of an answer over UDP."""
    return min(query.payload, MAX_UDP)


def _cut(query: Query, code: int, *, authoritative: bool = False) -> bytes:
    """Nothing fits: come back over TCP."""
    return reply(query, code, [Record(query.name, Type.TXT, 0, b"")], authoritative=authoritative, limit=1)
