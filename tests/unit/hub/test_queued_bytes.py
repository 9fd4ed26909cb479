"""Nodes that do not read, or send what nobody can read yet, hold so many bytes of the cloud's memory for a tenant and no more."""

from __future__ import annotations

import asyncio
import random

import pytest

from kubeedge.hub.core import SYNC_DOWN, SYNC_UP, ChannelSession
from kubeedge.hub.driver import Channel
from kubeedge.hub.queued_bytes import COMING, STALLED, QueuedBytes
from tests.kit import virtual_time
from tests.simulator.world import Wire

KIB = 1024
NODES = 12


def now() -> float:
    return asyncio.get_running_loop().time()


def test_who_has_not_read_for_longest_gives_way() -> None:
    queued: QueuedBytes[str] = QueuedBytes(100)
    assert queued.sending("a", 60, 0.0) is None and queued.sending("b", 30, 1.0) is None
    assert queued.sending("c", 30, STALLED - 0.5) is None, "no line is that slow"
    queued.sent("c")
    assert queued.sending("c", 30, STALLED) == "a" and queued.size == 60
    queued.sent("a")
    assert queued.size == 60
    queued.forget("b")
    queued.sent("c")
    assert queued.size == 0


def test_who_sends_most_of_what_nobody_reads_gives_way() -> None:
    queued: QueuedBytes[str] = QueuedBytes(100)
    assert queued.received("a", 30, 0.0) is None and queued.received("b", 60, 0.0) is None
    assert queued.received("a", 20, 0.0) == "b" and queued.size == 50
    queued.read("b", 60)
    queued.read("a", 30)
    assert queued.size == 20


def test_messages_that_never_end_count_and_who_is_nearest_to_the_end_stays() -> None:
    queued: QueuedBytes[str] = QueuedBytes(100)
    assert queued.coming("a", 30, 0.0) is None and queued.coming("a", 40, 1.0) is None
    assert queued.coming("b", 50, 2.0) is None and queued.size == 90
    assert queued.coming("c", 30, 3.0) == "c" and queued.size == 90
    assert queued.coming("a", 60, 4.0) == "b" and queued.size == 60
    assert queued.coming("d", 50, COMING) == "a", "no line is that slow"
    assert queued.coming("d", 0, COMING) is None and queued.size == 0
    queued.coming("e", 10, 0.0)
    queued.forget("e")
    assert queued.size == 0


def test_at_twice_the_limit_nobody_is_waited_for() -> None:
    queued: QueuedBytes[str] = QueuedBytes(100)
    assert queued.sending("a", 120, 0.0) is None and queued.sending("b", 70, 0.0) is None
    assert queued.sending("c", 20, 0.0) == "a"


@pytest.mark.parametrize("reads", [False, True])
def test_nodes_that_do_not_read_lose_their_channels_and_those_that_do_keep_theirs(reads: bool) -> None:
    """Each message is far below what one channel may hold."""

    async def scenario() -> None:
        limit = (8 if reads else 3) * 256 * KIB
        queued: QueuedBytes[Channel] = QueuedBytes(limit)
        wire = Wire(random.Random(1))
        most = 0

        async def cloud(channel: Channel) -> None:
            nonlocal most
            for _ in range(20):
                await channel.send(SYNC_DOWN, bytes(256 * KIB))
                most = max(most, queued.size)
                await asyncio.sleep(0.5)

        async def node(channel: Channel) -> None:
            receive = channel.stream(SYNC_DOWN)
            while reads:
                await receive()
            await asyncio.get_running_loop().create_future()

        ends = []
        for _ in range(NODES):
            one, other = await wire.connect()
            there = Channel(other, ChannelSession({}), now)
            if not reads:
                other.recv = _never  # type: ignore[method-assign]
            ends.append(Channel(one, ChannelSession({}), now, queued).run(cloud))
            asyncio.get_running_loop().create_task(there.run(node))
        reasons = await asyncio.gather(*ends)
        gave_way = sum("too much waits" in reason for reason in reasons)
        assert most <= 2 * limit and queued.size == 0
        assert (gave_way == 0) is reads

    virtual_time.run(scenario())


async def _never() -> bytes:
    await asyncio.get_running_loop().create_future()
    raise AssertionError


def test_what_is_sent_faster_than_it_is_read_is_bounded_for_all_channels() -> None:
    async def scenario() -> None:
        queued: QueuedBytes[Channel] = QueuedBytes(1024 * KIB)
        wire, most = Wire(random.Random(1)), 0

        async def node(channel: Channel) -> None:
            for _ in range(8):
                await channel.send(SYNC_UP, bytes(100 * KIB))
            await asyncio.get_running_loop().create_future()

        async def cloud(channel: Channel) -> None:  # throttled, say
            nonlocal most
            for _ in range(100):
                most = max(most, queued.size)
                await asyncio.sleep(0.1)

        ends = []
        for _ in range(NODES):
            one, other = await wire.connect()
            asyncio.get_running_loop().create_task(Channel(other, ChannelSession({}), now).run(node))
            ends.append(Channel(one, ChannelSession({}), now, queued).run(cloud))
        reasons = await asyncio.gather(*ends)
        kept = [reason for reason in reasons if "too much waits" not in reason]
        assert most <= 1024 * KIB and queued.size == 0
        assert 0 < len(kept) < NODES

    virtual_time.run(scenario())
