"""The links of nodes at one relay: who is admitted with what, what gives way, which routes follow. Literal times, no sockets."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from kubeedge.api.names import NodeName, TenantId
from kubeedge.api.node_ipv6 import NodeIpv6
from kubeedge.kubebus.l2.core import LinkSettings
from kubeedge.kubebus.l2.messages import Hello, Subnet
from kubeedge_cloud.bushub.actions import Drop, Flush, LinkAction, Reroute, ResetPeer
from kubeedge_cloud.bushub.core import NodeLink, NodeLinks
from kubeedge_cloud.bushub.linked import LinkedNodes
from kubeedge_cloud.bushub.records import NextHop
from kubeedge_cloud.bushub.subnets import RouteChange
from kubeedge_cloud.tenants.model import NodeRecord

RED = TenantId("red")
ONE, TWO = (RED, NodeName("one")), (RED, NodeName("two"))
FIELD = Subnet("10.0.0.0/24")


def record(node: tuple[TenantId, NodeName], number: int, join: str = "j") -> NodeRecord:
    return NodeRecord(
        *node, number=number, tenant_number=7, address=f"100.64.0.{number}/16", pod_cidr=f"10.244.{number}.0/24",
        join=join,
    )  # fmt: skip


class Relay:
    def __init__(self) -> None:
        self.links = NodeLinks(settings=LinkSettings(), pods="10.244.0.0/16", relay="r", number=256)

    def open(self, port: int, who: NodeRecord, allowed: tuple[str, ...] = ()) -> NodeLink:
        link = self.links.open(port, (who.tenant, who.name), who, allowed, 0.0)
        hello = {"type": "hello", "version": 1, "instance": "i", "slot": 0, "subnets": []}
        link.core.receive(json.dumps(hello).encode(), 0.0)
        return link

    def up(
        self, port: int, who: NodeRecord, *subnets: Subnet, instance: str = "i", slot: int = 0
    ) -> tuple[NodeLink, list[LinkAction]]:
        link = self.open(port, who, tuple(s.prefix for s in subnets))
        hello = Hello(instance=instance, slot=slot, subnets=subnets)
        decision = self.links.hello(link, hello, 0.0)
        assert not decision.refuse
        return link, [*decision.evict, *self.links.admitted(link, hello, decision)]


def sent(link: NodeLink) -> list[dict[str, Any]]:
    return [json.loads(payload) for payload in link.core.payloads_to_send()]


def test_a_link_may_send_from_the_nodes_own_addresses_and_what_is_allowed_behind_it() -> None:
    relay = Relay()
    link = relay.open(10, record(ONE, 1), allowed=(FIELD.prefix,))
    hello = Hello(instance="i", slot=0, subnets=(FIELD, Subnet("10.9.0.0/24"), Subnet("10.244.3.0/24")))
    decision = relay.links.hello(link, hello, 0.0)
    assert decision.prefixes == ["100.64.0.1/32", "10.244.1.0/24", FIELD.prefix]
    assert decision.refused == ["10.9.0.0/24", "10.244.3.0/24"]
    assert link.hello is None  # nothing follows before the data plane has let it in
    assert relay.links.table(7).routes() == []
    actions = relay.links.admitted(link, hello, decision)
    assert actions[0] == Reroute(7, RouteChange(FIELD, 1)) and link.hello is hello


def test_networks_behind_one_node_are_announced_once_to_each_other_node_of_the_tenant() -> None:
    relay = Relay()
    first, _ = relay.up(10, record(ONE, 1))
    relay.up(11, record(ONE, 1), slot=1)
    sent(first)
    second, actions = relay.up(20, record(TWO, 2), FIELD)
    assert Reroute(7, RouteChange(FIELD, 2)) in actions
    assert {a.port for a in actions if isinstance(a, Flush)} == {10, 20}
    assert sent(first) == [{"type": "routes", "add": [{"prefix": FIELD.prefix}], "withdraw": []}]
    link, last, gone = relay.links.closed(20)
    assert link is second and last and gone == []  # nobody else has the network: it stays


def test_a_link_of_another_instance_ends_those_of_the_one_before() -> None:
    relay = Relay()
    relay.up(10, record(ONE, 1))
    _, actions = relay.up(11, record(ONE, 1), instance="j")
    assert [a.port for a in actions if isinstance(a, Drop)] == [10]
    again = relay.open(12, record(ONE, 1))
    assert "another machine" in relay.links.hello(again, Hello(instance="i", slot=1), 1.0).refuse


def test_a_number_has_one_owner_and_it_is_the_newer_record() -> None:
    relay = Relay()
    relay.up(10, record(ONE, 1))
    _, actions = relay.up(20, record(TWO, 1))
    assert actions[0] == Drop(10, "node two has its number now")
    relay.links.closed(10)
    relay.links.record_changed(ONE, 1, None)  # says nothing of networks: the number is another's
    assert relay.links.node(TWO) is not None


def test_a_node_that_was_removed_ends_and_its_networks_go() -> None:
    relay = Relay()
    relay.up(10, record(ONE, 1), FIELD)
    assert relay.links.record_changed(ONE, 1, None) == [
        Drop(10, "the node was removed"),
        ResetPeer(7, 1),
        Reroute(7, RouteChange(FIELD, None)),
        Flush(10),
    ]


def test_what_was_known_of_a_node_goes_with_its_record() -> None:
    """Else the table grows with every node that there ever was."""
    nodes = LinkedNodes()
    nodes.join(ONE, "i", 0, 10, 0.0)
    nodes.join(TWO, "i", 0, 20, 0.0)
    nodes.forget(ONE)  # its link is still there
    assert nodes.get(ONE) is not None
    assert nodes.leave(ONE, 10) and ONE not in nodes
    nodes.leave(TWO, 20)
    assert TWO in nodes  # it exists, and an older instance of its agent is known
    nodes.forget(TWO)
    assert TWO not in nodes
    nodes.join(ONE, "i", 0, 10, 0.0)
    nodes.forget(ONE)
    nodes.join(ONE, "j", 0, 11, 1.0)  # another node of that name
    nodes.leave(ONE, 11)
    assert ONE in nodes


def test_a_relay_that_has_had_many_nodes_knows_of_those_that_there_are() -> None:
    relay = Relay()
    for n in range(100):
        relay.up(10, record((RED, NodeName(f"n{n}")), 1))
        relay.links.record_changed((RED, NodeName(f"n{n}")), 1, None)
        relay.links.closed(10)
    assert not any((RED, NodeName(f"n{n}")) in relay.links._nodes for n in range(100))


def test_connections_of_the_node_that_has_the_number_by_now_stay() -> None:
    """The number of a node that was removed is the next one's at once; its removal may be heard of later."""
    relay = Relay()
    relay.up(10, record(ONE, 1))
    relay.up(11, record(TWO, 1))
    assert relay.links.record_changed(ONE, 1, None) == [Drop(10, "the node was removed")]


