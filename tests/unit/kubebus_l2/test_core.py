"""The conversation of a link, with literal times; garbage ends in a documented error."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.errors import LinkNotUp, PeerError
from kubeedge.kubebus.l2.core import (
    HelloHeard,
    Link,
    LinkEvent,
    LinkIsDown,
    LinkIsUp,
    LinkState,
    NameAsked,
    NameResolved,
    Role,
    RoutesChanged,
    Welcome,
)

WELCOME = Welcome(7, "100.64.0.7/16", "10.244.7.0/24", ("10.96.0.0/12",), 1500)


def deliver(source: Link, target: Link, now: float) -> list[LinkEvent]:
    events: list[LinkEvent] = []
    for payload in source.payloads_to_send():
        events += target.receive(payload, now)
    return events


def up_pair(now: float = 0.0) -> tuple[Link, Link]:
    edge, relay = Link(Role.EDGE), Link(Role.RELAY)
    edge.open(now)
    relay.open(now)
    assert deliver(edge, relay, now) == [HelloHeard(("gso",))]
    relay.welcome(WELCOME)
    assert deliver(relay, edge, now) == [LinkIsUp(WELCOME)]
    return edge, relay


def test_silence_is_asked_about_and_then_ends_the_link() -> None:
    edge, relay = up_pair(now=0.0)
    assert edge.next_timer() == 20.0
    assert edge.handle_timer(20.0) == []
    assert deliver(edge, relay, 20.1) == [] and deliver(relay, edge, 20.2) == []
    assert edge.rtt == pytest.approx(0.2)
    assert edge.next_timer() == pytest.approx(40.2)
    assert edge.handle_timer(40.2) == []  # this ping is lost
    edge.payloads_to_send()
    assert edge.next_timer() == pytest.approx(65.2)
    assert edge.handle_timer(65.2) == [LinkIsDown("silent for 45 s")]
    assert edge.next_timer() is None


def test_data_that_moves_needs_no_ping() -> None:
    edge, _ = up_pair(now=0.0)
    edge.heard(15.0)
    assert edge.next_timer() == 35.0


def test_a_probe_ends_a_link_whose_network_is_gone_within_two_seconds() -> None:
    edge, relay = up_pair(now=0.0)
    edge.probe(10.0)
    assert edge.next_timer() == 12.0
    assert deliver(edge, relay, 10.1) == [] and deliver(relay, edge, 10.2) == []
    assert edge.handle_timer(12.0) == [] and edge.state is LinkState.UP
    edge.probe(20.0)
    edge.payloads_to_send()
    (down,) = edge.handle_timer(22.0)
    assert isinstance(down, LinkIsDown) and "after the network changed" in down.reason


def test_names_and_routes() -> None:
    edge, relay = up_pair()
    id = edge.resolve("edge9")
    assert deliver(edge, relay, 1.0) == [NameAsked(id, "edge9")]
    relay.resolved(id, None)
    assert deliver(relay, edge, 1.0) == [NameResolved(id, None)]
    relay.change_routes(["10.0.0.0/8"], ["10.96.0.0/12"])
    assert deliver(relay, edge, 1.0) == [RoutesChanged(("10.0.0.0/8",), ("10.96.0.0/12",))]


def test_a_refusal_says_why() -> None:
    edge, relay = Link(Role.EDGE), Link(Role.RELAY)
    edge.open(0.0)
    relay.open(0.0)
    relay.refuse("node edge1 is not known")
    assert deliver(relay, edge, 0.0) == [LinkIsDown("the peer says: node edge1 is not known")]
    with pytest.raises(LinkNotUp):
        edge.resolve("x")


def test_a_relay_that_says_nothing_is_given_up() -> None:
    edge = Link(Role.EDGE)
    edge.open(0.0)
    assert edge.next_timer() == 10.0
    assert edge.handle_timer(10.0) == [LinkIsDown("no welcome in time")]


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
    ["type", "id", "node", "number", "address", "podCIDR", "routes", "add", "withdraw", "version", "mtu"]
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
    link = up_pair()[0 if role is Role.EDGE else 1] if up else Link(role)
    try:
        link.receive(payload, 1.0)
    except PeerError:
        assert link.state is LinkState.DOWN
    for _ in link.payloads_to_send():
        pass


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(PeerError, match="not JSON"):
        up_pair()[0].receive(b"[" * 16_000, 1.0)
