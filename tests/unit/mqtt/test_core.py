"""Sessions, subscriptions, retained messages, and their bounds."""

from __future__ import annotations

import pytest

from kubeedge.mqtt import answers, codec
from kubeedge.mqtt.codec import Connect, Publish, Subscription
from kubeedge.mqtt.core import Broker, MqttLimits, MqttSession, matches


def join(
    broker: Broker, name: str, *, clean: bool = True, expiry: int = 0, now: float = 0.0
) -> tuple[MqttSession, bool]:
    found = broker.connect(Connect(name, codec.V5, clean, 60, expiry), now)
    assert found is not None
    return found


def drain(broker: Broker, session: MqttSession) -> list[bytes]:
    found = []
    while (message := broker.take(session)) is not None:
        found.append(message.payload)
    return found


@pytest.mark.parametrize(
    ("filter_", "topic", "fits"),
    [
        ("a/+/c", "a/b/c", True),
        ("a/+", "a/b/c", False),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("#", "a", True),
        ("#", "$hw/events", False),
        ("+/events", "$hw/events", False),
        ("$hw/#", "$hw/events", True),
        ("a/b", "a/b", True),
        ("a/b/", "a/b", False),
    ],
)
def test_wildcards(filter_: str, topic: str, fits: bool) -> None:
    assert matches(filter_, topic) is fits


def test_messages_of_qos_1_survive_the_connection_and_keep_their_order() -> None:
    broker = Broker(MqttLimits(in_flight=3))
    session, present = join(broker, "a", clean=False, expiry=100)
    assert not present
    broker.subscribe(session, [Subscription("t/#", 1)])
    for number in range(6):
        broker.publish(Publish("t/x", b"%d" % number, 1))
    assert drain(broker, session) == [b"0", b"1", b"2"], "three in flight"
    broker.acknowledged(session, 1)
    broker.closed(session, 10.0, with_will=True)
    broker.publish(Publish("t/x", b"6", 1))
    broker.publish(Publish("t/x", b"lost", 0))
    session, present = join(broker, "a", clean=False, expiry=100, now=50.0)
    assert present
    received = []
    while (message := broker.take(session)) is not None:
        received.append((message.payload, message.dup))
        broker.acknowledged(session, message.packet_id)
    assert received == [(b"1", True), (b"2", True)] + [(b"%d" % n, False) for n in (3, 4, 5, 6)]
    assert broker._bytes == 0
    broker.closed(session, 60.0, with_will=False)
    assert join(broker, "a", clean=False, expiry=100, now=161.0)[1] is False, "it has expired"


def test_one_message_once_at_the_best_qos_and_not_to_its_sender_who_wants_it_not() -> None:
    broker = Broker()
    session, _ = join(broker, "a")
    broker.subscribe(session, [Subscription("a/+", 0), Subscription("a/b", 1), Subscription("n/#", 1, no_local=True)])
    broker.publish(Publish("a/b", b"x", 1), "b")
    message = broker.take(session)
    assert message is not None and message.qos == 1 and broker.take(session) is None
    broker.publish(Publish("n/a", b"x", 1), "a")
    assert broker.take(session) is None


def test_retained_messages_and_their_bounds() -> None:
    broker = Broker(MqttLimits(retained=10))
    for number in range(20):
        broker.publish(Publish(f"r/{number}", b"v", 1, True))
    assert len(broker.retained) == 10 and "r/0" not in broker.retained
    session, _ = join(broker, "a")
    assert broker.subscribe(session, [Subscription("r/#", 0)]) == [0]
    assert len(drain(broker, session)) == 10
    broker.subscribe(session, [Subscription("r/#", 1, retained=1)])
    assert drain(broker, session) == [], "the subscription is not new"
    broker.publish(Publish("r/19", b"", 1, True))
    assert "r/19" not in broker.retained
    for number in range(10, 19):
        broker.publish(Publish(f"r/{number}", b"", 1, True))
    assert broker._retained_bytes == 0


