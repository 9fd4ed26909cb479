"""The pump of a channel, on virtual time and a network that can be cut."""

from __future__ import annotations

import asyncio
import gc
import random
import socket
import sqlite3
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from kubeedge.errors import ChannelDetached, PeerError, Unavailable
from kubeedge.hub.core import CLOUD_TIMEOUT, REPLACED, SYNC_DOWN, SYNC_UP, ChannelSession, ChannelSettings
from kubeedge.hub.driver import QUEUED_MESSAGES, Channel, ChannelSocket
from kubeedge.hub.module import EdgeHub, EdgeHubSettings
from kubeedge.store.sqlite_file import translate
from tests.kit import virtual_time
from tests.simulator.world import SOCKET_BUFFER, Socket, Wire

HELLO = b'\x01{"version":1}'


def now() -> float:
    return asyncio.get_running_loop().time()


def channel(socket: ChannelSocket) -> Channel:
    return Channel(socket, ChannelSession({}), now)


async def pair(wire: Wire) -> tuple[Channel, Channel]:
    one, other = await wire.connect()
    return channel(one), channel(other)


async def forever(_: Channel) -> None:
    await asyncio.get_running_loop().create_future()


def test_both_ends_may_have_much_to_say_at_once() -> None:
    """More than the network holds, in both directions, before either reads: nobody waits for ever."""

    async def talk(kind_out: int, kind_in: int, channel: Channel) -> None:
        async def speak() -> None:
            for _ in range(40):
                await channel.send(kind_out, bytes(SOCKET_BUFFER // 3))

        async def listen() -> None:
            receive = channel.stream(kind_in)
            for _ in range(40):
                await receive()

        async with asyncio.TaskGroup() as group:
            group.create_task(speak())
            group.create_task(listen())

    async def scenario() -> None:
        one, other = await pair(Wire(random.Random(1)))
        results = await asyncio.gather(
            one.run(lambda c: talk(SYNC_UP, SYNC_DOWN, c)), other.run(lambda c: talk(SYNC_DOWN, SYNC_UP, c))
        )
        assert "closed by us" in results and one.counters.messages_in >= 40 and now() < 20

    virtual_time.run(scenario())


def test_a_channel_that_is_closed_before_it_begins_leaves_nothing_behind() -> None:
    async def scenario() -> None:
        one, other = await pair(Wire(random.Random(1)))
        one.close("not any more")
        assert await one.run(forever) == "not any more"
        other.close("nor here")
        await other.run(forever)
        gc.collect()  # a coroutine that nobody awaited would be a warning, which is an error here

    virtual_time.run(scenario())


def test_a_peer_that_is_gone_is_found_though_a_send_waits() -> None:
    async def talk(channel: Channel) -> None:
        while True:
            await channel.send(SYNC_UP, bytes(1000))

    async def scenario() -> None:
        wire = Wire(random.Random(1))
        one, other = await pair(wire)
        running = asyncio.create_task(one.run(talk))
        listening = asyncio.create_task(other.run(lambda c: _drain(c, SYNC_UP)))
        await asyncio.sleep(1)
        wire.cut()
        assert await running == "silent for 45 s"
        assert now() < 1 + 45 + 2
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)

    virtual_time.run(scenario())


class Tcp:
    """A kernel's view of a connection, as getsockopt gives it: struct tcp_info."""

    def __init__(self) -> None:
        self.received = self.acknowledged = 1000
        self.received_at = self.acknowledged_at = 0.0

    def get_extra_info(self, name: str) -> object:
        return self if name == "socket" else None

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        assert (level, option) == (socket.IPPROTO_TCP, socket.TCP_INFO)
        ages = [int((now() - at) * 1000) for at in (self.received_at, self.acknowledged_at)]
        return struct.pack("=52xII60xQQ", *ages, self.acknowledged, self.received)[:size]


class OnTcp:
    """A socket of the simulated wire, with a kernel below it."""

    def __init__(self, socket: Socket, kernel: Tcp) -> None:
        self.send, self.recv, self.close, self.transport = socket.send, socket.recv, socket.close, kernel
        self.on_unfinished = socket.on_unfinished


@pytest.mark.parametrize("way", ["comes in", "goes out"])
def test_a_message_that_takes_minutes_on_a_slow_line_is_no_silence(way: str) -> None:
    """Nothing whole arrives for three minutes; then the line is dead, and that is found."""

    kernel = Tcp()

    async def scenario() -> None:
        wire = Wire(random.Random(1))
        mine, theirs = await wire.connect()
        one, other = channel(OnTcp(mine, kernel)), channel(theirs)
        running = [asyncio.create_task(c.run(forever)) for c in (one, other)]
        await asyncio.sleep(1)
        wire.cut()
        for _ in range(180):
            await asyncio.sleep(1)
            if way == "comes in":
                kernel.received, kernel.received_at = kernel.received + 1000, now()
            else:
                kernel.acknowledged, kernel.acknowledged_at = kernel.acknowledged + 1000, now()
        assert not running[0].done(), running[0]
        ended = now()
        assert await running[0] == "silent for 45 s" and 40 < now() - ended < 47
        running[1].cancel()
        await asyncio.gather(*running, return_exceptions=True)

    virtual_time.run(scenario())


def test_what_a_stopped_process_s_kernel_acknowledges_is_no_sign_of_life() -> None:
    """Our own question is taken by the kernel; nobody answers it."""

    kernel = Tcp()

    async def scenario() -> None:
        wire = Wire(random.Random(1))
        mine, theirs = await wire.connect()
        one, other = channel(OnTcp(mine, kernel)), channel(theirs)
        running = [asyncio.create_task(c.run(forever)) for c in (one, other)]
        await asyncio.sleep(1)
        wire.cut()
        await asyncio.sleep(21)
        kernel.acknowledged, kernel.acknowledged_at = kernel.acknowledged + 60, now()
        assert await running[0] == "silent for 45 s" and now() < 47
        running[1].cancel()
        await asyncio.gather(*running, return_exceptions=True)

    virtual_time.run(scenario())


async def _drain(channel: Channel, kind: int) -> None:
    receive = channel.stream(kind)
    while True:
        await receive()


def test_a_cut_is_found_in_seconds_when_the_network_is_known_to_have_changed() -> None:
    async def scenario() -> None:
        wire = Wire(random.Random(1))
        one, other = await pair(wire)
        running, peer = asyncio.create_task(one.run(forever)), asyncio.create_task(other.run(forever))
        await asyncio.sleep(10)
        one.probe()
        await asyncio.sleep(10)
        assert not running.done() and one.rtt is not None and one.rtt < 0.1
        wire.cut()
        one.probe()
        assert (await running).startswith("no answer within 2 s")
        assert now() < 20 + 2 + 1.5
        peer.cancel()
        await asyncio.gather(peer, return_exceptions=True)

    virtual_time.run(scenario())


def test_the_cloud_misses_a_machine_that_vanished_before_kubernetes_would() -> None:
    """Not by a question of its own while the node is there, and within 27 s when it is not."""

    async def scenario() -> None:
        wire = Wire(random.Random(1))
        mine, theirs = await wire.connect()
        edge = Channel(mine, ChannelSession({"keepalive": 20.0}), now)
        cloud = Channel(theirs, ChannelSession({}, ChannelSettings(follows=True, timeout=CLOUD_TIMEOUT)), now)
        running = [asyncio.create_task(c.run(forever)) for c in (edge, cloud)]
        await asyncio.sleep(3600)
        assert cloud.counters.messages_out <= 1 + 3600 / 20, "HELLO and answers"
        wire.cut()
        vanished = now()
        assert await running[1] == "silent for 27 s" and now() - vanished < 27 + 1.5
        running[0].cancel()
        await asyncio.gather(*running, return_exceptions=True)

    virtual_time.run(scenario())


def test_an_idle_channel_says_little() -> None:
    async def scenario() -> None:
        mine, theirs = await Wire(random.Random(1)).connect()
        one = channel(mine)
        other = Channel(theirs, ChannelSession({}, ChannelSettings(follows=True, timeout=CLOUD_TIMEOUT)), now)
        running = [asyncio.create_task(c.run(forever)) for c in (one, other)]
        await asyncio.sleep(86_400)
        assert not any(task.done() for task in running)
        messages = one.counters.messages_in + one.counters.messages_out
        assert messages <= 2 * 86_400 / 20 + 2  # a question and an answer every 20 s
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    virtual_time.run(scenario())


def test_the_reason_of_an_end_reaches_the_peer() -> None:
    async def scenario() -> None:
        one, other = await pair(Wire(random.Random(1)))
        running = [asyncio.create_task(c.run(forever)) for c in (one, other)]
        await asyncio.sleep(1)
        one.close(REPLACED, 4000)
        assert await asyncio.gather(*running) == [REPLACED, f"peer says: {REPLACED}"]

    virtual_time.run(scenario())


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PeerError("nonsense"), "nonsense"),
        (Unavailable("disk full"), "disk full"),
        (ExceptionGroup("both", [ChannelDetached("gone"), Unavailable("disk full")]), "gone"),
    ],
)
def test_an_error_of_ours_in_the_user_is_the_reason(error: Exception, reason: str) -> None:
    async def fail(_: Channel) -> None:
        raise error

    async def scenario() -> None:
        one, other = await pair(Wire(random.Random(1)))
        results = await asyncio.gather(one.run(fail), other.run(forever))
        assert results == [reason, f"peer says: {reason}"]

    virtual_time.run(scenario())


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (sqlite3.OperationalError("database or disk is full"), "database or disk is full"),
        (OSError(28, "No space left on device", "/var/lib/kubeedge/edge/edge.db-wal"), "No space left on device"),
        (sqlite3.DatabaseError("database disk image is malformed"), "database disk image is malformed"),
    ],
)
def test_the_peer_hears_what_is_wrong_with_a_disk_and_not_where_it_is(error: Exception, said: str) -> None:
    path = Path("/var/lib/kubeedge/edge/edge.db")

    async def fail(_: Channel) -> None:
        raise translate(error, path)

    async def scenario() -> None:
        one, other = await pair(Wire(random.Random(1)))
        assert await asyncio.gather(one.run(fail), other.run(forever)) == [f"{path}: {said}", f"peer says: {said}"]

    virtual_time.run(scenario())


