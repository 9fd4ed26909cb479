"""The conversation of a link, with literal times; garbage ends in a documented error."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.errors import LinkNotUp, PeerError
from kubeedge.kubebus.l2.core import (
    HelloHeard,
    LinkCore,
    LinkDown,
    LinkEvent,
    LinkState,
    LinkUp,
    NameAsked,
    NameResolved,
    Role,
    RoutesChanged,
)
from kubeedge.kubebus.l2.messages import Hello, Subnet, Welcome

WELCOME = Welcome(
    7, "100.64.0.7/16", "10.244.7.0/24", (Subnet("10.96.0.0/12", 1400),), 1500, "r1", 256, ("10.0.0.0/8",)
)
HELLO = Hello(instance="a1", slot=1, keepalive=20.0, subnets=(Subnet("10.0.0.0/24"), Subnet("10.1.0.0/16", 1450)))


def deliver(source: LinkCore, target: LinkCore, now: float) -> list[LinkEvent]:
    events: list[LinkEvent] = []
    for payload in source.payloads_to_send():
        events += target.receive(payload, now)
    return events


def up_pair(now: float = 0.0) -> tuple[LinkCore, LinkCore]:
    edge, relay = LinkCore(Role.EDGE), LinkCore(Role.RELAY)
    edge.open(now, HELLO)
    relay.open(now)
    assert deliver(edge, relay, now) == [HelloHeard(HELLO)]
    relay.welcome(WELCOME)
    assert deliver(relay, edge, now) == [LinkUp(WELCOME)]
    return edge, relay


def test_silence_is_asked_about_again_and_again_and_then_ends_the_link() -> None:
    edge, relay = up_pair(now=0.0)
    assert edge.next_timer() == 20.0
    assert edge.handle_timer(20.0) == []
    assert deliver(edge, relay, 20.1) == [] and deliver(relay, edge, 20.2) == []
    assert edge.rtt == pytest.approx(0.2)
    assert edge.next_timer() == pytest.approx(40.2)
    now = 40.2
    for question in range(12):
        assert edge.handle_timer(now) == [] and edge.payloads_to_send() == [b'{"type":"ping"}']
        assert edge.suspect == (question >= 2)
        assert edge.next_timer() == pytest.approx(now + 1.0)
        now += 1.0
    (down,) = edge.handle_timer(52.2)
    assert isinstance(down, LinkDown) and "12 questions without an answer" in down.reason
    assert edge.next_timer() is None


def test_a_link_that_answers_late_is_no_longer_suspect() -> None:
    edge, relay = up_pair(now=0.0)
    for now in (20.0, 21.0, 22.0):
        edge.handle_timer(now)
    assert edge.suspect
    assert deliver(edge, relay, 24.0) == [] and deliver(relay, edge, 24.0) == []
    assert not edge.suspect and edge.next_timer() == 44.0


def test_questions_follow_the_round_trip_of_a_slow_path() -> None:
    edge, relay = up_pair(now=0.0)
    edge.handle_timer(20.0)
    assert deliver(edge, relay, 21.0) == [] and deliver(relay, edge, 22.0) == []
    edge.handle_timer(42.0)
    assert edge.rtt == 2.0 and edge.next_timer() == 48.0


def test_data_that_moves_needs_no_ping() -> None:
    edge, _ = up_pair(now=0.0)
    edge.heard(15.0)
    assert edge.next_timer() == 35.0


def test_what_has_no_echo_is_asked_at_once_and_only_once() -> None:
    edge, _ = up_pair(now=0.0)
    edge.ask(3.0)
    edge.ask(3.5)
    assert edge.payloads_to_send() == [b'{"type":"ping"}'] and edge.next_timer() == 4.0


def test_the_relay_asks_when_the_edge_should_have() -> None:
    _, relay = up_pair(now=0.0)
    assert relay.next_timer() == 30.0
    quiet = LinkCore(Role.RELAY)
    quiet.open(0.0)
    quiet.receive(b'{"type":"hello","version":1,"keepalive":86400}', 0.0)
    quiet.welcome(WELCOME)
    assert quiet.next_timer() == 900.0


def test_a_probe_makes_a_link_suspect_soon_when_its_network_is_gone() -> None:
    edge, relay = up_pair(now=0.0)
    edge.probe(10.0)
    assert edge.next_timer() == 10.4
    assert deliver(edge, relay, 10.1) == [] and deliver(relay, edge, 10.2) == []
    assert edge.handle_timer(10.4) == [] and not edge.suspect
    edge.probe(20.0)
    edge.payloads_to_send()
    assert edge.handle_timer(20.7) == [] and edge.suspect and edge.state is LinkState.UP


def test_names_and_routes() -> None:
    edge, relay = up_pair()
    id = edge.resolve("edge9")
    assert deliver(edge, relay, 1.0) == [NameAsked(id, "edge9")]
    relay.resolved(id, None)
    assert deliver(relay, edge, 1.0) == [NameResolved(id, None)]
    relay.change_routes([Subnet("10.0.0.0/8", 1400)], ["10.96.0.0/12"])
    assert deliver(relay, edge, 1.0) == [RoutesChanged((Subnet("10.0.0.0/8", 1400),), ("10.96.0.0/12",))]


def test_a_refusal_says_why() -> None:
    edge, relay = LinkCore(Role.EDGE), LinkCore(Role.RELAY)
    edge.open(0.0)
    relay.open(0.0)
    relay.refuse("node edge1 is not known", retry_after=60)
    assert deliver(relay, edge, 0.0) == [LinkDown("the peer says: node edge1 is not known", 60.0)]
    with pytest.raises(LinkNotUp):
        edge.resolve("x")


def test_a_relay_that_says_nothing_is_given_up() -> None:
    edge = LinkCore(Role.EDGE)
    edge.open(0.0)
    assert edge.next_timer() == 5.0
    assert edge.handle_timer(5.0) == [LinkDown("no welcome in time")]


def test_an_answer_that_was_not_asked_for_breaks_the_link() -> None:
    edge, _ = up_pair()
    with pytest.raises(PeerError, match="was not asked"):
        edge.receive(b'{"type":"resolved","id":5,"number":1}', 1.0)
    assert edge.state is LinkState.DOWN


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    [
        "type",
        "id",
        "node",
        "number",
        "address",
        "podCIDR",
        "ipv6",
        "routes",
        "add",
        "withdraw",
        "version",
        "mtu",
        "slot",
        "instance",
        "keepalive",
        "subnets",
        "relay",
        "relayNumber",
        "refused",
        "retryAfter",
        "reason",
    ]
)
KINDS = st.sampled_from(["hello", "welcome", "resolve", "resolved", "routes", "ping", "pong", "bye", "new"])
MESSAGES = st.builds(lambda kind, rest: {**rest, "type": kind}, KINDS, st.dictionaries(FIELDS, JSON, max_size=5))


@given(
    payload=st.binary(max_size=60)
    | JSON.map(lambda v: json.dumps(v).encode())
    | MESSAGES.map(lambda v: json.dumps(v).encode()),
    role=st.sampled_from(Role),
    up=st.booleans(),
)
def test_garbage_ends_in_an_event_or_a_peer_error(payload: bytes, role: Role, up: bool) -> None:
    link = up_pair()[0 if role is Role.EDGE else 1] if up else LinkCore(role)
    try:
        link.receive(payload, 1.0)
    except PeerError:
        assert link.state is LinkState.DOWN
    for _ in link.payloads_to_send():
        pass


@pytest.mark.parametrize(
    "message",
    [
        '{"type":"hello","version":1,"slot":8}',
        '{"type":"hello","version":1,"keepalive":NaN}',
        '{"type":"hello","version":1,"instance":"' + "a" * 65 + '"}',
        '{"type":"hello","version":1,"subnets":[{"prefix":"10.0.0.1/24"}]}',
        '{"type":"hello","version":1,"subnets":[{"prefix":"10.0.0.0/24","mtu":60}]}',
        '{"type":"hello","version":1,"subnets":["10.0.0.0/24"]}',
        '{"type":"hello","version":1,"relay":"\\u0007"}',
    ],
)
def test_a_hello_outside_of_its_bounds_is_refused(message: str) -> None:
    relay = LinkCore(Role.RELAY)
    relay.open(0.0)
    with pytest.raises(PeerError):
        relay.receive(message.encode(), 0.0)


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(PeerError, match="not JSON"):
        up_pair()[0].receive(b"[" * 16_000, 1.0)