def test_a_client_that_reads_nothing_costs_so_much_and_no_more() -> None:
    broker = Broker(MqttLimits(queued=100, queued_bytes=10_000, all_queued_bytes=15_000))
    sessions = [join(broker, name)[0] for name in "abc"]
    for session in sessions:
        broker.subscribe(session, [Subscription("#", 1)])
    for number in range(1000):
        broker.publish(Publish("t", b"%1000d" % number, 1))
    assert sum(session.bytes for session in sessions) == broker._bytes <= 15_000
    assert drain(broker, sessions[0])[-1].strip() == b"999", "the newest is there"
    for session in sessions:
        broker.closed(session, 1.0, with_will=False)
    assert broker._bytes == 0 and not broker._wild and not broker.sessions


def test_sessions_and_filters_are_bounded_and_a_waiting_session_gives_way() -> None:
    broker = Broker(MqttLimits(sessions=2, filters=3))
    session, _ = join(broker, "a", clean=False, expiry=1000)
    codes = broker.subscribe(session, [Subscription(f"f{n}", 1) for n in range(4)])
    assert codes == [1, 1, 1, codec.QUOTA]
    assert broker.subscribe(session, [Subscription("$share/g/t", 1), Subscription("a#", 1)]) == [
        codec.NO_SHARED,
        codec.BAD_FILTER,
    ]
    broker.closed(session, 0.0, with_will=False)
    join(broker, "b")
    join(broker, "c")
    assert "a" not in broker.sessions
    assert broker.connect(Connect("d", codec.V5, True, 60), 1.0) is None


def test_the_will_of_a_connection_that_was_taken_over_is_done() -> None:
    broker = Broker()
    will = Publish("will", b"gone", 1)
    broker.connect(Connect("a", codec.V5, True, 60, 0, will), 0.0)
    join(broker, "a")
    assert broker.wills == [will]


def test_filters_of_all_sessions_together_are_bounded_and_none_is_long() -> None:
    """One client had 33 MB of filters, and a message that was compared with them took the loop for a second."""
    broker = Broker(MqttLimits(filters=10, all_filters=25))
    sessions = [join(broker, name)[0] for name in "abc"]
    codes = [broker.subscribe(s, [Subscription(f"{s.client_id}/{n}/#", 1) for n in range(10)]) for s in sessions]
    assert [code.count(1) for code in codes] == [10, 10, 5] and codes[2][5:] == [codec.QUOTA] * 5
    assert broker.subscribe(sessions[2], [Subscription("c/0/#", 0)]) == [0], "it has that one"
    broker.unsubscribe(sessions[2], "c/0/#")
    broker.closed(sessions[0], 0.0, with_will=False)
    assert broker.subscribe(sessions[2], [Subscription(f"more/{n}", 1) for n in range(5)]) == [1] * 5
    long = ["a" * 1025, "/".join(["+"] * 65), "x/" * 600]
    assert broker.subscribe(sessions[1], [Subscription(text, 1) for text in long]) == [codec.BAD_FILTER] * 3
    assert not any(codec.is_topic(text.replace("+", "a")) for text in long)
    assert codec.is_topic("a" * 1024) and codec.is_filter("/".join(["+"] * 64))


def test_what_a_client_does_not_acknowledge_is_bounded_in_bytes_and_the_rest_comes_later() -> None:
    broker = Broker(MqttLimits(queued_bytes=1_000_000, in_flight_bytes=10_000))
    session, _ = join(broker, "a")
    broker.subscribe(session, [Subscription("#", 1)])
    for number in range(20):
        broker.publish(Publish("t", b"%4000d" % number, 1))
    first = [broker.take(session) for _ in range(3)]
    assert [message is not None for message in first] == [True, True, False]
    got, waiting = [], [message.packet_id for message in first if message is not None]
    while waiting:
        got.append(waiting.pop(0))
        broker.acknowledged(session, got[-1])
        broker.acknowledged(session, got[-1])
        if (message := broker.take(session)) is not None:
            waiting.append(message.packet_id)
    assert len(got) == 20 and session.in_flight_bytes == 0
    broker.publish(Publish("t", bytes(50_000), 1))
    assert broker.take(session) is not None, "one may be larger"
    session.again()
    assert session.in_flight_bytes == 0 and len(session.queue) == 1