def test_a_bug_in_the_user_is_raised_after_the_channel_was_closed() -> None:
    async def fail(_: Channel) -> None:
        raise ExceptionGroup("both", [ChannelDetached("gone"), ZeroDivisionError("a bug")])

    async def scenario() -> None:
        one, other = await pair(Wire(random.Random(1)))
        peer = asyncio.create_task(other.run(forever))
        with pytest.raises(ZeroDivisionError):
            await one.run(fail)
        assert "peer says" in await peer

    virtual_time.run(scenario())


def test_a_channel_that_is_cancelled_leaves_nothing_running() -> None:
    async def scenario() -> None:
        one, other = await pair(Wire(random.Random(1)))
        running = [asyncio.create_task(c.run(forever)) for c in (one, other)]
        await asyncio.sleep(1)
        running[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await running[0]
        await running[1]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    virtual_time.run(scenario())


def raw(say: Callable[[Socket], Awaitable[None]], expect: str) -> None:
    """A peer that speaks bytes, and the reason why the channel ends."""

    async def scenario() -> None:
        mine, theirs = await Wire(random.Random(1)).connect()
        running = asyncio.create_task(channel(mine).run(forever))

        async def speak() -> None:
            try:
                await say(theirs)
            except ConnectionResetError:
                pass

        speaking = asyncio.create_task(speak())
        assert expect in await running
        theirs.abort()
        await speaking

    virtual_time.run(scenario())


def test_messages_that_nobody_reads_end_the_channel_before_they_fill_memory() -> None:
    async def small(socket: Socket) -> None:
        await socket.send(HELLO)
        for _ in range(QUEUED_MESSAGES + 2):
            await socket.send(bytes((SYNC_DOWN,)) + b"x")

    raw(small, "too many messages of kind 16 wait")

    async def large(socket: Socket) -> None:
        await socket.send(HELLO)
        for _ in range(5):
            await socket.send(bytes((SYNC_DOWN,)) + bytes(1_500_000))

    raw(large, "too many messages of kind 16 wait")


def test_a_stream_that_nobody_knows_ends_the_channel() -> None:
    async def say(socket: Socket) -> None:
        await socket.send(HELLO)
        await socket.send(b"\x77x")

    raw(say, "message kind 119")


def test_pings_without_end_and_without_reading_end_the_channel() -> None:
    async def say(socket: Socket) -> None:
        await socket.send(HELLO)
        while True:
            await socket.send(b"\x02" + bytes(64))

    raw(say, "pings come faster")


def test_a_closed_connection_is_an_end_like_any_other() -> None:
    async def say(socket: Socket) -> None:
        await socket.send(HELLO)
        await socket.close()

    raw(say, "the connection was closed")


# -- the edge end -------------------------------------------------------------------------------------------------------------


class Attempts(EdgeHub):
    """Connects to what `answer` says, and remembers when."""

    def __init__(
        self, answer: Callable[[int], Awaitable[ChannelSocket]], use: Callable[[Channel], Awaitable[None]]
    ) -> None:
        async def run(channel: Channel) -> None:
            await use(channel)

        super().__init__(EdgeHubSettings(endpoints=["a:1", "b:1"]), lambda: None, run, rng=random.Random(1))  # type: ignore[arg-type, return-value]
        self.answer = answer
        self.times: list[float] = []
        self.endpoints: list[str] = []

    async def _dial(self, endpoint: str) -> socket.socket:
        self.times.append(now())
        self.endpoints.append(endpoint)
        self.answered = await self.answer(len(self.times))
        return None  # type: ignore[return-value]

    async def _connect(self, endpoint: str, tcp: socket.socket) -> ChannelSocket:
        return self.answered

    async def for_(self, seconds: float) -> None:
        task = asyncio.create_task(self.run(asyncio.Event()))
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def pauses(self) -> list[float]:
        return [b - a for a, b in zip(self.times, self.times[1:], strict=False)]


class AtTheDoor(Attempts):
    """TCP is there at once; then `answer`."""

    async def _dial(self, endpoint: str) -> socket.socket:
        self.times.append(now())
        return None  # type: ignore[return-value]

    async def _connect(self, endpoint: str, tcp: socket.socket) -> ChannelSocket:
        return await self.answer(len(self.times))


async def _refuse(_: int) -> ChannelSocket:
    raise ConnectionRefusedError("connection refused")


def test_an_edge_tries_all_endpoints_soon_and_again_and_again() -> None:
    async def scenario() -> None:
        hub = Attempts(_refuse, forever)
        await hub.for_(600)
        assert set(hub.endpoints[:2]) == {"a:1", "b:1"}
        young = [p for t, p in zip(hub.times, hub.pauses(), strict=False) if t < 50]
        old = [p for t, p in zip(hub.times, hub.pauses(), strict=False) if t > 70]
        assert max(young) <= 1.5 and 2.5 <= min(old) and max(old) <= 5.0
        assert hub.status.last_error == "connection refused" and not hub.status.attached

    virtual_time.run(scenario())


def test_an_endpoint_that_does_not_answer_is_left_after_three_seconds() -> None:
    async def nothing(_: int) -> ChannelSocket:
        await asyncio.sleep(1000)
        raise AssertionError

    async def scenario() -> None:
        hub = Attempts(nothing, forever)
        await hub.for_(30)
        assert len(hub.times) >= 6 and hub.status.last_error == "no answer in time"

    virtual_time.run(scenario())


def test_a_cloud_without_time_for_a_handshake_is_given_time() -> None:
    async def nothing(_: int) -> ChannelSocket:
        await asyncio.sleep(1000)
        raise AssertionError

    async def scenario() -> None:
        hub = AtTheDoor(nothing, forever)
        await hub.for_(200)
        pauses = [p - 10 for p in hub.pauses()]  # each attempt waits ten seconds
        assert 10 <= len(pauses) <= 20 and max(pauses) <= 5.0 and len({round(p, 3) for p in pauses}) > 8

    virtual_time.run(scenario())


def test_a_hint_ends_the_pause() -> None:
    async def scenario() -> None:
        hub = Attempts(_refuse, forever)
        task = asyncio.create_task(hub.run(asyncio.Event()))
        await asyncio.sleep(300)
        before = len(hub.times)
        hub.network_changed()
        await asyncio.sleep(0.001)
        assert len(hub.times) == before + 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    virtual_time.run(scenario())


async def _short_lived(channel: Channel) -> None:
    await asyncio.sleep(0.01)
    raise Unavailable("disk full")


def test_a_channel_that_fails_at_once_again_and_again_is_not_tried_again_and_again() -> None:
    peers = []

    async def answer(_: int) -> ChannelSocket:
        mine, theirs = await Wire(random.Random(1)).connect()
        peers.append(asyncio.create_task(channel(theirs).run(forever)))
        return mine

    async def scenario() -> None:
        hub = Attempts(answer, _short_lived)
        await hub.for_(600)
        assert len(hub.times) < 250 and min(hub.pauses()[-20:]) > 2.0
        assert hub.status.last_error == "disk full"
        await asyncio.gather(*peers, return_exceptions=True)

    virtual_time.run(scenario())


def test_an_edge_that_is_replaced_steps_back() -> None:
    peers = []

    async def answer(_: int) -> ChannelSocket:
        mine, theirs = await Wire(random.Random(1)).connect()
        end = channel(theirs)

        async def replace(_: Channel) -> None:
            await asyncio.sleep(10)
            end.close(REPLACED, 4000)
            await forever(end)

        peers.append(asyncio.create_task(end.run(replace)))
        return mine

    async def scenario() -> None:
        hub = Attempts(answer, forever)
        await hub.for_(600)
        assert min(hub.pauses()[5:]) > 10 + 2.4
        for peer in peers:
            peer.cancel()
        await asyncio.gather(*peers, return_exceptions=True)

    virtual_time.run(scenario())


def test_a_slow_line_is_given_time_once_the_outage_is_old() -> None:
    """A round trip of eight seconds: nobody is found in the first minute, and then the cloud is there as on any other line."""

    async def far_away(_: int) -> ChannelSocket:
        await asyncio.sleep(8)
        raise ConnectionRefusedError("reached")

    async def scenario() -> None:
        hub = Attempts(far_away, forever)
        await hub.for_(55)
        assert hub.status.last_error == "no answer in time"
        hub = Attempts(far_away, forever)
        await hub.for_(120)
        assert hub.status.last_error == "reached"

    virtual_time.run(scenario())
