"""A welcome with and without addresses of IPv6, of relays of any version."""

from __future__ import annotations

from typing import Any

import pytest

from kubeedge.api.names import NodeNumber
from kubeedge.api.node_ipv6 import NONE, NodeIpv6
from kubeedge.errors import PeerError
from kubeedge.kubebus.l2 import messages
from kubeedge.kubebus.l2.messages import Welcome

SIX = NodeIpv6(address="fd00:100:64::1/64", pod_cidr="fd00:10:244:1::/64", pod_network="fd00:10:244::/48")


def said(ipv6: NodeIpv6) -> dict[str, Any]:
    return messages.of_welcome(Welcome(NodeNumber(1), "100.64.0.1/16", "10.244.1.0/24", (), 1500, ipv6=ipv6))


@pytest.mark.parametrize("ipv6", [SIX, NONE])
def test_what_was_said_is_heard(ipv6: NodeIpv6) -> None:
    assert messages.welcome(said(ipv6)).ipv6 == ipv6 and ("ipv6" in said(ipv6)) == bool(ipv6)


@pytest.mark.parametrize("value", [7, "fd00::/64", {"address": "fd00::1"}, {"podCIDR": ["fd00::/64"]}])
def test_a_relay_that_makes_no_sense_is_refused(value: Any) -> None:
    with pytest.raises(PeerError, match="ipv6"):
        messages.welcome({**said(NONE), "ipv6": value})
