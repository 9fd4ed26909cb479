"""The hub session, with literal times."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.errors import ChannelDetached, Misuse, PeerError
from kubeedge.hub.core import (
    CLOUD_TIMEOUT,
    FEATURES,
    MAX_HELLO,
    MAX_MESSAGE,
    MAX_WAITING,
    SYNC_DOWN,
    SYNC_UP,
    Attached,
    ChannelSession,
    ChannelSettings,
    ChannelState,
    Detached,
    Received,
)

HELLO = b'\x01{"version":1}'
PING, PONG = b"\x02", b"\x03"


def attached(now: float = 0.0, settings: ChannelSettings | None = None) -> ChannelSession:
    session = ChannelSession({}, settings or ChannelSettings())
    session.open(now)
    session.receive(HELLO, now)
    session.messages_to_send()
    return session


def test_both_ends_say_hello_and_are_attached() -> None:
    edge, cloud = ChannelSession({"agent": "0.1"}), ChannelSession({})
    edge.open(0.0)
    cloud.open(0.0)
    (greeting,) = edge.messages_to_send()
    assert greeting[0] == 1 and json.loads(greeting[1:]) == {"version": 1, "features": list(FEATURES), "agent": "0.1"}
    assert cloud.receive(greeting, 0.1) == [Attached({"version": 1, "features": list(FEATURES), "agent": "0.1"})]
    (answer,) = cloud.messages_to_send()
    assert edge.receive(answer, 0.2) == [Attached({"version": 1, "features": list(FEATURES)})]
    assert (edge.state, cloud.state) == (ChannelState.ATTACHED, ChannelState.ATTACHED)


def test_a_message_of_a_stream_arrives_as_it_was_sent() -> None:
    one, other = attached(), attached()
    one.send(SYNC_UP, b"payload")
    (message,) = one.messages_to_send()
    assert other.receive(message, 1.0) == [Received(SYNC_UP, b"payload")]


def test_nothing_is_asked_while_messages_flow() -> None:
    session = attached(0.0)
    for second in range(0, 100, 10):
        session.receive(bytes((SYNC_DOWN,)), float(second))
        assert session.handle_timer(second + 9.9) == [] and session.messages_to_send() == []


def test_after_silence_we_ask_once_and_then_give_up() -> None:
    session = attached(100.0)
    assert session.next_timer() == 120.0
    assert session.handle_timer(119.9) == [] and session.messages_to_send() == []
    assert session.handle_timer(120.0) == [] and session.messages_to_send() == [PING]
    assert session.next_timer() == 145.0
    assert session.handle_timer(144.9) == [] and session.messages_to_send() == []
    assert session.handle_timer(145.0) == [Detached("silent for 45 s")]
    assert session.next_timer() is None and session.handle_timer(200.0) == []


def test_an_answer_is_a_sign_of_life_and_measures_the_round_trip() -> None:
    session = attached(0.0)
    session.handle_timer(20.0)
    session.receive(PONG, 20.25)
    assert session.rtt == 0.25 and session.next_timer() == 40.25


def test_anything_heard_answers_the_question() -> None:
    session = attached(0.0)
    session.handle_timer(20.0)
    session.receive(bytes((SYNC_DOWN,)), 21.0)
    assert session.next_timer() == 41.0


def test_a_ping_is_answered_with_its_bytes() -> None:
    session = attached()
    assert session.receive(PING + b"abc", 1.0) == []
    assert session.messages_to_send() == [PONG + b"abc"]


def test_a_probe_has_a_short_deadline() -> None:
    session = attached(0.0)
    session.probe(5.0)
    assert session.messages_to_send() == [PING] and session.next_timer() == 7.0
    session.probe(6.0)  # the network changes a lot: one question at a time
    assert session.messages_to_send() == [] and session.next_timer() == 7.0
    assert session.handle_timer(7.0) == [Detached("no answer within 2 s after the network changed")]


def test_a_probe_that_is_answered_changes_nothing() -> None:
    session = attached(0.0)
    session.probe(5.0)
    session.receive(PONG, 5.5)
    assert session.next_timer() == 25.5 and session.state is ChannelState.ATTACHED


def test_a_peer_that_says_nothing_is_not_waited_for() -> None:
    session = ChannelSession({})
    session.open(50.0)
    assert session.next_timer() == 60.0
    assert session.handle_timer(60.0) == [Detached("no hello within 10 s")]


def test_a_goodbye_ends_it_on_both_sides() -> None:
    one, other = attached(), attached()
    one.close("enough")
    (message,) = one.messages_to_send()
    assert other.receive(message, 1.0) == [Detached("peer says: enough")]
    with pytest.raises(ChannelDetached):
        other.send(SYNC_UP, b"")
    assert one.receive(HELLO, 1.0) == []


def test_a_process_that_slept_too_long_lets_go() -> None:
    session = attached(0.0)
    assert session.handle_timer(3600.0) == [Detached("silent for 45 s")]


def test_a_question_that_we_ask_late_has_its_time_all_the_same() -> None:
    session = attached(0.0)
    assert session.handle_timer(40.0) == [] and session.messages_to_send() == [PING]
    assert session.next_timer() == 65.0 and session.handle_timer(64.9) == []
    assert session.handle_timer(65.0) == [Detached("silent for 45 s")]


@pytest.mark.parametrize(
    ("said", "asks"),
    [
        (b"", 22.0),
        (b',"keepalive":20.0', 22.0),
        (b',"keepalive":8', 10.0),
        (b',"keepalive":300', 302.0),
        *(
            (b',"keepalive":' + wrong, 22.0)
            for wrong in (b"0", b"-1", b"3601", b"1e999", b"true", b"null", b'"9"', b"[]")
        ),
    ],
)
def test_who_follows_asks_when_the_peer_is_late_with_its_own_question(said: bytes, asks: float) -> None:
    session = ChannelSession({}, ChannelSettings(follows=True, timeout=CLOUD_TIMEOUT))
    session.open(0.0)
    session.receive(HELLO[:-1] + said + b"}", 0.0)
    session.messages_to_send()
    assert session.next_timer() == asks
    assert session.handle_timer(asks) == [] and session.messages_to_send() == [PING]
    assert session.next_timer() == asks + 5
    assert session.handle_timer(asks + 5) == [Detached(f"silent for {asks + 5:g} s")]


def test_bytes_of_a_message_that_is_not_whole_yet_are_a_sign_of_life() -> None:
    session = attached(0.0)
    for second in (19.0, 38.0, 57.0):
        session.heard(second)
        assert session.handle_timer(second + 5) == [] and session.messages_to_send() == []
    session.heard(10.0)  # what is old news moves nothing
    assert session.next_timer() == 77.0


def test_a_flood_of_pings_is_ended() -> None:
    session = attached()
    with pytest.raises(PeerError):
        for _ in range(MAX_WAITING + 2):
            session.receive(PING + bytes(64), 1.0)
    assert session.state is ChannelState.DETACHED and len(session.messages_to_send()) <= MAX_WAITING + 1


def test_nothing_is_sent_before_the_peer_said_hello() -> None:
    session = ChannelSession({})
    session.open(0.0)
    with pytest.raises(ChannelDetached):
        session.send(SYNC_UP, b"")


@pytest.mark.parametrize(("kind", "size"), [(1, 0), (15, 0), (18, 0), (255, 0), (300, 0), (SYNC_UP, MAX_MESSAGE)])
def test_we_do_not_send_what_no_peer_would_take(kind: int, size: int) -> None:
    with pytest.raises(Misuse):
        attached().send(kind, bytes(size))


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"", 1009),
        (b"\x10" + bytes(MAX_MESSAGE), 1009),
        (b"\x02", 1002),  # before HELLO
        (b"\x10", 1002),
        (b"\x01", 1002),
        (b"\x01null", 1002),
        (b"\x01[]", 1002),
        (b'\x01{"version":"1"}', 1002),
        (b'\x01{"version":true}', 1002),
        (b'\x01{"version":2}', 1003),
        (b"\x01{}", 1002),
        (b"\x01" + b"[" * 4000, 1002),
        (b"\x01\xff\xfe", 1002),
        (b"\x01" + b" " * (MAX_HELLO + 1), 1009),
    ],
)
def test_a_hello_that_is_none_ends_the_session(message: bytes, code: int) -> None:
    session = ChannelSession({})
    session.open(0.0)
    with pytest.raises(PeerError) as error:
        session.receive(message, 1.0)
    assert error.value.close_code == code and session.state is ChannelState.DETACHED


@pytest.mark.parametrize(
    "message", [HELLO, b"\x00", b"\x05", b"\x0f", b"\x12", b"\xff", PING + bytes(65), PONG + bytes(65)]
)
def test_a_message_out_of_place_ends_the_session(message: bytes) -> None:
    session = attached()
    with pytest.raises(PeerError):
        session.receive(message, 1.0)
    assert session.state is ChannelState.DETACHED


@given(st.lists(st.binary(max_size=80), max_size=10))
def test_garbage_never_does_more_than_end_the_session(messages: list[bytes]) -> None:
    session = ChannelSession({})
    session.open(0.0)
    try:
        for n, message in enumerate([HELLO, *messages]):
            session.receive(message, float(n))
            session.handle_timer(float(n))
    except PeerError:
        assert session.state is ChannelState.DETACHED
