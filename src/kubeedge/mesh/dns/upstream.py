"""Asks the machine's own resolvers, one after the other.

Each question has a socket of its own, connected, with a port and an ID that cannot be guessed (RFC 5452); what comes from elsewhere or answers
another question is not looked at. The same question is asked once, however many clients wait for its answer.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Callable, Sequence

from kubeedge.errors import Unavailable
from kubeedge.kit.dataclasses import dataclass
from kubeedge.kit.resolv_conf import Resolvers
from kubeedge.mesh.dns.message import MAX_UDP, Code, Malformed, UpstreamAnswer, ask, check_answer

_TRY = 2.0  # seconds for one resolver
_PORT = 53
_MAX_ANSWER = 65_535
_STRANGE = 16  # datagrams that are no answer, after which a resolver counts as silent


@dataclass(frozen=True, slots=True)
class Said:
    """The answer of a resolver, as bytes and decoded."""

    data: bytes
    answer: UpstreamAnswer


class Upstream:
    """`resolvers` gives the addresses to ask, best first."""

    def __init__(self, resolvers: Callable[[], Sequence[str]] | Resolvers, *, most: int = 256) -> None:
        self._resolvers = resolvers if callable(resolvers) else resolvers.addresses
        self._most = most
        self._asked: dict[tuple[bytes, bool, bool], asyncio.Task[Said]] = {}
        self._random = random.SystemRandom()
        self.asked = self.failed = 0

    async def ask(self, question: bytes, *, tcp: bool, edns: bool) -> Said:
        """Raises Unavailable: none answers, there is none, or too many questions wait."""
        key = question, tcp, edns
        task = self._asked.get(key)
        if task is None:
            if len(self._asked) >= self._most:
                raise Unavailable("too many questions wait for the machine's resolvers")
            task = self._asked[key] = asyncio.create_task(self._ask(question, tcp, edns), name="question to a resolver")
            task.add_done_callback(lambda done: self._over(key, done))
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Ends what is under way."""
        tasks = list(self._asked.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _over(self, key: tuple[bytes, bool, bool], done: asyncio.Task[Said]) -> None:
        self._asked.pop(key, None)
        if not done.cancelled() and done.exception() is not None:  # looked at, so that it is not logged as lost
            self.failed += 1

    async def _ask(self, question: bytes, tcp: bool, edns: bool) -> Said:
        self.asked += 1
        worst: Said | None = None
        for address in self._resolvers():
            id = self._random.getrandbits(16)
            try:
                async with asyncio.timeout(_TRY):
                    said = await (_over_tcp if tcp else _over_udp)(address, id, ask(id, question, edns=edns), question)
            except (OSError, TimeoutError, Malformed, asyncio.IncompleteReadError):
                continue
            if said.answer.code in (Code.NOERROR, Code.NXDOMAIN):
                return said
            worst = said  # another one may know it
        if worst is None:
            raise Unavailable("no resolver of this machine answers")
        return worst


async def _over_udp(address: str, id: int, query: bytes, question: bytes) -> Said:
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as link:
        link.setblocking(False)
        link.connect((address, _PORT))
        await loop.sock_sendall(link, query)
        for _ in range(_STRANGE):
            data = await loop.sock_recv(link, 4 * MAX_UDP)
            try:
                return Said(data, check_answer(data, id, question))
            except Malformed:
                continue
    raise Malformed("nothing but strange answers")


async def _over_tcp(address: str, id: int, query: bytes, question: bytes) -> Said:
    reader, writer = await asyncio.open_connection(address, _PORT, limit=_MAX_ANSWER + 2)
    try:
        writer.write(struct.pack("!H", len(query)) + query)
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        data = await reader.readexactly(length)
        return Said(data, check_answer(data, id, question))
    finally:
        writer.close()
