"""Who may come in when not everybody can: floods from one address, from a thousand, and a site of thousands behind one."""

from __future__ import annotations

import random

import pytest

from kubeedge.kit.client_network import client_network
from kubeedge.kit.connection_limiter import ConnectionLimiter, ConnectionLimits, Decision, Refusal
from kubeedge.kit.shares import Shares


class Listener:
    """A limiter, and who is served by it."""

    def __init__(self, **limits: object) -> None:
        self.limiter = ConnectionLimiter(ConnectionLimits(**limits))  # type: ignore[arg-type]
        self.started: list[int] = []
        self.closed: dict[int, Refusal] = {}
        self.number = 0

    def took(self, decision: Decision) -> None:
        self.started += decision.start
        self.closed |= dict(decision.close)

    def come(self, network: str, now: float = 0.0, *, speaks: bool = True) -> int:
        self.number += 1
        self.took(self.limiter.arrived(self.number, network, now))
        if speaks:
            self.took(self.limiter.spoke(self.number, now))
        return self.number

    def authenticate(self, number: int, tenant: str = "t", identity: str = "t/n", now: float = 0.0) -> None:
        self.took(self.limiter.authenticated(number, tenant, identity, now))

    def leave(self, number: int, now: float = 0.0) -> None:
        self.took(self.limiter.left(number, now))


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("?", "?"),
        ("", ""),
    ],
)
def test_one_client_is_an_address_or_a_network_of_ipv6(address: str, network: str) -> None:
    assert client_network(address) == network


def test_silent_connections_take_no_buffers_and_leave_after_a_while() -> None:
    listener = Listener(silent=100, unauthenticated=4, first_byte=10.0)
    silent = [listener.come("10.0.0.1", speaks=False) for _ in range(100)]
    node = listener.come("10.0.0.1")
    assert listener.started == [node]
    listener.took(listener.limiter.tick(9.9, lambda number: 0.0))
    assert len(listener.closed) == 1  # the one that made room for the node
    listener.took(listener.limiter.tick(10.0, lambda number: 0.0))
    assert set(listener.closed) == set(silent)
    assert not listener.limiter.silent


@pytest.mark.parametrize("networks", [1, 1000])
def test_a_silent_flood_keeps_nobody_out(networks: int) -> None:
    listener = Listener(silent=256, unauthenticated=16)
    for n in range(5000):
        listener.come(f"flood {n % networks}", speaks=False)
        assert len(listener.limiter.silent) <= 256
    nodes = [listener.come(f"home {n}") for n in range(8)]
    assert listener.started == nodes


def test_a_flood_of_one_address_that_speaks_gives_way_at_once() -> None:
    listener = Listener(unauthenticated=8, queued=64)
    flood = [listener.come("flood") for _ in range(500)]
    assert listener.started == flood[:8] and len(listener.closed) == 500 - 72
    node = listener.come("home")
    assert listener.started[-1] == node and listener.closed[flood[0]] is Refusal.DISPLACED
    listener.authenticate(node)
    assert listener.limiter.served.count("flood") == 8


def test_of_a_flood_from_a_thousand_addresses_those_go_that_owe_us_bytes() -> None:
    listener = Listener(unauthenticated=8, queued=2000, stall=2.0)
    for n in range(1000):
        listener.come(f"flood {n}")
    node = listener.come("home")
    now = 0.0
    while node not in listener.started:
        now += 2.0
        listener.took(listener.limiter.tick(now, lambda number: 0.0 if number == node else 2.0))
        assert now < 2.0 * (1000 / 8 + 2)
    listener.took(listener.limiter.tick(now + 2.0, lambda number: 0.0))
    assert node in listener.limiter.served  # where it is we who are slow, nobody goes


def test_thousands_behind_one_address_come_in_one_after_the_other() -> None:
    listener = Listener(silent=8192, queued=8192, unauthenticated=256)
    nodes = [listener.come("site") for _ in range(5000)]
    for turn, node in enumerate(nodes):
        assert listener.started[turn] == node
        assert len(listener.limiter.served) <= 256
        listener.authenticate(node, "t", f"t/n{node}")
    assert not listener.closed and len(listener.limiter.tenants) == 5000


def test_owners_take_turns_in_the_queue() -> None:
    listener = Listener(unauthenticated=1, queued=100, displace=False)
    first = listener.come("a")
    many = [listener.come("a") for _ in range(10)]
    one = listener.come("b")
    listener.leave(first)
    listener.leave(listener.started[-1])
    assert one in listener.started and listener.started.index(one) <= 2
    assert many[0] in listener.started


def test_a_cap_for_each_address_makes_the_rest_wait() -> None:
    listener = Listener(unauthenticated=10, per_address=2, queued=10)
    a = [listener.come("a") for _ in range(4)]
    b = listener.come("b")
    assert listener.started == [a[0], a[1], b]
    listener.leave(b)
    assert listener.started == [a[0], a[1], b]
    listener.leave(a[0])
    assert listener.started[-1] == a[2]