def test_links_of_the_machine_that_joined_again_stay() -> None:
    relay = Relay()
    relay.up(10, record(ONE, 1, "old"), FIELD)
    newest = record(ONE, 1, "new")
    relay.open(11, newest)
    assert relay.links.record_changed(ONE, 1, newest) == [
        Drop(10, "another machine joined under its name"),
        ResetPeer(7, 1),
    ]
    assert relay.links.linked(RED)[ONE[1]].join == "old"


def test_a_link_ends_when_other_networks_are_allowed_behind_its_node() -> None:
    relay = Relay()
    relay.up(10, record(ONE, 1), FIELD)
    assert relay.links.allowed_changed(ONE, [FIELD.prefix]) == []
    assert [type(a) for a in relay.links.allowed_changed(ONE, [])] == [Drop]


def test_a_node_that_is_at_another_relay_now_leaves_nothing_here_but_its_routes() -> None:
    relay = Relay()
    relay.up(10, record(ONE, 1), FIELD)
    hop = NextHop("other", 7, 1, "j", ["100.64.0.1/32"], [FIELD])
    assert relay.links.next_hop_changed(ONE, None, hop) == []  # ours, as long as it is linked here
    assert [a.port for a in relay.links.moved(ONE, hop) if isinstance(a, Drop)] == [10]
    relay.links.closed(10)
    assert relay.links.moved(ONE, hop) == []
    assert relay.links.next_hop_changed(ONE, None, hop) == [] and relay.links.table(7).owner(FIELD.prefix) == 1
    late = relay.open(12, record(ONE, 1))
    refuse = relay.links.hello(late, Hello(instance="i", slot=0), 1.0, elsewhere="j").refuse
    assert "another machine" in refuse  # the instance that it had here was replaced there


def test_a_link_that_never_sent_hello_ends_without_a_trace() -> None:
    relay = Relay()
    link = relay.open(10, record(ONE, 1))
    assert relay.links.closed(10) == (link, False, [])
    assert relay.links.closed(11) == (None, False, [])


def test_networks_behind_this_machine_are_told_to_the_nodes_of_its_tenant() -> None:
    relay = Relay()
    first, _ = relay.up(10, record(ONE, 1))
    relay.up(11, record(ONE, 1), slot=1)
    sent(first)
    actions = relay.links.offer_ours(7, [FIELD])
    assert len(actions) == 1 and sent(first) == [{"type": "routes", "add": [{"prefix": FIELD.prefix}], "withdraw": []}]
    assert relay.links.offer_ours(8, [FIELD]) == [] and relay.links.ours(9) == ()
    second, _ = relay.up(20, record(TWO, 2), FIELD, Subnet("10.1.0.0/16"))  # it is not behind a node, too
    (welcome,) = [m for m in sent(second) if m["type"] == "welcome"]
    assert welcome["routes"] == [{"prefix": FIELD.prefix}] and welcome["refused"] == [FIELD.prefix]
    sent(first)
    relay.links.offer_ours(7, [])
    assert sent(first) == [{"type": "routes", "add": [], "withdraw": [FIELD.prefix]}]


def test_a_node_with_addresses_of_ipv6_may_send_from_them_and_is_told_of_them() -> None:
    six = NodeIpv6(address="fd00:100:64::1/64", pod_cidr="fd00:10:244:1::/64", pod_network="fd00:10:244::/48")
    relay = Relay()
    allowed = ("fd00:10:244:9::/64", "fd99::/64")
    link = relay.open(10, replace(record(ONE, 1), ipv6=six), allowed)
    hello = Hello(instance="i", slot=0, subnets=tuple(map(Subnet, allowed)))
    decision = relay.links.hello(link, hello, 0.0)
    assert decision.own == ["100.64.0.1/32", "10.244.1.0/24", "fd00:100:64::1/128", "fd00:10:244:1::/64"]
    assert [s.prefix for s in decision.behind] == ["fd99::/64"] and decision.refused == ["fd00:10:244:9::/64"]
    sent(link)
    relay.links.admitted(link, hello, decision)
    (welcome,) = [message for message in sent(link) if message["type"] == "welcome"]
    assert welcome["ipv6"] == six.encode()


def test_a_node_without_them_is_told_nothing_of_ipv6() -> None:
    link, _ = Relay().up(10, record(ONE, 1))
    assert all("ipv6" not in message for message in sent(link))
