"""How many connections of one node an endpoint serves: in the data plane they cost little, here each is a task and buffers of asyncio."""

from __future__ import annotations

import asyncio

from kubeedge._fastpath.plane import L4

from kubeedge.kubebus.l4.driver import L4Endpoint
from tests.kit import virtual_time
from tests.reference.l4.segment import ACK, RST, SYN, Segment, decode, encode

PORT, MINE, OTHER = 7, 9, 10


class Peers:
    """Nodes that open connections by hand, to an endpoint with a real core."""

    def __init__(self) -> None:
        self.answers: dict[tuple[int, int], list[Segment]] = {}
        self.endpoint = L4Endpoint(self._keep, core=L4(lambda: 7))

    def _keep(self, node: int, segment: bytes) -> None:
        found = decode(segment)
        self.answers.setdefault((node, found.destination_port), []).append(found)

    async def say(self, node: int, port: int, sequence: int, acknowledgement: int, flags: int) -> None:
        self.endpoint.receive(node, encode(Segment(port, PORT, sequence, acknowledgement, 1 << 20, flags, (), b"")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def open(self, node: int, port: int) -> bool:
        """Whether it stayed open."""
        await self.say(node, port, 1000, 0, SYN)
        answer = self.answers[node, port][-1]
        await self.say(node, port, 1001, (answer.sequence + 1) & 0xFFFFFFFF, ACK)
        return not self.answers[node, port][-1].flags & RST

    async def reset(self, node: int, port: int) -> None:
        await self.say(node, port, 1001, 0, RST)


def test_a_node_that_opens_connections_without_end_has_its_share_and_the_others_have_theirs() -> None:
    async def scenario() -> None:
        peers, served = Peers(), list[int]()

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            served.append(writer.get_extra_info("peername")[0])
            await reader.read()

        await peers.endpoint.listen(PORT, handler, per_node=100)
        opened = [await peers.open(MINE, 1000 + n) for n in range(1000)]
        assert opened == [True] * 100 + [False] * 900
        assert peers.endpoint.connections == 100 and served == [MINE] * 100
        assert await peers.open(OTHER, 1000)
        for n in range(30):
            await peers.reset(MINE, 1000 + n)
        await asyncio.sleep(1)
        opened = [await peers.open(MINE, 5000 + n) for n in range(50)]
        assert opened == [True] * 30 + [False] * 20
        await peers.endpoint.close()
        assert peers.endpoint.connections == 0

    virtual_time.run(scenario())


def test_a_connection_counts_until_its_peer_has_ended_it_too() -> None:
    """The handler is done, the peer says nothing more: half a minute of memory, each."""

    async def scenario() -> None:
        peers = Peers()

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        await peers.endpoint.listen(PORT, handler, per_node=10)
        assert [await peers.open(MINE, 1000 + n) for n in range(12)] == [True] * 10 + [False] * 2
        await asyncio.sleep(61)
        assert await peers.open(MINE, 2000)
        await peers.endpoint.close()

    virtual_time.run(scenario())
