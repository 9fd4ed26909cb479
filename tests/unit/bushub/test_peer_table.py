"""What follows from what other relays say, and what is no record of theirs."""

from __future__ import annotations

import pytest

from kubeedge.api.names import NodeName, TenantId
from kubeedge.kubebus.l2.messages import Subnet
from kubeedge_cloud.bushub.actions import AddNextHop, AddRoute, Drop, RemoveNextHops
from kubeedge_cloud.bushub.peer_table import PeerTable
from kubeedge_cloud.bushub.records import NextHop, RelayRecord, decode_next_hop, decode_relay

NODE = (TenantId("red"), NodeName("one"))
HOP = NextHop("b", 7, 1, "i", ["100.64.0.1/32"], [Subnet("10.0.0.0/24", 1400)])
RELAY = RelayRecord(["203.0.113.1:10010"], 256, None)


def test_records_come_back_as_they_were_written() -> None:
    assert decode_next_hop(HOP.encode()) == HOP
    with_tun = RelayRecord(["203.0.113.1:10010"], 256, (7, "100.64.255.254/16"))
    assert decode_relay(with_tun.encode()) == with_tun and decode_relay(RELAY.encode()) == RELAY


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b"1", b"{}", b'{"relay": 1}', b'{"addresses": 3, "number": 1}'])
def test_what_is_no_record_is_none(value: bytes) -> None:
    assert decode_next_hop(value) is None and decode_relay(value) is None


def test_a_relay_is_the_next_hop_of_its_nodes_and_of_itself_in_every_tenant() -> None:
    table = PeerTable()
    assert table.put("b", RELAY) == (True, [])
    assert table.move(NODE, HOP) == (None, [AddRoute(7, "100.64.0.1/32", 1)])  # it has no link yet
    assert table.up("b", 30) == [AddNextHop(7, 256, 30), AddNextHop(7, 1, 30)]
    assert table.tenant(7) == [] and table.tenant(8) == [AddNextHop(8, 256, 30)]
    assert (table.nodes_at("b"), table.names(7)) == (1, {1: NODE[1]})


def test_a_newer_link_to_a_relay_takes_over_and_the_end_of_the_older_one_says_nothing() -> None:
    table = PeerTable()
    table.put("b", RELAY)
    table.up("b", 30)
    assert table.up("b", 31)[0] == Drop(30, "the relay has a newer link")
    assert not table.down("b", 30) and table.down("b", 31) and not table.down("c", 1)


def test_a_node_that_moves_on_leaves_its_older_next_hop() -> None:
    table = PeerTable()
    table.move(NODE, HOP)
    assert table.move(NODE, None) == (HOP, [RemoveNextHops(7, 1)])
    assert table.where(NODE) is None and table.move(NODE, None) == (None, [])


def test_a_relay_that_got_an_address_of_its_own_is_reached_at_it() -> None:
    table = PeerTable()
    table.put("b", RELAY)
    table.up("b", 30)
    new, actions = table.put("b", RelayRecord(RELAY.addresses, 256, (7, "100.64.255.253/16")))
    assert not new and actions == [AddRoute(7, "100.64.255.253/32", 256), AddNextHop(7, 256, 30)]
    assert table.remove("b") == [Drop(30, "that relay is gone")] and table.remove("b") == []