def test_who_stalls_gives_way_to_others_of_the_same_address() -> None:
    listener = Listener(unauthenticated=10, per_address=2, queued=10)
    a = [listener.come("a") for _ in range(3)]
    listener.come("b")
    listener.took(listener.limiter.tick(2.0, lambda number: 2.0))
    assert a[2] in listener.started and listener.closed == {a[0]: Refusal.DISPLACED}


def test_without_a_queue_connections_beyond_the_limit_are_refused_with_a_reason() -> None:
    listener = Listener(silent=0, queued=0, unauthenticated=3, per_address=2, displace=False)
    a = [listener.come("a", speaks=False) for _ in range(3)]
    b = [listener.come("b", speaks=False) for _ in range(2)]
    assert listener.started == [a[0], a[1], b[0]]
    assert listener.closed == {a[2]: Refusal.ADDRESS, b[1]: Refusal.FULL}


def test_one_identity_has_so_many_and_its_tenant_no_more_than_others() -> None:
    listener = Listener(authenticated=10, per_identity=4)
    for _ in range(6):
        listener.authenticate(listener.come("10.0.0.1"), "a", "a/node")
    assert list(listener.closed.values()) == [Refusal.IDENTITY] * 2
    for n in range(10):
        listener.authenticate(listener.come("10.0.0.1"), "a", f"a/{n}")
    assert len(listener.limiter.tenants) == 10
    for n in range(10):
        listener.authenticate(listener.come("10.0.0.1"), "b", f"b/{n}")
    assert listener.limiter.tenants.count("b") == 5  # as many as a has


def test_one_that_was_closed_or_is_authenticated_can_leave_and_come_again() -> None:
    listener = Listener(unauthenticated=1, queued=0, per_identity=1)
    one = listener.come("a")
    listener.authenticate(one)
    two = listener.come("a")
    listener.authenticate(two)
    assert listener.closed == {two: Refusal.IDENTITY}
    listener.leave(two)
    listener.leave(one)
    listener.leave(one)
    three = listener.come("a")
    listener.authenticate(three)
    assert three not in listener.closed


@pytest.mark.parametrize("seed", range(20))
def test_bounds_and_counts_hold_whatever_happens(seed: int) -> None:
    rng = random.Random(seed)
    print(f"seed {seed}")
    listener = Listener(silent=5, queued=5, unauthenticated=4, per_address=3, authenticated=6, per_identity=2)
    limiter, now = listener.limiter, 0.0
    for _ in range(3000):
        now += rng.random()
        number = rng.randint(1, listener.number + 1)
        match rng.randrange(5):
            case 0:
                listener.come(f"n{rng.randrange(6)}", now, speaks=rng.random() < 0.7)
            case 1:
                listener.took(limiter.spoke(number, now))
            case 2:
                listener.authenticate(number, f"t{number % 3}", f"i{number % 5}", now)
            case 3:
                listener.leave(number, now)
            case 4:
                listener.took(limiter.tick(now, lambda number: rng.choice((0.0, 5.0))))
        assert len(limiter.silent) <= 5 and len(limiter.queued) <= 5 and len(limiter.served) <= 4
        assert len(limiter.tenants) <= 6
        known = {*limiter.silent, *limiter.queued, *limiter.served, *limiter.tenants}
        assert not known & listener.closed.keys()
        assert set(limiter._since) == {*limiter.silent, *limiter.served}
        assert set(limiter._turns) == {limiter.queued.owner(n) for n in limiter.queued}
        # nobody waits while there is room for him
        if len(limiter.served) < 4:
            assert all(limiter.served.count(limiter.queued.owner(n)) >= 3 for n in limiter.queued)
    assert len(set(listener.started)) == len(listener.started)


def test_shares_know_who_has_the_most() -> None:
    rng = random.Random(7)
    shares, model = Shares(), {}
    for number in range(3000):
        if model and rng.random() < 0.45:
            gone = rng.choice(list(model))
            shares.remove(gone)
            del model[gone]
        owner = str(rng.randrange(8))
        shares.add(owner, number)
        model[number] = owner
        heaviest, count = shares.heaviest()
        assert count == max(list(model.values()).count(o) for o in set(model.values()))
        assert list(model.values()).count(heaviest) == count and list(shares) == list(model)
        assert shares.oldest(owner) == next(n for n in model if model[n] == owner) and shares.newest(owner) == number


def test_who_rests_gives_way_where_work_does_not() -> None:
    listener = Listener(silent=0, queued=0, unauthenticated=6, displace=False)
    greedy = [listener.come("10.0.0.1") for _ in range(5)]
    modest = listener.come("10.0.0.2")
    for number in (*greedy[1:], modest):
        listener.limiter.rests(number, True)
    listener.limiter.rests(greedy[1], False)  # a request came
    first = listener.come("10.0.0.3")
    assert listener.closed == {greedy[2]: Refusal.DISPLACED} and first in listener.started
    for number in greedy[3:]:
        listener.limiter.rests(number, False)
    late = listener.come("10.0.0.3")
    assert listener.closed[late] is Refusal.FULL, "the modest one has no more than the newcomer"
    assert len(listener.limiter.served) == 6 and len(listener.limiter.resting) == 1
    listener.leave(modest)
    assert not listener.limiter.resting
