"""The fair queue of a link, with literal times; the one in C against the readable one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubeedge.wire_format.checksum import ones_sum
from kubeedge.wire_format.frame import PACKET, SEGMENT, TENANT_PACKET, TENANT_SEGMENT, encode
from tests.reference.ip import UDP, ipv4, ipv6
from tests.reference.l4 import segment as l4
from tests.reference.queue import INTERVAL, QUANTUM, TARGET, FairQueue

LIMIT = 1 << 30


@pytest.fixture(params=["c", "python"])
def queue(request: pytest.FixtureRequest) -> Any:
    if request.param == "python":
        return FairQueue()
    return pytest.importorskip("kubeedge._fastpath.plane").FairQueue()


def frame(name: int, size: int = 1500) -> bytes:
    """Neither a packet nor a segment of L4 (its SYN flag is set): it cannot be marked."""
    return encode(SEGMENT, (name.to_bytes(8, "big") + bytes(16) + b"\1").ljust(size - 4, b"\0"))


def name(got: bytes | None) -> int | None:
    return None if got is None else int.from_bytes(got[4:12], "big")


def drain(queue: Any, now: int = 0) -> list[int | None]:
    out = []
    while (got := queue.get(now)) is not None:
        out.append(name(got))
    return out


def test_one_flow_keeps_its_order(queue: Any) -> None:
    for n in range(100):
        queue.put(frame(n), 7, 0, LIMIT)
    assert queue.bytes == 150_000
    assert drain(queue) == list(range(100))
    assert queue.bytes == 0 and queue.get(0) is None


def test_a_flow_that_has_just_begun_goes_before_a_backlog(queue: Any) -> None:
    for n in range(50):
        queue.put(frame(n, 60_000), 1, 0, LIMIT)
    assert name(queue.get(0)) == 0
    queue.put(frame(1000, 100), 2, 0, LIMIT)  # a ping
    assert name(queue.get(0)) == 1000
    assert name(queue.get(0)) == 1


def test_control_goes_before_everything(queue: Any) -> None:
    queue.put(frame(1), 1, 0, LIMIT)
    queue.put_control(frame(2))
    queue.put_control(frame(3))
    assert drain(queue) == [2, 3, 1]


@pytest.mark.parametrize("sizes", [(1500, 1500), (60_000, 1500), (60_000, 200), (3000, 500)])
def test_flows_get_equal_bytes_whatever_their_packets_are(queue: Any, sizes: tuple[int, int]) -> None:
    for flow, size in enumerate(sizes):
        for n in range(3_000_000 // size):
            queue.put(frame(flow * 1_000_000 + n, size), flow, 0, LIMIT)
    sent = [0, 0]
    while sum(sent) < 2_000_000:
        got = queue.get(0)
        sent[(name(got) or 0) // 1_000_000] += len(got)
    assert abs(sent[0] - sent[1]) <= 2 * (max(sizes) + QUANTUM)


def test_nobody_is_always_new(queue: Any) -> None:
    """A flow that sends one packet each time its queue is empty gets a share, not everything."""
    for n in range(100):
        queue.put(frame(n, 8000), 1, 0, LIMIT)
    order = []
    for n in range(100):
        queue.put(frame(1_000_000 + n, 8000), 2, 0, LIMIT)
        order.append((name(queue.get(0)) or 0) >= 1_000_000)
    assert 40 <= sum(order) <= 60


def test_at_the_bound_the_longest_flow_loses_its_oldest(queue: Any) -> None:
    for n in range(10):
        queue.put(frame(n), 1, 0, 16_500)
    queue.put(frame(500), 2, 0, 16_500)
    assert queue.bytes == 16_500
    queue.put(frame(501), 2, 0, 16_500)
    queue.put(frame(502), 3, 0, 16_500)
    assert [name(got) for got in queue.dropped] == [0, 1]
    assert sorted(n or 0 for n in drain(queue)) == [2, 3, 4, 5, 6, 7, 8, 9, 500, 501, 502]


def test_a_frame_larger_than_the_bound_does_not_stay(queue: Any) -> None:
    queue.put(frame(1, 2000), 1, 0, 1000)
    assert [name(got) for got in queue.dropped] == [1] and queue.bytes == 0
    assert queue.get(0) is None


def test_what_waits_too_long_for_an_interval_is_dropped_more_and_more_often(queue: Any) -> None:
    """One packet of 1500 bytes a millisecond leaves, two come: the queue stands."""
    now, n, drops = 0, 0, []
    for step in range(3000):
        now = step * 1000
        for _ in range(2 if step < 2000 else 1):
            queue.put(frame(n), 1, now, LIMIT)
            n += 1
        before = len(queue.dropped)
        assert queue.get(now) is not None
        drops += [now] * (len(queue.dropped) - before)
    assert drops[0] >= TARGET + INTERVAL
    gaps = [b - a for a, b in zip(drops, drops[1:], strict=False)]
    assert gaps[0] > gaps[10] > gaps[50]


def test_a_short_burst_loses_nothing(queue: Any) -> None:
    for n in range(60):
        queue.put(frame(n), 1, 0, LIMIT)
    for n in range(60):  # gone after 90 ms
        assert name(queue.get(n * 1500)) == n
    assert not queue.dropped


def test_a_flow_with_one_packet_at_a_time_is_never_dropped_however_slow(queue: Any) -> None:
    for n in range(100):
        queue.put(frame(n, 60_000), 1, n * 400_000, LIMIT)
        assert name(queue.get(n * 400_000 + 300_000)) == n
    assert not queue.dropped


@pytest.mark.parametrize("kind", [PACKET, TENANT_PACKET])
@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
def test_packets_with_ecn_are_marked_instead(queue: Any, kind: int, six: bool) -> None:
    if six:
        packet = bytearray(ipv6(bytes(15) + b"\1", bytes(15) + b"\2", UDP, bytes(1000)))
        packet[1] |= 0x20  # ECT(0)
    else:
        packet = bytearray(ipv4(b"\x0a\0\0\1", b"\x0a\0\0\2", UDP, bytes(1000)))
        packet[1] = 2
        packet[10:12] = b"\0\0"
        packet[10:12] = (~ones_sum(packet[:20]) & 0xFFFF).to_bytes(2, "big")
    before = b"" if kind == PACKET else b"\0\0\0\5"
    whole = encode(kind, before + bytes(10) + packet)
    changed = []
    for n in range(400):
        queue.put(whole, 1, 0, LIMIT)
        queue.put(whole, 1, 0, LIMIT)
        got = queue.get(n * 1000)
        assert len(got) == len(whole)
        if got != whole:
            changed.append(got[4 + len(before) + 10 :])
    assert changed and queue.marked == len(changed) and not queue.dropped
    for got in changed:
        if six:
            assert got[1] & 0x30 == 0x30
        else:
            assert got[1] & 3 == 3 and ones_sum(got[:20]) == 0xFFFF


@pytest.mark.parametrize("kind", [SEGMENT, TENANT_SEGMENT])
def test_segments_with_a_payload_are_marked_instead_and_others_are_not(queue: Any, kind: int) -> None:
    before = b"" if kind == SEGMENT else b"\0\0\0\5"

    def segment(flags: int, ranges: int = 0, payload: int = 1000) -> bytes:
        data = l4.encode(l4.Segment(1, 80, 7, 9, 1000, flags, ((1, 2),) * ranges, bytes(payload)))
        return encode(kind, before + bytes(8) + data)

    for wanted, plain in (
        (True, segment(l4.ACK)),
        (True, segment(l4.ACK | l4.FIN, ranges=8)),
        (False, segment(l4.ACK, ranges=8, payload=0)),  # a bare acknowledgement
        (False, segment(l4.SYN)),
        (False, segment(l4.RST | l4.ACK)),
        (False, segment(l4.ACK)[:30]),
    ):
        marked, now = queue.marked, 0
        for now in range(0, 400_000, 20_000):  # a standing queue
            queue.put(plain, 1, now, LIMIT)
            queue.put(plain, 1, now, LIMIT)
            got = queue.get(now)
            if got != plain:
                assert got == encode(kind, before + bytes(8) + _marked(plain, before))
        assert (queue.marked > marked) is wanted, plain[:40].hex()
        while queue.get(now) is not None:
            pass


def _marked(frame: bytes, before: bytes) -> bytes:
    data = bytearray(frame[4 + len(before) + 8 :])
    data[16] |= l4.CE
    return bytes(data)


def test_more_flows_than_there_may_be_share_one(queue: Any) -> None:
    for flow in range(1, 3000):
        queue.put(frame(flow, 100), flow, 0, LIMIT)
    assert sorted(n or 0 for n in drain(queue)) == list(range(1, 3000))


steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 5), st.sampled_from([12, 100, 1500, 9000, 60_000]), st.booleans()),
        st.tuples(st.just("get"), st.integers(1, 12)),
        st.tuples(st.just("wait"), st.sampled_from([1, 1000, 4999, 5000, 20_000, 99_999, 100_000, 3_000_000])),
        st.tuples(st.just("control"), st.just(0)),
    ),
    max_size=120,
)


@settings(max_examples=200, deadline=None)
@given(steps, st.sampled_from([20_000, 200_000, 1 << 30]), st.sampled_from([0, (1 << 32) - 60_000]))
def test_the_queue_in_c_does_what_the_readable_one_does(what: list[Any], limit: int, now: int) -> None:
    fast, plain = pytest.importorskip("kubeedge._fastpath.plane").FairQueue(), FairQueue()
    n = 0
    for step in what:
        match step:
            case ("put", flow, size, marked):
                n += 1
                if marked and size >= 100:
                    packet = bytearray(ipv4(b"\x0a\0\0\1", b"\x0a\0\0\2", UDP, n.to_bytes(4, "big") + bytes(size)))
                    packet[1] = 1
                    made = encode(PACKET, bytes(10) + packet)
                else:
                    made = frame(n, size)
                for queue in (fast, plain):
                    queue.put(made, flow, now, limit)
            case ("get", count):
                for _ in range(count):
                    assert fast.get(now) == plain.get(now)
            case ("wait", time):
                now = (now + time) % (1 << 32)
            case _:
                n += 1
                for queue in (fast, plain):
                    queue.put_control(frame(n, 50))
        assert fast.bytes == plain.bytes and fast.marked == plain.marked
        assert sorted(fast.dropped) == sorted(plain.dropped)
    assert drain(fast, now) == drain(plain, now)