def test_a_session_of_many_small_messages_makes_no_room_for_large_ones_beyond_the_bound() -> None:
    """One message gave way for each that came: a small one for a large one, 256 MB in all."""
    broker = Broker(MqttLimits(all_queued_bytes=400_000))
    sessions = [join(broker, f"s{n:02}")[0] for n in range(20)]
    for session in sessions:
        broker.subscribe(session, [Subscription(session.client_id, 1)])
        for _ in range(200):
            broker.publish(Publish(session.client_id, b"", 1))
    for session in sessions:
        for _ in range(10):
            broker.publish(Publish(session.client_id, bytes(50_000), 1))
            assert broker._bytes <= 400_000
    assert sum(one.bytes for one in sessions) == broker._bytes
    assert sessions[-1].queue[-1].payload == bytes(50_000), "the newest is there"


def test_what_all_clients_have_not_acknowledged_is_bounded_too() -> None:
    """One large message may be in flight in each session: 256 of them were 64 MB."""
    broker = Broker(MqttLimits(all_queued_bytes=400_000))
    sessions = [join(broker, f"s{n:02}", clean=False, expiry=1000)[0] for n in range(20)]
    for session in sessions:
        broker.subscribe(session, [Subscription(session.client_id, 1)])
        broker.publish(Publish(session.client_id, bytes(100_000), 1))
        assert broker.take(session) is not None
    held = [session for session in sessions if session.in_flight]
    assert len(held) == 3 and broker._bytes == sum(one.bytes for one in sessions) <= 400_000
    broker.acknowledged(sessions[0], 1)  # of one that was given up
    for session in held:
        broker.acknowledged(session, 1)
    assert broker._bytes == 0 and not any(session.in_flight for session in sessions)
    broker.publish(Publish("s00", bytes(100_000), 1))
    assert broker.take(sessions[0]) is not None
    broker.closed(sessions[0], 0.0, with_will=False)
    again, present = join(broker, "s00", clean=False, expiry=1000)
    assert present and broker._bytes == again.bytes > 100_000
    broker.closed(again, 0.0, with_will=False)
    broker.expire(2000.0)
    assert broker._bytes == 0


def test_different_filters_with_wildcards_are_few_and_the_same_ones_are_one() -> None:
    """Each message is compared with each of them: with 8,192 it took the loop for ten milliseconds and more."""
    broker = Broker(MqttLimits(wildcards=10))
    a, b = (join(broker, name)[0] for name in "ab")
    assert broker.subscribe(a, [Subscription(f"{n}/#", 1) for n in range(12)]) == [1] * 10 + [codec.QUOTA] * 2
    assert broker.subscribe(b, [Subscription("3/#", 1), Subscription("+/x", 1), Subscription("plain", 1)]) == [
        1,
        codec.QUOTA,
        1,
    ]
    broker.unsubscribe(a, "0/#")
    assert broker.subscribe(b, [Subscription("+/x", 1)]) == [1]
    broker.publish(Publish("3/x", b"v", 1))
    assert drain(broker, a) == [b"v"] and drain(broker, b) == [b"v"]
    for session in (a, b):
        broker.closed(session, 1.0, with_will=False)
    assert not broker._wild and not broker._levels


@pytest.mark.parametrize("topic", ["a", "\u6e29\u5ea6" * 40])
@pytest.mark.parametrize("size", [0, 100, 120, 200, 20_000])
def test_a_client_gets_packets_as_large_as_it_takes_and_none_that_are_larger(topic: str, size: int) -> None:
    packet = answers.publish(codec.V5, Publish(topic, b"x" * size, 1, packet_id=1))
    for most, fits in ((len(packet), True), (len(packet) - 1, False)):
        broker = Broker()
        found = broker.connect(Connect("one", codec.V5, True, 60, 0, max_packet=most), 0.0)
        assert found is not None
        broker.subscribe(found[0], [Subscription(topic, 1)])
        broker.publish(Publish(topic, b"x" * size, 1))
        assert (len(drain(broker, found[0])), found[0].dropped) == ((1, 0) if fits else (0, 1))
