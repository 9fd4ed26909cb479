"""Who is linked, who gives way, which networks are behind whom: decisions of the relay, with literal times."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kubeedge.api.names import NodeName, TenantId
from kubeedge.kubebus.l2.messages import MAX_ROUTES, Subnet
from kubeedge_cloud.bushub.linked import JoinDecision, LinkedNodes
from kubeedge_cloud.bushub.subnets import MAX_SUBNETS, RouteChange, SubnetTable, allowed
from kubeedge_cloud.bushub.timer_wheel import TimerWheel

NODE = (TenantId("red"), NodeName("edge1"))
A, B = Subnet("10.0.0.0/24"), Subnet("10.1.0.0/16", 1400)


def test_links_of_one_instance_stand_beside_each_other_and_a_newer_one_takes_its_slot() -> None:
    members = LinkedNodes()
    assert members.join(NODE, "a", 0, 10, 0.0) == JoinDecision()
    assert members.join(NODE, "a", 1, 11, 0.0) == JoinDecision()
    verdict = members.join(NODE, "a", 0, 12, 1.0)
    assert [port for port, _ in verdict.drop] == [10] and "newer link" in verdict.drop[0][1]
    assert not members.leave(NODE, 10)  # it has no slot any more
    assert not members.leave(NODE, 11) and members.leave(NODE, 12)
    assert members.get(NODE) is None


def test_another_instance_replaces_all_links() -> None:
    members = LinkedNodes()
    members.join(NODE, "a", 0, 10, 0.0)
    members.join(NODE, "a", 1, 11, 0.0)
    assert sorted(port for port, _ in members.join(NODE, "b", 0, 12, 5.0).drop) == [10, 11]


def test_a_twin_that_comes_back_is_refused_while_the_other_lives_and_welcome_after() -> None:
    members = LinkedNodes()
    members.join(NODE, "a", 0, 10, 0.0)
    members.join(NODE, "b", 0, 11, 1.0)
    assert "reset one of the two" in members.join(NODE, "a", 0, 12, 2.0).refuse
    assert members.join(NODE, "b", 1, 13, 3.0) == JoinDecision()
    members.leave(NODE, 11)
    members.leave(NODE, 13)
    assert members.join(NODE, "a", 0, 14, 60.0).refuse == ""


def test_a_twin_is_known_across_relays() -> None:
    members = LinkedNodes()
    members.join(NODE, "a", 0, 10, 0.0)
    members.leave(NODE, 10)
    members.replaced(NODE, "a")  # the other relay has instance b
    assert members.join(NODE, "a", 0, 11, 1.0, elsewhere="b").refuse
    assert not members.join(NODE, "a", 0, 11, 1.0, elsewhere="").refuse


def test_agents_that_name_no_instance_replace_each_other() -> None:
    members = LinkedNodes()
    members.join(NODE, "", 0, 10, 0.0)
    assert [port for port, _ in members.join(NODE, "", 0, 11, 1.0).drop] == [10]
    assert not members.join(NODE, "", 0, 12, 2.0).refuse


def test_the_first_router_has_a_network_and_the_second_when_the_first_is_away() -> None:
    table = SubnetTable()
    assert table.offer(4, [A, B]) == [RouteChange(A, 4), RouteChange(B, 4)]
    assert table.offer(5, [A]) == []
    assert table.routes(without=4) == [] and table.routes(without=5) == [A, B]
    assert table.away(4) == [RouteChange(A, 5)]  # B has nobody else and stays
    assert table.owner(B.prefix) == 4
    assert table.offer(4, [A, B]) == []
    assert table.offer(4, [A]) == [RouteChange(Subnet(B.prefix), None)]
    assert table.offer(5, []) == [RouteChange(A, 4)]


def test_a_new_mtu_is_announced() -> None:
    table = SubnetTable()
    table.offer(4, [A])
    smaller = Subnet(A.prefix, 1280)
    assert table.offer(4, [smaller]) == [RouteChange(smaller, 4)]


def test_a_tenant_has_a_bounded_number_of_routes() -> None:
    table = SubnetTable()
    for node in range(20):
        table.offer(node, [Subnet(f"10.{node}.{i}.0/24") for i in range(MAX_SUBNETS)])
    assert len(table.routes()) == MAX_ROUTES


def test_only_what_is_allowed_and_outside_of_the_overlay_may_be_behind_a_node() -> None:
    reserved = ("100.64.0.0/16", "10.244.0.0/16")
    offered = [A, B, Subnet("10.244.3.0/24"), Subnet("192.168.0.0/24"), Subnet("fd00::/64"), Subnet("10.0.0.0/8")]
    good, bad = allowed(offered, ["10.0.0.0/15", "10.244.0.0/16", "fd00::/56"], reserved)
    assert good == [A, B, Subnet("fd00::/64")]
    assert bad == ["10.244.3.0/24", "192.168.0.0/24", "10.0.0.0/8"]
    assert allowed([A], [], reserved) == ([], [A.prefix])
    many = [Subnet(f"10.0.{i}.0/24") for i in range(MAX_SUBNETS + 2)]
    good, bad = allowed(many, ["10.0.0.0/16"], reserved)
    assert len(good) == MAX_SUBNETS and bad == ["10.0.60.0/24", "10.0.61.0/24"]


OFFERS = st.lists(
    st.sampled_from([A, B, Subnet("10.2.0.0/24"), Subnet("10.2.0.0/24", 1400)]),
    max_size=3,
    unique_by=lambda s: s.prefix,
)


@given(st.lists(st.tuples(st.integers(1, 3), st.none() | OFFERS), max_size=20))
def test_a_follower_of_the_changes_knows_the_table(steps: list[tuple[int, list[Subnet] | None]]) -> None:
    table, seen = SubnetTable(), {}
    offers: dict[int, list[Subnet]] = {}
    here: set[int] = set()
    for number, subnets in steps:
        if subnets is None:
            here.discard(number)
            changes = table.away(number)
        else:
            offers[number] = subnets
            here.add(number)
            changes = table.offer(number, subnets)
        for change in changes:
            if change.number is None:
                del seen[change.subnet.prefix]
            else:
                seen[change.subnet.prefix] = (change.subnet, change.number)
    assert sorted(s.prefix for s, _ in seen.values()) == [s.prefix for s in table.routes()]
    for prefix, (subnet, number) in seen.items():
        assert subnet in offers[number] and table.owner(prefix) == number
        if any(prefix in {s.prefix for s in offers.get(n, [])} for n in here):
            assert number in here


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0, 100)), max_size=40))
def test_every_link_is_looked_at_once_and_not_before_its_second(adds: list[tuple[int, float]]) -> None:
    timers = TimerWheel()
    wanted = dict(adds)
    for port, at in wanted.items():
        timers.add(port, at, 0.0)
    seen: dict[int, int] = {}
    for second in range(102):
        for port in timers.due(float(second)):
            assert port not in seen
            seen[port] = second
    assert seen == {port: int(at) for port, at in wanted.items()} and len(timers) == 0


def test_a_timer_wheel_that_was_not_advanced_for_long_returns_everything() -> None:
    timers = TimerWheel()
    timers.add(1, 5.0, 0.0)
    timers.add(2, 7e6, 0.0)
    timers.add(3, None, 0.0)
    assert timers.due(9e6) == [1, 2]
    timers.add(4, 1.0, 9e6)  # its time has passed already
    assert timers.due(9e6) == [] and timers.due(9e6 + 1) == [4]
