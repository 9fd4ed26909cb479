"""What a writer hands over while L4's memory is short arrives whole, later; it is not cut off."""

from __future__ import annotations

import asyncio
import random

import pytest
from kubeedge._fastpath.plane import L4

from kubeedge.kubebus.l4.driver import L4Endpoint

LEFT, RIGHT = 1, 2
HEAD = random.Random(1).randbytes(64 * 1024)  # the largest that HTTP may have
CROWD = 24  # connections whose readers do not read


def pair(budget: int) -> tuple[L4Endpoint, L4Endpoint]:
    loop, rng = asyncio.get_running_loop(), random.Random(1)
    ends: dict[int, L4Endpoint] = {}
    left = L4Endpoint(
        lambda n, data: loop.call_soon(ends[n].receive, LEFT, data),
        core=L4(lambda: rng.getrandbits(32), budget=budget),
    )
    right = L4Endpoint(
        lambda n, data: loop.call_soon(ends[n].receive, RIGHT, data), core=L4(lambda: rng.getrandbits(32))
    )
    ends.update({LEFT: left, RIGHT: right})
    return left, right


class Crowd:
    """Holds more of the left node's memory than it may have, until `reads` is set."""

    def __init__(self, left: L4Endpoint, right: L4Endpoint) -> None:
        self._left, self._right = left, right
        self.reads = asyncio.Event()

    async def fill(self) -> None:
        async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            await self.reads.wait()
            reader._transport.resume_reading()  # type: ignore[attr-defined]
            while await reader.read(65536):
                pass

        await self._right.listen(9, deaf)
        self.writers = [(await self._left.connect(RIGHT, 9))[1] for _ in range(CROWD)]
        for writer in self.writers:  # without asking for room, as an older agent might
            writer.transport._connection.send(bytes(1 << 20), asyncio.get_running_loop().time())  # type: ignore[attr-defined]


async def closed(*ends: L4Endpoint) -> None:
    for end in ends:
        await end.close()


@pytest.mark.parametrize("then", ["write_eof", "close"])
def test_a_head_of_64_kib_arrives_whole_when_memory_is_short(then: str) -> None:
    async def scenario() -> None:
        left, right = pair(budget=1 << 20)
        crowd = Crowd(left, right)
        arrived: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await started.wait()
            arrived.set_result(await reader.read(-1))

        started = asyncio.Event()
        await right.listen(7, read)
        _, writer = await left.connect(RIGHT, 7)
        await crowd.fill()
        writer.write(HEAD)
        assert writer.transport.get_write_buffer_size() > 0
        getattr(writer, then)()
        started.set()
        assert await asyncio.wait_for(arrived, 30) == HEAD
        crowd.reads.set()
        await closed(left, right)

    asyncio.run(scenario())


def test_a_writer_that_never_waits_is_stopped() -> None:
    async def scenario() -> None:
        left, right = pair(budget=1 << 20)
        crowd = Crowd(left, right)
        await crowd.fill()
        one, most = crowd.writers[0], 0
        for _ in range(20):
            before = one.transport.get_write_buffer_size()
            one.write(bytes(64 * 1024))
            most = max(most, one.transport.get_write_buffer_size() - before)
        assert most <= 64 * 1024
        with pytest.raises(ConnectionResetError):
            await one.drain()
        with pytest.raises(ConnectionResetError):
            await one.wait_closed()
        await closed(left, right)

    asyncio.run(scenario())
