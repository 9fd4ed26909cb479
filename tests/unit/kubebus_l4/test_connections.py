"""L4 over a bad network: two endpoints, a fake wire, virtual time; and as asyncio streams. Each scenario with the C engine and its readable
reference implementation, and with one against the other."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kubeedge._fastpath.l4_state import ConnectionState
from kubeedge._fastpath.plane import L4

from kubeedge.errors import Unavailable
from kubeedge.kubebus.l4.driver import L4Endpoint
from tests.reference.l4.core import RECEIVE_WINDOW
from tests.reference.l4.endpoint import EndpointCore, Key
from tests.reference.l4.segment import CE, SYN, Segment, before, decode, encode

LEFT, RIGHT = 1, 2
MAKERS: dict[str, Callable[..., Any]] = {"python": EndpointCore, "c": L4}
PAIRS = [("python", "python"), ("c", "c"), ("python", "c"), ("c", "python")]


@pytest.fixture(params=PAIRS, ids="-".join)
def kinds(request: pytest.FixtureRequest) -> tuple[str, str]:
    kinds: tuple[str, str] = request.param
    return kinds


@pytest.fixture(params=list(MAKERS))
def make(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return MAKERS[request.param]


class Net:
    """Two endpoints and what lies between them."""

    def __init__(
        self,
        seed: int,
        kinds: tuple[str, str] = ("c", "c"),
        *,
        loss: float = 0.0,
        duplicate: float = 0.0,
        delay: tuple[float, float] = (0.01, 0.01),
    ) -> None:
        self.rng = random.Random(seed)
        self.loss, self.duplicate, self.delay = loss, duplicate, delay
        self.now = 0.0
        self.ends: dict[int, Any] = {
            n: MAKERS[kind](lambda: self.rng.getrandbits(32)) for n, kind in zip((LEFT, RIGHT), kinds, strict=True)
        }
        self.marks = 0.0  # of segments with a payload, by a queue on the way
        self._flying: list[tuple[float, int, int, int, bytes]] = []
        self._serial: Iterator[int] = itertools.count()
        self.sent = 0

    def collect(self) -> None:
        for number, end in self.ends.items():
            for peer, data in end.segments_to_send():
                self.sent += 1
                for _ in range(2 if self.rng.random() < self.duplicate else 1):
                    if self.rng.random() >= self.loss:
                        at = self.now + self.rng.uniform(*self.delay)
                        if self.marks and len(data) > 100 and self.rng.random() < self.marks:
                            data = data[:16] + bytes([data[16] | CE]) + data[17:]
                        heapq.heappush(self._flying, (at, next(self._serial), number, peer, data))

    def step(self) -> bool:
        """To the next arrival or timer; False when nothing will ever happen."""
        self.collect()
        times = [t for end in self.ends.values() if (t := end.next_timer()) is not None]
        if self._flying:
            times.append(self._flying[0][0])
        if not times:
            return False
        self.now = max(self.now, min(times))
        while self._flying and self._flying[0][0] <= self.now:
            _, _, source, target, data = heapq.heappop(self._flying)
            self.ends[target].receive(source, data, self.now)
        for end in self.ends.values():
            end.handle_timer(self.now)
        self.collect()
        return True


def transfer(net: Net, there: bytes, back: bytes) -> tuple[bytes, bytes, int]:
    """Both directions at once; what arrived, and the number of steps."""
    left, right = net.ends[LEFT], net.ends[RIGHT]
    right.listen(80)
    key = left.connect(RIGHT, 80, net.now)
    a = left.connections[key]
    got_there, got_back = bytearray(), bytearray()
    b: Any = None
    other: Key | None = None
    a.send(there, net.now)
    a.finish(net.now)
    left.touch(key)
    for steps in range(200_000):
        alive = net.step()
        if b is None and right.accepted:
            other = right.accepted.pop()
            b = right.connections[other]
            b.send(back, net.now)
            b.finish(net.now)
            right.touch(other)
        got_back += a.read(net.now)
        left.touch(key)
        if b is not None and other is not None:
            got_there += b.read(net.now)
            right.touch(other)
        if b is not None and a.state is ConnectionState.CLOSED and b.state is ConnectionState.CLOSED:
            return bytes(got_there + b.read(net.now)), bytes(got_back + a.read(net.now)), steps
        assert alive, f"nothing moves any more: {a.state} {b and b.state}"
    raise AssertionError(f"not done: {a.state} {b and b.state} at {net.now}")


@pytest.mark.parametrize("seed", range(40))
def test_every_byte_arrives_once_and_in_order_whatever_the_network_does(seed: int, kinds: tuple[str, str]) -> None:
    rng = random.Random(seed)
    net = Net(
        seed,
        kinds,
        loss=rng.choice([0.0, 0.02, 0.1, 0.3]),
        duplicate=rng.choice([0.0, 0.2]),
        delay=rng.choice([(0.001, 0.001), (0.01, 0.05), (0.1, 0.3)]),
    )
    there, back = rng.randbytes(rng.randrange(300_000)), rng.randbytes(rng.randrange(300_000))
    got_there, got_back, _ = transfer(net, there, back)
    assert (got_there == there, got_back == back) == (True, True), f"seed {seed}"


def test_a_clean_network_needs_no_retransmission(kinds: tuple[str, str]) -> None:
    net = Net(1, kinds, delay=(0.005, 0.005))
    data = bytes(3_000_000)
    got, _, _ = transfer(net, data, b"")
    assert got == data
    assert net.sent < 3_000_000 / 32_768 * 2 + 20


def test_a_port_where_nobody_listens_refuses_at_once(kinds: tuple[str, str]) -> None:
    net = Net(1, kinds)
    key = net.ends[LEFT].connect(RIGHT, 81, 0.0)
    connection = net.ends[LEFT].connections[key]
    while connection.state is ConnectionState.SYN_SENT:
        assert net.step()
    assert (connection.state, connection.error) == (ConnectionState.RESET, "refused by the peer")
    assert net.now < 0.1


def test_a_peer_that_is_gone_ends_the_connection_after_a_minute(kinds: tuple[str, str]) -> None:
    net = Net(1, kinds)
    net.ends[RIGHT].listen(80)
    key = net.ends[LEFT].connect(RIGHT, 80, 0.0)
    connection = net.ends[LEFT].connections[key]
    while connection.state is not ConnectionState.ESTABLISHED:
        net.step()
    net.loss = 1.0
    connection.send(b"anyone?", net.now)
    net.ends[LEFT].touch(key)
    while connection.state is ConnectionState.ESTABLISHED:
        assert net.step()
    assert "no acknowledgement within 60 s" in connection.error
    assert 60 <= net.now < 80


def test_a_reader_that_does_not_read_stops_the_writer_and_resumes(kinds: tuple[str, str]) -> None:
    net = Net(1, kinds)
    left, right = net.ends[LEFT], net.ends[RIGHT]
    right.listen(80)
    key = left.connect(RIGHT, 80, 0.0)
    data = random.Random(3).randbytes(3 * RECEIVE_WINDOW)
    left.connections[key].send(data, 0.0)
    left.touch(key)
    while net.now < 30 and net.step():
        pass
    (other,) = right.accepted
    reader = right.connections[other]
    assert 0 < reader.waiting <= RECEIVE_WINDOW
    got = bytearray()
    while len(got) < len(data):
        got += reader.read(net.now)
        right.touch(other)
        assert net.step()
    assert bytes(got) == data


def test_an_outage_is_made_up_for_in_a_few_round_trips(kinds: tuple[str, str]) -> None:
    """Everything in flight was lost: it must not come back one segment a timeout."""
    net = Net(1, kinds, delay=(0.01, 0.01))
    left, right = net.ends[LEFT], net.ends[RIGHT]
    right.listen(80)
    key = left.connect(RIGHT, 80, 0.0)
    data = random.Random(4).randbytes(6 << 20)
    sender = left.connections[key]
    sender.send(data, 0.0)
    left.touch(key)
    got = bytearray()

    def until(done: float | int, *, at: bool) -> None:
        while (net.now if at else len(got)) < done:
            assert net.step()
            for other in right.connections:
                got.extend(right.connections[other].read(net.now))
                right.touch(other)

    until(2 << 20, at=False)
    net.loss = 1.0
    until(net.now + 5.0, at=True)
    healed, net.loss = net.now, 0.0
    until(len(data), at=False)
    assert bytes(got) == data
    assert net.now - healed < 11.0  # one timeout, backed off to 10 s at most, and then only round trips


def test_a_flood_of_syns_is_bounded(make: Callable[..., Any]) -> None:
    end = make(lambda: 7)
    end.listen(80)
    for port in range(5_000):
        end.receive(9, encode(Segment(port, 80, 1, 0, 1000, SYN)), 0.0)
    assert end.count == 1_024
    now = 0.0
    while (at := end.next_timer()) is not None and now < 300:
        now = at
        end.handle_timer(now)
    assert end.count == 0


def test_garbage_is_dropped(make: Callable[..., Any]) -> None:
    rng, end = random.Random(5), make(lambda: 7)
    end.listen(80)
    for _ in range(3000):
        head = rng.choice([b"", encode(Segment(5, 80, rng.getrandbits(32), rng.getrandbits(32), 9, rng.randrange(64)))])
        end.receive(3, head + rng.randbytes(rng.randrange(60)), 0.0)
    assert end.count <= 1_024


def test_a_segment_survives_its_encoding() -> None:
    segment = Segment(1, 2, 3, 4, 5, 6, ((7, 8), (9, 10)), b"payload")
    assert decode(encode(segment)) == segment
    assert before(0xFFFFFFF0, 5) and not before(5, 0xFFFFFFF0)


# -- as streams ----------------------------------------------------------------------------------------------------------------


def reference_core() -> EndpointCore:
    rng = random.SystemRandom()
    return EndpointCore(lambda: rng.getrandbits(32))


def pair() -> tuple[L4Endpoint, L4Endpoint]:
    loop = asyncio.get_running_loop()
    ends: dict[int, L4Endpoint] = {}
    left = L4Endpoint(lambda n, data: loop.call_soon(ends[n].receive, LEFT, data), core=reference_core())
    right = L4Endpoint(lambda n, data: loop.call_soon(ends[n].receive, RIGHT, data), core=reference_core())
    ends.update({LEFT: left, RIGHT: right})
    return left, right


def test_streams_echo_with_half_close_and_bounded_buffers() -> None:
    async def scenario() -> float:
        left, right = pair()

        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.write(b"end")
            writer.write_eof()

        await right.listen(7, echo)
        reader, writer = await left.connect(RIGHT, 7)
        total = 40 << 20
        chunk = bytes(range(256)) * 256
        begun = time.perf_counter()

        async def feed() -> None:
            for _ in range(total // len(chunk)):
                writer.write(chunk)
                await writer.drain()
                assert writer.transport.get_write_buffer_size() <= (1 << 20)
            writer.write_eof()

        feeding = asyncio.create_task(feed())
        got = 0
        tail = b""
        while data := await reader.read(1 << 18):
            got += len(data)
            tail = (tail + data)[-3:]
        await feeding
        assert (got, tail) == (total + 3, b"end")
        writer.close()
        await writer.wait_closed()
        took = time.perf_counter() - begun
        await left.close()
        await right.close()
        assert left.connections == right.connections == 0
        return 2 * total / took / 1e6

    print(f"echo through two endpoints: {asyncio.run(scenario()):.0f} MB/s")


def test_connecting_to_a_closed_port_or_a_silent_node_is_unavailable() -> None:
    async def scenario() -> None:
        left, right = pair()
        with pytest.raises(Unavailable, match="refused"):
            await left.connect(RIGHT, 9)
        silent = L4Endpoint(lambda n, data: None, core=reference_core())
        with pytest.raises(Unavailable, match="does not answer"):
            await silent.connect(5, 9, timeout=0.05)
        for end in (left, right, silent):
            await end.close()
            assert end.connections == 0

    asyncio.run(scenario())


# -- the rest of a connection's life ---------------------------------------------------------------------------------------------


def established(net: Net, port: int = 80) -> tuple[Any, Any, Key, Key]:
    left, right = net.ends[LEFT], net.ends[RIGHT]
    right.listen(port)
    key = left.connect(RIGHT, port, net.now)
    while not right.accepted:
        assert net.step()
    other = right.accepted.pop()
    return left.connections[key], right.connections[other], key, other


def test_a_marked_segment_slows_the_sender_down_and_loses_nothing(kinds: tuple[str, str]) -> None:
    took, sent = {}, {}
    for marks in (0.0, 0.2):
        net = Net(2, kinds, delay=(0.02, 0.02))
        net.marks = marks
        data = random.Random(1).randbytes(20 << 20)
        got, _, _ = transfer(net, data, b"")
        assert got == data
        took[marks], sent[marks] = net.now, net.sent
    assert took[0.2] > 1.3 * took[0.0]
    assert sent[0.2] < 1.5 * sent[0.0]  # nothing was sent twice for it


def test_a_lost_tail_comes_again_before_a_timeout(make: Callable[..., Any]) -> None:
    net = Net(1, ("c", "c" if make is L4 else "python"), delay=(0.02, 0.02))
    a, b, key, other = established(net)
    a.send(bytes(100), net.now)  # a round trip is known
    net.ends[LEFT].touch(key)
    for _ in range(6):
        net.step()
    lost_at = net.now
    net.loss = 1.0
    a.send(b"the tail", net.now)
    net.ends[LEFT].touch(key)
    net.loss = 0.0
    while b.waiting < 108:
        assert net.step()
    assert net.now - lost_at < 0.15  # the timer alone would take 0.2 s


def test_an_idle_connection_asks_for_its_peer_and_notices_when_it_is_gone(kinds: tuple[str, str]) -> None:
    net = Net(1, kinds)
    a, b, key, _ = established(net)
    a.keepalive(30.0)
    net.ends[LEFT].touch(key)
    sent = net.sent
    while net.now < 300:
        assert net.step()
    assert a.state is b.state is ConnectionState.ESTABLISHED
    assert 16 <= net.sent - sent <= 24  # a question and an answer each 30 s
    net.loss = 1.0
    while a.state is ConnectionState.ESTABLISHED:
        assert net.step()
    assert (a.state, a.error) == (ConnectionState.RESET, "no sign of the peer")
    assert net.now < 300 + 30 + 60 + 25


def test_a_connection_that_was_silent_for_long_is_not_given_up_at_its_first_loss(kinds: tuple[str, str]) -> None:
    net = Net(1, kinds)
    a, b, key, other = established(net)
    for _ in range(10):
        net.step()
    net.now += 1000.0
    net.loss = 1.0
    a.send(b"again", net.now)
    net.ends[LEFT].touch(key)
    net.collect()
    net.loss = 0.0
    while not b.waiting:
        assert net.step()
    assert b.read(net.now) == b"again" and a.state is ConnectionState.ESTABLISHED


def test_half_closed_the_other_direction_goes_on(kinds: tuple[str, str]) -> None:
    net = Net(3, kinds, loss=0.1)
    a, b, key, other = established(net)
    a.finish(net.now)
    net.ends[LEFT].touch(key)
    while not b.at_eof():
        assert net.step()
    data = random.Random(1).randbytes(500_000)
    b.send(data, net.now)
    b.finish(net.now)
    net.ends[RIGHT].touch(other)
    got = b""
    while not a.at_eof():
        assert net.step()
        got += a.read(net.now)
        net.ends[LEFT].touch(key)
    assert got == data


def test_a_node_that_was_restarted_is_not_taken_for_the_old_one(kinds: tuple[str, str]) -> None:
    """Its SYN meets the connection of before, with the same ports: that ends, the new one comes up."""
    net = Net(1, kinds)
    a, b, key, other = established(net)
    kind = kinds[0]
    while net.ends[LEFT].next_timer() is not None or net._flying:
        net.step()
    net.ends[LEFT] = MAKERS[kind](lambda: net.rng.getrandbits(32))
    fresh_key = None
    for _ in range(65536):
        fresh_key = net.ends[LEFT].connect(RIGHT, 80, net.now)
        if fresh_key[1] == key[1]:
            break
        net.ends[LEFT].connections[fresh_key].abort("")
        net.ends[LEFT].touch(fresh_key)
        net.ends[LEFT].drop(fresh_key)
        net.ends[LEFT].segments_to_send()
    assert fresh_key is not None and fresh_key[1] == key[1]
    while net.ends[LEFT].connections[fresh_key].state is ConnectionState.SYN_SENT:
        assert net.step()
        for at in list(net.ends[RIGHT].connections):
            if net.ends[RIGHT].connections[at].state is ConnectionState.RESET:
                net.ends[RIGHT].drop(at)
    assert net.ends[LEFT].connections[fresh_key].state is ConnectionState.ESTABLISHED
    assert b.state is ConnectionState.RESET


def test_many_idle_connections_cost_little(make: Callable[..., Any]) -> None:
    net = Net(1, ("c", "c"))
    left, right = net.ends[LEFT], net.ends[RIGHT]
    right.listen(80)
    for _ in range(3000):
        left.connect(RIGHT, 80, net.now)
        if left.count % 500 == 0:
            while net._flying or left.next_timer() is not None:
                net.step()
    assert left.count == right.count == 3000
    assert left.counters()["bytes"] == right.counters()["bytes"] == 0  # no buffer is held


def test_what_waits_for_slow_readers_is_bounded_for_all_connections_together() -> None:
    net = Net(1)
    net.ends[RIGHT] = L4(lambda: net.rng.getrandbits(32), budget=4 << 20)
    left, right = net.ends[LEFT], net.ends[RIGHT]
    right.listen(80)
    for _ in range(60):
        key = left.connect(RIGHT, 80, net.now)
        left.connections[key].send(bytes(400_000), net.now)
        left.touch(key)
    while net.now < 5 and net.step():
        pass
    assert (1 << 20) < right.counters()["bytes"] <= 2 << 20  # of a node: the rest is for others
    got = 0
    while got < 60 * 400_000:
        assert net.step()
        for key in right.connections:
            got += len(right.connections[key].read(net.now))
            right.touch(key)
    assert right.counters()["bytes"] < 1 << 20


def test_a_connection_to_ones_own_node_needs_no_network() -> None:
    end = L4(lambda: 7, number=5)
    end.listen(80)
    key = end.connect(5, 80, 0.0)
    (other,) = end.accepted
    end.connections[key].send(b"hello", 0.0)
    end.touch(key)
    assert end.connections[other].read(0.0) == b"hello"
    assert end.segments_to_send() == []
    end.close()
    with pytest.raises(Unavailable):
        end.connect(5, 80, 0.0)
