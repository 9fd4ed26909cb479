"""What the links of a node decide, with literal times."""

from __future__ import annotations

from kubeedge.kubebus.l2.core import LinkCore, LinkSettings, Role
from kubeedge.kubebus.l2.messages import Hello, Welcome
from kubeedge.kubebus.links.core import Activity, Candidates, LinksSettings, candidates


def up(now: float, *, rtt: float | None = None) -> LinkCore:
    """A link of an edge that is up and was heard at `now`."""
    edge, relay = LinkCore(Role.EDGE, rtt=rtt), LinkCore(Role.RELAY)
    edge.open(now, Hello())
    relay.open(now)
    for payload in edge.payloads_to_send():
        relay.receive(payload, now)
    relay.welcome(Welcome(1, "100.64.0.1", "10.244.1.0/24", (), 1500))
    for payload in relay.payloads_to_send():
        edge.receive(payload, now)
    return edge


def test_a_slot_stays_at_the_relay_of_a_link_that_answers() -> None:
    silent, good = up(0.0), up(0.0)
    silent.ask(10.0)
    assert candidates(0, [silent, good], 15.0) is candidates(1, [good], 15.0) is Candidates.SAME


def test_slot_0_may_go_anywhere_when_no_link_answers_and_the_others_follow() -> None:
    assert candidates(0, [], 0.0) is Candidates.ANY
    assert candidates(1, [], 0.0) is Candidates.FOLLOW
    silent = up(0.0)
    silent.ask(10.0)
    assert candidates(0, [silent], 10.4) is candidates(1, [silent], 10.4) is Candidates.UNDECIDED
    assert candidates(0, [silent], 10.6) is Candidates.ANY
    far = up(0.0, rtt=0.3)  # its answer takes longer
    far.ask(10.0)
    assert candidates(0, [far], 10.6) is Candidates.UNDECIDED
    assert candidates(3, [far], 11.0) is Candidates.FOLLOW


def test_data_counts_as_heard_and_its_lack_is_asked_about() -> None:
    core, activity = up(0.0), Activity()
    assert activity.look(core, (0, 0), 0, 1.0) is False
    assert activity.look(core, (100, 0), 0, 5.0) is True
    assert core.silent_since == 5.0
    assert activity.look(core, (100, 0), 7, 6.0) is True  # sent, and no echo yet
    assert core.unanswered(6.0) == 0.0
    assert activity.look(core, (100, 0), 7, 6.6) is True
    assert core.unanswered(7.6) == 1.0
    assert activity.look(core, (100, 1), 7, 8.0) is True
    assert core.unanswered(8.0) == 0.0
    assert activity.look(core, (100, 1), 7, 60.0) is False  # nothing was sent since: silence is no news


def test_side_slots_are_probed_less_often_and_old_outages_cost_less() -> None:
    settings = LinksSettings(relays=("relay:1",), link=LinkSettings(keepalive=20.0, dead_after=9.0))
    assert settings.of_slot(0).keepalive == 20.0
    assert (settings.of_slot(1).keepalive, settings.of_slot(1).dead_after) == (60.0, 9.0)
    assert settings.backoff.is_young(59.0) and not settings.backoff.is_young(60.0)
    assert [settings.backoff.delay(n, 59.0, 1.0) for n in (2, 3, 4)] == [0.5, 1.0, 1.0]
    assert settings.backoff.delay(10, 60.0, 1.0) == 5.0
    assert settings.backoff.delay(10, 60.0, 0.0) == 2.5


def test_a_relay_that_was_reached_is_given_time_once_the_outage_is_old() -> None:
    """Handshake and welcome are two round trips: on a line of two seconds they take four."""
    settings = LinksSettings(relays=("a:1",))
    assert settings.setup_timeout(59.0) == 3.0 and settings.setup_timeout(60.0) == 12.0
